"""Every spelling in which PyTorch, NCCL, RCCL and gloo tell of a communication."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kineto_trace import Trace

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.communication.describe import Communication, Source, describe
from chakrasim.converters.pytorch.communication.gloo import JobGroups, find_jobs
from chakrasim.converters.pytorch.communication.groups import Groups, declarations
from chakrasim.converters.pytorch.communication.match_comm import find_communications
from chakrasim.converters.pytorch.device.device_ops import gather_device_ops
from chakrasim.converters.pytorch.read.kineto_reader import read_recording
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.names.nccl_names import is_communication_kernel

SEND_RECV = "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"
RCCL = "ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)"
RANK = 5
CONFIG = {
    "pg_config": [
        {"pg_name": "0", "pg_desc": "default_pg", "pg_size": 8, "ranks": list(range(8))},
        {"pg_name": "7", "pg_desc": "mesh_tp", "pg_size": 4, "ranks": [4, 5, 6, 7]},
        {"pg_name": "9", "pg_desc": "mesh_dp", "pg_size": 2, "ranks": [1, 5]},
    ]
}
TP = {"Process Group Name": "7", "Process Group Ranks": "[4, 5, 6, 7]", "Group size": 4}


def told(
    own: dict[str, Any] | None = None,
    *around: tuple[str, dict[str, Any]],
    kernel: str = RCCL,
    groups: Groups | None = None,
) -> Communication:
    """What is understood on rank 5 of 8, which has three groups."""
    sources = [Source(name, arguments) for name, arguments in around]
    return describe(kernel, own or {}, sources, groups or Groups(RANK, 8, CONFIG))


def inputs(dims: list[Any], types: list[str], values: list[Any] | None = None) -> dict[str, Any]:
    """An operator's recorded arguments."""
    blank = [""] * (len(types) - len(dims))
    return {
        "Input Dims": [*dims, *([] for _ in blank)],
        "Input type": types,
        **({} if values is None else {"Concrete Inputs": values}),
    }


def summary(known: Communication) -> tuple[str, int, str | None]:
    """(kind, bytes, data type), with the problem for the kind where there is one."""
    if known.problem:
        return known.problem, known.comm_bytes, known.dtype
    label = known.kind.label if known.kind != NodeKind.COLL else CommKind(known.comm_kind).label
    return label, known.comm_bytes, known.dtype


@pytest.mark.parametrize(
    ("name", "given", "taken", "kind", "size"),
    [
        ("allreduce", 100, 100, "all-reduce", 200),
        ("all_reduce", 100, 100, "all-reduce", 200),
        ("allreduce_coalesced", 100, 100, "all-reduce", 200),
        ("_allgather_base", 100, 400, "all-gather", 200),
        ("all_gather", 100, 400, "all-gather", 200),
        ("all_gather_into_tensor_coalesced", 100, 400, "all-gather", 200),
        ("_reduce_scatter_base", 400, 100, "reduce-scatter", 800),
        ("reduce_scatter", 400, 100, "reduce-scatter", 800),
        ("reduce_scatter_tensor_coalesced", 400, 100, "reduce-scatter", 800),
        ("all_to_all", 400, 400, "all-to-all", 800),
        ("all_to_allv", 400, 300, "all-to-all", 800),
        ("alltoallv", 400, 300, "all-to-all", 800),
        ("broadcast", 100, 100, "broadcast", 200),
        ("_broadcast_oop", 100, 100, "broadcast", 200),
        ("reduce", 100, 100, "reduce", 200),
        ("_reduce_oop", 100, 100, "reduce", 200),
        ("gather", 100, 0, "gather", 200),
        ("scatter", 0, 100, "scatter", 800),
        ("barrier", 0, 0, "barrier", 0),
    ],
)
def test_collective_names_and_sizes(name: str, given: int, taken: int, kind: str, size: int) -> None:
    own = {"Collective name": name, "In msg nelems": given, "Out msg nelems": taken, "dtype": "Half", **TP}
    known = told(own)
    assert summary(known) == (kind, size, "fp16")
    assert known.group == "7"
    assert known.attrs.get("comm_out_bytes") == (None if kind == "barrier" else 2 * taken)


@pytest.mark.parametrize(
    ("recorded", "name", "size"),
    [
        ("Float", "fp32", 4),
        ("BFloat16", "bf16", 2),
        ("Double", "fp64", 8),
        ("Byte", "uint8", 1),
        ("Long", "int64", 8),
        ("Bool", "bool", 1),
        ("ComplexFloat", "complex64", 8),
        ("Float8_e4m3fn", "fp8", 1),
        ("UInt16", "uint16", 2),
    ],
)
def test_data_types(recorded: str, name: str, size: int) -> None:
    own = {"Collective name": "allreduce", "In msg nelems": 3, "dtype": recorded, **TP}
    assert summary(told(own)) == ("all-reduce", 3 * size, name)


def test_a_data_type_we_do_not_know_is_named() -> None:
    own = {"Collective name": "allreduce", "In msg nelems": 3, "dtype": "Float4_e2m1fn_x2", **TP}
    assert told(own).problem == "its data type Float4_e2m1fn_x2 isn't known"


@pytest.mark.parametrize("kernel", [SEND_RECV, RCCL])
def test_a_send_receive_kernel_is_what_its_metadata_says(kernel: str) -> None:
    base = {"In msg nelems": 6, "Out msg nelems": 6, "dtype": "Int", **TP}
    sent = told({"Collective name": "send", "Rank": 3, "Dst Rank": 7, **base}, kernel=kernel)
    assert (sent.kind, sent.peer, sent.comm_bytes) == (NodeKind.SEND, 7, 24)
    got = told({"Collective name": "recv", "Rank": 0, "Src Rank": 4, **base}, kernel=kernel)
    assert (got.kind, got.peer, got.comm_bytes) == (NodeKind.RECV, 4, 24)
    swapped = told({"Collective name": "alltoall_base", **base}, kernel=kernel)
    assert summary(swapped) == ("all-to-all", 24, "int32")
    gathered = told({"Collective name": "gather", "Rank": 1, **base}, kernel=kernel)
    assert (summary(gathered), gathered.peer) == (("gather", 24, "int32"), 5)


def test_a_peer_without_world_rank_is_counted_in_the_group() -> None:
    own = {"Collective name": "send", "In msg nelems": 1, "dtype": "Int", "Rank": 2, **TP}
    assert told(own).peer == 6
    own["Collective name"], arguments = "recv", inputs([[[1]]], ["TensorList", "", "Scalar", "Scalar"])
    arguments["Concrete Inputs"] = ["", "", "3", "17"]
    known = told(own, ("c10d::recv_", arguments))
    assert (known.peer, known.tag) == (7, 17)  # the operator's source goes before `Rank`


def test_a_message_to_nobody_is_not_understood() -> None:
    own = {"Collective name": "recv", "In msg nelems": 1, "dtype": "Int", **TP}
    any_source = ("c10d::recv_any_source_", inputs([[[1]]], ["TensorList", "", "Scalar"], ["", "", "3"]))
    assert told(own, any_source).problem == "its peer isn't recorded"


@pytest.mark.parametrize(("recorded", "flag"), [(1, True), (0, False), ("1", True), ("True", True)])
def test_flags_and_identities_are_kept(recorded: Any, flag: bool) -> None:
    own = {
        "Collective name": "allreduce",
        "In msg nelems": 3,
        "dtype": "Int",
        "Is asynchronized op": recorded,
        "Seq": 41,
        "Comms Id": "1234567890123456789",
        **TP,
    }
    attrs = told(own, kernel="ncclDevKernel_AllReduce_Sum_i32_RING_LL(x)").attrs
    assert attrs == {
        "async": flag,
        "comm_seq": 41,
        "comms_id": "1234567890123456789",
        "reduction": "sum",
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # with tensors: sequence, group, rank, name, splits, then more in later versions
        (["", "3", "94", "1", "", "[]", "[]"], (None, None)),
        (["", "3", "94", "1", "", "[]", "[]", "8"], (None, None)),
        (["", "", "", "1", "", "[1, 3]", "[2, 2]", "4", "1", "4"], ("ranks 4,5,6,7", None)),
        (["", "", "", "1", "", "[]", "[]", "4", "1", "4", "True"], ("ranks 4,5,6,7", True)),
        (["", "", ["7", "mesh_tp"], "1", "allreduce", [], [], "4", "1", "4"], ("7", None)),
        (["", "", "('7', 'mesh_tp')", "1", "allreduce", [], [], "4", "1", "4"], ("7", None)),
    ],
)
def test_positional_arguments_of_record_param_comms(values: list[Any], expected: tuple[Any, Any]) -> None:
    types = ["TensorList", *["Scalar"] * (len(values) - 1)]
    record = inputs([[[4, 8], [2]]], types, values)
    known = told({}, ("record_param_comms", record), kernel="ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)")
    assert summary(known) == ("all-reduce", 34 * 2, "bf16")
    assert (known.group, known.attrs.get("async")) == expected
    assert known.attrs.get("in_split_size") == ("[1, 3]" if "[1, 3]" in values else None)


@pytest.mark.parametrize(
    ("name", "arguments", "expected", "attrs"),
    [
        (
            "c10d::alltoall_base_",
            inputs(
                [[6], [4]],
                ["float", "float", "", "L", "L", "Scalar"],
                ["", "", "", "[3, 3]", "[1, 3]", "True"],
            ),
            ("all-to-all", 16, "fp32"),
            {"in_split_size": "[1, 3]", "out_split_size": "[3, 3]", "async": True, "comm_out_bytes": 24},
        ),
        (
            "c10d::alltoall_",
            inputs(
                [[[2], [2]], [[1], [3]]], ["GenericList[Tensor(float)]", "GenericList[Tensor(float)]", ""]
            ),
            ("all-to-all", 16, "fp32"),
            {"in_split_size": "[1, 3]", "comm_out_bytes": 16},
        ),
        (
            "c10d::allgather_",  # with unequal shares; a host trace has the list of lists
            inputs([[[[3], [5]]], [[3]]], ["GenericList[GenericList[Tensor(c10::Half)]]", "TensorList", ""]),
            ("all-gather", 6, "fp16"),
            {"out_split_size": "[3, 5]", "comm_out_bytes": 16},
        ),
        (
            "c10d::reduce_scatter_",
            inputs([[[5]], [[[3], [5]]]], ["TensorList", "GenericList[GenericList[Tensor(int)]]", ""]),
            ("reduce-scatter", 32, "int32"),
            {"in_split_size": "[3, 5]", "comm_out_bytes": 20},
        ),
        (
            "c10d::allreduce_coalesced_",
            inputs(
                [[[3], [2, 2]]], ["GenericList[Tensor(double),Tensor(double)]", "", ""], ["", "", "", "False"]
            ),
            ("all-reduce", 56, "fp64"),
            {"async": False, "comm_out_bytes": 56, "in_split_size": "[3, 4]"},
        ),
        (
            "_c10d_functional::all_to_all_single",
            inputs([[4, 2]], ["float", "", "", ""], ["", "[2, 2]", "[1, 3]", "9"]),
            ("all-to-all", 32, "fp32"),
            {"in_split_size": "[1, 3]", "out_split_size": "[2, 2]", "async": True},
        ),
        (
            "_c10d_functional::reduce_scatter_tensor",
            inputs([[8]], ["float", "", "Scalar", ""], ["", "avg", "2", "9"]),
            ("reduce-scatter", 32, "fp32"),
            {"reduction": "avg", "async": True},
        ),
        (
            "_c10d_functional_autograd::all_gather_into_tensor",
            inputs([[8]], ["float", "Scalar", ""], ["", "2", "9"]),
            ("all-gather", 32, "fp32"),
            {"async": True},
        ),
        (
            "c10d_functional::all_reduce",
            inputs([[8]], ["float", "", "", "ScalarList", "Scalar"], ["", "sum", "", "[1, 5]", "2"]),
            ("all-reduce", 32, "fp32"),
            {"reduction": "sum", "async": True},
        ),
        ("nccl:all_reduce", inputs([[4, 2]], ["c10::BFloat16"]), ("all-reduce", 16, "bf16"), {}),
        ("nccl:_all_gather_base", inputs([[4]], ["int"]), ("all-gather", 16, "int32"), {}),
        ("rccl:all_to_all", inputs([[4], [4]], ["int", "int"]), ("all-to-all", 32, "int32"), {}),
    ],
)
def test_operators_and_annotations_around_the_launch(
    name: str, arguments: dict[str, Any], expected: tuple[str, int, str], attrs: dict[str, Any]
) -> None:
    known = told({}, (name, arguments))
    assert summary(known) == expected
    assert {key: known.attrs.get(key) for key in attrs} == attrs
    if "functional" in name:
        groups = Groups(RANK, 8, CONFIG)
        group = told({}, (name, arguments), groups=groups).group
        assert groups.used[str(group)] == (1, 5)


@pytest.mark.parametrize(
    ("name", "values", "types", "peer"),
    [
        ("c10d::broadcast_", ["", "", "1", "0"], ["TensorList", "", "Scalar", "Scalar"], 5),
        ("c10d::reduce_", ["", "", "", "2", "0"], ["TensorList", "", "", "Scalar", "Scalar"], 6),
        ("_c10d_functional::broadcast", ["", "3", "7"], ["float", "Scalar", ""], 7),
    ],
)
def test_roots(name: str, values: list[str], types: list[str], peer: int) -> None:
    dims = [[[4]]] if types[0] == "TensorList" else [[4]]
    known = told({"dtype": "Float", **TP}, (name, inputs(dims, types, values)))
    assert (known.peer, known.comm_bytes) == (peer, 16)


def test_a_positional_rank_that_may_be_the_own_is_no_root() -> None:
    def root(rank: str) -> int:
        record = inputs([[[4]]], ["TensorList"], ["", "3", "", rank, "broadcast", "[]", "[]", "4", "1", "4"])
        return told({"dtype": "Float"}, ("record_param_comms", record)).peer

    assert root("2") == 6
    assert root("1") == -1  # rank 5 is number 1 of the group: its own number, or the root's


@pytest.mark.parametrize("arrow", ["nccl:send 1->3", "nccl:recv 1<-3"])
def test_an_annotation_shows_the_peer(arrow: str) -> None:
    known = told(TP, (arrow, inputs([[4]], ["float"])), kernel=SEND_RECV)
    assert (known.peer, known.comm_bytes) == (7, 16)


def test_records_of_waiting_say_nothing() -> None:
    wait = {"Collective name": "wait", "dtype": "Byte", "In msg nelems": 0, "Group size": 1}
    operator = ("c10d::allreduce_", inputs([[[4]]], ["TensorList", ""]))
    known = told(
        {}, operator, ("record_param_comms", wait), kernel="ncclKernel_AllReduce_RING_LL_Sum_float(x)"
    )
    assert summary(known) == ("all-reduce", 16, "fp32")


def test_gloo_carries_out_a_reduce_scatter_as_an_all_reduce() -> None:
    operator = ("c10d::_reduce_scatter_base_", inputs([[2], [8]], ["float", "float", "", ""]))
    known = told(inputs([[8]], ["float"]), operator, kernel="gloo:all_reduce")
    assert summary(known) == ("all-reduce", 32, "fp32")
    assert (known.attrs["issued_as"], known.attrs["comm_out_bytes"]) == ("reduce-scatter", 8)


@pytest.mark.parametrize(
    "name",
    [
        "ncclDevKernel_Generic(ncclDevKernelArgs)",
        "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)",
        "ncclSymDevKernel_AllReduce_AGxLL_R_sum_bf16(x)",
        "void ncclDevKernel_Broadcast_RING_LL(x)",
        "mscclKernel_Sum_half_LL_false(x)",
        "mscclppKernel_AllReduce(x)",
    ],
)
def test_kernels_of_the_libraries(name: str) -> None:
    assert is_communication_kernel(name)


SIZED = {"Collective name": "allreduce", "In msg nelems": 2, "dtype": "Float"}
LARGE = Groups(
    5, 64, {"pg_config": [{"pg_name": "0", "pg_desc": "default_pg", "ranks": [], "group_size": 64}]}
)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"Process Group Name": "9", "Group size": 2}, (1, 5)),  # named in pg_config
        ({"Process Group Ranks": "[1, 5]", "Group size": 2}, (1, 5)),
        ({"Process Group Ranks": [1, 5], "Group size": 2}, (1, 5)),
        ({"Global rank start": 3, "Global rank stride": 2, "Group size": 2}, (3, 5)),
        ({"Process Group Name": "x", "Group size": 2}, (1, 5)),  # the only group of two that has this rank
        ({"Group size": 1}, (5,)),
        ({"Group size": 8}, tuple(range(8))),
        ({}, tuple(range(8))),
        ({"Process Group Name": "x", "Group size": 3}, "its process group isn't recorded"),
        ({"Process Group Ranks": "[0, 1]", "Group size": 2}, "its process group doesn't hold this rank"),
        (  # named on the operator, not in pg_config, but with start and stride
            {"Process Group Name": "x", "Global rank start": 1, "Global rank stride": 4, "Group size": 2},
            (1, 5),
        ),
    ],
)
def test_groups(metadata: dict[str, Any], expected: Any) -> None:
    groups = Groups(RANK, 8, CONFIG)
    known = told({**SIZED, **metadata}, groups=groups)
    if known.problem:
        assert known.problem == expected
    else:
        assert (groups.used[known.group] if known.group else groups.world) == expected
        assert known.repairs == []


def test_a_large_groups_shortened_ranks_come_from_start_and_stride() -> None:
    metadata = {
        "Process Group Name": "12",
        "Process Group Ranks": "[1, 3, 5, ..., 63]",
        "Global rank start": 1,
        "Global rank stride": 2,
        "Group size": 32,
    }
    known = told({**SIZED, **metadata}, groups=LARGE)
    assert (known.problem, LARGE.used["12"]) == ("", tuple(range(1, 64, 2)))
    wrong = {**SIZED, **metadata, "Global rank start": 0}
    assert told(wrong, groups=LARGE).problem.endswith("contradict each other")


def test_a_group_size_that_contradicts_is_put_right_only_where_two_agree() -> None:
    wrong = {**SIZED, **TP, "Group size": 2}
    known = told(wrong)
    assert (known.group, known.problem) == ("7", "")
    assert known.repairs == [
        "its process group's recorded ranks and size contradict each other; taken as most of them say"
    ]
    alone = {**wrong, "Process Group Name": "x"}
    assert told(alone).problem == "its process group's recorded ranks and size contradict each other"


def test_an_empty_input_is_put_right_by_the_output() -> None:
    known = told(
        {"Collective name": "broadcast", "In msg nelems": 0, "Out msg nelems": 4, "dtype": "Int", **TP}
    )
    assert (known.comm_bytes, known.repairs) == (
        16,
        ["its input was recorded as empty; its size is the output's"],
    )


def test_a_kernel_that_moved_nothing_has_its_size_from_around() -> None:
    own = {"Collective name": "allreduce", "In msg nelems": 0, "Out msg nelems": 0, **TP}
    record = {"Collective name": "allreduce", "In msg nelems": 5, "dtype": "Half", **TP}
    assert summary(told(own, ("record_param_comms", record))) == ("all-reduce", 10, "fp16")


def test_one_name_for_two_groups_stays_two() -> None:
    groups = Groups(RANK, 8, {})
    base = {**SIZED, "Process Group Name": "3", "Group size": 2}
    first = told({**base, "Process Group Ranks": "[4, 5]"}, groups=groups).group
    second = told({**base, "Process Group Ranks": "[5, 6]"}, groups=groups).group
    assert (groups.used[str(first)], groups.used[str(second)]) == ((4, 5), (5, 6))


def test_groups_of_a_host_trace_are_declared() -> None:
    text = (
        '[{"pg_name": "0", "pg_desc": "default_pg", "ranks": [], "group_size": 8},'
        ' {"pg_name": "2", "pg_desc": "mesh_tp", "ranks": [4, 5], "group_size": 2}]'
    )
    for recorded in (text, [text]):
        groups = Groups(RANK, 8, {}, declarations(recorded))
        assert groups.configured == {"0": tuple(range(8)), "2": (4, 5)}
        assert groups.named("mesh_tp").name == "2"
    assert declarations("<Object>") == []


def batch(*operations: tuple[str, str, list[str], list[int]], kernel: str = SEND_RECV) -> Trace:
    """Operations issued one after another; one launch for all of them, outside of each."""
    trace = Trace(distributedInfo={"rank": 1, "world_size": 4})
    for number, (operator, name, values, dims) in enumerate(operations):
        types = ["TensorList", *[""] * (len(values) - 1)]
        metadata = {
            "Collective name": name,
            "In msg nelems": dims[0],
            "dtype": "Float",
            "Process Group Name": "0",
            "Process Group Ranks": "[0, 1, 2, 3]",
            "Group size": 4,
        }
        trace.op(operator, 10 * number, 9, **inputs([[dims]], types, values))
        trace.op("record_param_comms", 10 * number + 1, 7, **metadata)
    return trace.call("cudaLaunchKernelExC", 90, 1, 1).kernel(kernel, 95, 20, 1)


def found_in(trace: Trace, folder: Path) -> Communication:
    recording = read_recording(trace.write(folder / "trace.json"))
    groups = Groups(1, 4, recording.distributed)
    works = gather_device_ops(recording, [], [])
    (known,) = find_communications(recording, works, groups, JobGroups(recording, [], [], groups)).values()
    return known


def test_a_batch_of_one_message_is_that_message(tmp_path: Path) -> None:
    known = found_in(batch(("c10d::send", "send", ["", "", "3", "17"], [8])), tmp_path)
    assert (known.kind, known.peer, known.tag, known.comm_bytes) == (NodeKind.SEND, 3, 17, 32)


def test_a_batch_of_messages_keeps_its_duration_and_says_what_it_holds(tmp_path: Path) -> None:
    trace = batch(
        ("c10d::send", "send", ["", "", "2", "0"], [8]), ("c10d::recv_", "recv", ["", "", "0", "0"], [4])
    )
    known = found_in(trace, tmp_path)
    assert known.problem == "it is several messages in one kernel"
    assert known.attrs["messages"] == "send 8 fp32 to 2, receive 4 fp32 from 0"


def test_coalesced_collectives_are_their_sum(tmp_path: Path) -> None:
    operations = [("c10d::allreduce_", "allreduce", ["", ""], [size]) for size in (8, 4)]
    kernel = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"
    known = found_in(batch(*operations, kernel=kernel), tmp_path)
    assert summary(known) == ("all-reduce", 48, "fp32")


def test_a_functional_collective_names_its_group_where_a_host_trace_was_recorded(tmp_path: Path) -> None:
    # two groups of two: nothing else tells which of them the worker thread serves
    pairs = [{"pg_name": "1", "ranks": [0, 2]}, {"pg_name": "2", "ranks": [0, 1]}]
    trace = Trace(distributedInfo={"rank": 0, "world_size": 4, "pg_config": pairs})
    trace.op("_c10d_functional::all_reduce", 0, 20, **{"Record function id": 4})
    trace.op("c10d::allreduce_", 1, 9, **{"Record function id": 5}, **inputs([[[4]]], ["TensorList", ""]))
    trace.note("gloo:all_reduce", 30, 40, tid=200, **{"Record function id": 6}, **inputs([[4]], ["float"]))

    def group(name: str) -> tuple[str | None, bool]:
        recording = read_recording(trace.write(tmp_path / "trace.json"))
        operator = inputs([[4]], ["Tensor(float)", "String", "String"], ["", "sum", name])
        recording.host.arguments[0] = operator
        groups = Groups(0, 4, recording.distributed)
        jobs, launches = find_jobs(recording)
        job_groups = JobGroups(recording, jobs, launches, groups)
        works = gather_device_ops(recording, jobs, launches)
        (known,) = find_communications(recording, works, groups, job_groups).values()
        assert known.attrs["reduction"] == "sum"
        return known.group, job_groups.is_certain

    assert group("1") == ("1", True)
    assert group("2") == ("2", True)
    assert group("") == ("1", False)


def test_gloo_messages_beside_subgroups_are_the_worlds_and_that_is_said(tmp_path: Path) -> None:
    trace = Trace(distributedInfo={"rank": 5, "world_size": 8, **CONFIG})
    trace.op("c10d::send", 0, 9, **inputs([[[4]]], ["TensorList", "", "", ""], ["", "", "2", "0"]))
    trace.note("gloo:send", 2, 40, **inputs([[4]], ["float"]))
    workload = convert_pytorch(trace.write(tmp_path / "trace.json"), partial=True)
    assert any("1 gloo messages name no process group" in note for note in workload.notes)
    (graph,) = workload.graphs.values()
    assert graph.peers.max() == 2


def test_a_launched_graph_is_no_batch_of_what_was_issued_before(tmp_path: Path) -> None:
    trace = batch(("c10d::send", "send", ["", "", "3", "17"], [8]))
    trace.events[-2]["name"] = "cudaGraphLaunch"
    assert found_in(trace, tmp_path).problem == "its kind isn't recorded"
