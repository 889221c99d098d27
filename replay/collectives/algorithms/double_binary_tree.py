"""The double binary tree: the whole buffer goes up a tree, is added on its way, and comes down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Pairs, Step, everyone
from chakrasim.traces.graph import CommKind, Ints


def steps(kind: CommKind, n: int, size_bytes: int, *, is_first_root: bool = False) -> Iterator[Step]:
    """Up one of the two trees, level by level, and down again.

    One tree has the last member as its root and the others below it in order, the other (`is_first_root`) is
    the same with the first member as its root; every second chunk takes each. n is a power of two. A
    reduce-scatter is the whole all-reduce, which leaves everyone its part too; a barrier is one of nothing. A
    reduce goes up the second tree and a broadcast down.
    """
    if kind in (CommKind.REDUCE, CommKind.BROADCAST):
        is_first_root = True
    message_bytes = 0 if kind == CommKind.BARRIER else size_bytes
    everything = everyone(n)[None, :]
    places = np.arange(1, n, dtype=np.int64)
    heights = places & -places
    parents = (places - heights) | (heights << 1)
    levels = [1 << level for level in range(n.bit_length() - 1)]

    def member(place: Ints) -> Ints:
        return place % n if is_first_root else place - 1

    def blocks(edges: Ints) -> Callable[[int], Ints]:
        return lambda _: np.broadcast_to(everything, (len(edges), n))

    if kind != CommKind.BROADCAST:
        for height in levels:
            at = heights == height
            ends = Pairs(member(places[at]), member(parents[at]))
            yield Step(ends, message_bytes, blocks(places[at]), reduces=True)
    if kind != CommKind.REDUCE:
        for height in reversed(levels):
            at = heights == height
            ends = Pairs(member(parents[at]), member(places[at]))
            yield Step(ends, message_bytes, blocks(places[at]))


DOUBLE_BINARY_TREE = Algorithm(
    name="double-binary-tree",
    steps=steps,
    kinds=frozenset(
        (
            CommKind.ALL_REDUCE,
            CommKind.REDUCE_SCATTER,
            CommKind.BROADCAST,
            CommKind.REDUCE,
            CommKind.BARRIER,
        )
    ),
    summary="everything up a binary tree and down again, every second chunk on another tree; powers of two",
    source="P. Sanders, J. Speck, J. Träff, Two-tree algorithms for full bandwidth broadcast, reduction and "
    "scan, Parallel Computing 2009",
    astra_sim="doubleBinaryTree",
    needs_power_of_two=True,
    is_tree=True,
    other_steps=partial(steps, is_first_root=True),
)
