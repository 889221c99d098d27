"""From workload and machine to result: compute models, network models, partial workloads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import random_workload
from replay_cases import coll, comp, rank, recv, send

from chakrasim.replay.collectives import collective_ps
from chakrasim.replay.machine.machine import Accelerator, Dimension, Machine, RemoteMemory
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.errors import ConfigError, UnknownName

RING = ("ring",)
ONE_TFLOP, HALF_TFLOP = 1e12, 5e11
"""Peaks of the test accelerator: one operation a ps in bf16, one in 2 ps in fp32."""


def machine(**changes: object) -> Machine:
    """A fully connected machine: messages take 1000 ps and 1 ps a byte, memory 2 ps a byte."""
    settings: dict[str, object] = {
        "name": "test machine",
        "source": "invented",
        "accelerator": Accelerator(
            "test accelerator",
            peak_flops={"bf16": ONE_TFLOP, "fp32": HALF_TFLOP},
            memory_Bps=5e11,
            memory_bytes=10**10,
            launch_overhead_ps=100,
        ),
        "dimensions": (Dimension("links", "fully_connected", None, 1e12, 1000),),
        "algorithms": dict.fromkeys(CommKind, RING),
    }
    return Machine(**(settings | changes))  # type: ignore[arg-type]


def alone(*nodes: dict[str, object]) -> Workload:
    """One rank with these compute nodes, each on a lane of its own; all start at 0."""

    def build(b: GraphBuilder) -> None:
        for i, node in enumerate(nodes):
            kind, name = node.pop("kind", NodeKind.COMP), node.pop("name", "kernel")
            b.add(kind, name, lane=f"lane {i}", **node)  # type: ignore[arg-type]

    return Workload.from_graphs([rank(0, build)])


def test_measured_compute_takes_as_long_as_recorded() -> None:
    result = simulate(alone({"duration_ps": 70}, {"duration_ps": 50, "ops": 10**9}), machine())
    assert result.ends_ps.tolist() == [70, 50]
    assert result.notes == ()


def test_compute_without_a_recorded_duration_is_noted() -> None:
    result = simulate(alone({"ops": 1000}), machine(), compute="measured")
    assert result.ends_ps.tolist() == [0]
    assert "compute nodes without a recorded duration take no time" in result.notes[0]


def test_scales_multiply_recorded_durations() -> None:
    workload = alone(
        {"duration_ps": 100, "is_cpu": True},
        {"duration_ps": 100, "name": "sm90_GEMM_bf16"},
        {"duration_ps": 100, "name": "flash_fwd"},
        {"duration_ps": 100, "name": "relu"},
    )
    scales = Scales(cpu=3, device=0.5, patterns=(("gemm", 9), ("sm90*", 0.1), ("*fwd", 4)))
    # Host 3; device 0.5, and the last pattern that matches: 0.1 for the gemm, 4 for the attention.
    assert simulate(workload, machine(), scales=scales).ends_ps.tolist() == [300, 5, 200, 50]


def test_a_scale_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="'gemm' is -1"):
        Scales(patterns=(("gemm", -1.0),))


def test_costs_are_rounded_down_to_whole_cycles() -> None:
    assert simulate(alone({"duration_ps": 1999}), machine(cycle_ps=1000)).ends_ps.tolist() == [1000]


def test_roofline_takes_the_slower_of_arithmetic_and_memory() -> None:
    workload = alone(
        # 3000 operations at 1 ps, 1000 bytes at 2 ps, and 100 ps to launch.
        {"ops": 3000, "tensor_bytes": 1000, "dtype": "bf16", "duration_ps": 7},
        {"ops": 3000, "tensor_bytes": 2000, "dtype": "bf16"},
        # Half the speed in fp32; no data type is the first listed; no operations is memory alone.
        {"ops": 3000, "dtype": "fp32"},
        {"ops": 3000},
        {"tensor_bytes": 10},
        # fp8 has no peak here. Neither operations nor bytes: as recorded. The host: as recorded.
        {"ops": 3000, "dtype": "fp8"},
        {"duration_ps": 42},
        {"duration_ps": 43, "ops": 1000, "is_cpu": True},
    )
    result = simulate(workload, machine(), compute="roofline")
    assert result.ends_ps.tolist() == [3100, 4100, 6100, 3100, 120, 3100, 42, 43]
    notes = "\n".join(result.notes)
    assert (
        "device nodes that state neither operations nor bytes keep their recorded duration (1 of them)"
        in notes
    )
    assert "device nodes that state no data type are costed at the bf16 peak (1 of them)" in notes
    assert "device nodes that compute in fp8, for which test accelerator states no peak" in notes


@pytest.mark.parametrize("compute", ["measured", "roofline"])
def test_memory_nodes_go_by_their_recording_then_by_their_bytes(compute: str) -> None:
    nodes = [
        {"kind": NodeKind.MEM_LOAD, "tensor_bytes": 500, "duration_ps": 30},
        {"kind": NodeKind.MEM_STORE, "tensor_bytes": 500},
    ]
    workload = alone(*(dict(node) for node in nodes))
    assert simulate(workload, machine(), compute=compute).ends_ps.tolist() == [30, 1000]
    # Remote memory: 40 ps and 4 ps a byte.
    remote = machine(remote_memory=RemoteMemory(2.5e11, 40))
    assert simulate(workload, remote, compute=compute).ends_ps.tolist() == [30, 2040]


def test_collectives_and_messages_are_costed_by_the_machine() -> None:
    # The send: 1000 ps and 500 bytes, landing at 1500; then the all-reduce of 1000 bytes.
    graphs = [
        rank(0, lambda b: coll(b, send(b, 1))),
        rank(1, lambda b: coll(b, recv(b, 0))),
    ]
    result = simulate(Workload.from_graphs(graphs), machine())
    all_reduce_ps = collective_ps(machine().sized_for(2), CommKind.ALL_REDUCE, 1000, (0, 1))
    assert all_reduce_ps > 1000
    assert result.ends_ps.tolist() == [1500, 1500 + all_reduce_ps] * 2


def test_measured_communication_takes_the_shortest_recording() -> None:
    # Rank 0 was recorded to be in the collective for 90, of which it waited; rank 1 for 25. Message: 40
    # and 60.
    graphs = [
        rank(0, lambda b: coll(b, send(b, 1, duration_ps=40), duration_ps=90)),
        rank(1, lambda b: coll(b, recv(b, 0, duration_ps=60), duration_ps=25)),
    ]
    result = simulate(Workload.from_graphs(graphs), machine(), network="measured")
    assert result.ends_ps.tolist() == [40, 65, 40, 65]
    assert result.notes == ()


def test_measured_communication_without_recording_falls_back_and_says_so() -> None:
    graphs = [rank(i, lambda b: coll(b)) for i in range(2)]
    workload = Workload.from_graphs(graphs)
    measured = simulate(workload, machine(), network="measured")
    assert measured.step_time_ps == simulate(workload, machine()).step_time_ps
    assert "collectives without a recorded duration are costed by the network (1 of them)" in measured.notes


def test_patterns_scale_measured_communication_too() -> None:
    workload = Workload.from_graphs([rank(i, lambda b: coll(b, duration_ps=80)) for i in range(2)])
    scales = Scales(device=10, patterns=(("all_reduce", 0.5),))
    assert simulate(workload, machine(), network="measured", scales=scales).step_time_ps == 40


def test_messages_share_ports_if_asked_to() -> None:
    # Two messages of 500 bytes leave rank 0 at once: half the rate each, 1000 ps to drain, 1000 ps of
    # latency.
    graphs = [
        rank(0, lambda b: (send(b, 1, lane="a"), send(b, 2, lane="b"))),
        rank(1, lambda b: recv(b, 0)),
        rank(2, lambda b: recv(b, 0)),
    ]
    workload = Workload.from_graphs(graphs)
    assert simulate(workload, machine()).ends_ps.tolist() == [1500] * 4
    assert simulate(workload, machine(), network="shared-ports").ends_ps.tolist() == [2000] * 4


def test_ports_are_apart_by_dimension() -> None:
    # Rank 0 sends to its neighbour over the inner links, at 1 ps a byte, and to rank 2 over the outer, at
    # 2 ps.
    inner = Dimension("inner", "fully_connected", 2, 1e12, 1000)
    outer = Dimension("outer", "fully_connected", None, 5e11, 3000)
    two = machine(dimensions=(inner, outer), algorithms=dict.fromkeys(CommKind, ("ring", "ring")))
    graphs = [
        rank(0, lambda b: (send(b, 1, lane="a"), send(b, 2, lane="b"))),
        rank(1, lambda b: recv(b, 0)),
        rank(2, lambda b: recv(b, 0)),
    ]
    workload = Workload.from_graphs(graphs, world_size=4, partial=True)
    assert simulate(workload, two, network="shared-ports").ends_ps.tolist() == [1500, 4000, 1500, 4000]


def test_missing_ranks_are_taken_to_arrive_with_the_last() -> None:
    # Ranks 1 and 3 have no trace. Rank 2 arrives last, at 50. The receive from rank 3 takes the message's
    # time.
    graphs = {
        0: rank(0, lambda b: coll(b, comp(b, 10))),
        2: rank(2, lambda b: recv(b, 3, coll(b, comp(b, 50)))),
    }
    workload = Workload.from_graphs(graphs, world_size=4, partial=True)
    all_reduce_ps = collective_ps(machine().sized_for(4), CommKind.ALL_REDUCE, 1000, (0, 1, 2, 3))
    result = simulate(workload, machine())
    after_ps = 50 + all_reduce_ps
    assert result.ends_ps.tolist() == [10, after_ps, 50, after_ps, after_ps + 1500]
    assert "2 of 4 ranks have no trace" in json_document(result)["assumptions"][0]


def test_a_lone_message_to_or_from_a_missing_rank_takes_its_own_recording() -> None:
    def build(b: GraphBuilder) -> None:
        recv(b, 1, duration_ps=70)
        send(b, 1, duration_ps=30)

    workload = Workload.from_graphs([rank(0, build)], world_size=2, partial=True)
    assert simulate(workload, machine(), network="measured").ends_ps.tolist() == [70, 30]


def test_unknown_models_are_refused_with_the_nearest_name() -> None:
    workload = alone({"duration_ps": 1})
    with pytest.raises(UnknownName, match="did you mean 'roofline'"):
        simulate(workload, machine(), compute="rofline")
    with pytest.raises(UnknownName, match="did you mean 'analytical'"):
        simulate(workload, machine(), network="analytic")


def test_a_machine_that_is_too_small_matters_only_if_its_network_is_asked() -> None:
    small = machine(dimensions=(Dimension("links", "fully_connected", 2, 1e12, 1000),))
    graphs = [rank(i, lambda b: coll(b, duration_ps=80)) for i in range(4)]
    workload = Workload.from_graphs(graphs)
    assert simulate(workload, small, network="measured").step_time_ps == 80
    with pytest.raises(ConfigError, match="has 2 ranks"):
        simulate(workload, small)


def rank_graph(number: int, delay_ps: int) -> ExecutionGraph:
    """A collective between two computations."""
    return rank(number, lambda b: comp(b, 5, coll(b, comp(b, delay_ps))))


def test_results_do_not_depend_on_sharing_graph_objects() -> None:
    one = rank_graph(0, 10)
    shared = Workload.from_graphs({0: one, 1: one, 2: one})
    apart = Workload.from_graphs([rank_graph(i, 10) for i in range(3)])
    assert simulate(shared, machine()).ends_ps.tolist() == simulate(apart, machine()).ends_ps.tolist()


@settings(max_examples=30)
@given(st.data(), st.integers(2, 4))
def test_sharing_ports_changes_nothing_where_each_port_has_one_message(
    data: st.DataObject, ranks: int
) -> None:
    # Messages of the random workloads go round a ring, and each rank has one lane for them.
    workload = random_workload(data, ranks)
    plain = simulate(workload, machine())
    shared = simulate(workload, machine(), network="shared-ports")
    assert shared.ends_ps.tolist() == plain.ends_ps.tolist()


def test_what_ifs_that_change_nothing_say_so() -> None:
    host = Workload.from_graphs([rank(0, lambda b: comp(b, 5, is_cpu=True))])
    scales = Scales(device=0.5, patterns=(("gemm", 0.5), ("COMP", 2.0)))
    result = simulate(host, machine(), compute="roofline", scales=scales)
    assert result.step_time_ps == 10
    assert result.notes == (
        "the scale of the device changes nothing: the trace has no compute or memory node there",
        "the scale of 'gemm' changes nothing: no node has such a name",
        "the roofline costs nodes of a device, of which the trace has none",
    )
    assert repr(result) == "<Result 'workload' on 'test machine': 10 ps>"
