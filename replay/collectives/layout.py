"""Lines on which a collective's phases run: along the dimensions that its group spans, or one flat line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.placement import FlatSpan, Span, flat_span, placement
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.uncontended import coordinates, message_ps
from chakrasim.traces.graph import CommKind, Ints


@dataclass(frozen=True, eq=False)
class Line:
    """Ranks that run one algorithm among themselves, in its order."""

    machine: Machine
    ranks: tuple[int, ...]
    is_flat: bool
    """Not along one dimension: messages are priced rank by rank."""

    def __len__(self) -> int:
        return len(self.ranks)

    @cached_property
    def members(self) -> Ints:
        """int64[n]: the ranks."""
        return np.array(self.ranks, dtype=np.int64)

    @cached_property
    def position(self) -> dict[int, int]:
        """Each rank's place in the line."""
        return {rank: place for place, rank in enumerate(self.ranks)}

    @cached_property
    def dimension(self) -> int:
        """The one that the line runs along; of a flat one, the first in which its members differ."""
        ends = [np.unique(column) for column in coordinates(self.machine, self.members)]
        return next((index for index, places in enumerate(ends) if len(places) > 1), 0)

    @cached_property
    def likeness(self) -> object:
        """Equal for lines whose members are equally far from each other."""
        is_whole = len(self) == self.machine.dimensions[self.dimension].size
        return self.dimension if is_whole and not self.is_flat else self

    @cached_property
    def _at(self) -> Ints:
        """int64[n]: places along the dimension."""
        return coordinates(self.machine, self.members)[self.dimension]

    def message_ps(self, sources: Ints, destinations: Ints, size_bytes: int) -> Ints:
        """int64: cost of messages between places of the line."""
        return message_ps(self.machine, self.members[sources], self.members[destinations], size_bytes)

    def between_ps(self, source: int, destination: int, size_bytes: int) -> int:
        """Cost of one message between two ranks."""
        return message_ps(self.machine, source, destination, size_bytes)

    def load(self, sources: Ints, destinations: Ints) -> int:
        """How many of these messages, all under way at once, cross the busiest link. O(messages).

        By rules that share no links it is 1, as on a flat line.
        """
        if self.is_flat or not self.machine.system.rules.shares_links:
            return 1
        wiring = self.machine.dimensions[self.dimension].wiring
        return wiring.load(self._at[sources], self._at[destinations])

    def distance(self, sources: Ints, destinations: Ints) -> int | None:
        """Links between the places, if it is the same number for all of them."""
        if self.is_flat:
            return None
        wiring = self.machine.dimensions[self.dimension].wiring
        if wiring.is_uniform:
            sources, destinations = sources[:1], destinations[:1]
        apart = wiring.hops(self._at[sources], self._at[destinations])
        return int(apart[0]) if (apart == apart[0]).all() else None

    @cached_property
    def _from(self) -> dict[int, Line]:
        return {}

    def starting_at(self, rank: int) -> Line:
        """The same line with its members numbered from a rank on."""
        first = self.position[rank]
        if first and first not in self._from:
            ranks = self.ranks[first:] + self.ranks[:first]
            self._from[first] = Line(self.machine, ranks, self.is_flat)
        return self._from[first] if first else self


@dataclass(frozen=True, eq=False)
class Layout:
    """How a process group lies on the machine, for collectives of one kind."""

    machine: Machine
    group: tuple[int, ...]
    dims: tuple[int, ...]
    """Dimensions that the group spans, ascending; whose queues its phases use."""
    algorithms: tuple[str, ...]
    """One for each of `dims`."""
    is_flat: bool = False
    is_subgroup: bool = False
    """Only a part of all ranks, laid as a ring in list order."""

    @cached_property
    def _lines(self) -> dict[tuple[int, ...], Line]:
        return {}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Members along each of `dims`."""
        return tuple(span.n for span in self.spans)

    @cached_property
    def spans(self) -> tuple[Span | FlatSpan, ...]:
        """The members along each of `dims`, for working out what they cost."""
        if self.is_flat:
            return (flat_span(self.machine, self.group),)
        found = placement(self.machine.dimensions, self.group)
        return tuple(found.span(index) for index in self.dims)

    def line(self, index: int, rank: int) -> Line:
        """The line along `dims[index]` that a rank is on. O(group) for each new one."""
        if self.is_flat:
            key: tuple[int, ...] = ()
        else:
            stride = self._strides[self.dims[index]]
            size = self.machine.dimensions[self.dims[index]].size or 1
            key = (index, rank - rank // stride % size * stride)
        if key not in self._lines:
            members = self.group
            if not self.is_flat:
                on_line = range(key[1], key[1] + stride * size, stride)
                inside = self._inside
                members = tuple(rank for rank in on_line if rank in inside)
            self._lines[key] = Line(self.machine, members, self.is_flat)
        return self._lines[key]

    def moved(self, index: int, rank: int, to: int) -> int:
        """The rank that has the place of another along `dims[index]`, and otherwise that of `rank`."""
        if self.is_flat:
            return to
        stride = self._strides[self.dims[index]]
        size = self.machine.dimensions[self.dims[index]].size or 1
        return rank + (to // stride % size - rank // stride % size) * stride

    @cached_property
    def _inside(self) -> frozenset[int] | range:
        count = len(self.group)
        return range(count) if self.group == tuple(range(count)) else frozenset(self.group)

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        """Ranks between neighbours along each of the machine's dimensions."""
        sizes = [dimension.size or 1 for dimension in self.machine.dimensions]
        return tuple(prod(sizes[:dim]) for dim in range(len(sizes)))


def lay_out(machine: Machine, kind: CommKind, ranks: tuple[int, ...], involved: int = -1) -> Layout | None:
    """Lay a group's collectives of one kind on a sized machine; None if no member has anyone to talk to.

    `involved` is a bit mask of the dimensions that may take part, for collectives of all ranks. A group that
    fills a grid of the dimensions runs along each; any other is one flat ring over the slowest links. With
    `subgroup: ring` every group of only some ranks is a ring in list order.
    """
    names = machine.algorithms[kind]
    is_world = len(ranks) == machine.size
    system = machine.system
    if is_world and names and algorithm(names[0]).is_flat:
        return Layout(machine, tuple(sorted(ranks)), (0,), names[:1], is_flat=True)
    if not is_world and system.subgroup == "ring":
        if len(ranks) < 2:
            return None
        name = names[0] if len(names) == 1 else "ring"
        return Layout(machine, ranks, (0,), (name,), is_flat=True, is_subgroup=True)
    may_be_short = not system.rules.needs_every_algorithm
    return on_dimensions(machine, names, ranks, involved if is_world else -1, may_be_short=may_be_short)


def on_dimensions(
    machine: Machine,
    names: tuple[str, ...],
    ranks: tuple[int, ...],
    involved: int = -1,
    *,
    may_be_short: bool = False,
) -> Layout | None:
    """A group along the dimensions that it spans, one algorithm for each, or as one flat line.

    The phases of a flat line stand in the queues of the innermost dimension.
    """
    found = placement(machine.dimensions, ranks)
    if not found.is_grid:
        name = names[min(found.dims[-1], len(names) - 1)]
        return Layout(machine, found.ranks, (0,), (name,), is_flat=True)
    dims = tuple(
        index for index in found.dims if (index < len(names) or not may_be_short) and involved >> index & 1
    )
    if not dims:
        return None
    return Layout(machine, found.ranks, dims, tuple(names[dim] for dim in dims))
