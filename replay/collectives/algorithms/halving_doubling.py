"""Recursive halving and doubling: pairs swap halves of what is left, then double what they have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import ALL_KINDS, Algorithm, Pairs, Step, everyone
from chakrasim.traces.graph import CommKind, Ints


def steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Vector halving with distance doubling (reduce-scatter), recursive doubling (all-gather), and a binomial
    tree of halves (scatter, gather).

    A broadcast is a scatter and an all-gather, a reduce a reduce-scatter and a gather, a barrier an
    all-reduce of nothing. n is a power of two.
    """
    block_bytes = size_bytes // n
    if kind == CommKind.SCATTER:
        yield from _scatter(n, block_bytes)
    elif kind == CommKind.GATHER:
        yield from _gather(n, size_bytes)
    elif kind == CommKind.BROADCAST:
        yield from _scatter(n, block_bytes)
        yield from _doubled(n, block_bytes)
    elif kind == CommKind.REDUCE:
        yield from _halved(n, size_bytes)
        yield from _gather(n, block_bytes)
    elif kind == CommKind.ALL_GATHER:
        yield from _doubled(n, size_bytes)
    else:
        size_bytes = 0 if kind == CommKind.BARRIER else size_bytes
        yield from _halved(n, size_bytes)
        if kind != CommKind.REDUCE_SCATTER:
            # What doubling the next half would give.
            yield from _doubled(n, size_bytes // n // 2 * 2)


def _halved(n: int, size_bytes: int) -> Iterator[Step]:
    """Pairs at distance 1, 2, 4 … swap halves, which are added up: each member is left with its own block."""
    me = everyone(n)
    for k in range(n.bit_length() - 1):
        # Block b goes to the side that agrees with it in the bits so far.
        partner = me ^ (1 << k)
        blocks = _agreeing(partner, k + 1, n)
        size_bytes //= 2
        yield Step(Pairs(me, partner), size_bytes, lambda _, blocks=blocks: blocks, reduces=True)  # type: ignore[misc]


def _doubled(n: int, block_bytes: int) -> Iterator[Step]:
    """Pairs at distance n/2, n/4 … 1 give each other all that they have."""
    me = everyone(n)
    rounds = n.bit_length() - 1
    for k in reversed(range(rounds)):
        distance = n >> (rounds - k)
        partner = np.where(me // distance % 2 == 0, me + distance, me - distance)
        blocks = _agreeing(me, k + 1, n)
        yield Step(Pairs(me, partner), block_bytes, lambda _, blocks=blocks: blocks)  # type: ignore[misc]
        block_bytes *= 2


def _agreeing(members: Ints, bits: int, n: int) -> Ints:
    """int64[members, b]: the blocks that agree with each member in the lowest bits."""
    return (members % (1 << bits))[:, None] + np.arange(0, n, 1 << bits, dtype=np.int64)[None, :]


def _scatter(n: int, block_bytes: int) -> Iterator[Step]:
    """Who has blocks hands the upper half on, at distance n/2, n/4 … 1."""
    distance = n // 2
    while distance:
        holders = np.arange(0, n, 2 * distance, dtype=np.int64)
        blocks = (holders + distance)[:, None] + everyone(distance)
        ends = Pairs(holders, holders + distance)
        yield Step(ends, block_bytes * distance, lambda _, blocks=blocks: blocks)  # type: ignore[misc]
        distance //= 2


def _gather(n: int, block_bytes: int) -> Iterator[Step]:
    """A scatter backwards."""
    distance = 1
    while distance < n:
        holders = np.arange(0, n, 2 * distance, dtype=np.int64)
        blocks = (holders + distance)[:, None] + everyone(distance)
        ends = Pairs(holders + distance, holders)
        yield Step(ends, block_bytes * distance, lambda _, blocks=blocks: blocks)  # type: ignore[misc]
        distance *= 2


HALVING_DOUBLING = Algorithm(
    name="halving-doubling",
    steps=steps,
    kinds=ALL_KINDS - {CommKind.ALL_TO_ALL},
    summary="pairs at distance 1, 2, 4 … swap halves, then double what they have; powers of two",
    source="R. Thakur, R. Rabenseifner, W. Gropp, Optimization of Collective Communication Operations in "
    "MPICH, IJHPCA 2005, sections 4.1 to 4.4",
    astra_sim="halvingDoubling",
    needs_power_of_two=True,
    any_size_in_astra_sim=frozenset((CommKind.ALL_GATHER,)),
    next_bytes=lambda kind, size_bytes: (
        size_bytes // 2 if kind == CommKind.REDUCE_SCATTER else size_bytes * 2
    ),
    cycle=lambda n, _window: n.bit_length() - 2,
)
