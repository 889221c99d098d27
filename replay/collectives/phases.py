"""What happens to a collective: its chunks, and the phases that each passes."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from chakrasim.replay.collectives.algorithms.steps import ONE_BLOCK
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.traces.graph import CommKind

REDUCE_SCATTERS = (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK)


class Phase(NamedTuple):
    """One collective on one dimension."""

    at: int
    """Of the dimension among those that the group spans."""
    kind: CommKind
    size_bytes: int
    """What each member puts in."""
    is_return: bool = False
    """On the way back from the outermost dimension of an all-reduce."""


def phases(
    scheduling: Scheduling,
    kind: CommKind,
    size_bytes: int,
    sizes: tuple[int, ...],
    order: tuple[int, ...],
    keeping: Collection[int] = (),
) -> list[Phase]:
    """The phases of one chunk over dimensions with `sizes` members each.

    Dimensions in `keeping` neither shrink nor grow a chunk: their algorithm knows only one way.

    `order` are the positions in `sizes` as a reduce-scatter or an all-gather visits them. Hierarchical
    all-reduce: reduce-scatter outwards, all-reduce on the last dimension, all-gather back; with an order of
    its own a chunk reduce-scatters on all and gathers on all.
    """
    out = []
    sizes = tuple(1 if index in keeping else size for index, size in enumerate(sizes))
    if kind != CommKind.ALL_REDUCE:
        step = CommKind.REDUCE_SCATTER if kind in REDUCE_SCATTERS else kind
        for index in order:
            out.append(Phase(index, step, size_bytes))
            if step in (CommKind.REDUCE_SCATTER, CommKind.SCATTER):
                size_bytes //= sizes[index]
            elif step in ONE_BLOCK:
                size_bytes *= sizes[index]
        return out
    if scheduling.all_reduce == "per-dimension":
        return [Phase(index, kind, size_bytes) for index in order]
    is_themis = scheduling.dimension_order == "themis"
    outwards = order if is_themis else order[:-1]
    for index in outwards:
        out.append(Phase(index, CommKind.REDUCE_SCATTER, size_bytes))
        size_bytes //= sizes[index]
    if not is_themis:
        out.append(Phase(order[-1], kind, size_bytes))
    for index in reversed(outwards):
        out.append(Phase(index, CommKind.ALL_GATHER, size_bytes, is_return=True))
        size_bytes *= sizes[index]
    return out


def baseline_order(kind: CommKind, dimensions: int) -> tuple[int, ...]:
    """Dimensions from the inside outwards; of an all-gather and a scatter from the outside inwards."""
    ascending = tuple(range(dimensions))
    return ascending[::-1] if kind in (CommKind.ALL_GATHER, CommKind.SCATTER) else ascending
