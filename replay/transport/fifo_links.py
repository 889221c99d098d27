"""Links that carry one message at a time, in order of arrival.

A message occupies a link for its bytes over the bandwidth and reaches the far end a latency later; there it
is stored whole and forwarded to its next link. Ring: a link each way between neighbours, the shorter way is
taken, of two equal ones the ascending; fully connected: a link each way for every pair; switch: a link up and
one down for every rank. A message passes the dimensions in which its ends differ from the inside outwards.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.traces.units import PS_PER_S, whole_ps_of

Link = tuple[int, int, int]
"""Dimension, from, to; the switch of a dimension is -1."""


@dataclass
class _State:
    is_busy: bool = False
    queue: deque[tuple[int, Event]] = field(default_factory=deque)


class FifoLinks:
    """The links of a sized machine. O(links of the way) events a message."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine = clock, machine
        self._states: dict[Link, _State] = defaultdict(_State)
        self._routes: dict[tuple[int, int], list[Link]] = {}

    def transmit(self, source: int, destination: int, size_bytes: int, arrived: Event) -> None:
        """Give a message to the first link of its way."""
        route = self._routes.get((source, destination))
        if route is None:
            route = self._routes[source, destination] = self.route(source, destination)
        self._forward(route, 0, size_bytes, arrived)

    def route(self, source: int, destination: int) -> list[Link]:
        """The links from one rank to another."""
        links: list[Link] = []
        here, stride = source, 1
        for index, dimension in enumerate(self.machine.dimensions):
            size = dimension.size or 1
            from_, to = source // stride % size, destination // stride % size
            if from_ != to:
                there = here + (to - from_) * stride
                if dimension.topology == "fully_connected":
                    links.append((index, here, there))
                elif dimension.topology == "switch":
                    links += [(index, here, -1), (index, -1, there)]
                else:
                    ahead = (to - from_) % size
                    turn = 1 if 2 * ahead <= size else -1
                    while here != there:
                        place = here // stride % size
                        following = here + ((place + turn) % size - place) * stride
                        links.append((index, here, following))
                        here = following
                here = there
            stride *= size
        return links

    def _forward(self, route: list[Link], at: int, size_bytes: int, arrived: Event) -> None:
        if at == len(route):
            arrived()
            return
        state = self._states[route[at]]
        onward = lambda: self._forward(route, at + 1, size_bytes, arrived)  # noqa: E731
        if state.is_busy:
            state.queue.append((size_bytes, onward))
        else:
            self._serve(route[at], state, size_bytes, onward)

    def _serve(self, link: Link, state: _State, size_bytes: int, onward: Event) -> None:
        dimension, cycle_ps = self.machine.dimensions[link[0]], self.machine.cycle_ps
        latency, serial = dimension.latency_ps / cycle_ps, self._serial(dimension, size_bytes)
        now_ps = self.clock.now_ps
        state.is_busy = True
        takes_ps = whole_ps_of(
            latency + serial,
            lambda: f"a message of {size_bytes:,} bytes over a link of {self.machine.name!r}",
            cycle_ps,
        )
        self.clock.at(now_ps + takes_ps, onward)
        self.clock.at(now_ps + int(serial) * cycle_ps, lambda: self._freed(link, state))

    def _serial(self, dimension: Dimension, size_bytes: int) -> float:
        return size_bytes / (dimension.bandwidth_Bps / (PS_PER_S / self.machine.cycle_ps))

    def _freed(self, link: Link, state: _State) -> None:
        state.is_busy = False
        if state.queue:
            self._serve(link, state, *state.queue.popleft())
