"""Direct: every message goes straight to its destination, all at once or a window of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import (
    ALL_KINDS,
    ONE_BLOCK,
    ROOTED,
    Algorithm,
    Pairs,
    Shift,
    Step,
    everyone,
)
from chakrasim.traces.graph import CommKind, Ints


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Pairwise exchange, beginning with the next member; an all-reduce is a reduce-scatter and an all-gather.

    A barrier is an all-reduce of nothing.
    """
    if kind in ROOTED:
        yield from _rooted(kind, n, size_bytes)
        return
    me = everyone(n)
    block_bytes = size_bytes if kind in ONE_BLOCK else 0 if kind == CommKind.BARRIER else size_bytes // n
    if kind != CommKind.ALL_GATHER:
        is_exchange = kind == CommKind.ALL_TO_ALL
        for distance in range(1, n):

            def blocks(_: int, distance: int = distance) -> Ints:
                to = (me + distance) % n
                return ((me * n + to) if is_exchange else to)[:, None]

            yield Step(Shift(n, distance), block_bytes, blocks, reduces=not is_exchange)
    if kind not in (CommKind.REDUCE_SCATTER, CommKind.ALL_TO_ALL):
        for distance in range(1, n):
            yield Step(Shift(n, distance), block_bytes, lambda _: me[:, None])


def _rooted(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """One message between the root and each other member."""
    has_parts = kind in (CommKind.GATHER, CommKind.SCATTER)
    message_bytes = size_bytes // n if kind == CommKind.SCATTER else size_bytes
    root = np.zeros(1, dtype=np.int64)
    is_outward = kind in (CommKind.BROADCAST, CommKind.SCATTER)
    for other in everyone(n)[1:, None]:

        def blocks(_: int, other: Ints = other) -> Ints:
            return (other if has_parts else everyone(n))[None, :]

        ends = Pairs(root, other) if is_outward else Pairs(other, root)
        yield Step(ends, message_bytes, blocks, reduces=kind == CommKind.REDUCE)


DIRECT = Algorithm(
    name="direct",
    steps=steps,
    kinds=ALL_KINDS,
    summary="every member sends straight to every other, all at once; `direct:3` three messages at a time",
    source="R. Thakur, R. Rabenseifner, W. Gropp, Optimization of Collective Communication Operations in "
    "MPICH, IJHPCA 2005, section 4 (pairwise exchange)",
    astra_sim="direct",
    is_windowed=True,
    cycle=lambda _n, window: window,
)
