"""Links that carry one message at a time, in the order of arrival.

A message passes the dimensions in which its ends differ from the inside outwards. Ring: a link each way
between neighbours, the shorter way is taken, of two equal ones the ascending; fully connected: a link each
way for every pair; switch: a link up and one down for every rank. A link is busy with a message for its bytes
over the bandwidth; messages that come meanwhile queue, first come first served.

Messages are cut through: they travel in packets, so that the first bytes reach the next link a latency after
they have left, while the rest is still on its way. A message takes its place in the queue of its next link
when its first packet is there. On a link that is free it goes on as if its first byte hadn't waited for the
rest of that packet, so that a message that meets no other takes exactly its time on an idle network: the
latencies of its links, and its bytes over the narrowest of them. Otherwise it lands when its last byte has
passed its slowest link, waiting included.

What this leaves out: switches hold what has to wait, however much it is, and push nobody back; two messages
that meet on a link follow each other whole, they don't alternate packet by packet; and a link that is faster
than the one before it counts as busy for the message's bytes over its own bandwidth, so that others fill its
gaps.

By ASTRA-sim's rules (`Rules.stores_and_forwards`) a message is stored whole at the end of each link and pays
its bytes again on the next one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.topology import SWITCH
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import coordinates
from chakrasim.traces.units import PS_PER_S, whole_ps_of

Link = tuple[int, int, int]
"""Dimension, from, to; the switch of a dimension is -1."""


@dataclass(eq=False)
class _Message:
    """A message on its way."""

    route: list[Link]
    latencies_ps: list[int]
    """Latency of each link of the route."""
    size_bytes: int
    arrived: Event
    sent_ps: int
    head_ps: int
    """When its first byte reached the link that it is at."""
    latency_left_ps: int
    """Latency of the links from that one on."""
    at: int = 0
    """Position in the route."""
    takes_ps: int = 0
    """From its start to its landing, as far as it is known."""


@dataclass(eq=False)
class _State:
    """A link."""

    is_busy: bool = False
    free_ps: int = 0
    """When the last message that it served has left it."""
    queue: deque[_Message] = field(default_factory=deque)


class FifoLinks(Transport):
    """The links of a sized machine. O(links of the way) events a message."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine = clock, machine
        self._states: dict[Link, _State] = defaultdict(_State)
        self._routes: dict[tuple[int, int], list[Link]] = {}
        self._latencies_ps: dict[tuple[int, int], list[int]] = {}
        self._serve: Callable[[_State, _Message], None] = self._cut_through
        if machine.system.rules.stores_and_forwards:
            self._serve = self._store_and_forward

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """Give a message to the first link of its way."""
        route = self._routes.get((source, destination))
        if route is None:
            route = self._routes[source, destination] = self.route(source, destination)
            self._latencies_ps[source, destination] = self._latencies(source, destination, route)
        now_ps = self.clock.now_ps
        if not route:
            self.clock.at(now_ps, arrived)
            return
        latencies_ps = self._latencies_ps[source, destination]
        self._join(_Message(route, latencies_ps, size_bytes, arrived, now_ps, now_ps, sum(latencies_ps)))

    def route(self, source: int, destination: int) -> list[Link]:
        """The links from one rank to another."""
        links: list[Link] = []
        here, stride = source, 1
        for index, dimension in enumerate(self.machine.dimensions):
            size = dimension.size or 1
            from_, to = source // stride % size, destination // stride % size
            first = here - from_ * stride
            for ends in dimension.wiring.route(from_, to):
                start, end = (place if place == SWITCH else first + place * stride for place in ends)
                links.append((index, start, end))
            here = first + to * stride
            stride *= size
        return links

    def _latencies(self, source: int, destination: int, route: list[Link]) -> list[int]:
        """Latency of each link of a route. Those of a dimension have together what an idle network has: in a
        part of a ring a link can stand for several of the whole ring's."""
        found = []
        ends = (coordinates(self.machine, np.array([rank])) for rank in (source, destination))
        for index, (from_, to) in enumerate(zip(*ends, strict=True)):
            dimension, count = self.machine.dimensions[index], sum(link[0] == index for link in route)
            if count:
                total_ps = int(dimension.wiring.hops(from_, to)[0]) * dimension.latency_ps
                found += [total_ps // count] * (count - 1)
                found.append(total_ps - total_ps // count * (count - 1))
        return found

    def _join(self, message: _Message) -> None:
        """Queue a message at the link that it has come to; past the last one it has arrived."""
        if message.at == len(message.route):
            message.arrived()
            return
        state = self._states[message.route[message.at]]
        if state.is_busy:
            state.queue.append(message)
        else:
            self._serve(state, message)

    def _cut_through(self, state: _State, message: _Message) -> None:
        clock, cycle_ps = self.clock, self.machine.cycle_ps
        dimension = self.machine.dimensions[message.route[message.at][0]]
        start_ps = max(message.head_ps, state.free_ps)
        serial = self._serial(dimension, message.size_bytes)
        # Events are due at whole cycles, whatever the latencies are.
        serial_ps = whole_ps_of(serial, lambda: self._name(message), cycle_ps)
        state.free_ps = start_ps - start_ps % cycle_ps + serial_ps
        # In this order a double rounds as on an idle network (`uncontended.message_ps`).
        waited_ps = start_ps - message.sent_ps
        cycles = (waited_ps + message.latency_left_ps) / cycle_ps + serial
        message.takes_ps = max(message.takes_ps, whole_ps_of(cycles, lambda: self._name(message), cycle_ps))
        message.head_ps = start_ps + message.latencies_ps[message.at]
        message.latency_left_ps -= message.latencies_ps[message.at]
        message.at += 1
        if message.at == len(message.route):
            onward_ps = message.sent_ps + message.takes_ps
        else:
            first = self._serial(dimension, min(dimension.packet_bytes, message.size_bytes))
            onward_ps = message.head_ps - message.head_ps % cycle_ps + int(first) * cycle_ps
        clock.at(max(clock.now_ps, onward_ps), lambda: self._join(message))
        if state.free_ps > clock.now_ps:
            state.is_busy = True
            clock.at(state.free_ps, lambda: self._freed(state))

    def _store_and_forward(self, state: _State, message: _Message) -> None:
        clock, cycle_ps = self.clock, self.machine.cycle_ps
        dimension = self.machine.dimensions[message.route[message.at][0]]
        latency, serial = dimension.latency_ps / cycle_ps, self._serial(dimension, message.size_bytes)
        message.at += 1
        state.is_busy = True
        takes_ps = whole_ps_of(latency + serial, lambda: self._name(message), cycle_ps)
        clock.at(clock.now_ps + takes_ps, lambda: self._join(message))
        clock.at(clock.now_ps + int(serial) * cycle_ps, lambda: self._freed(state))

    def _name(self, message: _Message) -> str:
        return f"a message of {message.size_bytes:,} bytes over a link of {self.machine.name!r}"

    def _serial(self, dimension: Dimension, size_bytes: int) -> float:
        """Cycles that so many bytes occupy a link."""
        return size_bytes / (dimension.bandwidth_Bps / (PS_PER_S / self.machine.cycle_ps))

    def _freed(self, state: _State) -> None:
        state.is_busy = False
        while state.queue and not state.is_busy:
            self._serve(state, state.queue.popleft())
