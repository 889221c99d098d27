"""The cost of a collective on a machine: phases over the dimensions its group spans."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

from chakrasim.replay.collectives.hockney import ALGORITHMS, Span
from chakrasim.replay.collectives.layout import spans
from chakrasim.replay.machine.machine import NCCL, Machine
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import whole_ps_of


def collective_ps(
    machine: Machine, kind: CommKind, size_bytes: int, ranks: tuple[int, ...], root: int = -1
) -> int:
    """Picoseconds from the last member's arrival to the end for all, rounded down to the machine's cycle.

    The machine must be sized (`Machine.sized_for`). `root` doesn't matter: on these dimensions every member
    lies alike, or the worst place is taken. No other traffic is assumed on the links. O(ranks) the first
    time a group is seen, then O(dimensions).
    """
    if len(ranks) < 2:
        return 0
    if NCCL in machine.algorithms[kind]:
        from chakrasim.replay.collectives.nccl_model import nccl_ps

        exact_ps = nccl_ps(machine, kind, size_bytes, ranks)
    else:
        exact_ps = _phases_ps(kind, size_bytes, spans(machine, ranks), closed_forms(machine, kind))
    total = whole_ps_of(
        exact_ps, lambda: f"{kind.label} of {size_bytes:,} bytes over {len(ranks)} ranks on {machine.name!r}"
    )
    return total - total % machine.cycle_ps


def place(machine: Machine, ranks: tuple[int, ...]) -> Hashable:
    """All that `collective_ps` looks at of a group's ranks: where this is equal, so is the cost."""
    if len(ranks) < 2:
        return None
    lies = spans(machine, ranks)
    if machine.nccl is None:
        return lies
    from chakrasim.replay.collectives.nccl_model import shape

    return lies, shape(machine, ranks)


def closed_forms(machine: Machine, kind: CommKind) -> tuple[str, ...]:
    """For each dimension the closed form that stands for the algorithm there: direct's or else the ring's."""
    names = machine.algorithms[kind]
    names += ("ring",) * (len(machine.dimensions) - len(names))
    return tuple("direct" if "direct" in name else "ring" for name in names)


@lru_cache(maxsize=65536)
def _phases_ps(
    kind: CommKind, size_bytes: float, layout: tuple[tuple[int, Span], ...], algorithms: tuple[str, ...]
) -> float:
    """Phases one after the other, by the rules of hierarchical collectives.

    All-reduce: reduce-scatter outwards with shrinking buffers, all-reduce on the outermost dimension,
    all-gather back inwards. A reduce-scatter shrinks on its way outwards, an all-gather grows on its way
    inwards, so that the outer dimensions carry least. A scatter goes from the root inwards and shrinks, a
    gather outwards and grows. The others pass every dimension with their full size.
    """
    total = 0.0

    def phase(kind: CommKind, size_bytes: float, at: tuple[int, Span]) -> float:
        index, span = at
        return ALGORITHMS[algorithms[index]](kind, size_bytes, span)

    if kind == CommKind.ALL_REDUCE:
        sizes = []
        for at in layout[:-1]:
            total += phase(CommKind.REDUCE_SCATTER, size_bytes, at)
            size_bytes /= at[1].n
            sizes.append((size_bytes, at))
        total += phase(kind, size_bytes, layout[-1])
        return total + sum(phase(CommKind.ALL_GATHER, size, at) for size, at in sizes)
    if kind in (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK):
        for at in layout:
            total += phase(kind, size_bytes, at)
            size_bytes /= at[1].n
    elif kind == CommKind.SCATTER:
        for at in reversed(layout):
            total += phase(kind, size_bytes, at)
            size_bytes /= at[1].n
    elif kind == CommKind.ALL_GATHER:
        for at in reversed(layout):
            total += phase(kind, size_bytes, at)
            size_bytes *= at[1].n
    elif kind == CommKind.GATHER:
        for at in layout:
            total += phase(kind, size_bytes, at)
            size_bytes *= at[1].n
    else:
        for at in layout:
            total += phase(kind, size_bytes, at)
    return total
