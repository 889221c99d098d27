"""Edits of graphs: dropping, merging, moving and collapsing nodes, and scaling their durations."""

from __future__ import annotations

import numpy as np
import pytest
from edit_cases import US, columns, durations_us, edges, graphs, lanes, ranks, reachable, rows
from hypothesis import given
from hypothesis import strategies as st
from replay_cases import play

from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload
from chakrasim.traces.edits.collapse import collapse_host, collapse_rows
from chakrasim.traces.edits.drop import drop, drop_rows
from chakrasim.traces.edits.merge import merge, merge_rows
from chakrasim.traces.edits.move import move, move_rows
from chakrasim.traces.edits.scale import Scales, scale
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.order import find_cycle, program_order
from chakrasim.traces.testing import graph


def one(made: ExecutionGraph) -> Workload:
    return Workload.from_graphs([made], name="job")


# Drop


def test_children_of_a_dropped_node_wait_for_its_parents() -> None:
    before = graph("a -> x -> c, b -> x -> d")
    assert edges(drop_rows(before, rows(before, "x"))) == {"a>c", "a>d", "b>c", "b>d"}


def test_order_goes_through_several_dropped_nodes() -> None:
    before = graph("a -> x -> y -> z -> b, y -> c")
    assert edges(drop_rows(before, rows(before, "x", "y", "z"))) == {"a>b", "a>c"}


def test_of_nodes_in_a_row_on_a_lane_only_the_last_is_inherited() -> None:
    # x waits for all of h1 -> h2 -> h3; h3 comes after the others anyway.
    before = graph("h1@t -> h2@t -> h3@t -> x@s -> y@s, h1 -> x, h2 -> x")
    assert edges(drop_rows(before, rows(before, "x"))) == {"h1>h2", "h2>h3", "h3>y"}


def test_what_a_launch_costs_goes_with_what_was_launched() -> None:
    before = graph("launch:1@t -> latency:4@ -> kernel:9@s -> after:1@s")
    dropped = drop(one(before), "kernel")
    assert edges(dropped.graphs[0]) == {"launch>after"}
    assert dropped.notes == ("dropped 1 node on 1 rank that match 'kernel'",)


@given(graphs(), st.data())
def test_dropping_keeps_what_comes_after_what(before: ExecutionGraph, data: st.DataObject) -> None:
    gone = np.array(data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before))))
    held = columns(before)
    after = drop_rows(before, gone)
    stays = set(before.ids[~gone].tolist())
    assert after.ids.tolist() == sorted(stays)
    assert reachable(after) == {(a, b) for a, b in reachable(before) if {a, b} <= stays}
    assert columns(before) == held


def test_a_collective_is_dropped_on_all_ranks() -> None:
    dropped = drop(ranks(2), "reduce_grads")
    assert [edges(g) for g in dropped.graphs.values()] == [
        {"forward>gather_weights", "gather_weights>optimizer"}
    ] * 2
    assert dropped.notes == ("dropped 2 nodes on 2 ranks that match 'reduce_grads'",)


def test_a_collective_is_not_dropped_on_some_of_its_ranks() -> None:
    builders = [GraphBuilder(0), GraphBuilder(1)]
    for builder, name in zip(builders, ("ncclA", "other"), strict=True):
        builder.add(NodeKind.COLL, name, comm_kind=CommKind.ALL_REDUCE, comm_bytes=8)
    workload = Workload.from_graphs([builder.build() for builder in builders], name="job")
    with pytest.raises(
        ConfigError, match=r"takes node 0 \('ncclA'\) of rank 0 but leaves node 0 \('other'\)"
    ):
        drop(workload, "nccl")


def test_a_send_is_not_dropped_without_its_receive() -> None:
    sender, receiver = GraphBuilder(0), GraphBuilder(1)
    sender.add(NodeKind.SEND, "send", peer=1, comm_bytes=8)
    receiver.add(NodeKind.RECV, "recv", peer=0, comm_bytes=8)
    workload = Workload.from_graphs([sender.build(), receiver.build()], name="job")
    with pytest.raises(ConfigError, match="its other end"):
        drop(workload, "send")


def test_a_pattern_that_means_nothing_is_told_with_names_near_it() -> None:
    with pytest.raises(ConfigError, match="no node has a name like 'reduce_grad_'; near it: 'reduce_grads'"):
        drop(ranks(2), "reduce_grad_")


def test_nothing_may_be_left_over() -> None:
    with pytest.raises(ConfigError, match="leaves nothing of rank 0"):
        drop(ranks(2), "*")


def test_collectives_keep_their_order_where_ids_would_change_it() -> None:
    # c1 has the lower id but waits for x, which has the highest: c2 is issued first, on other ranks too.
    builder = GraphBuilder(0)
    options = {"comm_kind": CommKind.ALL_REDUCE, "comm_bytes": 8}
    waiting = builder.add(NodeKind.COLL, "c1", **options)
    builder.add(NodeKind.COLL, "c2", **options)
    builder.add_edge(builder.add(NodeKind.COMP, "x"), waiting)
    after = drop_rows(builder.build(), np.array([False, False, True]))
    assert [after.name(row) for row in np.argsort(program_order(after))] == ["c2", "c1"]


# Merge


def test_a_run_of_neighbours_becomes_one_node_with_the_sum_of_their_times() -> None:
    # The second waits for the host too, so the whole does; what waits for the first waits for the whole.
    before = graph("k1:10@s -> k2:20@s -> k3:40@s, h:1@t -> k2, k1 -> other:5@u")
    after = merge_rows(before, rows(before, "k1", "k2"))
    assert durations_us(after) == {"h": 1, "k1": 30, "k3": 40, "other": 5}
    assert edges(after) == {"h>k1", "k1>k3", "k1>other"}


def test_a_run_is_split_where_a_path_leaves_it_and_comes_back() -> None:
    # k2 -> wait -> k3: k3 can't be part of what the host waits for first.
    before = graph("k1:1@s -> k2:2@s -> k3:4@s -> k4:8@s, k2 -> wait:16@t -> k3")
    after = merge_rows(before, rows(before, "k1", "k2", "k3", "k4"))
    assert durations_us(after) == {"k1": 3, "k3": 12, "wait": 16}
    assert edges(after) == {"k1>k3", "k1>wait", "wait>k3"}


def test_two_runs_don_t_wait_for_each_other() -> None:
    # a1 -> b2 and b1 -> a2: each run alone could be one node, both could not.
    before = graph("a1@s -> a2@s, b1@t -> b2@t, a1 -> b2, b1 -> a2")
    after = merge_rows(before, np.ones(4, dtype=np.bool_))
    assert not find_cycle(after)


def test_a_latency_between_two_goes_into_the_node_with_its_time() -> None:
    before = graph("k1:10@s -> k2:20@s, k1 -> latency:3@ -> k2, k2 -> end:1@s")
    merged = merge(one(before), "k?")
    assert durations_us(merged.graphs[0]) == {"k1": 33, "end": 1}
    assert merged.notes == ("merged 2 nodes on 1 rank that match 'k?' into 1",)


def test_a_neighbour_that_doesn_t_match_parts_a_run() -> None:
    before = graph("k1:1@s -> x:2@s -> k2:4@s -> k3:8@s")
    merged = merge(one(before), "k?")
    assert durations_us(merged.graphs[0]) == {"k1": 1, "x": 2, "k2": 12}
    assert merged.notes == ("merged 3 nodes on 1 rank that match 'k?' into 2",)


def test_fused_collectives_move_the_bytes_of_both() -> None:
    made = []
    for rank in range(2):
        builder = GraphBuilder(rank)
        options = {"comm_kind": CommKind.ALL_REDUCE, "lane": "comm"}
        first = builder.add(NodeKind.COLL, "bucket", comm_bytes=100, **options)
        builder.add(NodeKind.COLL, "bucket", comm_bytes=50, after=[first], **options)
        made.append(builder.build())
    merged = merge(Workload.from_graphs(made), "bucket")
    assert merged.notes == ("merged 4 nodes on 2 ranks that match 'bucket' into 2",)
    assert [g.comm_bytes.tolist() for g in merged.graphs.values()] == [[150], [150]]


@given(graphs(), st.data())
def test_merging_makes_no_cycle_and_loses_no_work(before: ExecutionGraph, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before))))
    held = columns(before)
    after = merge_rows(before, chosen)
    assert not find_cycle(after)
    assert after.durations_ps.sum() == before.durations_ps.sum()
    # Powers of two: the bits of a duration are the nodes it was made of. Whoever waited still waits.
    node_of = {
        bit: row for row, d in enumerate(after.durations_ps.tolist()) for bit in range(10) if d >> bit & 1
    }
    ends = reachable(after)
    for a, b in reachable(before):
        pair = int(after.ids[node_of[a]]), int(after.ids[node_of[b]])
        assert pair[0] == pair[1] or pair in ends
    assert columns(before) == held


# Move


def test_a_moved_node_leaves_the_order_of_its_lane() -> None:
    before = graph("h1:1@t -> k1:1@s -> comm:1@s -> k2:1@s, h1 -> h2:1@t -> comm")
    after = move_rows(before, rows(before, "comm"), "c")
    assert edges(after) == {"h1>k1", "h1>h2", "h2>comm", "k1>k2"}
    assert lanes(after)["comm"] == "c"


def test_moved_nodes_keep_their_order_among_themselves() -> None:
    before = graph("k1@s -> c1@s -> k2@s -> c2@s -> k3@s")
    assert edges(move_rows(before, rows(before, "c1", "c2"), "c")) == {"k1>k2", "k2>k3", "c1>c2"}


def test_a_node_comes_to_a_lane_between_those_issued_before_and_after_it() -> None:
    before = graph("a@s -> b@s, a -> x@t, x -> y@t, b -> c@s")  # issued: a, b, x, y, c
    after = move_rows(before, rows(before, "x"), "s")
    assert edges(after) == {"a>b", "b>x", "a>x", "x>c"}


def test_an_edge_that_isn_t_between_neighbours_is_a_cause() -> None:
    before = graph("k1@s -> k2@s -> comm@s, k1 -> comm")
    assert edges(move_rows(before, rows(before, "comm"), "c")) == {"k1>k2", "k1>comm"}


def test_the_latency_of_a_stream_goes_with_its_order() -> None:
    before = graph("k1@s -> comm@s -> k2@s, comm -> latency:3@ -> k2")
    after = move_rows(before, rows(before, "comm"), "c")
    assert edges(after) == {"k1>k2", "k1>latency", "latency>k2"}


def test_nodes_that_no_edge_orders_are_not_ordered_on_their_new_lane() -> None:
    before = graph("a@s, b@s, c@s")
    assert edges(move_rows(before, rows(before, "a", "b"), "t")) == set()


def test_moving_is_noted_as_the_best_case() -> None:
    moved = move(one(graph("a@s -> b@s")), "b", "t")
    assert "moved 1 node on 1 rank that match 'b' to lane 't'" in moved.notes[0]
    assert "for the lane's order only" in moved.notes[0]


@given(graphs(), st.data())
def test_moving_makes_no_cycle(before: ExecutionGraph, data: st.DataObject) -> None:
    moved = np.array(data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before))))
    held = columns(before)
    after = move_rows(before, moved & (before.lanes != -2), "t")
    assert not find_cycle(after)
    assert after.durations_ps.tolist() == before.durations_ps.tolist()
    assert columns(before) == held


# Collapse


def host_chain(gap: bool = False) -> GraphBuilder:
    """op1 -> op2 -> launch -> op3 -> op4 on a thread, where launch starts a kernel for which op4 waits."""
    builder = GraphBuilder(0)
    previous: list[int] = []
    for number, name in enumerate(["op1", "host gap" if gap else "op2", "launch", "op3", "op4"]):
        previous = [
            builder.add(
                NodeKind.COMP, name, duration_ps=2**number * US, is_cpu=True, lane="thread 1", after=previous
            )
        ]
    kernel = builder.add(NodeKind.COMP, "kernel", duration_ps=100 * US, lane="stream 7", after=[2])
    builder.add_edge(kernel, 4)
    return builder


def test_host_operators_are_one_node_up_to_a_launch_and_from_a_wait() -> None:
    collapsed = collapse_host(one(host_chain().build()))
    after = collapsed.graphs[0]
    assert durations_us(after) == {"host": 7, "op3": 8, "op4": 16, "kernel": 100}
    assert edges(after) == {"host>op3", "op3>op4", "host>kernel", "kernel>op4"}
    assert collapsed.notes == ("collapsed 3 host nodes to 1 called 'host'",)


def test_gaps_that_don_t_count_as_compute_stay_apart() -> None:
    builder = host_chain(gap=True)
    assert durations_us(collapse_rows(builder.build()))["host"] == 7
    hosts_only = GraphBuilder(0)
    first = hosts_only.add(NodeKind.COMP, "op", duration_ps=1, is_cpu=True, lane="t")
    hosts_only.add(NodeKind.COMP, "host gap", duration_ps=1, is_cpu=True, lane="t", after=[first])
    assert len(collapse_rows(hosts_only.build())) == 2


def test_what_another_node_could_come_between_stays_apart() -> None:
    # While a runs, the kernel ends; the thread then takes waiter, which has the lower id, and b after it.
    builder = GraphBuilder(0)
    options = {"is_cpu": True, "lane": "t", "duration_ps": 10}
    kernel = builder.add(NodeKind.COMP, "kernel", duration_ps=5, lane="s")
    builder.add(NodeKind.COMP, "waiter", after=[kernel], **options)
    first = builder.add(NodeKind.COMP, "a", **options)
    builder.add(NodeKind.COMP, "b", after=[first], **options)
    before = builder.build()
    assert play(one(before))[0, 3] == (20, 30)
    assert len(collapse_rows(before)) == 4


@given(graphs(hosts=True))
def test_collapsing_changes_no_time(before: ExecutionGraph) -> None:
    held = columns(before)
    after = collapse_rows(before)
    was, now = play(one(before)), play(one(after))
    for row, duration in enumerate(after.durations_ps.tolist()):
        made_of = [bit for bit in range(10) if duration >> bit & 1]
        assert now[0, row][0] == min(was[0, bit][0] for bit in made_of)
        assert now[0, row][1] == max(was[0, bit][1] for bit in made_of)
    assert columns(before) == held


# Scale


def test_recorded_durations_are_scaled_by_name_and_place() -> None:
    scaled = scale(one(host_chain().build()), Scales(cpu=0.5, patterns=(("kernel", 0.25),)))
    assert durations_us(scaled.graphs[0]) == {
        "op1": 0.5,
        "op2": 1,
        "launch": 2,
        "op3": 4,
        "op4": 8,
        "kernel": 25,
    }
    assert scaled.notes == (
        "scaled 5 nodes on 1 rank of the host by 0.5",
        "scaled 1 node on 1 rank that match 'kernel' by 0.25",
    )


def test_scaling_what_isn_t_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no compute or memory node of the host"):
        scale(one(graph("a:1")), Scales(cpu=0.5))
    with pytest.raises(ConfigError, match="no node has a name like 'gemm'"):
        scale(one(graph("a:1")), Scales(patterns=(("gemm", 0.5),)))


def test_ranks_that_share_a_graph_go_on_sharing_it() -> None:
    shared = graph("a:1 -> b:2 -> c:3")
    dropped = drop(Workload.from_graphs({0: shared, 1: shared}), "b")
    assert dropped.graphs[0].parents is dropped.graphs[1].parents
