"""Random machines and workloads by our own rules: the shortcuts of the replay change nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.scheduling import (
    ALL_REDUCE_WAYS,
    DIMENSION_ORDERS,
    PRIORITIES,
    QUEUE_ORDERS,
    Scheduling,
)
from chakrasim.replay.machine.topology import TOPOLOGIES
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

KINDS = (
    CommKind.ALL_REDUCE,
    CommKind.ALL_GATHER,
    CommKind.REDUCE_SCATTER,
    CommKind.ALL_TO_ALL,
    CommKind.BARRIER,
    CommKind.BROADCAST,
)


def random_machine(draw: random.Random) -> Machine:
    """One to three dimensions, also of one rank, with chunks, queues and any order."""
    sizes = [draw.choice([1, 2, 3, 4]) for _ in range(draw.choice([1, 2, 3]))]
    widths_Bps, latencies_ps = [1e9, 5e9], [0, 70_000]
    dimensions = tuple(
        Dimension(f"d{at}", draw.choice([*TOPOLOGIES]), n, draw.choice(widths_Bps), draw.choice(latencies_ps))
        for at, n in enumerate(sizes)
    )
    order = draw.choice(DIMENSION_ORDERS)
    scheduling = Scheduling(
        chunks=draw.choice([1, 3, 4]),
        active_chunks=draw.choice([1, 2, 3]),
        queues=draw.choice([1, 2]),
        all_reduce="hierarchical" if order == "themis" else draw.choice(ALL_REDUCE_WAYS),
        dimension_order=order,
        queue_order=draw.choice(QUEUE_ORDERS),
        priority=draw.choice(PRIORITIES),
        endpoint_ps=draw.choice([0, 10]),
        reduction_Bps=draw.choice([float("inf"), 1e9]),
    )

    def algorithm(kind: CommKind, size: int) -> str:
        is_power = not size & (size - 1) and kind != CommKind.ALL_TO_ALL
        return draw.choice(["ring", "direct", "direct:2", *["halving-doubling"] * is_power])

    algorithms = {kind: tuple(algorithm(kind, size) for size in sizes) for kind in CommKind}
    cycle_ps = draw.choice([1, 1000])
    return Machine("random", "nowhere", None, dimensions, algorithms, cycle_ps, scheduling=scheduling)


def random_graph(draw: random.Random, dimensions: int) -> ExecutionGraph:
    """Collectives of all ranks, some after one another, some at once."""
    builder = GraphBuilder(0)
    last: list[int] = []
    for number in range(draw.randrange(1, 6)):
        kind = draw.choice(KINDS)
        before = builder.add(
            NodeKind.COMP,
            "compute",
            duration_ps=draw.choice([0, 500, 10**6]),
            after=last if draw.random() < 0.5 else [],
            lane=f"lane {number}",
        )
        last = [
            builder.add(
                NodeKind.COLL,
                kind.label,
                comm_kind=kind,
                comm_bytes=draw.choice([0, 1, 1000, 10**6]),
                involved_dims=draw.choice([-1, -1, draw.randrange(1, 2**dimensions)]),
                lane=draw.choice(["", None]),
                after=[before],
                priority=draw.choice([0, 3]),
                peer=0 if kind == CommKind.BROADCAST else -1,
            )
        ]
    return builder.build()


@given(st.integers(0, 10**9))
@settings(max_examples=100)
def test_one_rank_for_all_and_one_rank_alone_say_what_all_ranks_do(seed: int) -> None:
    draw = random.Random(seed)
    machine = random_machine(draw)
    graph = random_graph(draw, len(machine.dimensions))
    world_size = prod(dimension.size or 1 for dimension in machine.dimensions)
    workload = Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(world_size)})
    one_for_all = simulate(workload, machine)
    every_rank = simulate(workload, machine, classes=False)
    assert every_rank.deadlock is None
    assert (one_for_all.ends_ps == every_rank.ends_ps).all()
    alone = simulate(Workload.from_graphs({0: graph}, world_size=world_size), machine)
    assert (alone.ends_ps == every_rank.ends_ps[every_rank.rows(0)]).all()


@given(st.integers(0, 10**9))
@settings(max_examples=50)
def test_on_shared_links_every_collective_ends(seed: int) -> None:
    draw = random.Random(seed)
    machine = random_machine(draw)
    graph = random_graph(draw, len(machine.dimensions))
    world_size = prod(dimension.size or 1 for dimension in machine.dimensions)
    workload = Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(world_size)})
    result = simulate(workload, machine, network="congestion-aware")
    assert result.deadlock is None
    assert (result.ends_ps >= result.starts_ps).all()
