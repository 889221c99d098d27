"""Collective algorithms on one dimension, as the steps that their descriptions in the literature give.

A buffer is n blocks, one for each member; in an all-to-all, block s * n + d goes from s to d. `size_bytes` is
what a member puts in: one block for an all-gather, all n for the others. Whole bytes are divided, as the
messages of a simulator have to be; `tests/test_algorithms.py` replays the steps of every algorithm block by
block and proves that they do what the collective promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Step, everyone
from chakrasim.replay.machine.algorithm_names import parse_algorithm
from chakrasim.replay.plugins import ALGORITHMS
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, Ints

ALL_REDUCE, ALL_GATHER = CommKind.ALL_REDUCE, CommKind.ALL_GATHER
ALL_TO_ALL, REDUCE_SCATTER = CommKind.ALL_TO_ALL, CommKind.REDUCE_SCATTER
KINDS = (ALL_REDUCE, ALL_GATHER, ALL_TO_ALL, REDUCE_SCATTER)
"""Collectives that are played step by step. The others are costed by `hockney.py`."""

Steps = Iterator[Step]


def ring(kind: CommKind, n: int, size_bytes: int) -> Steps:
    """Every member sends to the next one only.

    Each block starts right after its owner, goes once around and is added to on its way (reduce-scatter);
    then it goes around again as it is (all-gather): P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce
    algorithms for clusters of workstations", JPDC 2009. In an all-to-all blocks travel on until they
    are there: step d still moves the n - d blocks that are not.
    """
    me = everyone(n)
    after = (me + 1) % n
    if kind == ALL_TO_ALL:
        for passed in range(n - 1):
            # Passed on so often, a block is that of the member so far back; the farthest ones stand first.
            owner = (me - passed) % n
            blocks = (owner * n)[:, None] + (owner[:, None] - 1 - np.arange(n - 1 - passed)) % n
            yield Step(me, after, size_bytes // n * blocks.shape[1], lambda _, blocks=blocks: blocks)  # type: ignore[misc]
        return
    if kind in (REDUCE_SCATTER, ALL_REDUCE):
        yield Step(
            me, after, size_bytes // n, lambda i: ((me - 1 - i) % n)[:, None], reduces=True, times=n - 1
        )
    if kind in (ALL_GATHER, ALL_REDUCE):
        block_bytes = size_bytes if kind == ALL_GATHER else size_bytes // n
        yield Step(me, after, block_bytes, lambda i: ((me - i) % n)[:, None], times=n - 1)


def direct(kind: CommKind, n: int, size_bytes: int) -> Steps:
    """Every member sends straight to every other, beginning with the next one.

    R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH",
    IJHPCA 2005, section 4 (pairwise exchange). How many messages a member has under way at once is its
    window; all of them if none is given.
    """
    me = everyone(n)
    for distance in range(1, n):
        to = (me + distance) % n
        if kind == ALL_TO_ALL:
            yield Step(me, to, size_bytes // n, lambda _, to=to: (me * n + to)[:, None])  # type: ignore[misc]
        elif kind in (REDUCE_SCATTER, ALL_REDUCE):
            yield Step(me, to, size_bytes // n, lambda _, to=to: to[:, None], reduces=True)  # type: ignore[misc]
    if kind in (ALL_GATHER, ALL_REDUCE):
        block_bytes = size_bytes if kind == ALL_GATHER else size_bytes // n
        for distance in range(1, n):
            yield Step(me, (me + distance) % n, block_bytes, lambda _: me[:, None])


def halving_doubling(kind: CommKind, n: int, size_bytes: int) -> Steps:
    """Pairs at distance 1, 2, 4 … swap halves of what is left to add; then they double what they have.

    Recursive vector halving and distance doubling (reduce-scatter), recursive doubling (all-gather): Thakur,
    Rabenseifner, Gropp 2005, sections 4.1 and 4.4. n is a power of two.
    """
    me = everyone(n)
    rounds = n.bit_length() - 1
    size = size_bytes
    if kind in (REDUCE_SCATTER, ALL_REDUCE):
        for k in range(rounds):
            # Block b goes to the side that agrees with it in the bits so far.
            partner = me ^ (1 << k)
            blocks = _agreeing(partner, k + 1, n)
            size //= 2
            yield Step(me, partner, size, lambda _, blocks=blocks: blocks, reduces=True)  # type: ignore[misc]
    elif kind == ALL_TO_ALL:
        raise ConfigError("halving-doubling is no algorithm for an all-to-all; expected ring or direct")
    if kind in (ALL_GATHER, ALL_REDUCE):
        if kind == ALL_REDUCE:
            size = size // 2 * 2  # what doubling the next half would give
        for k in reversed(range(rounds)):
            distance = n >> (rounds - k)
            partner = np.where(me // distance % 2 == 0, me + distance, me - distance)
            blocks = _agreeing(me, k + 1, n)
            yield Step(me, partner, size, lambda _, blocks=blocks: blocks)  # type: ignore[misc]
            size *= 2


def _agreeing(members: Ints, bits: int, n: int) -> Ints:
    """int64[members, b]: the blocks that agree with each member in the lowest bits."""
    return (members % (1 << bits))[:, None] + np.arange(0, n, 1 << bits, dtype=np.int64)[None, :]


def double_binary_tree(kind: CommKind, n: int, size_bytes: int, *, is_min: bool = False) -> Steps:
    """The whole buffer goes up a binary tree, is added on its way, and comes down again.

    P. Sanders, J. Speck, J. Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan",
    Parallel Computing 2009. One of the two trees has the last member as its root and the others below it in
    order, the other (`is_min`) is the same with the first member as its root; every second chunk takes each.
    n is a power of two. The only way is an all-reduce, which also leaves everyone the part that a
    reduce-scatter promises.
    """
    everything = np.arange(n, dtype=np.int64)[None, :]
    places = np.arange(1, n, dtype=np.int64)
    heights = places & -places
    parents = (places - heights) | (heights << 1)
    levels = [1 << level for level in range(n.bit_length() - 1)]

    def member(place: Ints) -> Ints:
        return place % n if is_min else place - 1

    def blocks(edges: Ints) -> Callable[[int], Ints]:
        return lambda _: np.broadcast_to(everything, (len(edges), n))

    for height in levels:
        at = heights == height
        yield Step(member(places[at]), member(parents[at]), size_bytes, blocks(places[at]), reduces=True)
    for height in reversed(levels):
        at = heights == height
        yield Step(member(parents[at]), member(places[at]), size_bytes, blocks(places[at]))


@dataclass(frozen=True)
class Algorithm:
    """One name of the registry."""

    name: str
    steps: Callable[[CommKind, int, int], Steps]
    """(kind, n members, bytes that a member puts in) to steps."""
    kinds: tuple[CommKind, ...] = KINDS
    needs_power_of_two: bool = False
    window: int | None = 1
    """Messages that a member has under way at once; None is all of a collective's first half."""
    is_flat: bool = False
    """One dimension over all ranks, whatever the network is."""
    is_tree: bool = False
    """Members do different things, and every second chunk takes the other tree (`is_min`)."""


RING = Algorithm("ring", ring)
DIRECT = Algorithm("direct", direct, window=None)
HALVING_DOUBLING = Algorithm(
    "halving-doubling",
    halving_doubling,
    kinds=(ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER),
    needs_power_of_two=True,
)
DOUBLE_BINARY_TREE = Algorithm(
    "double-binary-tree",
    double_binary_tree,
    kinds=(ALL_REDUCE, REDUCE_SCATTER),
    needs_power_of_two=True,
    is_tree=True,
)


@cache
def algorithm(name: str) -> Algorithm:
    """The algorithm of a name: `direct:3` is direct with a window of 3, `one-ring` a ring over all ranks.

    Raises UnknownName.
    """
    base, window, is_flat = parse_algorithm(name)
    found: Algorithm = ALGORITHMS.get(base)
    return replace(found, name=name, window=window or found.window, is_flat=is_flat)
