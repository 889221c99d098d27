"""The ring in the other direction: every member sends to the one before it."""

from __future__ import annotations

from collections.abc import Iterator

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Shift, Step, everyone
from chakrasim.traces import CommKind

ALL_REDUCE, ALL_GATHER = CommKind.ALL_REDUCE, CommKind.ALL_GATHER


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """A block is added to on its way around, then goes around once more as it is."""
    me, before = everyone(n), Shift(n, n - 1)
    if kind != ALL_GATHER:
        yield Step(before, size_bytes // n, lambda i: ((me + 1 + i) % n)[:, None], reduces=True, times=n - 1)
    if kind in (ALL_REDUCE, ALL_GATHER):
        block_bytes = size_bytes if kind == ALL_GATHER else size_bytes // n
        yield Step(before, block_bytes, lambda i: ((me + i) % n)[:, None], times=n - 1)


BACKWARD_RING = Algorithm(
    name="backward-ring",
    steps=steps,
    kinds=frozenset((ALL_REDUCE, ALL_GATHER, CommKind.REDUCE_SCATTER)),
    summary="every member sends to the one before it",
)
