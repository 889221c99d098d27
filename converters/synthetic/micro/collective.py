"""A workload in which all ranks run one collective, any number of times."""

from __future__ import annotations

from dataclasses import replace

from chakrasim.converters.synthetic.limits import compute_time_ps, require_bytes, require_least, require_ranks
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

ROOTED = (CommKind.REDUCE, CommKind.BROADCAST, CommKind.GATHER, CommKind.SCATTER)


def generate_collective(
    kind: CommKind, size_bytes: int, ranks: int, repeat: int = 1, compute_us: float = 0
) -> Workload:
    """`repeat` collectives one after the other, each after `compute_us` of compute if that isn't 0.

    `size_bytes` is what a rank gives: its shard for an all-gather or gather, its whole buffer otherwise.
    Rooted kinds have rank 0 as their root. All ranks share the columns of one graph. Raises ConfigError
    for numbers that can't be.

    >>> len(generate_collective(CommKind.ALL_REDUCE, 64_000_000, ranks=8, repeat=3))
    24
    """
    require_least(("size", size_bytes, 0), ("ranks", ranks, 1), ("repeat", repeat, 1))
    require_ranks(ranks)
    require_bytes(size_bytes)
    compute_ps = compute_time_ps(compute_us)
    builder = GraphBuilder(0, metadata={"source": "chakrasim generate collective"})
    last: list[int] = []
    for _ in range(repeat):
        if compute_ps:
            last = [builder.add(NodeKind.COMP, "compute", duration_ps=compute_ps, after=last)]
        node = builder.add(
            NodeKind.COLL,
            kind.label,
            comm_kind=kind,
            comm_bytes=0 if kind == CommKind.BARRIER else size_bytes,
            peer=0 if kind in ROOTED else -1,
            after=last,
        )
        last = [node]
    graph = builder.build()
    graph.children()  # once, for all ranks
    return Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(ranks)}, name=kind.label)
