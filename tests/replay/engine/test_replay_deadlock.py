"""A replay that can't go on says who waits for whom."""

from __future__ import annotations

from replay_cases import coll, comp, rank, recv, result_of, send

from chakrasim.replay.report.result.document import json_document
from chakrasim.traces import GraphBuilder, Workload


def test_a_finished_replay_has_no_deadlock() -> None:
    assert result_of(Workload.from_graphs([rank(0, lambda b: comp(b, 1))])).deadlock is None


def test_a_rank_that_skips_a_collective_is_named() -> None:
    graphs = [
        rank(0, lambda b: coll(b)),
        rank(1, lambda b: comp(b, 5)),
        rank(2, lambda b: comp(b, 1, coll(b))),
    ]
    result = result_of(Workload.from_graphs(graphs))
    deadlock = result.deadlock
    assert deadlock is not None
    assert deadlock.unfinished_ranks == (0, 2)
    # The node behind the collective on rank 2 never ran, either.
    assert deadlock.unfinished_nodes == 3
    assert [(b.rank, b.node_id, b.group, b.missing_ranks) for b in deadlock.waiting] == [
        (0, 0, "world", (1,)),
        (2, 0, "world", (1,)),
    ]
    assert len(deadlock.chain) == 1
    assert "rank 1 never issue" in str(deadlock)
    document = json_document(result)
    assert document["step_time_ns"] is None
    assert [entry["finish_ns"] for entry in document["ranks"]] == [None, 0.005, None]
    assert document["deadlock"]["unfinished_ranks"] == [0, 2]
    assert document["deadlock"]["waiting"][0]["missing_ranks"] == [1]


def test_a_receive_without_a_send_is_named() -> None:
    graphs = [rank(0, lambda b: comp(b, 5)), rank(1, lambda b: comp(b, 5, recv(b, 0)))]
    deadlock = result_of(Workload.from_graphs(graphs)).deadlock
    assert deadlock is not None
    (waiting,) = deadlock.waiting
    assert (waiting.rank, waiting.kind, waiting.missing_ranks) == (1, "receive", (0,))
    assert "a send from rank 0 that doesn't exist" in str(waiting)


def test_a_circle_of_collectives_in_different_order_is_shown_as_one() -> None:
    # Rank 0 enters group a and then b; rank 1 enters b and then a. Both hold their only lane.
    def build(number: int, names: list[str]):  # type: ignore[no-untyped-def]
        def nodes(b: GraphBuilder) -> None:
            for name in names:
                coll(b, group=name)

        return rank(number, nodes, groups={"a": [0, 1], "b": [1, 0]})

    deadlock = result_of(Workload.from_graphs([build(0, ["a", "b"]), build(1, ["b", "a"])])).deadlock
    assert deadlock is not None
    assert deadlock.is_circle
    # 0 waits for rank 1 in a; rank 1's a waits for its lane, which b holds; b waits for rank 0's b; that
    # waits for the lane which a holds.
    assert [(b.rank, b.node_id) for b in deadlock.chain] == [(0, 0), (1, 1), (1, 0), (0, 1), (0, 0)]
    assert "lane 'comm', which node 0 holds" in str(deadlock)


def test_a_chain_passes_through_parents_that_never_ended() -> None:
    # Rank 0 waits in a collective for rank 1, whose collective comes after a receive that never gets its
    # message.
    graphs = [
        rank(0, lambda b: coll(b)),
        rank(1, lambda b: coll(b, comp(b, 3, recv(b, 0)))),
    ]
    deadlock = result_of(Workload.from_graphs(graphs)).deadlock
    assert deadlock is not None
    assert [(b.rank, b.node_id) for b in deadlock.chain] == [(0, 0), (1, 2), (1, 1), (1, 0)]
    assert not deadlock.is_circle


def test_a_send_is_blocked_by_what_comes_before_it() -> None:
    # Each rank sends only after it has received.
    graphs = [rank(0, lambda b: send(b, 1, recv(b, 1))), rank(1, lambda b: send(b, 0, recv(b, 0)))]
    deadlock = result_of(Workload.from_graphs(graphs)).deadlock
    assert deadlock is not None
    assert deadlock.is_circle
    assert [(b.rank, b.kind) for b in deadlock.chain] == [
        (0, "receive"),
        (1, "send"),
        (1, "receive"),
        (0, "send"),
        (0, "receive"),
    ]
