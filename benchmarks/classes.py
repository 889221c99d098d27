"""What rank classes save: `python benchmarks/classes.py`.

Jobs of 8 to 131,072 ranks with 3,000 nodes each, in groups of tensor and of data parallelism: all alike, with
one straggler, with stages of a pipeline that exchange messages, and all different, which shows what looking
for classes costs. Timed is `simulate` alone, graphs being there; as long as that is possible beside replaying
every rank, which must give the same times. The number of classes must be what the job was made of.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.console import new_table, people_console, print_table
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload

NODES = 3000
EVERY = 10
TENSOR = 8
STAGES = 8
COMPARED = 1024
"""So many ranks are replayed one by one, too."""


@dataclass(frozen=True)
class Job:
    """A kind of job, and how many classes it has."""

    name: str
    workload: Callable[[int], Workload]
    classes: Callable[[int], int]
    ranks: tuple[int, ...]


def template(nodes: int = NODES, *, messages: tuple[int, int] = (-1, -1), factor: int = 1) -> ExecutionGraph:
    """Compute, and now and then an all-reduce of tensor or of data parallelism; `messages` are the ranks from
    which something comes first, and to which something goes at last."""
    builder = GraphBuilder(0)
    source, destination = messages
    last: list[int] = []
    if source >= 0:
        last = [builder.add(NodeKind.RECV, "receive", peer=source, comm_bytes=10**6, tag=0)]
    for index in range(nodes - (source >= 0) - (destination >= 0)):
        if index % EVERY == EVERY - 1:
            group = "data" if index % (10 * EVERY) == EVERY - 1 else "tensor"
            kind, size = CommKind.ALL_REDUCE, 10**6
            node = builder.add(
                NodeKind.COLL, "all-reduce", comm_kind=kind, comm_bytes=size, group=group, after=last
            )
        else:
            node = builder.add(NodeKind.COMP, "gemm", duration_ps=factor * (10**7 + index % 7), after=last)
        last = [node]
    if destination >= 0:
        builder.add(NodeKind.SEND, "send", peer=destination, comm_bytes=10**6, tag=0, after=last)
    return builder.build()


@cache
def every(step: int, first: int, last: int) -> tuple[int, ...]:
    """Ranks of a group, one tuple for all members."""
    return tuple(range(first, last, step))


def groups_of(rank: int, first: int, last: int) -> dict[str, tuple[int, ...]]:
    """In a job or a stage of these ranks: eight neighbours are a tensor group, every eighth a data group."""
    low = rank // TENSOR * TENSOR
    return {
        "tensor": every(1, low, low + TENSOR),
        "data": every(TENSOR, first + (rank - first) % TENSOR, last),
    }


def alike(ranks: int) -> Workload:
    """Every rank does the same."""
    one = template()
    return Workload.from_graphs(
        {rank: replace(one, rank=rank, groups=groups_of(rank, 0, ranks)) for rank in range(ranks)}
    )


def straggling(ranks: int) -> Workload:
    """Rank 5 is slower: those that meet it in a group are apart from the others, too."""
    one, slow = template(), template(factor=2)
    return Workload.from_graphs(
        {
            rank: replace(slow if rank == 5 else one, rank=rank, groups=groups_of(rank, 0, ranks))
            for rank in range(ranks)
        }
    )


def pipelined(ranks: int) -> Workload:
    """Stages of ranks / 8 each, which pass something on."""
    size = ranks // STAGES
    graphs = {}
    for rank in range(ranks):
        stage = rank // size
        ends = rank - size if stage else -1, rank + size if stage < STAGES - 1 else -1
        base = stage * size
        if rank == base:
            one = template(messages=ends)
        peers = one.peers.copy()
        peers[one.kinds == NodeKind.RECV] = ends[0]
        peers[one.kinds == NodeKind.SEND] = ends[1]
        graphs[rank] = replace(one, rank=rank, groups=groups_of(rank, base, base + size), peers=peers)
    return Workload.from_graphs(graphs)


def different(ranks: int) -> Workload:
    """Every rank takes times of its own."""
    one = template()
    graphs = {}
    for rank in range(ranks):
        noise = np.random.default_rng(rank).integers(1, 10**6, NODES) * (one.durations_ps > 0)
        graphs[rank] = replace(
            one, rank=rank, groups=groups_of(rank, 0, ranks), durations_ps=one.durations_ps + noise
        )
    return Workload.from_graphs(graphs)


JOBS = (
    Job("all alike", alike, lambda ranks: 1, (8, 64, 1024, 16384, 131072)),
    # the straggler, the others of its tensor group, those of its data group, and the rest
    Job("one straggler", straggling, lambda ranks: 2 if ranks == TENSOR else 4, (8, 64, 1024, 16384)),
    Job("pipeline of 8", pipelined, lambda ranks: STAGES, (64, 1024, 16384)),
    Job("all different", different, lambda ranks: ranks, (8, 64, 1024)),
)


def main() -> None:
    """Measure, check and print."""
    machine = load_machine("hgx-h100")
    simulate(different(128), machine, compute="measured")  # compiles
    table = new_table(
        "Rank classes",
        ("job",),
        ("ranks", "nodes", "classes", "seconds", "every rank, s", "ratio", "peak MB so far"),
    )
    for job in JOBS:
        for ranks in job.ranks:
            workload = job.workload(ranks)
            begun = time.perf_counter()
            result = simulate(workload, machine, compute="measured")
            seconds = time.perf_counter() - begun
            if len(result.classes) != job.classes(ranks) or result.step_time_ps is None:
                sys.exit(f"{job.name}, {ranks} ranks: {len(result.classes)} classes")
            every_s = None
            peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            if ranks <= COMPARED:
                begun = time.perf_counter()
                every = simulate(workload, machine, compute="measured", classes=False)
                every_s = time.perf_counter() - begun
                if not np.array_equal(result.ends_ps, every.ends_ps):
                    sys.exit(f"{job.name}, {ranks} ranks: classes change the result")
            table.add_row(
                job.name,
                f"{ranks:,}",
                f"{len(workload):,}",
                f"{len(result.classes):,}",
                f"{seconds:.3f}",
                "" if every_s is None else f"{every_s:.3f}",
                "" if every_s is None else f"{every_s / seconds:.1f}",
                f"{peak_MB:,.0f}",
            )
    print_table(people_console(), table)


if __name__ == "__main__":
    main()
