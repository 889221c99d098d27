"""The critical path explains the step time without a hole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import random_workload
from replay_cases import coll, comp, rank, recv, result_of, send

from chakrasim.replay.analysis.critical_path import critical_path, parts
from chakrasim.traces import GraphBuilder, Workload
from chakrasim.traces.errors import ChakrasimError


def path(workload: Workload) -> list[tuple[int, int, int, int, str]]:
    """(rank, node, start, end, after) of each step."""
    steps = critical_path(result_of(workload))
    return [(s.rank, s.node_id, s.start_ps, s.end_ps, s.after) for s in steps]


def test_the_path_follows_the_later_parent_and_the_lane() -> None:
    # Node 2 waits for node 1, not for node 0; node 3 for its lane.
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="a")
        comp(b, 25, lane="b")
        comp(b, 5, 0, 1, lane="a")
        comp(b, 7, 1, lane="a")

    assert path(Workload.from_graphs([rank(0, build)])) == [
        (0, 1, 0, 25, "start"),
        (0, 2, 25, 30, "parent"),
        (0, 3, 30, 37, "lane"),
    ]


def test_the_path_changes_to_the_rank_that_arrived_last() -> None:
    # Rank 1 arrives at 40 and holds rank 0 up, whose last node ends at 149.
    graphs = [rank(0, lambda b: comp(b, 9, coll(b, comp(b, 10)))), rank(1, lambda b: coll(b, comp(b, 40)))]
    assert path(Workload.from_graphs(graphs)) == [
        (1, 0, 0, 40, "start"),
        (1, 1, 40, 140, "parent"),
        (0, 2, 140, 149, "parent"),
    ]


def test_the_path_changes_from_a_receive_to_its_send() -> None:
    graphs = [rank(0, lambda b: send(b, 1, comp(b, 20))), rank(1, lambda b: comp(b, 5, recv(b, 0)))]
    assert path(Workload.from_graphs(graphs)) == [
        (0, 0, 0, 20, "start"),
        (0, 1, 20, 50, "parent"),
        (1, 1, 50, 55, "parent"),
    ]


def test_a_deadlock_has_no_critical_path() -> None:
    graphs = [rank(0, lambda b: coll(b)), rank(1, lambda b: comp(b, 1))]
    with pytest.raises(ChakrasimError, match="deadlock"):
        critical_path(result_of(Workload.from_graphs(graphs)))


@settings(max_examples=60)
@given(st.data(), st.integers(2, 4))
def test_the_steps_cover_the_step_time_without_a_hole(data: st.DataObject, ranks: int) -> None:
    result = result_of(random_workload(data, ranks))
    steps = critical_path(result)
    if steps:
        assert steps[0].start_ps == 0
        assert steps[-1].end_ps == result.step_time_ps
    assert all(before.end_ps == after.start_ps for before, after in pairwise(steps))


def test_the_parts_add_up_to_the_step_time() -> None:
    graphs = [rank(0, lambda b: comp(b, 5, comp(b, 7, is_cpu=True)))]
    found = parts(critical_path(result_of(Workload.from_graphs(graphs))))
    assert [(p.kind, p.count, p.time_ps) for p in found] == [("host compute", 1, 7), ("compute", 1, 5)]
