"""How a process group lies on a machine: one span for each dimension that it fills, or one flat line.

A group that fills a grid (every combination of its coordinates) runs along each of its dimensions. Any other
is one flat line over the slowest links that it uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from math import ceil, prod

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Messages, Shift, everyone
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.transport.uncontended import coordinates, way
from chakrasim.traces.graph import Ints


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

    Where members don't lie alike, those of a collective with a root are also those of every other root: it
    has the cost of its worst one.
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
