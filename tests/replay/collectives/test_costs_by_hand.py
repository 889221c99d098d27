"""Costs of single messages and collectives, each worked out by hand and asked of a whole replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, NodeKind
from chakrasim.traces.workload import Workload

US = 10**6
"""In ps. Links of 1 GB/s take 1 us for 1,000 bytes."""


def step_ps(
    folder: Path,
    workload: Workload,
    *dimensions: str,
    algorithm: str = "ring",
    cycle_ps: int = 1,
    network: str,
) -> int:
    """Step time on a machine with these dimensions, innermost first."""
    listed = [f"{{name: d{n}, source: none, {text}}}" for n, text in enumerate(dimensions)]
    path = folder / "machine.yaml"
    path.write_text(
        f"name: small\nsource: none\ncycle_ps: {cycle_ps}\nnetwork: [{', '.join(listed)}]\n"
        f"collectives: {{default: {algorithm}}}\n"
    )
    step_time_ps = simulate(workload, load_machine(path), network=network).step_time_ps
    assert step_time_ps is not None
    return step_time_ps


def collective(
    kind: CommKind, size_bytes: int, ranks: int, members: Sequence[int] = (), durations_ps: Sequence[int] = ()
) -> Workload:
    """One collective of all ranks, or of some."""
    graphs = {}
    for rank in range(ranks):
        builder = GraphBuilder(rank, groups={"some": list(members)} if members else {})
        if rank in members or not members:
            builder.add(
                NodeKind.COLL,
                "collective",
                comm_kind=kind,
                comm_bytes=size_bytes,
                group="some" if members else None,
                peer=0 if kind == CommKind.SCATTER else -1,
                duration_ps=durations_ps[rank] if durations_ps else 0,
            )
        else:
            builder.add(NodeKind.COMP, "idle")
        graphs[rank] = builder.build()
    return Workload.from_graphs(graphs)


def message(source: int, destination: int, size_bytes: int, ranks: int) -> Workload:
    """One message."""
    graphs = {}
    for rank in range(ranks):
        builder = GraphBuilder(rank)
        if rank == source:
            builder.add(NodeKind.SEND, "send", comm_bytes=size_bytes, peer=destination, tag=0)
        elif rank == destination:
            builder.add(NodeKind.RECV, "receive", comm_bytes=size_bytes, peer=source, tag=0)
        else:
            builder.add(NodeKind.COMP, "idle")
        graphs[rank] = builder.build()
    return Workload.from_graphs(graphs)


SLOW = "topology: fully_connected, size: 2, bandwidth_GBps: 1, latency_ns: 0"
FAST = "topology: fully_connected, size: 2, bandwidth_GBps: 1000, latency_ns: 0"


@pytest.mark.parametrize("dimensions", [(SLOW, FAST), (FAST, SLOW)], ids=["inner", "outer"])
def test_the_slowest_link_on_its_way_sets_the_time_of_a_message(
    tmp_path: Path, dimensions: tuple[str, str]
) -> None:
    # Rank 0 to 3 passes both dimensions: 1,000 bytes at 1 GB/s, wherever that link is.
    assert step_ps(tmp_path, message(0, 3, 1000, 4), *dimensions, network="analytical") == US


@pytest.mark.parametrize(("topology", "shares"), [("fully_connected", 1), ("switch", 3)])
def test_the_root_of_a_direct_scatter_sends_each_member_its_share(
    tmp_path: Path, topology: str, shares: int
) -> None:
    # Each of the other 3 gets a quarter of 4,000 bytes: at once over links of their own, or all through the
    # root's one link to the switch.
    links = f"topology: {topology}, size: 4, bandwidth_GBps: 1, latency_ns: 0"
    scatter = collective(CommKind.SCATTER, 4000, 4)
    assert step_ps(tmp_path, scatter, links, algorithm="direct", network="analytical") == shares * US


def test_a_direct_exchange_of_an_irregular_group_lasts_as_long_as_the_farthest_way(tmp_path: Path) -> None:
    # Ranks 0, 2, 4 and 6 of the first ring of 8, and the first of the second: no grid. Neighbours in this
    # order are at most 2 hops of 10 us apart, but from 0 to 4 it is 4. A byte each adds next to nothing.
    dimensions = (
        "topology: ring, size: 8, bandwidth_GBps: 1000, latency_ns: 10000",
        "topology: switch, size: 2, bandwidth_GBps: 1000, latency_ns: 0",
    )
    exchange = collective(CommKind.ALL_TO_ALL, 5, 16, members=(0, 2, 4, 6, 8))
    found_ps = step_ps(tmp_path, exchange, *dimensions, algorithm="direct", network="analytical")
    assert 40 * US <= found_ps < 41 * US


def test_recorded_collectives_are_rounded_down_to_cycles(tmp_path: Path) -> None:
    # The shorter of the two recordings, 1,234,567 ps, is 1,234 cycles and a part of one.
    links = "topology: ring, size: 2, bandwidth_GBps: 1, latency_ns: 0"
    recorded = collective(CommKind.ALL_REDUCE, 1000, 2, durations_ps=(1_234_567, 2_345_678))
    assert step_ps(tmp_path, recorded, links, cycle_ps=1000, network="measured") == 1_234_000


def test_a_collective_without_bytes_takes_the_latency_of_its_steps(tmp_path: Path) -> None:
    # An all-reduce around a ring of 4 has 2 * 3 steps of 5 us.
    links = "topology: ring, size: 4, bandwidth_GBps: 1, latency_ns: 5000"
    nothing = collective(CommKind.ALL_REDUCE, -1, 4)
    assert step_ps(tmp_path, nothing, links, network="analytical") == 30 * US
