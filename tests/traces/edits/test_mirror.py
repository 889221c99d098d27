"""Copies of recorded ranks: their collectives and messages meet, or the reason is said why they can't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replay_cases import result_of

from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.assumptions import assumptions
from chakrasim.replay.simulate import simulate
from chakrasim.traces import GraphBuilder, NodeKind, Workload, load_workload, save_workload
from chakrasim.traces.astra_export.export import adapt
from chakrasim.traces.edits.mirror import mirror_ranks
from chakrasim.traces.errors import TraceError
from chakrasim.traces.matching import match_collectives, match_messages
from chakrasim.traces.units import PS_PER_US

Build = Callable[[GraphBuilder], object]


def partial(world: int, builds: dict[int, Build], groups: dict[str, list[int]] | None = None) -> Workload:
    """A job of which only these ranks have a graph."""
    graphs = {}
    for rank, build in builds.items():
        builder = GraphBuilder(rank, metadata={"world_size": world})
        build(builder)
        graphs[rank] = builder.build()
    return Workload.from_graphs(graphs, groups=groups)


def all_reduce(builder: GraphBuilder, group: str | None = None, **options: Any) -> int:
    return builder.add(NodeKind.COLL, "sum", comm_kind=0, comm_bytes=64, group=group, **options)


def groups_of(workload: Workload, rank: int) -> list[tuple[int, ...]]:
    """The ranks of each of a rank's collectives, in order."""
    graph = workload.graphs[rank]
    index = workload.group_index(rank)
    return [
        workload.groups[index[row]].ranks for row in range(len(graph)) if graph.kinds[row] == NodeKind.COLL
    ]


def test_one_rank_of_four_stands_for_all() -> None:
    def build(builder: GraphBuilder) -> None:
        first = builder.add(NodeKind.COMP, "gemm", duration_ps=7)
        all_reduce(builder, after=[first])

    workload = partial(4, {0: build})
    mirrored = mirror_ranks(workload)
    assert mirrored.ranks == (0, 1, 2, 3)
    assert not mirrored.is_partial
    assert match_collectives(mirrored).present.tolist() == [4]
    assert result_of(mirrored).step_time_ps == result_of(workload).step_time_ps == 107
    # One object for those that do the same costs nothing.
    assert mirrored.graphs[1] is mirrored.graphs[3]
    assert any("3 of 4 ranks (1, 2, 3)" in note and "rank 0" in note for note in mirrored.notes)
    assert mirror_ranks(mirrored).graphs == mirrored.graphs


def test_groups_of_a_mesh_are_found_for_every_rank() -> None:
    """Eight ranks in tensor groups of two neighbours and data groups of stride two."""

    def build(builder: GraphBuilder) -> None:
        all_reduce(builder, "tp")
        all_reduce(builder, "dp")

    mirrored = mirror_ranks(partial(8, {5: build}, {"tp": [4, 5], "dp": [1, 3, 5, 7]}))
    for rank in range(8):
        tensor, data = groups_of(mirrored, rank)
        assert tensor == (rank // 2 * 2, rank // 2 * 2 + 1)
        assert data == tuple(range(rank % 2, 8, 2))
    assert sorted(match_collectives(mirrored).present.tolist()) == [2, 2, 2, 2, 4, 4]
    assert result_of(mirrored).deadlock is None


def test_the_order_of_a_group_and_its_root_are_kept() -> None:
    def build(builder: GraphBuilder) -> None:
        builder.add(NodeKind.COLL, "from", comm_kind=5, comm_bytes=64, group="tp", peer=1)

    mirrored = mirror_ranks(partial(4, {0: build}, {"tp": [1, 0]}))
    assert [groups_of(mirrored, rank) for rank in range(4)] == [[(1, 0)], [(1, 0)], [(3, 2)], [(3, 2)]]
    assert [int(mirrored.graphs[rank].peers[0]) for rank in range(4)] == [1, 1, 3, 3]


def test_each_part_is_copied_from_its_own_rank() -> None:
    """Two pipeline stages of two ranks each; rank 0 and rank 2 are recorded, and do different things."""

    def stage(name: str) -> Build:
        def build(builder: GraphBuilder) -> None:
            builder.add(NodeKind.COMP, name, duration_ps=1)
            all_reduce(builder, "tp")
            all_reduce(builder)

        return build

    def graph(rank: int, name: str) -> Any:
        builder = GraphBuilder(rank, metadata={"world_size": 4}, groups={"tp": [rank, rank + 1]})
        stage(name)(builder)
        return builder.build()

    mirrored = mirror_ranks(Workload.from_graphs([graph(0, "first"), graph(2, "second")]))
    assert [mirrored.graphs[rank].name(0) for rank in range(4)] == ["first", "first", "second", "second"]
    assert groups_of(mirrored, 3) == [(2, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("world", "ranks", "reason"),
    [(8, [0, 1, 3], "evenly spaced"), (4, [1, 2], "don't cover"), (7, [0, 1], "don't cover")],
)
def test_a_group_that_is_no_part_of_a_grid_is_refused(world: int, ranks: list[int], reason: str) -> None:
    workload = partial(world, {ranks[0]: lambda builder: all_reduce(builder, "odd")}, {"odd": ranks})
    with pytest.raises(TraceError, match=rf"process group 'odd' has ranks \[.*{reason}"):
        mirror_ranks(workload)


def test_a_send_becomes_a_receive_on_the_other_side_in_the_same_order() -> None:
    def build(builder: GraphBuilder) -> None:
        work = builder.add(NodeKind.COMP, "forward", duration_ps=10)
        sent = builder.add(NodeKind.SEND, "activation", peer=1, tag=4, comm_bytes=100, after=[work])
        builder.add(NodeKind.RECV, "gradient", peer=1, tag=5, comm_bytes=100, after=[sent])

    workload = partial(2, {0: build})
    mirrored = mirror_ranks(workload)
    peer = mirrored.graphs[1]
    assert [NodeKind(kind) for kind in peer.kinds] == [NodeKind.COMP, NodeKind.RECV, NodeKind.SEND]
    assert peer.peers.tolist() == [-1, 0, 0]
    assert len(match_messages(mirrored).send_row) == 2
    # Forward 10, activation 30, and the gradient 30 more.
    assert result_of(mirrored).deadlock is None
    assert any("the other way round" in note for note in mirrored.notes)


def test_a_pipeline_beside_data_parallelism() -> None:
    """Rank 0 of stage 0 {0, 1} sends to rank 2 of stage 1 {2, 3}."""

    def build(builder: GraphBuilder) -> None:
        sent = builder.add(NodeKind.SEND, "activation", peer=2, tag=0, comm_bytes=100)
        all_reduce(builder, "dp", after=[sent])

    mirrored = mirror_ranks(partial(4, {0: build}, {"dp": [0, 1]}))
    assert [NodeKind(mirrored.graphs[rank].kinds[0]) for rank in range(4)] == [5, 5, 6, 6]
    assert [int(mirrored.graphs[rank].peers[0]) for rank in range(4)] == [2, 3, 0, 1]
    assert [groups_of(mirrored, rank)[0] for rank in range(4)] == [(0, 1), (0, 1), (2, 3), (2, 3)]


def test_messages_within_a_group_go_round() -> None:
    """A ring of three: each sends to the next and receives from the one before."""

    def build(builder: GraphBuilder) -> None:
        builder.add(NodeKind.SEND, "on", peer=2, tag=0, comm_bytes=9)
        builder.add(NodeKind.RECV, "from", peer=0, tag=0, comm_bytes=9)
        all_reduce(builder, "ring")

    mirrored = mirror_ranks(partial(6, {1: build}, {"ring": [0, 1, 2]}))
    assert [mirrored.graphs[rank].peers[:2].tolist() for rank in range(6)] == [
        [1, 2],
        [2, 0],
        [0, 1],
        [4, 5],
        [5, 3],
        [3, 4],
    ]


def test_a_message_to_a_member_of_the_same_group_is_received_there() -> None:
    """Ranks 0 and 1 sum up together, and 0 sends something to 1 that it gets nothing for."""

    def build(builder: GraphBuilder) -> None:
        builder.add(NodeKind.SEND, "one way", peer=1, tag=0, comm_bytes=9)
        all_reduce(builder, "pair")

    mirrored = mirror_ranks(partial(4, {0: build}, {"pair": [0, 1]}))
    assert [NodeKind(mirrored.graphs[rank].kinds[0]) for rank in range(4)] == [5, 6, 0, 0]
    assert groups_of(mirrored, 3) == [(2, 3)]


def test_messages_about_which_nothing_is_known_are_left_out() -> None:
    """Of a pipeline of four stages only the second is recorded: the fourth has nobody to talk to."""

    def build(builder: GraphBuilder) -> None:
        got = builder.add(NodeKind.RECV, "from 0", peer=0, tag=0, comm_bytes=9)
        builder.add(NodeKind.SEND, "to 2", peer=2, tag=0, comm_bytes=9, after=[got])

    mirrored = mirror_ranks(partial(4, {1: build}))
    kinds = [[NodeKind(kind) for kind in mirrored.graphs[rank].kinds] for rank in range(4)]
    none = NodeKind.INVALID
    assert kinds == [
        [NodeKind.SEND, none],
        [NodeKind.RECV, NodeKind.SEND],
        [none, NodeKind.RECV],
        [none, none],
    ]
    assert any("4 messages on 3 copied ranks" in note for note in mirrored.notes)
    assert result_of(mirrored).deadlock is None


def test_a_rank_between_two_recorded_ones_is_refused() -> None:
    def send(builder: GraphBuilder) -> None:
        builder.add(NodeKind.SEND, "to 1", peer=1, tag=0, comm_bytes=9)

    with pytest.raises(TraceError, match=r"rank 1 has no trace and exchanges messages with ranks \[0, 2\]"):
        mirror_ranks(partial(3, {0: send, 2: send}))


def test_recorded_ranks_that_differ_are_refused() -> None:
    """What ranks 0 and 2 do differs, which is well while nothing says that they play the same part."""

    def graph(rank: int, count: int) -> Any:
        builder = GraphBuilder(
            rank, metadata={"world_size": 4}, groups={"tp": [rank, rank + 1], "dp": [rank % 2, rank % 2 + 2]}
        )
        for _ in range(count):
            all_reduce(builder, "tp")
        return builder.build()

    first, second = graph(0, 1), graph(1, 1)
    other = graph(2, 3)
    mirrored = mirror_ranks(Workload.from_graphs([first, other]))
    assert [len(mirrored.graphs[rank]) for rank in range(4)] == [1, 1, 3, 3]
    clash = replace(second, groups={"tp": (1, 3)})
    with pytest.raises(TraceError, match="don't fit together"):
        mirror_ranks(Workload.from_graphs([first, clash, other]))


@pytest.mark.slow
@pytest.mark.parametrize("kept", [(0,), (3,), (0, 3), (1, 2)])
def test_a_recorded_mesh_is_found_again_from_some_of_its_ranks(
    shared: Path, tmp_path: Path, kept: tuple[int, ...]
) -> None:
    whole = open_workload(str(shared / "own_traces/out_fsdp2_tp"))
    graphs = {}
    for rank in kept:
        names = whole.graphs[rank].group_names
        table = whole.group_tables[rank].tolist()
        declared = {name: whole.groups[i].ranks for name, i in zip(names, table, strict=True) if i >= 0}
        graphs[rank] = replace(whole.graphs[rank], groups=declared)
    some = Workload.from_graphs(graphs, world_size=4)
    mirrored = mirror_ranks(some)
    for rank in range(4):
        assert sorted(groups_of(mirrored, rank)) == sorted(groups_of(whole, rank))
    machine = load_machine("ethernet-10g")
    alone, together = (simulate(w, machine, network="analytical") for w in (some, mirrored))
    assert together.deadlock is None
    if len(kept) == 1:
        assert together.step_time_ps == alone.step_time_ps
    # It can be kept, and exported, as any other.
    save_workload(mirrored, tmp_path, "whole")
    again = load_workload(tmp_path)
    assert not again.is_partial
    assert simulate(again, machine, network="analytical").step_time_ps == together.step_time_ps
    assert adapt(mirrored).workload.ranks == (0, 1, 2, 3)


def test_the_ledger_says_what_is_assumed_with_one_rank_of_many() -> None:
    def build(builder: GraphBuilder) -> None:
        after = [all_reduce(builder, duration_ps=5 * PS_PER_US)]
        builder.add(NodeKind.COLL, "v", comm_kind=6, comm_bytes=8, after=after, duration_ps=PS_PER_US)
        builder.add(NodeKind.SEND, "to 1", peer=1, tag=0, comm_bytes=1000)
        builder.add(NodeKind.RECV, "from 1", peer=1, tag=0, comm_bytes=9, duration_ps=2 * PS_PER_US)
        builder.add(NodeKind.RECV, "from 2", peer=2, tag=0, comm_bytes=9)
        builder.add(NodeKind.COLL, "?", duration_ps=3 * PS_PER_US, attrs={"not_understood": "kind"})

    lines = assumptions(partial(4, {0: build}))
    for line, words in zip(
        lines,
        (
            ("3 of 4 ranks have no trace (1–3)",),
            ("2 collectives in 1 process groups", "arrive together with the last member"),
            ("in 2 of them only one member", "6 us"),
            ("1 all-to-alls", "largest size"),
            ("1 sends (1 kB)", "ready for them at once"),
            ("2 receives", "2 us", "1 have none"),
            ("1 collectives have no known kind", "3 us", "wait for nobody"),
        ),
        strict=True,
    ):
        assert all(word in line for word in words), line


def test_the_ledger_of_a_whole_job_is_empty() -> None:
    assert assumptions(mirror_ranks(partial(4, {0: all_reduce}))) == ()
    assert assumptions(open_workload("sample:ddp_transformer")) == ()
