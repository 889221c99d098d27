"""Workloads from files, and every broken invariant named with file, rank and node."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload, load_workload, save_workload
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import TraceError
from chakrasim.traces.matching import match_collectives, match_messages
from chakrasim.traces.order import find_cycle, program_order
from chakrasim.traces.testing import graph
from chakrasim.traces.view import to_networkx


def workload(fill: Callable[[GraphBuilder], object], ranks: int = 4, **arguments: object) -> Workload:
    """`ranks` ranks, each filled by the same function, which may look at `builder.rank`."""
    graphs = []
    for rank in range(ranks):
        builder = GraphBuilder(rank)
        fill(builder)
        graphs.append(builder.build())
    return Workload.from_graphs(graphs, **arguments)  # type: ignore[arg-type]


def all_reduce(builder: GraphBuilder, size: int = 64, **arguments: object) -> int:
    return builder.add(
        NodeKind.COLL,
        "ar",
        comm_kind=CommKind.ALL_REDUCE,
        comm_bytes=size,
        **arguments,  # type: ignore[arg-type]
    )


def messages(w: Workload) -> list[str]:
    return [str(problem) for problem in check_workload(w)]


def test_a_sound_workload_has_no_problems() -> None:
    assert messages(workload(all_reduce)) == []


class TestFiles:
    def save(self, folder: Path, ranks: int = 4) -> None:
        save_workload(workload(all_reduce, ranks), folder, "t")

    @pytest.mark.parametrize("path", ["", "t"])
    def test_a_folder_or_a_prefix_is_read(self, tmp_path: Path, path: str) -> None:
        self.save(tmp_path)
        assert load_workload(tmp_path / path).ranks == (0, 1, 2, 3)

    def test_one_file_alone_is_a_partial_workload(self, tmp_path: Path) -> None:
        self.save(tmp_path)
        w = load_workload(tmp_path / "t.2.et")
        assert (w.ranks, w.world_size, w.is_partial) == ((2,), 4, True)

    @pytest.mark.parametrize("missing", [0, 1, 3])
    def test_a_missing_rank_is_named_also_when_it_is_the_last(self, tmp_path: Path, missing: int) -> None:
        self.save(tmp_path)
        (tmp_path / f"t.{missing}.et").unlink()
        with pytest.raises(TraceError, match=rf"no file for rank {missing} .*expected t\.{missing}\.et"):
            load_workload(tmp_path / "t")
        assert load_workload(tmp_path / "t", partial=True).is_partial

    def test_two_workloads_in_a_folder_must_be_told_apart(self, tmp_path: Path) -> None:
        self.save(tmp_path)
        save_workload(workload(all_reduce), tmp_path, "u")
        with pytest.raises(TraceError, match="several workloads \\(t, u\\)"):
            load_workload(tmp_path)

    def test_a_rank_with_two_files_is_refused(self, tmp_path: Path) -> None:
        self.save(tmp_path)
        save_workload(workload(all_reduce), tmp_path, "t", compress=True)
        with pytest.raises(TraceError, match="both rank 0"):
            load_workload(tmp_path)

    def test_nothing_there_says_what_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(TraceError, match=r"no files x\.<rank>\.et"):
            load_workload(tmp_path / "x")

    @pytest.mark.parametrize("text", ["[1]", '{"1": 3}', '{"1": ["a"]}', '{"1": [0, 0]}', "{", '{"1": []}'])
    def test_a_group_file_of_another_form_is_refused(self, tmp_path: Path, text: str) -> None:
        self.save(tmp_path)
        (tmp_path / "groups.json").write_text(text)
        with pytest.raises(TraceError, match=r"groups\.json"):
            load_workload(tmp_path / "t", groups_file=tmp_path / "groups.json")

    def test_groups_come_from_a_file_or_from_the_traces(self, tmp_path: Path) -> None:
        w = workload(lambda b: all_reduce(b, group=f"dp{b.rank % 2}"), groups={"dp0": [0, 2], "dp1": [1, 3]})
        save_workload(w, tmp_path, "t")
        again = load_workload(tmp_path)
        assert [(g.name, g.ranks) for g in again.groups[1:]] == [("dp0", (0, 2)), ("dp1", (1, 3))]
        (tmp_path / "groups.json").write_text(json.dumps({"dp0": [2, 0], "dp1": [1, 3]}))
        given_file = load_workload(tmp_path / "t", groups_file=tmp_path / "groups.json")
        assert given_file.groups[1].ranks == (2, 0)

    def test_one_name_for_two_groups_stays_two_groups(self) -> None:
        graphs = []
        for rank in range(4):
            pair = [0, 1] if rank < 2 else [2, 3]
            builder = GraphBuilder(rank, groups={"tp": pair})
            all_reduce(builder, group="tp")
            graphs.append(builder.build())
        w = Workload.from_graphs(graphs)
        assert [g.ranks for g in w.groups] == [(0, 1, 2, 3), (0, 1), (2, 3)]
        assert [g.name for g in w.groups[1:]] == ["tp (0,1)", "tp (2,3)"]
        assert len(match_collectives(w)) == 2
        assert messages(w) == []


class TestProblems:
    def test_a_dependency_cycle_is_printed(self) -> None:
        def fill(builder: GraphBuilder) -> None:
            builder.add(NodeKind.COMP, "ok")
            builder.add(NodeKind.COMP, "a", after=[2])
            builder.add(NodeKind.COMP, "b", after=[1])

        (first, *_) = messages(workload(fill, 1))
        assert "dependency cycle: 2 ('b') → 1 ('a') → 2" in first or "1 ('a') → 2 ('b') → 1" in first

    def test_a_collective_needs_a_kind_and_a_size(self) -> None:
        (kind,) = messages(workload(lambda b: b.add(NodeKind.COLL, "x", comm_bytes=1), 1))
        assert "rank 0 node 0: ('x') is a collective without comm_type" in kind
        (size,) = messages(workload(lambda b: b.add(NodeKind.COLL, "x", comm_kind=0), 1))
        assert "without comm_size" in size
        (unknown,) = messages(workload(lambda b: b.add(NodeKind.COLL, "x", comm_kind=42, comm_bytes=1), 1))
        assert "unknown collective kind 42" in unknown

    def test_a_barrier_needs_no_size_and_an_opaque_collective_no_kind(self) -> None:
        def fill(builder: GraphBuilder) -> None:
            builder.add(NodeKind.COLL, "x", comm_kind=CommKind.BARRIER)
            builder.add(NodeKind.COLL, "y", duration_ps=5, attrs={"not_understood": "custom kernel"})

        assert messages(workload(fill)) == []

    def test_a_group_must_exist_and_have_the_rank(self) -> None:
        (unknown, *_) = messages(workload(lambda b: all_reduce(b, group="pp")))
        assert "process group 'pp', which doesn't exist" in unknown
        (outside,) = messages(workload(lambda b: all_reduce(b, group="g"), 2, groups={"g": [0]}))
        assert "rank 1 node 0" in outside
        assert "doesn't have this rank" in outside

    def test_members_must_agree_on_kind_size_and_order(self) -> None:
        (size,) = messages(workload(lambda b: all_reduce(b, 8 if b.rank == 2 else 64)))
        assert "rank 2 node 0: is collective 0 of group 'world': all-reduce of 8 bytes; on rank 0" in size

        def swapped(builder: GraphBuilder) -> None:
            first = all_reduce(builder, 16 if builder.rank else 32)
            all_reduce(builder, 32 if builder.rank else 16, after=[first])

        assert len(messages(workload(swapped, 2))) == 2

    def test_members_must_issue_equally_many(self) -> None:
        (problem,) = messages(workload(lambda b: [all_reduce(b) for _ in range(3 if b.rank == 1 else 4)]))
        assert "rank 1: issues 3 collectives of group 'world', rank 0 issues 4" in problem

    def test_uneven_all_to_alls_are_fine(self) -> None:
        w = workload(
            lambda b: b.add(NodeKind.COLL, "x", comm_kind=CommKind.ALL_TO_ALL, comm_bytes=10 * b.rank)
        )
        assert messages(w) == []
        assert match_collectives(w).size_bytes.tolist() == [30]

    def test_a_send_needs_its_receive_of_the_same_size(self) -> None:
        def fill(builder: GraphBuilder) -> None:
            if builder.rank == 0:
                builder.add(NodeKind.SEND, "s", peer=1, tag=4, comm_bytes=100)
            else:
                builder.add(NodeKind.RECV, "r", peer=0, tag=4, comm_bytes=99)

        send, recv = messages(workload(fill, 2))
        assert "rank 0 node 0: ('s') is a send of 100 bytes to rank 1, tag 4, without its receive" in send
        assert "rank 1 has one in node 0 of 99 bytes" in send
        assert "receive of 99 bytes from rank 0" in recv

    def test_a_peer_must_be_another_rank_of_the_world(self) -> None:
        (own,) = messages(workload(lambda b: b.add(NodeKind.SEND, "s", peer=0, comm_bytes=1), 1))
        assert "whose peer is its own rank" in own
        (far,) = messages(workload(lambda b: b.add(NodeKind.SEND, "s", peer=7, comm_bytes=1), 1))
        assert "whose peer is rank 7" in far

    def test_peers_without_a_trace_are_fine_in_a_partial_workload(self) -> None:
        w = workload(lambda b: b.add(NodeKind.SEND, "s", peer=3, comm_bytes=1), 1, world_size=4)
        assert w.is_partial
        assert messages(w) == []


def test_the_dimensions_and_the_priority_of_a_collective_survive_a_round_trip(tmp_path: Path) -> None:
    w = workload(lambda b: all_reduce(b, involved_dims=0b101, priority=7), 2)
    save_workload(w, tmp_path, "t")
    graph = load_workload(tmp_path).graphs[1]
    assert graph.involved_dims.tolist() == [0b101]
    assert graph.priorities.tolist() == [7]
    assert graph.attributes(0)["involved_dim"] == [True, False, True, False]


def test_sizes_and_times_that_cannot_be_are_refused() -> None:
    (size,) = messages(workload(lambda b: all_reduce(b, 2**62), 1))
    assert "has a comm_size of over" in size
    (time,) = messages(workload(lambda b: b.add(NodeKind.COMP, "x", duration_ps=2**62), 1))
    assert "last over 1,000,000 s" in time


def test_another_group_of_all_ranks_stays_apart_from_the_world() -> None:
    w = workload(
        lambda b: [all_reduce(b), all_reduce(b, group="1"), all_reduce(b, group="0")], 2, groups={"1": [0, 1]}
    )
    assert [g.name for g in w.groups] == ["world", "1"]
    assert w.group_index(0).tolist() == [0, 1, 0]


class TestMatching:
    def test_equal_messages_pair_in_order(self) -> None:
        def fill(builder: GraphBuilder) -> None:
            kind = NodeKind.RECV if builder.rank else NodeKind.SEND
            for size in (5, 7, 5) if builder.rank == 0 else (7, 5, 5):
                builder.add(kind, "m", peer=1 - builder.rank, comm_bytes=size)

        pairs = match_messages(workload(fill, 2))
        assert sorted(zip(pairs.send_row.tolist(), pairs.recv_row.tolist(), strict=True)) == [
            (0, 1),
            (1, 0),
            (2, 2),
        ]
        assert pairs.lone_sends == pairs.lone_recvs == ()

    def test_collectives_pair_in_program_order_not_in_order_of_id(self) -> None:
        def fill(builder: GraphBuilder) -> None:
            if builder.rank == 0:
                all_reduce(builder, 1, after=[1])
                all_reduce(builder, 2)
            else:
                all_reduce(builder, 2)
                all_reduce(builder, 1, after=[0])

        w = workload(fill, 2)
        assert messages(w) == []
        instance = match_collectives(w).instance
        assert (instance[0].tolist(), instance[1].tolist()) == ([1, 0], [0, 1])


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_cycles_are_found_exactly_where_networkx_finds_them(n: int, seed: int) -> None:
    rng = random.Random(seed)
    builder = GraphBuilder(0)
    for row in range(n):
        builder.add(NodeKind.COMP, str(row))
    for _ in range(rng.randrange(2 * n)):
        builder.add_edge(rng.randrange(n), rng.randrange(n), control=rng.random() < 0.5)
    g = builder.build()
    view = to_networkx(g)
    cycle = find_cycle(g)
    assert bool(cycle) != nx.is_directed_acyclic_graph(view)
    for parent, child in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        assert view.has_edge(parent, child)
    if not cycle:
        place = program_order(g)
        assert sorted(place) == list(range(n))
        assert all(place[parent] < place[child] for parent, child in view.edges)
        want = list(nx.lexicographical_topological_sort(view))
        assert np.argsort(place).tolist() == want


def test_a_wide_and_a_long_graph_are_walked_without_recursion() -> None:
    builder = GraphBuilder(0)
    for row in range(5_000):
        builder.add(NodeKind.COMP, "chain", after=[row - 1] if row else [])
    for _ in range(5_000):
        builder.add(NodeKind.COMP, "leaf", after=[10])
    assert find_cycle(builder.build()) == []


def test_small_graphs_can_be_written_as_text() -> None:
    g = graph("a:10 -> b:5@s1, a -> c:7")
    assert g.durations_ps.tolist() == [10_000_000, 5_000_000, 7_000_000]
    assert [g.name(int(p)) for p in g.parents_of(2)] == ["a"]
    assert g.lane_name(1) == "s1"
