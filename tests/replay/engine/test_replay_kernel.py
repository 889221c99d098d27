"""The replay loop: hand-computed cases, then random ones against a plain reference and compiled code."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import random_workload
from replay_cases import COLLECTIVE_PS, coll, comp, durations, play, play_naively, rank, recv, send

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.program import build_program
from chakrasim.traces import GraphBuilder, NodeKind, Workload


def one(build):  # type: ignore[no-untyped-def]
    return Workload.from_graphs([rank(0, build)])


def test_a_node_starts_when_its_last_parent_ends() -> None:
    def build(b: GraphBuilder) -> None:
        first, second = comp(b, 10, lane="a"), comp(b, 25, lane="b")
        comp(b, 5, first, second, lane="a")

    assert play(one(build)) == {(0, 0): (0, 10), (0, 1): (0, 25), (0, 2): (25, 30)}


def test_a_lane_runs_one_node_at_a_time_lowest_first() -> None:
    # One lane. 0 runs first; at 10 nodes 1, 2 and 3 are ready, and run in order of row.
    def build(b: GraphBuilder) -> None:
        root = comp(b, 10)
        for _ in range(3):
            comp(b, 7, root)

    assert play(one(build)) == {(0, 0): (0, 10), (0, 1): (10, 17), (0, 2): (17, 24), (0, 3): (24, 31)}


def test_what_becomes_ready_later_may_overtake_by_its_lower_row() -> None:
    # Lane x: rows 2 (to 20) and 3 are ready at 0. Row 1 is ready at 5; when row 2 ends, 1 goes before 3.
    def build(b: GraphBuilder) -> None:
        comp(b, 5, lane="y")
        comp(b, 1, 0, lane="x")
        comp(b, 20, lane="x")
        comp(b, 30, lane="x")

    assert play(one(build)) == {(0, 0): (0, 5), (0, 1): (20, 21), (0, 2): (0, 20), (0, 3): (21, 51)}


def test_default_lanes_are_one_each_for_host_device_and_communication() -> None:
    # Two of each: those of one lane follow each other, the three lanes run side by side. A device's memory
    # node shares the lane of communication.
    def build(b: GraphBuilder) -> None:
        comp(b, 10, is_cpu=True)
        comp(b, 10, is_cpu=True)
        comp(b, 20)
        comp(b, 20)
        coll(b)
        b.add(NodeKind.MEM_LOAD, "load", duration_ps=5)
        b.add(NodeKind.MEM_STORE, "store", duration_ps=5, is_cpu=True)

    assert play(one(build)) == {
        (0, 0): (0, 10),
        (0, 1): (10, 20),
        (0, 2): (0, 20),
        (0, 3): (20, 40),
        (0, 4): (0, 100),
        (0, 5): (100, 105),
        (0, 6): (20, 25),
    }


def test_markers_take_neither_time_nor_a_lane() -> None:
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="x")
        b.add(NodeKind.METADATA, "process_group", duration_ps=99, lane="x")
        b.add(NodeKind.INVALID, "nothing", duration_ps=99, after=[1])
        comp(b, 3, 2, lane="y")

    assert play(one(build)) == {(0, 0): (0, 10), (0, 1): (0, 0), (0, 2): (0, 0), (0, 3): (0, 3)}


def test_a_node_on_no_lane_runs_beside_everything() -> None:
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="")
        comp(b, 10, lane="")
        comp(b, 4)

    assert play(one(build)) == {(0, 0): (0, 10), (0, 1): (0, 10), (0, 2): (0, 4)}


def test_all_members_of_a_collective_end_together_after_the_last_arrives() -> None:
    # Rank 0 arrives at 10, rank 1 at 40; the collective takes 100: both leave at 140.
    graphs = [
        rank(0, lambda b: coll(b, comp(b, 10))),
        rank(1, lambda b: coll(b, comp(b, 40))),
    ]
    assert play(Workload.from_graphs(graphs)) == {
        (0, 0): (0, 10),
        (0, 1): (10, 140),
        (1, 0): (0, 40),
        (1, 1): (40, 140),
    }


def test_a_waiting_collective_holds_its_lane() -> None:
    # Rank 0 arrives at 0 and waits for rank 1, which comes at 50: both leave at 150. Rank 0's second
    # collective was ready at 0 but needs the lane; it starts at 150 and ends at 250, on both.
    graphs = [
        rank(0, lambda b: (coll(b), coll(b))),
        rank(1, lambda b: coll(b, coll(b, comp(b, 50)))),
    ]
    assert play(Workload.from_graphs(graphs)) == {
        (0, 0): (0, 150),
        (0, 1): (150, 250),
        (1, 0): (0, 50),
        (1, 1): (50, 150),
        (1, 2): (150, 250),
    }


def test_a_receive_that_is_posted_early_ends_when_the_message_lands() -> None:
    # The send starts at 20 and takes 30. The receive waits from 0 to 50; what follows on rank 1 starts at 50.
    graphs = [
        rank(0, lambda b: send(b, 1, comp(b, 20))),
        rank(1, lambda b: comp(b, 5, recv(b, 0))),
    ]
    assert play(Workload.from_graphs(graphs)) == {
        (0, 0): (0, 20),
        (0, 1): (20, 50),
        (1, 0): (0, 50),
        (1, 1): (50, 55),
    }


def test_a_receive_that_is_posted_late_ends_at_once() -> None:
    # The message lands at 30, the receive starts at 80.
    graphs = [rank(0, lambda b: send(b, 1)), rank(1, lambda b: recv(b, 0, comp(b, 80)))]
    times = play(Workload.from_graphs(graphs))
    assert times[0, 0] == (0, 30)
    assert times[1, 1] == (80, 80)


def test_a_send_holds_its_lane_until_the_message_has_landed() -> None:
    graphs = [
        rank(0, lambda b: (send(b, 1), send(b, 1))),
        rank(1, lambda b: (recv(b, 0), recv(b, 0))),
    ]
    assert play(Workload.from_graphs(graphs)) == {
        (0, 0): (0, 30),
        (0, 1): (30, 60),
        (1, 0): (0, 30),
        (1, 1): (0, 60),
    }


def test_a_receive_on_a_lane_of_its_own_occupies_it() -> None:
    def receiver(b: GraphBuilder) -> None:
        recv(b, 0, lane="stream")
        comp(b, 5, lane="stream")

    graphs = [rank(0, lambda b: send(b, 1, comp(b, 20))), rank(1, receiver)]
    times = play(Workload.from_graphs(graphs))
    assert times[1, 0] == (0, 50)
    assert times[1, 1] == (50, 55)


def test_ranks_may_share_one_graph_object() -> None:
    graph = rank(0, lambda b: coll(b, comp(b, 10)))
    times = play(Workload.from_graphs({0: graph, 1: graph, 2: graph}))
    assert set(times.values()) == {(0, 10), (10, 110)}


@settings(max_examples=80)
@given(st.data(), st.integers(2, 4))
def test_random_workloads_replay_as_the_plain_reference_does(data: st.DataObject, ranks: int) -> None:
    workload = random_workload(data, ranks)
    assert play(workload) == play_naively(workload)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 4))
def test_random_workloads_keep_to_the_rules(data: st.DataObject, ranks: int) -> None:
    workload = random_workload(data, ranks)
    times = play(workload)
    assert len(times) == len(workload)
    for number, graph in workload.graphs.items():
        for row in range(len(graph)):
            start_ps, end_ps = times[number, row]
            assert end_ps >= start_ps
            assert all(times[number, int(p)][1] <= start_ps for p in graph.parents_of(row))
    program = build_program(workload)
    for lane in range(len(program.lane_names)):
        held = sorted(times[program.locate(int(n))] for n in np.flatnonzero(program.lanes == lane))
        assert all(before[1] <= after[0] for before, after in pairwise(held))


@settings(max_examples=20)
@given(st.data(), st.integers(2, 4), st.integers(2, 9))
def test_every_cost_times_k_is_every_time_times_k(data: st.DataObject, ranks: int, k: int) -> None:
    program = build_program(random_workload(data, ranks))
    costs_ps = np.full(len(program.collectives), 100)
    once = run(program.state(durations(program), costs_ps))
    scaled = run(program.state(k * durations(program), k * costs_ps))
    assert (scaled[1] == k * once[1]).all()


def test_no_rank_has_precedence_over_another() -> None:
    # On both ranks the collective and row 1 end at 100, the first makes row 2 ready, the second frees its
    # lane, for which row 3 waits. When the collective would end became known when rank 1 came: after row 1 of
    # rank 0, before that of rank 1.
    def build(b: GraphBuilder) -> None:
        coll(b)
        comp(b, COLLECTIVE_PS, lane="x")
        comp(b, 5, 0, lane="x")
        comp(b, 5, lane="x")

    times = play(Workload.from_graphs([rank(0, build), rank(1, build)]))
    expected = [(0, 100), (0, 100), (100, 105), (105, 110)]
    assert times == {(r, row): time for r in range(2) for row, time in enumerate(expected)}


def test_what_ends_at_one_instant_ends_before_anything_starts() -> None:
    # Rows 0 and 1 both end at 10. The second makes row 2 ready, which goes before row 3, though the end of
    # the first freed the lane while row 3 alone was waiting.
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="x")
        comp(b, 10, lane="y")
        comp(b, 5, 1, lane="x")
        comp(b, 5, lane="x")

    assert play(one(build)) == {(0, 0): (0, 10), (0, 1): (0, 10), (0, 2): (10, 15), (0, 3): (15, 20)}


def test_one_by_one_what_ended_first_frees_its_lane_first() -> None:
    # The same by ASTRA-sim's order: row 3 has taken the lane before row 1 ends.
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="x")
        comp(b, 10, lane="y")
        comp(b, 5, 1, lane="x")
        comp(b, 5, lane="x")

    program = build_program(one(build))
    starts_ps, _ = run(program.state(durations(program), np.zeros(0)), one_by_one=True)
    assert starts_ps[: len(program)].tolist() == [0, 0, 15, 10]


def test_ranks_that_do_the_same_are_interchangeable() -> None:
    delays = [10, 30, 20]

    def replay(delays_ps: list[int]) -> dict[tuple[int, int], tuple[int, int]]:
        graphs = [rank(i, lambda b: comp(b, 1, coll(b, comp(b, delays_ps[b.rank])))) for i in range(3)]
        return play(Workload.from_graphs(graphs))

    straight, swapped = replay(delays), replay(delays[::-1])
    assert swapped == {(2 - r, row): times for (r, row), times in straight.items()}


@pytest.mark.parametrize("seed", range(3))
def test_compiled_and_interpreted_results_are_the_same_to_the_bit(seed: int) -> None:
    pytest.importorskip("numba")
    random = np.random.default_rng(seed)

    def build(b: GraphBuilder) -> None:
        for row in range(150):
            parents = random.integers(0, row, size=min(row, 2)).tolist()
            lane = [None, "", "a", "b", "c"][random.integers(5)]
            comp(b, int(random.integers(0, 20)), *parents, lane=lane)
            if row % 15 == 14:
                coll(b, row)
        send(b, 1 - b.rank)
        recv(b, 1 - b.rank)

    workload = Workload.from_graphs([rank(0, build), rank(1, build)])
    assert play(workload, is_compiled=True) == play(workload) == play_naively(workload)


def test_numba_disable_jit_keeps_the_loop_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("compiled")

    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    monkeypatch.setattr("chakrasim.replay.engine.event_loop.compiled", refuse)
    assert play(one(lambda b: comp(b, 10)), is_compiled=True) == {(0, 0): (0, 10)}
