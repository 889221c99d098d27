"""The ring: every member sends to the next one only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import (
    ALL_KINDS,
    ONE_BLOCK,
    ROOTED,
    Algorithm,
    Shift,
    Step,
    everyone,
)
from chakrasim.traces.graph import CommKind, Ints


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Each block starts right after its owner, goes once around and is added to on its way (reduce-scatter);
    then it goes around again as it is (all-gather).

    A barrier is an all-reduce of nothing.
    """
    if kind in ROOTED:
        yield from _rooted(kind, n, size_bytes)
        return
    if kind == CommKind.ALL_TO_ALL:
        yield from _all_to_all(n, size_bytes)
        return
    me, around = everyone(n), Shift(n, 1)
    block_bytes = size_bytes if kind in ONE_BLOCK else 0 if kind == CommKind.BARRIER else size_bytes // n
    if kind != CommKind.ALL_GATHER:
        yield Step(around, block_bytes, lambda i: ((me - 1 - i) % n)[:, None], reduces=True, times=n - 1)
    if kind != CommKind.REDUCE_SCATTER:
        yield Step(around, block_bytes, lambda i: ((me - i) % n)[:, None], times=n - 1)


def _all_to_all(n: int, size_bytes: int) -> Iterator[Step]:
    """Blocks travel on until they are there: step d still moves the n - d blocks that are not."""
    for passed in range(n - 1):

        def blocks(_: int, passed: int = passed) -> Ints:
            # Passed on so often, a block is that of the member so far back; the farthest ones stand first.
            owner = (everyone(n) - passed) % n
            return (owner * n)[:, None] + (owner[:, None] - 1 - np.arange(n - 1 - passed)) % n

        yield Step(Shift(n, 1), size_bytes // n * (n - 1 - passed), blocks)


def _rooted(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Blocks go one behind the other along the chain of members, from the root or to it.

    A reduce's chain begins after the root and ends at it. A scatter sends the farthest member's block first;
    in a gather everyone sends its own and then passes on what comes.
    """
    block_bytes = size_bytes if kind in ONE_BLOCK else size_bytes // n
    is_pipelined = kind in (CommKind.BROADCAST, CommKind.REDUCE)
    for step in range(2 * (n - 1) if is_pipelined else n - 1):
        if is_pipelined:
            # The k-th link of the chain carries block `step - k`.
            start = 1 if kind == CommKind.REDUCE else 0
            first, last = max(0, step - n + 1) + start, min(step, n - 2) + start
            base = step + start

            def blocks(_: int, base: int = base, first: int = first, last: int = last) -> Ints:
                return (base - np.arange(first, last + 1, dtype=np.int64))[:, None]

        else:
            first, last = (0, step) if kind == CommKind.SCATTER else (step + 1, n - 1)
            ahead = n - 1 - step if kind == CommKind.SCATTER else -step

            def blocks(_: int, base: int = ahead, first: int = first, last: int = last) -> Ints:
                return (base + np.arange(first, last + 1, dtype=np.int64))[:, None]

        yield Step(Shift(n, 1, first, last - first + 1), block_bytes, blocks, reduces=kind == CommKind.REDUCE)


RING = Algorithm(
    name="ring",
    steps=steps,
    kinds=ALL_KINDS,
    summary="every member sends to the next one only; broadcast and reduce in n pieces along the chain",
    source="P. Patarasuk, X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, "
    "JPDC 2009",
    astra_sim="ring",
    relays_blocks=True,
)
