"""Bruck's algorithms: all-gather and all-to-all in log2(n) steps, for any number of members."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Shift, Step, everyone
from chakrasim.traces.graph import CommKind, Ints


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """All-gather: everyone sends all that it has 1, 2, 4 … places back. All-to-all: a block that is to go so
    many places on goes by the powers of two in that number.

    A barrier is an all-gather of nothing (dissemination).
    """
    me = everyone(n)
    distance = 1
    while distance < n:
        if kind == CommKind.ALL_TO_ALL:
            still = np.array([ahead for ahead in range(n) if ahead & distance], dtype=np.int64)

            def blocks(_: int, distance: int = distance, still: Ints = still) -> Ints:
                owner = (me[:, None] - still % distance) % n
                return owner * n + (owner + still) % n

            yield Step(Shift(n, distance), size_bytes // n * len(still), blocks)
        else:
            count = min(distance, n - distance)
            block_bytes = 0 if kind == CommKind.BARRIER else size_bytes

            def held(_: int, count: int = count) -> Ints:
                return (me[:, None] + everyone(count)) % n

            yield Step(Shift(n, n - distance), block_bytes * count, held)
        distance *= 2


BRUCK = Algorithm(
    name="bruck",
    steps=steps,
    kinds=frozenset((CommKind.ALL_GATHER, CommKind.ALL_TO_ALL, CommKind.BARRIER)),
    summary="log2(n) steps in which everyone sends what it has, or what has to go on, 1, 2, 4 … places away",
    source="J. Bruck et al., Efficient algorithms for all-to-all communications in multiport message-passing "
    "systems, IEEE TPDS 1997",
)
