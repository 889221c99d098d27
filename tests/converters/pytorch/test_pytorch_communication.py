"""Communication: what NCCL kernels and gloo jobs become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kineto_trace import MAIN, Nodes, Trace

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.read.spellings import dtype_of, kind_of_operation
from chakrasim.traces.check import check_workload
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.names.nccl_names import kind_of_kernel

WORLD = {"rank": 1, "world_size": 4, "backend": "nccl"}
GENERIC = "ncclDevKernel_Generic(ncclDevKernelArgs)"


def nccl(kernel: str = GENERIC, **metadata: Any) -> Trace:
    """A launch and an NCCL kernel with metadata on the kernel itself."""
    trace = Trace(distributedInfo=WORLD).call("cudaLaunchKernelExC", 5, 1, 1)
    return trace.kernel(kernel, 8, 20, 1, **metadata)


def only(graph: ExecutionGraph) -> dict[str, Any]:
    """The graph's only communication, as a dict."""
    (row,) = Nodes(graph).communications()
    return {
        "kind": NodeKind(int(graph.kinds[row])),
        "comm": int(graph.comm_kinds[row]),
        "bytes": int(graph.comm_bytes[row]),
        "dtype": graph.dtypes[graph.dtype_ids[row]] if graph.dtype_ids[row] >= 0 else None,
        "group": graph.group_name(row),
        "peer": int(graph.peers[row]),
        "tag": int(graph.tags[row]),
        **graph.attributes(row),
    }


def test_metadata_on_the_kernel_tells_everything(tmp_path: Path) -> None:
    metadata = {
        "Collective name": "allreduce",
        "In msg nelems": 6144,
        "Out msg nelems": 6144,
        "Group size": 2,
        "dtype": "Float",
        "Process Group Name": "13",
        "Process Group Ranks": "[1, 3]",
        "In split size": "[]",
    }
    graph = nccl(**metadata).graph(tmp_path)
    found = only(graph)
    assert found["comm"] == CommKind.ALL_REDUCE
    assert (found["bytes"], found["dtype"], found["group"]) == (24576, "fp32", "13")
    assert graph.groups == {"13": (1, 3)}
    assert "not_understood" not in found
    assert not graph.is_cpu[Nodes(graph).communications()[0]]


@pytest.mark.parametrize(
    ("name", "kind", "given", "taken", "size"),
    [
        ("_allgather_base", CommKind.ALL_GATHER, 100, 400, 200),  # a rank's own shard
        ("_reduce_scatter_base", CommKind.REDUCE_SCATTER, 400, 100, 800),  # the whole input
        ("all_to_all", CommKind.ALL_TO_ALL, 400, 400, 800),
        ("broadcast", CommKind.BROADCAST, 100, 100, 200),
        ("scatter", CommKind.SCATTER, 0, 100, 800),  # only the root has an input
        ("gather", CommKind.GATHER, 100, 0, 200),
        ("reduce_scatter_tensor_coalesced", CommKind.REDUCE_SCATTER, 400, 100, 800),
    ],
)
def test_sizes_are_the_inputs(
    tmp_path: Path, name: str, kind: CommKind, given: int, taken: int, size: int
) -> None:
    metadata = {
        "Collective name": name,
        "In msg nelems": given,
        "Out msg nelems": taken,
        "Group size": 4,
        "dtype": "BFloat16",
        "Process Group Name": "0",
        "Process Group Ranks": "[0, 1, 2, 3]",
    }
    found = only(nccl(**metadata).graph(tmp_path))
    assert (found["comm"], found["bytes"], found["dtype"]) == (kind, size, "bf16")
    assert found["group"] == ""  # the world


def test_a_shortened_list_of_ranks_is_looked_up(tmp_path: Path) -> None:
    config = [{"pg_name": "7", "ranks": [1, 2]}]
    metadata = {
        "Collective name": "allreduce",
        "In msg nelems": 1,
        "dtype": "Half",
        "Process Group Name": "7",
        "Process Group Ranks": "[1, ..., 2]",
    }
    trace = nccl(**metadata)
    trace.header["distributedInfo"] = {**WORLD, "pg_config": config}
    graph = trace.graph(tmp_path)
    assert (only(graph)["group"], graph.groups) == ("7", {"7": (1, 2)})


def test_split_sizes_and_peers_are_kept(tmp_path: Path) -> None:
    base = {"dtype": "Int", "Process Group Name": "0", "Process Group Ranks": "[0, 1, 2, 3]"}
    metadata = {"Collective name": "alltoallv", "In msg nelems": 6, "In split size": "[1, 2, 1, 2]", **base}
    assert only(nccl(**metadata).graph(tmp_path))["in_split_size"] == "[1, 2, 1, 2]"
    metadata = {"Collective name": "send", "In msg nelems": 6, "Dst Rank": 3, **base}
    found = only(nccl("ncclDevKernel_SendRecv(x)", **metadata).graph(tmp_path))
    assert (found["kind"], found["peer"], found["bytes"]) == (NodeKind.SEND, 3, 24)
    metadata = {"Collective name": "recv", "Out msg nelems": 6, "In msg nelems": 6, "Src Rank": 0, **base}
    found = only(nccl("ncclDevKernel_SendRecv(x)", **metadata).graph(tmp_path))
    assert (found["kind"], found["peer"]) == (NodeKind.RECV, 0)


def old(size: str = "4", dims: Any = None, kernel: str = "") -> Trace:
    """A kernel without metadata inside an old `record_param_comms`."""
    trace = Trace(distributedInfo=WORLD)
    inputs = ["", "337", "93825114103440", "1", "", "[]", "[]", size]
    arguments = {"Concrete Inputs": inputs}
    if dims is not None:
        arguments |= {"Input Dims": [dims, *[[]] * 7], "Input type": ["TensorList", *["Scalar"] * 7]}
    trace.op("record_param_comms", 0, 9, **arguments)
    trace.call("cudaLaunchKernelExC", 5, 1, 1)
    return trace.kernel(kernel or "ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclWork*)", 12, 20, 1)


def test_the_operator_around_the_launch_tells_sizes(tmp_path: Path) -> None:
    found = only(old(dims=[[4, 2048]]).graph(tmp_path))
    assert (found["comm"], found["bytes"], found["dtype"]) == (CommKind.ALL_REDUCE, 16384, "fp16")


def test_the_nccl_annotation_tells_kind_and_sizes(tmp_path: Path) -> None:
    trace = old(kernel="ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)")
    arguments = {"Input Dims": [[8, 1024]], "Input type": ["float"]}
    found = only(trace.note("nccl:all_to_all", 1, 7, **arguments).graph(tmp_path))
    assert (found["comm"], found["bytes"]) == (CommKind.ALL_TO_ALL, 32768)


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        (nccl(), "its kind isn't recorded"),
        (nccl("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)"), "its kind isn't recorded"),
        (nccl("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)"), "its size isn't recorded"),
        (old("2", dims=[[4]]), "its process group isn't recorded"),
    ],
)
def test_what_cannot_be_known_is_said_and_never_compute(tmp_path: Path, trace: Trace, why: str) -> None:
    graph = trace.graph(tmp_path)
    found = only(graph)
    assert (found["kind"], found["comm"], found["bytes"]) == (NodeKind.COLL, -1, -1)
    assert found["not_understood"] == why
    assert Nodes(graph).us(Nodes(graph).communications()[0]) == 20
    assert any(f"1 of 1 communications not understood: {why}" in n for n in graph.metadata["notes"])


def test_kernels_that_no_table_knows_are_compute(tmp_path: Path) -> None:
    graph = nccl("void mylib::fused_all_reduce<bfloat16>(...)").graph(tmp_path)
    assert Nodes(graph).communications() == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", CommKind.ALL_REDUCE),
        ("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", CommKind.ALL_GATHER),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(...)", CommKind.REDUCE_SCATTER),
        ("ncclKernel_Broadcast_RING_LL_Sum_int8_t(...)", CommKind.BROADCAST),
        ("ncclDevKernel_Reduce_Sum_f32_RING_LL(...)", CommKind.REDUCE),
        ("ncclDevKernel_AllToAll(...)", CommKind.ALL_TO_ALL),
    ],
)
def test_kernel_names(name: str, kind: CommKind) -> None:
    assert kind_of_kernel(name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("allreduce", CommKind.ALL_REDUCE),
        ("c10d::allreduce_coalesced_", CommKind.ALL_REDUCE),
        ("_c10d_functional::all_gather_into_tensor", CommKind.ALL_GATHER),
        ("nccl:_reduce_scatter_base", CommKind.REDUCE_SCATTER),
        ("gloo:reduce", CommKind.REDUCE),
        ("c10d::alltoall_base_", CommKind.ALL_TO_ALL),
        ("c10d::barrier", CommKind.BARRIER),
        ("_broadcast_oop", CommKind.BROADCAST),
    ],
)
def test_operation_names(name: str, kind: CommKind) -> None:
    assert kind_of_operation(name) == (NodeKind.COLL, kind)


def test_unknown_operations_and_types_are_not_guessed() -> None:
    assert kind_of_operation("coalesced") is None
    assert dtype_of("Float4_e2m1fn_x2") is None


def gloo_all_reduce(asynchronous: bool = False) -> Trace:
    """All-reduce of 4 floats: operator 0..10, job 20..60 on thread 200, next operator at 70."""
    trace = Trace(distributedInfo={"rank": 0, "world_size": 2, "backend": "gloo"})
    arguments = {
        "Record function id": 5,
        "Concrete Inputs": ["", "", "", "", str(asynchronous), "-1"],
        "Input Dims": [[[4]], [], [], [], [], []],
        "Input type": ["TensorList", "", "", "", "Scalar", "Scalar"],
    }
    trace.op("c10d::allreduce_", 0, 10, **arguments)
    job = {"Record function id": 6, "Input Dims": [[4]], "Input type": ["float"]}
    trace.note("gloo:all_reduce", 20, 40, tid=200, **job)
    trace.op("aten::copy_", 30, 5, tid=200)  # part of the job
    return trace.op("next", 70, 5, **{"Record function id": 9})


def test_a_gloo_job_is_a_collective_on_its_worker(tmp_path: Path) -> None:
    nodes = Nodes(gloo_all_reduce().graph(tmp_path))
    found = only(nodes.graph)
    assert (found["comm"], found["bytes"], found["group"]) == (CommKind.ALL_REDUCE, 16, "")
    assert nodes.lane("thread 200") == [("gloo:all_reduce", 40)]
    assert nodes.parents(nodes.row("gloo:all_reduce")) == ["c10d::allreduce_", "worker latency"]


def test_the_issuer_waits_for_a_blocking_job_in_the_gap_after_it(tmp_path: Path) -> None:
    nodes = Nodes(gloo_all_reduce().graph(tmp_path))
    assert nodes.lane(f"thread {MAIN}") == [
        ("c10d::allreduce_", 10),
        ("host wait", 0),
        ("host gap", 10),
        ("next", 5),
    ]
    assert nodes.parents(nodes.row("host gap")) == ["gloo:all_reduce", "host wait"]


def test_an_asynchronous_job_that_ends_in_a_short_gap_is_not_waited_for(tmp_path: Path) -> None:
    trace = gloo_all_reduce(asynchronous=True)
    trace.events[-1]["ts"] = 58  # the job ends while this operator runs ...
    nodes = Nodes(trace.graph(tmp_path))
    assert "gloo:all_reduce" not in nodes.parents(nodes.row("next"))
    trace.events[1]["dur"] = 30  # ... or in a gap of 48 us
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.us(nodes.row("host gap")) == 48


def test_gloo_sends_and_receives_have_peers_and_tags(tmp_path: Path) -> None:
    trace = Trace(distributedInfo={"rank": 0, "world_size": 2, "backend": "gloo"})
    for start, operator, job in ((0, "c10d::send", "gloo:send"), (100, "c10d::recv_", "gloo:recv")):
        arguments = {
            "Record function id": start + 1,
            "Concrete Inputs": ["", "", "1", "17"],
            "Input Dims": [[[8]], [], [], []],
            "Input type": ["TensorList", "", "Scalar", "Scalar"],
        }
        trace.op(operator, start, 10, **arguments)
        inner = {"Record function id": start + 2, "Input Dims": [[8]], "Input type": ["float"]}
        trace.note(job, start + 5, 80, **inner)
    nodes = Nodes(trace.op("next", 200, 1).graph(tmp_path))
    graph = nodes.graph
    send, receive = nodes.row("gloo:send"), nodes.row("gloo:recv")
    assert graph.kinds[[send, receive]].tolist() == [NodeKind.SEND, NodeKind.RECV]
    assert graph.peers[[send, receive]].tolist() == [1, 1]
    assert graph.tags[[send, receive]].tolist() == [17, 17]
    assert graph.comm_bytes[[send, receive]].tolist() == [32, 32]
    (resumed,) = [r for r in nodes.rows("host gap") if "gloo:send" in nodes.parents(r)]
    assert nodes.us(resumed) == 15  # the send ended at 85, the receive was posted at 100


def test_ranks_of_a_folder_agree(tmp_path: Path) -> None:
    for rank in (0, 1):
        trace = gloo_all_reduce()
        trace.header["distributedInfo"]["rank"] = rank
        trace.write(tmp_path / f"trace.{rank}.json.gz")
    workload = convert_pytorch(tmp_path)
    assert workload.ranks == (0, 1)
    assert not workload.is_partial
    assert check_workload(workload) == []


def test_a_kernel_of_its_own_that_sounds_like_communication_is_noted(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 5, 1, 1).kernel("void mylib_all_reduce_kernel<4>", 8, 20, 1)
    workload = convert_pytorch(trace.write(tmp_path / "t.json"))
    (note,) = workload.notes
    assert "1 device operations sound like communication" in note
