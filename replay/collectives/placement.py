"""How a process group lies on a machine: one span for each dimension that it fills, or one flat line.

A group that fills a grid (every combination of its coordinates) runs along each of its dimensions. Any other is
one flat line over the slowest links that it uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from math import ceil, prod

import numpy as np

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import Messages, Shift, everyone
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.scheduling import CHAKRASIM
from chakrasim.replay.transport.uncontended import coordinates, message_ps, rules_of, way
from chakrasim.traces.graph import CommKind, Ints


@dataclass(frozen=True)
class Span:
    """Members of a group along one dimension. Equal spans cost the same."""

    dimension: Dimension
    n: int
    places: tuple[int, ...] = ()
    """Where they are, the first at 0; empty if the group looks the same from each of them."""

    def slowest(self, sent: Sequence[Messages], *, is_rooted: bool) -> tuple[int, float]:
        """Latency in ps and bandwidth in bytes a second for the slowest of some messages."""
        hops = self.dimension.wiring.hops
        most = max(int(hops(*self._at(*ends)).max()) for ends in self._ends(sent, is_rooted))
        return most * self.dimension.latency_ps, self.dimension.bandwidth_Bps

    def load(self, sent: Sequence[Messages], *, is_rooted: bool) -> int:
        """Messages on the busiest link if all of these are sent at once."""
        wiring = self.dimension.wiring
        distances = [messages.distance for messages in sent if isinstance(messages, Shift)]
        if len(distances) == len(sent):
            if not self.places:
                return wiring.shift_load(distances, self.n)
            me = everyone(self.n)
            sources, destinations = np.tile(me, len(sent)), np.concatenate([me + d for d in distances])
            return wiring.load(*self._at(sources, destinations % self.n))
        return max(wiring.load(*self._at(*ends)) for ends in self._ends(sent, is_rooted))

    def _at(self, sources: Ints, destinations: Ints) -> tuple[Ints, Ints]:
        if not self.places:
            return sources, destinations
        at = np.array(self.places, dtype=np.int64)
        return at[sources], at[destinations]

    def _ends(self, sent: Sequence[Messages], is_rooted: bool) -> Iterator[tuple[Ints, Ints]]:
        return placed(sent, self.n, is_rooted=is_rooted, is_symmetric=not self.places)


@dataclass(frozen=True)
class FlatSpan:
    """Members of a group on one flat line. Equal spans cost the same."""

    dimensions: tuple[Dimension, ...]
    ranks: tuple[int, ...]
    """In order of the line, all moved alike so that the first is at the origin."""
    machine: Machine = field(compare=False)
    """One with these dimensions, for the rules by which messages pay."""

    @property
    def n(self) -> int:
        """Members."""
        return len(self.ranks)

    def slowest(self, sent: Sequence[Messages], *, is_rooted: bool) -> tuple[int, float]:
        """The longest latency in ps and the least bandwidth in bytes a second of some messages."""
        members = np.array(self.ranks, dtype=np.int64)
        longest_ps, least_Bps = 0, np.inf
        for sources, destinations in placed(sent, self.n, is_rooted=is_rooted, is_symmetric=False):
            latencies_ps, bandwidths_Bps = way(self.machine, members[sources], members[destinations])
            longest_ps = max(longest_ps, int(latencies_ps.max()))
            least_Bps = min(least_Bps, float(bandwidths_Bps.min()))
        return longest_ps, least_Bps

    def load(self, sent: Sequence[Messages], *, is_rooted: bool) -> int:
        """Messages of the busiest member, which has one link for all that it sends and one for the rest."""
        sends, receives = np.zeros((2, self.n), dtype=np.int64)
        for sources, destinations in placed(sent, self.n, is_rooted=False, is_symmetric=False):
            sends += np.bincount(sources, minlength=self.n)
            receives += np.bincount(destinations, minlength=self.n)
        return int(max(sends.max(), receives.max()))


def placed(
    sent: Sequence[Messages], n: int, *, is_rooted: bool, is_symmetric: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Ends of messages whose slowest counts, a shift by all its members.

    Where members don't lie alike, those of a collective with a root are also those of every other root: it has
    the cost of its worst one.
    """
    distances = sorted({messages.distance for messages in sent if isinstance(messages, Shift)})
    if is_symmetric and distances:
        yield np.zeros(len(distances), dtype=np.int64), np.array(distances, dtype=np.int64)
    else:
        yield from ((everyone(n), (everyone(n) + distance) % n) for distance in distances)
    listed = [messages for messages in sent if not isinstance(messages, Shift)]
    if listed:
        sources = np.concatenate([messages.sources for messages in listed])
        destinations = np.concatenate([messages.destinations for messages in listed])
        roots = range(n) if is_rooted and not is_symmetric else range(1)
        yield from (((sources + root) % n, (destinations + root) % n) for root in roots)


@dataclass(frozen=True)
class Shape:
    """How a group of n members lies on a hierarchy of nodes. Tuples have one entry a dimension."""

    n: int
    crossings: tuple[int, ...]
    """Steps once around, of those that pass this dimension as the outermost; n - 1 in all."""
    widths: tuple[int, ...]
    """Members, or blocks of them, that lie side by side."""
    peers: tuple[int, ...]
    """Members to whom this dimension is the outermost on the way, for the member that has most."""
    adapters: int
    """Members on the node that has fewest: so many links out of a node are used."""


@dataclass(frozen=True)
class Placement:
    """A group's place on the dimensions of a sized machine."""

    dimensions: tuple[Dimension, ...]
    ranks: tuple[int, ...]
    """Ascending."""

    @cached_property
    def _coordinates(self) -> list[Ints]:
        return coordinates(self, np.array(self.ranks, dtype=np.int64))

    @cached_property
    def distinct(self) -> list[Ints]:
        """For each dimension the places at which there are members, ascending."""
        return [np.unique(column) for column in self._coordinates]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """For each dimension how many those are."""
        return tuple(len(places) for places in self.distinct)

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimensions with more than one, ascending."""
        return tuple(index for index, count in enumerate(self.counts) if count > 1)

    @property
    def is_grid(self) -> bool:
        """The group has every combination of its coordinates."""
        return prod(self.counts) == len(self.ranks)

    def span(self, index: int) -> Span:
        """The members along a dimension of a grid."""
        dimension, places = self.dimensions[index], self.distinct[index]
        if dimension.wiring.is_symmetric(places):
            return Span(dimension, len(places))
        moved = places - places[0]
        if dimension.ring_size is None:
            moved %= dimension.wiring.size
        return Span(dimension, len(places), tuple(moved.tolist()))

    @cached_property
    def shape(self) -> Shape:
        """The members by nodes, racks and so on, as NCCL sees them. O(n log n)."""
        members = np.array(self.ranks, dtype=np.int64)
        sizes = [dimension.size or 1 for dimension in self.dimensions]
        # Members in one block have the same place in this dimension and all outer ones; at last they are one.
        counts, blocks = [np.ones(len(members), dtype=np.int64)], [len(members)]
        for inner in range(1, len(sizes) + 1):
            _, block, count = np.unique(
                members // prod(sizes[:inner]), return_inverse=True, return_counts=True
            )
            counts.append(count[block.reshape(-1)])
            blocks.append(len(count))
        node = counts[1]
        crossings = tuple(before - after for before, after in pairwise(blocks))
        widths = (int(node.max()), *(ceil(before / after) for before, after in pairwise(blocks[1:])))
        peers = tuple(int((wider - narrower).max()) for narrower, wider in pairwise(counts))
        return Shape(len(members), crossings, widths, peers, int(node.min()))


@lru_cache(maxsize=4096)
def placement(dimensions: tuple[Dimension, ...], ranks: tuple[int, ...]) -> Placement:
    """The placement of a group, in any order of its ranks. O(n log n) the first time a group is seen."""
    return Placement(dimensions, tuple(sorted(ranks)))


def flat_span(machine: Machine, ranks: tuple[int, ...]) -> FlatSpan:
    """A group as one flat line in the given order."""
    moved, stride = np.zeros(len(ranks), dtype=np.int64), 1
    for dimension, column in zip(
        machine.dimensions, coordinates(machine, np.array(ranks, dtype=np.int64)), strict=True
    ):
        if dimension.wiring.is_uniform:
            # Only who has the same place matters: places are numbered as they come.
            _, first, number = np.unique(column, return_index=True, return_inverse=True)
            column = np.argsort(np.argsort(first))[number.reshape(-1)]
        elif dimension.ring_size is None:
            column = (column - column[0]) % dimension.wiring.size
        moved += column * stride
        stride *= dimension.wiring.size
    return FlatSpan(machine.dimensions, tuple(moved.tolist()), machine)


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

        By ASTRA-sim's rules messages never share a link, nor do they on a flat line: 1.
        """
        if self.is_flat or rules_of(self.machine) != CHAKRASIM:
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
    scheduling = machine.scheduling
    if is_world and names and algorithm(names[0]).is_flat:
        return Layout(machine, tuple(sorted(ranks)), (0,), names[:1], is_flat=True)
    if not is_world and scheduling is not None and scheduling.subgroup == "ring":
        if len(ranks) < 2:
            return None
        name = names[0] if len(names) == 1 else "ring"
        return Layout(machine, ranks, (0,), (name,), is_flat=True, is_subgroup=True)
    by_rules = scheduling is not None and scheduling.rules != CHAKRASIM
    return on_dimensions(machine, names, ranks, involved if is_world else -1, may_be_short=by_rules)


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
