"""The trace doctor: what is wrong with single records is mended where that is certain, else told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doctor_cases import (
    ALL_GATHER_KERNEL,
    ALL_REDUCE_KERNEL,
    COLL,
    COMP,
    DEVICE,
    HOST,
    METADATA,
    REDUCED,
    Treated,
    node,
    tensor,
    write,
)

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind

# Records.


def test_of_two_nodes_with_one_id_the_later_gets_a_new_one(tmp_path: Path) -> None:
    nodes = [node(0, "a"), node(1, "b"), node(1, "c"), node(2, "d", data=(1,))]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("id") == [(3, "id 1, which 'b' has", "id 3")]
    assert [treated.graph().name(row) for row in range(4)] == ["a", "b", "d", "c"]
    assert treated.parents(2) == {1}
    assert treated.problems() == []


def test_a_record_that_is_there_twice_is_dropped_once(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0), node(1), node(1)]))
    assert treated.mended("id") == [(1, "id 1 again", "dropped")]
    assert treated.graph().ids.tolist() == [0, 1]


def test_attributes_without_a_value_go(tmp_path: Path) -> None:
    attrs = {"inputs": None, "stream_name": ("string", "x"), **DEVICE, "outputs": None}
    treated = Treated(write(tmp_path, [node(0, attrs=attrs)]))
    assert treated.mended("empty") == [
        (0, "inputs without a value", "no inputs"),
        (0, "outputs without a value", "no outputs"),
    ]
    assert [a.name for a in treated.record(0).attr] == ["stream_name", "is_cpu_op"]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("is_cpu_op", ("int32", 0), ("bool", False)),
        ("comm_size", ("uint64", 64), ("int64", 64)),
        ("comm_type", ("uint32", 0), ("int64", 0)),
        ("tensor_size", ("int64", 12), ("uint64", 12)),
        ("num_ops", ("bool", True), ("int64", 1)),
        ("comm_tag", ("uint64", 7), ("int32", 7)),
        ("comm_tag", ("uint64", 2**40), ("int64", 2**40)),
        ("pg_name", ("int32", 0), ("string", "0")),
    ],
)
def test_integers_of_another_kind_get_chakras(tmp_path: Path, name: str, before: Any, after: Any) -> None:
    treated = Treated(write(tmp_path, [node(0, "all", COLL, REDUCED | {name: before})]))
    assert treated.attribute(0, name) == after
    assert [m.kind for m in treated.found if m.is_mended] == ["kind"]


def test_a_value_that_the_usual_kind_cant_hold_is_told(tmp_path: Path) -> None:
    attrs = DEVICE | {"tensor_size": ("int64", -3)}
    treated = Treated(write(tmp_path, [node(0, attrs=attrs)]))
    why = "Chakra has tensor_size as uint64, which can't hold it"
    assert treated.left("kind") == [(0, "tensor_size is int64 -3", why)]
    assert treated.workload is treated.before


@pytest.mark.parametrize("name", ["comm_group", "pg_id"])
def test_groups_under_an_older_name_are_pg_name(tmp_path: Path, name: str) -> None:
    rank = [node(0, "all", COLL, REDUCED | {name: ("int32", 3)})]
    treated = Treated(write(tmp_path, rank, rank))
    assert treated.attribute(0, "pg_name") == ("string", "3")
    assert treated.attribute(0, name) == ("int32", 3)


def test_nodes_that_dont_say_where_they_run_say_it(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0, "aten::mm", attrs={}), node(1, "layer1", attrs={})]))
    assert treated.mended("is-cpu") == [(0, "no is_cpu_op", "true"), (1, "no is_cpu_op", "false")]
    assert treated.graph().is_cpu.tolist() == [True, False]


def test_a_metadata_node_in_the_order_becomes_compute_of_the_host_and_a_lone_one_stays(
    tmp_path: Path,
) -> None:
    nodes = [node(0, "init", METADATA, HOST), node(1, data=(0,)), node(2, "lone", METADATA, HOST)]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("metadata") == [(0, "metadata", "compute of the host")]
    assert treated.graph().kinds.tolist() == [COMP, COMP, METADATA]
    assert treated.parents(1) == {0}


# Dependencies.


def test_dependencies_on_nodes_that_arent_there_are_dropped(tmp_path: Path) -> None:
    nodes = [node(5), node(6, data=(5, 99), control=(4,))]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("dangling") == [
        (6, "waits for node 99 (data)", "doesn't"),
        (6, "waits for node 4 (control)", "doesn't"),
    ]
    reasons = [m.why for m in treated.found if m.kind == "dangling"]
    assert reasons == [
        "the parent is not in the file",
        "the parent is not in the file, which begins with node 5",
    ]
    assert treated.parents(6) == {5}
    assert treated.problems() == []


def test_a_process_root_deleted_from_under_its_threads_is_named(tmp_path: Path) -> None:
    root = "[pytorch|profiler|execution_trace|thread]"
    treated = Treated(write(tmp_path, [node(1, root, attrs=HOST, control=(0,)), node(2, attrs=HOST)]))
    (found,) = treated.found
    assert found.why == "the converter deleted node 0, the process root, from under its 1 children"


def test_no_node_waits_for_itself(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0), node(1, data=(0,), control=(1, 0))]))
    assert treated.mended("itself") == [(1, "waits for itself (control)", "doesn't")]
    assert treated.parents(1) == {0}


def test_a_circle_opens_at_the_caller_with_the_later_id(tmp_path: Path) -> None:
    nodes = [node(0), node(1, control=(0, 2)), node(2, data=(1,)), node(3, control=(4,)), node(4)]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("cycle") == [(1, "waits for node 2 (control), in a circle", "doesn't")]
    # Node 3 waits for a later node, but in no circle: that stays.
    assert (treated.parents(1), treated.parents(2), treated.parents(3)) == ({0}, {1}, {4})


def test_a_circle_of_earlier_callers_opens_at_control(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0, data=(1,)), node(1, control=(0,))]))
    assert treated.mended("cycle") == [(1, "waits for node 0 (control), in a circle", "doesn't")]


def test_a_circle_of_data_is_told_and_stays(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0, data=(1,)), node(1, data=(0,))]))
    assert [what for _, what, _ in treated.left("cycle")] == ["waits in a circle: 1 → 0"]
    assert "cycle" in treated.problems()[0]


# Kernels.


def test_a_kernel_of_nccl_typed_compute_becomes_its_collective(tmp_path: Path) -> None:
    rank = [
        node(0, ALL_GATHER_KERNEL, reads=tensor(1, 16)),
        node(1, ALL_REDUCE_KERNEL, attrs=DEVICE | {"comm_size": ("int64", 8)}),
    ]
    treated = Treated(write(tmp_path, rank, rank))
    assert treated.mended("kernel") == [
        (0, "compute", "all-gather of 64 bytes, all ranks"),
        (1, "compute", "all-reduce of 8 bytes, all ranks"),
    ]
    assert treated.graph().comm_kinds.tolist() == [CommKind.ALL_GATHER, CommKind.ALL_REDUCE]
    assert treated.graph().comm_bytes.tolist() == [64, 8]
    assert treated.problems() == []


def test_its_group_is_the_only_one_that_the_graphs_other_collectives_have(tmp_path: Path) -> None:
    in_group = REDUCED | {"pg_name": ("string", "tp")}
    rank = [node(0, "all", COLL, in_group), node(1, ALL_REDUCE_KERNEL, reads=tensor(1))]
    treated = Treated(write(tmp_path, rank, rank))
    assert treated.mended("kernel") == [(1, "compute", "all-reduce of 64 bytes, group 'tp'")]


@pytest.mark.parametrize(
    ("name", "reads", "groups", "missing"),
    [
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", tensor(1), "", "which collective"),
        ("ncclDevKernel_Generic(ncclDevKernelArgs)", "", "", "which collective and how many bytes"),
        (ALL_REDUCE_KERNEL, "", "", "how many bytes"),
        (ALL_REDUCE_KERNEL, tensor(1), "ab", "which group"),
    ],
)
def test_a_kernel_that_tells_too_little_stays_compute(
    tmp_path: Path, name: str, reads: str, groups: str, missing: str
) -> None:
    others = [
        node(at, "all", COLL, REDUCED | {"pg_name": ("string", group)}) for at, group in enumerate(groups, 1)
    ]
    treated = Treated(write(tmp_path, [node(0, name, reads=reads), *others]))
    why = f"neither name nor attributes say {missing}; it stays compute"
    assert treated.left("kernel") == [(0, "compute", why)]
    assert treated.graph().kinds[0] == COMP


@pytest.mark.parametrize(
    ("kernel", "stated", "right"),
    [
        (ALL_GATHER_KERNEL, CommKind.ALL_REDUCE, CommKind.ALL_GATHER),
        (ALL_GATHER_KERNEL, None, CommKind.ALL_GATHER),
        (ALL_REDUCE_KERNEL, CommKind.BARRIER, CommKind.BARRIER),  # PyTorch's barrier is an all-reduce
        ("ncclDevKernel_SendRecv(x)", CommKind.ALL_TO_ALL, CommKind.ALL_TO_ALL),
        ("rcclKernel_ReduceScatter_RING", CommKind.ALL_GATHER, CommKind.REDUCE_SCATTER),
    ],
)
def test_a_collective_is_what_its_kernel_can_run(
    tmp_path: Path, kernel: str, stated: CommKind | None, right: CommKind
) -> None:
    attrs = dict(REDUCED)
    del attrs["comm_type"]
    if stated is not None:
        attrs["comm_type"] = ("int64", int(stated))
    treated = Treated(write(tmp_path, [node(0, kernel, COLL, attrs)]))
    assert treated.graph().comm_kinds.tolist() == [right]
    assert bool(treated.mended("collective")) == (stated != right)


def test_the_hosts_call_of_a_collective_becomes_compute(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, [node(0, "c10d::allreduce_", COLL, HOST)]))
    assert treated.mended("host-call") == [(0, "collective", "compute of the host")]
    assert treated.record(0).type == COMP


def test_a_collective_without_bytes_gets_its_inputs_or_keeps_its_duration(tmp_path: Path) -> None:
    attrs = DEVICE | {"comm_type": ("int64", 0)}
    rank = [node(0, "all", COLL, attrs, reads=tensor(1, 4)), node(1, "all", COLL, attrs)]
    treated = Treated(write(tmp_path, rank, rank))
    assert treated.mended("size") == [
        (0, "all-reduce, no comm_size", "16 bytes"),
        (1, "all-reduce, no comm_size", "keeps its recorded duration"),
    ]
    assert treated.problems() == []
    assert simulate(treated.workload, load_machine("ethernet-10g")).deadlock is None
