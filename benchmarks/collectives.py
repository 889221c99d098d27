"""What a ring all-reduce costs to work out, four ways: `python benchmarks/collectives.py`.

64 MiB in 4 chunks on a switch, by ASTRA-sim's rules. One rank that speaks for all; every rank, starting
together; every rank, starting at random times; and every message played, which is what all are compared with.
All must agree where ranks start together. The ratios are against the messages of the same run.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.rules import ASTRA_SIM_2
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload

SIZE_BYTES = 64 * 2**20
RANKS = (16, 64, 128)
LARGEST = 1024
MIN_RATIO = 20


def workload(ranks: int, *, skewed: bool) -> Workload:
    """One all-reduce on every rank, after compute of random length where skewed."""
    random = np.random.default_rng(0)
    builder = GraphBuilder(0)
    builder.add(NodeKind.COLL, "all-reduce", comm_kind=CommKind.ALL_REDUCE, comm_bytes=SIZE_BYTES)
    graph = builder.build()
    graphs = {rank: replace(graph, rank=rank) for rank in range(ranks)}
    if skewed:
        for rank in range(ranks):
            builder = GraphBuilder(rank)
            first = builder.add(NodeKind.COMP, "compute", duration_ps=int(random.integers(1, 10**9)))
            kind = CommKind.ALL_REDUCE
            builder.add(NodeKind.COLL, "all-reduce", comm_kind=kind, comm_bytes=SIZE_BYTES, after=[first])
            graphs[rank] = builder.build()
    return Workload.from_graphs(graphs)


def machine(ranks: int, *, plays_messages: bool) -> Machine:
    """A bus of no cost makes every message be played."""
    bus = Bus(0, 0, 0, 0, 0) if plays_messages else None
    scheduling = Scheduling(rules=ASTRA_SIM_2, chunks=4, endpoint_ps=10_000, subgroup="ring", bus=bus)
    algorithms = dict.fromkeys(CommKind, ("ring",))
    switch = (Dimension("switch", "switch", ranks, 50 * 2**30, 500_000),)
    return Machine("benchmark", "nowhere", None, switch, algorithms, 1000, scheduling=scheduling)


def timed(job: Workload, on: Machine, *, classes: bool = True) -> tuple[float, Result]:
    """Seconds, and what came."""
    begun = time.perf_counter()
    result = simulate(job, on, classes=classes)
    return time.perf_counter() - begun, result


def main() -> None:
    """Print a line for each number of ranks."""
    columns = ("one for all", "every rank", "skewed", "messages")
    print(f"{'ranks':>6}", *(f"{column:>12}" for column in columns), " messages / one")
    for ranks in (*RANKS, LARGEST):
        together, skewed = workload(ranks, skewed=False), workload(ranks, skewed=True)
        here = machine(ranks, plays_messages=False)
        one_s, one = timed(together, here)
        every_s, every = timed(together, here, classes=False)
        skewed_s, _ = timed(skewed, here)
        if (one.ends_ps != every.ends_ps).any():
            sys.exit("one rank doesn't speak for all")
        line = f"{ranks:6} {one_s:10.3f} s {every_s:10.3f} s {skewed_s:10.3f} s"
        if ranks == LARGEST:
            print(line)
            continue
        messages_s, _ = timed(together, machine(ranks, plays_messages=True))
        print(f"{line} {messages_s:10.3f} s  {messages_s / one_s:.0f}")
        if ranks == RANKS[-1] and messages_s < MIN_RATIO * one_s:
            sys.exit(f"expected {MIN_RATIO} times as fast as message by message")


if __name__ == "__main__":
    main()
