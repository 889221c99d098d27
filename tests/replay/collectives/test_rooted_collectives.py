"""Broadcast, reduce, gather, scatter and barrier are carried out by the algorithm that the machine names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chakrasim.replay.collectives import collective_ps
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.errors import ConfigError

NS = 1000
BROADCAST, REDUCE, GATHER, SCATTER = (
    CommKind.BROADCAST,
    CommKind.REDUCE,
    CommKind.GATHER,
    CommKind.SCATTER,
)
COSTS_NS = [
    # Pieces of 1000 bytes one behind the other: 2 * 3 steps.
    (BROADCAST, "ring", 6 * 1100),
    (REDUCE, "ring", 6 * 1100),
    # The farthest block, or the own one, first: 3 steps.
    (SCATTER, "ring", 3 * 1100),
    (GATHER, "ring", 3 * 4100),
    # One message for each member, on a link of its own.
    (BROADCAST, "direct", 4100),
    (REDUCE, "direct", 4100),
    (SCATTER, "direct", 1100),
    (GATHER, "direct", 4100),
    # Two messages at a time to three members.
    (BROADCAST, "direct:2", 2 * 4100),
    # A half and a quarter are handed on, and then gathered by all.
    (SCATTER, "halving-doubling", 2100 + 1100),
    (BROADCAST, "halving-doubling", 2 * (2100 + 1100)),
    (REDUCE, "halving-doubling", 2 * (2100 + 1100)),
    (GATHER, "halving-doubling", 4100 + 8100),
    # All of it down two levels, or up.
    (BROADCAST, "double-binary-tree", 2 * 4100),
    (REDUCE, "double-binary-tree", 2 * 4100),
    (CommKind.BARRIER, "double-binary-tree", 4 * 100),
    (CommKind.BARRIER, "halving-doubling", 4 * 100),
    (CommKind.BARRIER, "ring", 6 * 100),
    (CommKind.BARRIER, "direct", 2 * 100),
    (CommKind.BARRIER, "bruck", 2 * 100),
]


def machine(*sizes: int, name: str = "ring", scheduling: Scheduling | None = None) -> Machine:
    """Fully connected dimensions of 1 byte and 100 ns a link."""
    dimensions = tuple(
        Dimension(f"d{at}", "fully_connected", size, 1e9, 100 * NS) for at, size in enumerate(sizes)
    )
    algorithms = {kind: (name,) * len(sizes) for kind in CommKind}
    return Machine("rooted", "made up", None, dimensions, algorithms, scheduling=scheduling)


def replayed_ns(on: Machine, kind: CommKind, root: int, network: str = "analytical") -> int:
    """Time of one collective of 4000 bytes of all ranks, which all come to it at once."""
    assert on.size is not None
    graphs = []
    for rank in range(on.size):
        builder = GraphBuilder(rank)
        peer = -1 if kind == CommKind.BARRIER else root
        builder.add(NodeKind.COLL, "c", comm_kind=kind, comm_bytes=4000, peer=peer)
        graphs.append(builder.build())
    result = simulate(Workload.from_graphs(graphs), on, network=network)
    assert result.deadlock is None
    return int(result.ends_ps.max()) // NS


@pytest.mark.parametrize(("kind", "name", "cost_ns"), COSTS_NS)
def test_every_algorithm_by_hand(kind: CommKind, name: str, cost_ns: int) -> None:
    on = machine(4, name=name)
    assert collective_ps(on, kind, 4000, (0, 1, 2, 3)) == cost_ns * NS


@pytest.mark.parametrize(("kind", "name", "cost_ns"), COSTS_NS)
@pytest.mark.parametrize("root", [0, 1, 3])
def test_scheduled_or_message_by_message_it_takes_as_long_from_every_root(
    kind: CommKind, name: str, cost_ns: int, root: int
) -> None:
    whole, scheduled = machine(4, name=name), machine(4, name=name, scheduling=Scheduling())
    assert replayed_ns(whole, kind, root) == cost_ns
    assert replayed_ns(scheduled, kind, root) == cost_ns
    assert replayed_ns(scheduled, kind, root, network="congestion-aware") == cost_ns


@pytest.mark.parametrize("root", [0, 5, 7])
def test_over_two_dimensions_the_root_may_be_anywhere(root: int) -> None:
    on = machine(4, 2, name="direct", scheduling=Scheduling())
    expected_ns = {
        BROADCAST: 4100 + 4100,
        REDUCE: 4100 + 4100,
        GATHER: 4100 + (100 + 16000),
        SCATTER: (100 + 2000) + (100 + 500),
    }
    for kind, cost_ns in expected_ns.items():
        assert replayed_ns(on, kind, root) == cost_ns
        assert replayed_ns(on, kind, root, network="congestion-aware") == cost_ns
        assert collective_ps(replace(on, scheduling=None), kind, 4000, tuple(range(8))) == cost_ns * NS


def test_chunks_of_a_broadcast_go_one_after_the_other() -> None:
    on = machine(4, name="direct", scheduling=Scheduling(chunks=4))
    assert replayed_ns(on, BROADCAST, 2) == 4 * (100 + 1000)


def test_reductions_are_charged_where_something_is_added_up() -> None:
    # Three passes over 4000 bytes at 4 bytes a ns on the root.
    scheduling = Scheduling(reduction_Bps=4e9)
    assert replayed_ns(machine(4, name="direct", scheduling=scheduling), REDUCE, 1) == 4100 + 3000
    assert replayed_ns(machine(4, name="direct", scheduling=scheduling), BROADCAST, 1) == 4100


@pytest.mark.parametrize("scheduling", [None, Scheduling()])
def test_an_algorithm_that_can_t_run_a_collective_is_refused_by_name(scheduling: Scheduling | None) -> None:
    with pytest.raises(ConfigError, match="bruck can't run broadcast; choose another algorithm"):
        replayed_ns(machine(4, name="bruck", scheduling=scheduling), BROADCAST, 0)
    with pytest.raises(ConfigError, match="halving-doubling needs a power of two, not 6 members"):
        replayed_ns(machine(6, name="halving-doubling", scheduling=scheduling), BROADCAST, 0)


def test_on_a_group_that_is_no_grid_direct_waits_for_its_farthest_pair() -> None:
    ring = Dimension("d0", "ring", 8, 1e9, 100 * NS)
    rows = Dimension("d1", "fully_connected", 2, 1e9, 1000 * NS)
    on = replace(machine(1), dimensions=(ring, rows), algorithms=dict.fromkeys(CommKind, ("direct",) * 2))
    # 13 is in column 5 of the second row, four links and a row from 1; from 0, and between neighbours, three.
    cost_ps = collective_ps(on, CommKind.ALL_GATHER, 500, (0, 1, 11, 13))
    assert cost_ps == (4 * 100 + 1000 + 3 * 500) * NS


def test_the_worst_root_counts_where_members_don_t_lie_alike() -> None:
    ring = Dimension("d0", "ring", 8, 1e9, 100 * NS)
    on = replace(machine(1, name="direct"), dimensions=(ring,))
    # From 0 to 1 and 4 two messages leave the same way; from 4 they go both ways, from 1 too.
    assert collective_ps(on, BROADCAST, 500, (0, 1, 4)) == (4 * 100 + 2 * 500) * NS


@pytest.mark.parametrize("name", ["ring", "direct"])
def test_on_a_group_that_is_no_grid_a_scheduled_broadcast_takes_as_long(name: str) -> None:
    whole = machine(4, 2, name=name)
    graphs = []
    for rank in range(8):
        builder = GraphBuilder(rank)
        if rank in (0, 1, 4):
            builder.add(NodeKind.COLL, "c", comm_kind=BROADCAST, comm_bytes=3000, group="g", peer=1)
        graphs.append(builder.build())
    workload = Workload.from_graphs(graphs, groups={"g": [0, 1, 4]})
    # From 1 to 4 is a link in each dimension.
    cost_ns = 4 * (200 + 1000) if name == "ring" else 200 + 2 * 3000
    assert simulate(workload, whole).step_time_ps == cost_ns * NS
    scheduled = simulate(workload, replace(whole, scheduling=Scheduling()))
    assert scheduled.step_time_ps <= cost_ns * NS
    if name == "direct":
        assert scheduled.step_time_ps == cost_ns * NS
