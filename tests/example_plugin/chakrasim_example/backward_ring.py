"""A collective algorithm: the ring in the other direction."""

from __future__ import annotations

from collections.abc import Iterator

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Shift, Step, everyone
from chakrasim.traces.graph import CommKind


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Every block starts right before its owner and goes once around backwards, added to on its way; then it
    goes around again as it is."""
    me, back = everyone(n), Shift(n, n - 1)
    block_bytes = size_bytes if kind == CommKind.ALL_GATHER else size_bytes // n
    if kind != CommKind.ALL_GATHER:
        yield Step(back, block_bytes, lambda i: ((me + 1 + i) % n)[:, None], reduces=True, times=n - 1)
    if kind != CommKind.REDUCE_SCATTER:
        yield Step(back, block_bytes, lambda i: ((me + i) % n)[:, None], times=n - 1)


BACKWARD_RING = Algorithm(
    name="backward-ring",
    steps=steps,
    kinds=frozenset((CommKind.ALL_REDUCE, CommKind.REDUCE_SCATTER, CommKind.ALL_GATHER)),
    summary="as the ring, in the other direction",
    source="made up",
)
