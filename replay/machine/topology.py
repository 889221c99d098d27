"""Topologies: which links join the ranks along one dimension of a network, and how messages share them.

Ranks are places 0 to size - 1 along the dimension. A topology counts links and messages; bandwidth and
latency belong to the dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from chakrasim.traces.graph import Ints

SWITCH = -1
"""The place of a switch on a route."""

Link = tuple[int, int]
"""From one place to another."""


@dataclass(frozen=True)
class Topology(ABC):
    """Links between `size` places."""

    size: int

    is_uniform: ClassVar[bool] = True
    """Every place is equally far from every other one."""

    @abstractmethod
    def hops(self, sources: Ints, destinations: Ints) -> Ints:
        """int64: links from each source to its destination, 0 between equal places."""

    @abstractmethod
    def route(self, source: int, destination: int) -> tuple[Link, ...]:
        """The links of one message, in order."""

    @abstractmethod
    def load(self, sources: Ints, destinations: Ints) -> int:
        """Messages on the busiest link, in one direction, if all of these are sent at once."""

    @abstractmethod
    def shift_load(self, distances: Sequence[int], n: int) -> int:
        """`load` of n members if each sends to those `distances` places further on, on a symmetric group."""

    @staticmethod
    def injection_links(members: int) -> int:
        """Links over which one of so many members sends to the others at once."""
        return 1

    def is_symmetric(self, places: Ints) -> bool:
        """True if a group at these places looks the same from each of its members."""
        return self.is_uniform or len(places) == self.size


@dataclass(frozen=True)
class FullyConnected(Topology):
    """A link each way for every pair."""

    def hops(self, sources: Ints, destinations: Ints) -> Ints:
        """One."""
        links: Ints = (sources != destinations) * np.int64(1)
        return links

    def route(self, source: int, destination: int) -> tuple[Link, ...]:
        """The pair's own link."""
        return () if source == destination else ((source, destination),)

    def load(self, sources: Ints, destinations: Ints) -> int:
        """Messages of the same pair."""
        width = int(max(sources.max(), destinations.max())) + 1
        return int(np.unique(sources * width + destinations, return_counts=True)[1].max())

    def shift_load(self, distances: Sequence[int], n: int) -> int:
        """Messages over the same distance."""
        return int(np.unique(np.asarray(distances) % n, return_counts=True)[1].max())

    @staticmethod
    def injection_links(members: int) -> int:
        """One to each of the others."""
        return max(1, members - 1)


@dataclass(frozen=True)
class Switch(Topology):
    """A link up to one switch and one down from it for every place."""

    def hops(self, sources: Ints, destinations: Ints) -> Ints:
        """Up and down."""
        links: Ints = (sources != destinations) * np.int64(2)
        return links

    def route(self, source: int, destination: int) -> tuple[Link, ...]:
        """Up and down."""
        return () if source == destination else ((source, SWITCH), (SWITCH, destination))

    def load(self, sources: Ints, destinations: Ints) -> int:
        """Messages that leave, or arrive at, the same place."""
        return int(max(np.bincount(sources).max(), np.bincount(destinations).max()))

    def shift_load(self, distances: Sequence[int], n: int) -> int:
        """Load of the busiest link: as many messages as each member sends."""
        return len(distances)


@dataclass(frozen=True)
class Ring(Topology):
    """A link each way between neighbours; the shorter way is taken, of two equal ones the ascending."""

    links: int = 0
    """Size of the whole ring if these places are only a part of it; 0 if they are all of it."""
    stride: int = 1
    """Links of the whole ring between neighbouring places."""

    is_uniform: ClassVar[bool] = False

    def hops(self, sources: Ints, destinations: Ints) -> Ints:
        """The shorter way around."""
        apart = np.abs(sources - destinations) * self.stride
        shorter: Ints = np.minimum(apart, (self.links or self.size) - apart)
        return shorter

    def route(self, source: int, destination: int) -> tuple[Link, ...]:
        """From neighbour to neighbour."""
        ahead = (destination - source) % self.size
        turn, count = (1, ahead) if 2 * ahead <= self.size else (-1, self.size - ahead)
        places = [(source + turn * step) % self.size for step in range(count + 1)]
        return tuple(pairwise(places))

    def load(self, sources: Ints, destinations: Ints) -> int:
        """Crossings of the busiest link; O(messages + size)."""
        size = self.size
        ahead = (destinations - sources) % size
        goes_up = 2 * ahead <= size
        busiest = 0
        for starts, links in (
            (sources[goes_up], ahead[goes_up]),
            # Turned around, what goes down goes up.
            (-sources[~goes_up] % size, size - ahead[~goes_up]),
        ):
            crossings = np.zeros(2 * size + 1, dtype=np.int64)
            np.add.at(crossings, starts, 1)
            np.subtract.at(crossings, starts + links, 1)
            along = np.cumsum(crossings)[: 2 * size]
            busiest = max(busiest, int((along[:size] + along[size:]).max()))
        return busiest

    def shift_load(self, distances: Sequence[int], n: int) -> int:
        """Each link is crossed by as many messages as one message crosses links."""
        ahead = np.asarray(distances, dtype=np.int64) % n
        goes_up = 2 * ahead <= n
        return int(max(ahead[goes_up].sum(), (n - ahead[~goes_up]).sum()))

    def is_symmetric(self, places: Ints) -> bool:
        """A whole ring is; a part of a larger one isn't."""
        return len(places) == self.size and self.links in (0, self.size)


TOPOLOGIES: dict[str, type[Topology]] = {"ring": Ring, "fully_connected": FullyConnected, "switch": Switch}
"""By the names that machine files use."""
