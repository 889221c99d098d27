"""Who kept the others waiting, and with which nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replay_cases import coll, rank, result_of

from chakrasim.replay.analysis.communication import communication_times
from chakrasim.replay.analysis.stragglers import Excess, find_stragglers
from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.straggler_table import rows, stragglers_document
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import GraphBuilder, NodeKind, Workload
from chakrasim.traces.graph import ExecutionGraph


def steps(number: int, gemms: tuple[int, ...], gelu: int = 5) -> ExecutionGraph:
    """A gelu, a gemm and an all-reduce for each of the gemms' times."""

    def build(builder: GraphBuilder) -> None:
        after: list[int] = []
        for duration in gemms:
            first = builder.add(NodeKind.COMP, "gelu", duration_ps=gelu, after=after)
            second = builder.add(NodeKind.COMP, "gemm", duration_ps=duration, after=[first])
            after = [coll(builder, second)]

    return rank(number, build)


def test_the_slow_gemm_of_one_rank_is_found() -> None:
    """Rank 1's second gemm takes 50 instead of 10: the three others wait 40 each."""
    workload = Workload.from_graphs(
        [steps(0, (10, 10)), steps(1, (10, 50)), steps(2, (10, 10)), steps(3, (10, 10))]
    )
    found = find_stragglers(result_of(workload))
    assert [entry.rank for entry in found.ranks] == [0, 1, 2, 3]
    slow = found.ranks[1]
    assert (slow.last_at, slow.cost_ps, slow.waiting_ps) == (1, 120, 0)
    assert slow.nodes == (Excess("gemm", False, excess_ps=40, own_ps=50),)
    assert [entry.waiting_ps for entry in found.ranks] == [40, 0, 40, 40]
    assert all(entry.cost_ps == 0 for entry in found.ranks if entry.rank != 1)
    (meeting,) = found.meetings
    assert (meeting.ordinal, meeting.last_rank) == (1, 1)
    # 5 + 10 and the collective's 100 before, then 5 + 50.
    assert meeting.arrival_ps == 170
    assert meeting.waits_ps == {0: 40, 1: 0, 2: 40, 3: 40}


def test_the_excess_is_over_the_median_of_the_others() -> None:
    """Others take 10, 20 and 60: their median is 20, of two of them the mean of both."""
    graphs = [steps(r, (t,)) for r, t in enumerate((70, 10, 20, 60))]
    (first, *_) = find_stragglers(result_of(Workload.from_graphs(graphs))).ranks
    assert first.cost_ps == 60 + 50 + 10
    assert first.nodes == (Excess("gemm", False, 50, 70),)
    (first, *_) = find_stragglers(result_of(Workload.from_graphs(graphs[:3]))).ranks
    assert first.nodes == (Excess("gemm", False, 55, 70),)


def test_nodes_that_only_the_last_rank_has_count_in_full() -> None:
    def build(builder: GraphBuilder) -> None:
        first = builder.add(NodeKind.COMP, "gelu", duration_ps=5)
        save = builder.add(NodeKind.COMP, "checkpoint", duration_ps=30, after=[first], is_cpu=True)
        second = builder.add(NodeKind.COMP, "gemm", duration_ps=10, after=[save])
        coll(builder, second)

    found = find_stragglers(
        result_of(Workload.from_graphs([rank(0, build), steps(1, (10,)), steps(2, (10,))]))
    )
    assert found.ranks[0].nodes == (Excess("checkpoint", True, 30, 30),)


def test_groups_are_judged_apart() -> None:
    """Rank 2 is late in its pair, after which it is late for the world too, without new fault of its own."""

    def build(builder: GraphBuilder) -> None:
        work = builder.add(NodeKind.COMP, "gemm", duration_ps=90 if builder.rank == 2 else 10)
        pair = coll(builder, work, group="low" if builder.rank < 2 else "high")
        coll(builder, pair)

    graphs = [rank(number, build) for number in range(4)]
    workload = Workload.from_graphs(graphs, groups={"low": [0, 1], "high": [2, 3]})
    found = find_stragglers(result_of(workload))
    late = found.ranks[2]
    # Its partner waits 80 for it. Both reach the world 80 after the others; the first of them counts.
    assert (late.last_at, late.cost_ps) == (2, 80 + 2 * 80)
    assert [(m.group, m.last_rank) for m in found.meetings] == [("world", 2), ("high", 2)]
    assert late.nodes[0].name == "gemm"


def test_waiting_for_another_group_is_no_work_of_ones_own() -> None:
    """Rank 1 is late for the world because rank 3 made it wait in their pair."""

    def build(builder: GraphBuilder) -> None:
        work = builder.add(NodeKind.COMP, "gemm", duration_ps=90 if builder.rank == 3 else 10)
        after = [coll(builder, work, group="odd")] if builder.rank in (1, 3) else [work]
        coll(builder, *after)

    graphs = [rank(number, build) for number in range(4)]
    found = find_stragglers(result_of(Workload.from_graphs(graphs, groups={"odd": [1, 3]})))
    assert found.ranks[1].cost_ps > 0
    assert all(node.excess_ps <= 100 for node in found.ranks[1].nodes)  # the pair's transfer, not the wait
    assert "gemm" not in [node.name for node in found.ranks[1].nodes]


def test_nobody_waits_where_nothing_is_shared() -> None:
    alone = find_stragglers(result_of(Workload.from_graphs([steps(0, (10, 10))])))
    assert (alone.ranks, alone.meetings) == ((), ())
    even = find_stragglers(result_of(Workload.from_graphs([steps(0, (10,)), steps(1, (10,))])))
    assert even.meetings == ()
    assert [entry.cost_ps for entry in even.ranks] == [0, 0]
    result = result_of(Workload.from_graphs([steps(0, (10,)), steps(1, (90,))]))
    assert find_stragglers(replace(result, waits=False)).ranks == ()


def test_a_deadlock_is_judged_as_far_as_it_came() -> None:
    def build(builder: GraphBuilder) -> None:
        first = builder.add(NodeKind.COMP, "gemm", duration_ps=10 + 10 * builder.rank)
        second = coll(builder, first)
        builder.add(NodeKind.RECV, "never", peer=1 - builder.rank, tag=0, comm_bytes=1, after=[second])

    result = result_of(Workload.from_graphs([rank(0, build), rank(1, build)]))
    assert result.deadlock is not None
    assert [entry.cost_ps for entry in find_stragglers(result).ranks] == [0, 10]


def test_waiting_adds_up_to_what_the_result_says() -> None:
    workload = open_workload("sample:ddp_transformer")
    result = simulate(workload, load_machine("ethernet-10g"), network="measured")
    found = find_stragglers(result)
    total_ps = sum(entry.waiting_ps for entry in communication_times(result))
    assert sum(entry.cost_ps for entry in found.ranks) == total_ps
    assert sum(entry.waiting_ps for entry in found.ranks) == total_ps
    written = stragglers_document(result)
    assert [entry["rank"] for entry in written["ranks"]] == [0, 1, 2, 3]
    assert len(written["collectives"]) == 4
    (worst, *_) = rows(result)
    costs = {str(entry.rank): entry.cost_ps for entry in found.ranks}
    assert costs[worst[0]] == max(costs.values())


def _faster(result: Result, number: int, share: float) -> Result:
    """The replay with the nodes of one rank, but its communication, that much shorter."""
    graphs = dict(result.workload.graphs)
    graph = graphs[number]
    durations_ps = np.where(
        graph.is_communication, graph.durations_ps, (graph.durations_ps * share).astype(np.int64)
    )
    graphs[number] = replace(graph, durations_ps=durations_ps, records=None)
    workload = replace(result.workload, graphs=graphs)
    return simulate(workload, result.machine, network=result.network)


@pytest.mark.slow
def test_the_rank_that_costs_most_is_the_one_to_speed_up(shared: Path) -> None:
    """A tenth off its work gains more than off any other's, and only there others wait less."""
    workload = open_workload(str(shared / "real_traces/megatron_tp8_a100"))
    result = simulate(workload, load_machine("dgx-a100"), network="measured")
    ranks = find_stragglers(result).ranks
    most = max(ranks, key=lambda entry: entry.cost_ps).rank
    before_ps = sum(entry.waiting_ps for entry in communication_times(result))
    steps_ps, waits_ps = {}, {}
    for entry in ranks:
        faster = _faster(result, entry.rank, 0.9)
        assert faster.step_time_ps is not None
        steps_ps[entry.rank] = faster.step_time_ps
        waits_ps[entry.rank] = sum(kind.waiting_ps for kind in communication_times(faster))
    assert min(steps_ps, key=lambda number: steps_ps[number]) == most
    assert [number for number, wait_ps in waits_ps.items() if wait_ps < before_ps] == [most]
