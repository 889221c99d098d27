"""Which members a phase joins: lines along the dimensions that a group spans, or one flat ring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from chakrasim.replay.collectives.algorithms.builtin import Algorithm, algorithm
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.uncontended import coordinates, hops, message_ps
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
    def is_uniform(self) -> bool:
        """Every member is as far from every other."""
        return not self.is_flat and self.machine.dimensions[self.dimension].topology != "ring"

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
        dimension = self.machine.dimensions[self.dimension]
        n = len(self)
        if dimension.topology == "fully_connected":
            return int(np.bincount(sources * n + destinations).max())
        if dimension.topology == "switch":
            return int(max(np.bincount(sources).max(), np.bincount(destinations).max()))
        at = coordinates(self.machine, self.members)[self.dimension]
        return ring_load(at[sources], at[destinations], dimension.size or n)

    def distance(self, sources: Ints, destinations: Ints) -> int | None:
        """Links between the places, if it is the same number for all of them."""
        dimension = self.machine.dimensions[self.dimension]
        if self.is_uniform:
            return 2 if dimension.topology == "switch" else 1
        if self.is_flat:
            return None
        at = coordinates(self.machine, self.members)[self.dimension]
        apart = hops(dimension, at[sources], at[destinations])
        return int(apart[0]) if (apart == apart[0]).all() else None


def ring_load(from_: Ints, to: Ints, size: int) -> int:
    """Messages over the busiest link of a ring in one direction; of two equal ways the ascending is taken."""
    ahead = (to - from_) % size
    goes_up = 2 * ahead <= size
    busiest = 0
    for starts, links in (
        (from_[goes_up], ahead[goes_up]),
        # Turned around, what goes down goes up.
        (-from_[~goes_up] % size, size - ahead[~goes_up]),
    ):
        crossings = np.zeros(2 * size + 1, dtype=np.int64)
        np.add.at(crossings, starts, 1)
        np.subtract.at(crossings, starts + links, 1)
        along = np.cumsum(crossings)[: 2 * size]
        busiest = max(busiest, int((along[:size] + along[size:]).max()))
    return busiest


@dataclass(frozen=True, eq=False)
class Layout:
    """How a process group lies on the machine, for collectives of one kind."""

    machine: Machine
    group: tuple[int, ...]
    dims: tuple[int, ...]
    """Dimensions that the group spans, ascending; whose queues its phases use."""
    algorithms: tuple[str, ...]
    """One for each of `dims`."""
    is_flat: bool
    is_subgroup: bool
    """Only a part of all ranks, laid as a ring in list order."""

    @cached_property
    def _lines(self) -> dict[tuple[int, ...], Line]:
        return {}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Members along each of `dims`."""
        if self.is_flat:
            return (len(self.group),)
        places = coordinates(self.machine, np.array(self.group, dtype=np.int64))
        return tuple(len(np.unique(places[dim])) for dim in self.dims)

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
    flat = algorithm(names[0]) if names else None
    if is_world and flat is not None and flat.is_flat:
        return _flat(machine, tuple(sorted(ranks)), names[0], is_subgroup=False)
    if not is_world and system.subgroup == "ring":
        if len(ranks) < 2:
            return None
        return _flat(machine, ranks, names[0] if len(names) == 1 else "ring", is_subgroup=True)
    places = coordinates(machine, np.array(ranks, dtype=np.int64))
    counts = [len(np.unique(column)) for column in places]
    if int(np.prod(counts)) != len(ranks):
        widest = max(index for index, count in enumerate(counts) if count > 1)
        return _flat(machine, tuple(sorted(ranks)), names[min(widest, len(names) - 1)], is_subgroup=False)
    dims = tuple(
        index
        for index, count in enumerate(counts)
        if count > 1
        and (index < len(names) or system.rules.needs_every_algorithm)
        and (not is_world or involved >> index & 1)
    )
    if not dims:
        return None
    algorithms = tuple(names[dim] for dim in dims)
    return Layout(machine, tuple(sorted(ranks)), dims, algorithms, is_flat=False, is_subgroup=False)


def _flat(machine: Machine, ranks: tuple[int, ...], name: str, *, is_subgroup: bool) -> Layout:
    # Its phases stand in the queues of the innermost dimension.
    return Layout(machine, ranks, (0,), (name,), is_flat=True, is_subgroup=is_subgroup)


def check_runs(found: Algorithm, kind: CommKind, n: int) -> str | None:
    """What stops an algorithm from running a collective over n members; None if nothing does."""
    if kind not in found.kinds:
        return f"{found.name} can't run {kind.label}"
    if found.needs_power_of_two and n & (n - 1):
        return f"{found.name} needs a power of two, not {n} members"
    return None
