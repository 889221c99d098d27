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

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.transport.interface import Transport
from chakrasim.traces.units import PS_PER_S

Link = tuple[int, int, int]
"""Dimension, from, to; the switch of a dimension is -1."""


@dataclass(eq=False)
class _Message:
    """A message on its way."""

    route: list[Link]
    size_bytes: int
    arrived: Event
    sent_ps: int
    head_ps: int
    """When its first byte reached the link that it is at."""
    latency_left_ps: int
    """Of the links from that one on."""
    at: int = 0
    """Position in the route."""
    cycles: int = 0
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
        self._serve: Callable[[_State, _Message], None] = self._cut_through
        if machine.system.rules.stores_and_forwards:
            self._serve = self._store_and_forward

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """Give a message to the first link of its way."""
        route = self._routes.get((source, destination))
        if route is None:
            route = self._routes[source, destination] = self.route(source, destination)
        now_ps = self.clock.now_ps
        if not route:
            self.clock.at(now_ps, arrived)
            return
        latency_ps = sum(self.machine.dimensions[link[0]].latency_ps for link in route)
        self._join(_Message(route, size_bytes, arrived, now_ps, now_ps, latency_ps))

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
        state.free_ps = start_ps + int(serial) * cycle_ps
        # In this order a double rounds as on an idle network (`uncontended.message_ps`).
        waited_ps = start_ps - message.sent_ps
        message.cycles = max(message.cycles, int((waited_ps + message.latency_left_ps) / cycle_ps + serial))
        message.head_ps = start_ps + dimension.latency_ps
        message.latency_left_ps -= dimension.latency_ps
        message.at += 1
        if message.at == len(message.route):
            onward_ps = message.sent_ps + message.cycles * cycle_ps
        else:
            first = self._serial(dimension, min(dimension.packet_bytes, message.size_bytes))
            onward_ps = message.head_ps + int(first) * cycle_ps
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
        clock.at(clock.now_ps + int(latency + serial) * cycle_ps, lambda: self._join(message))
        clock.at(clock.now_ps + int(serial) * cycle_ps, lambda: self._freed(state))

    def _serial(self, dimension: Dimension, size_bytes: int) -> float:
        """Cycles that so many bytes occupy a link."""
        return size_bytes / (dimension.bandwidth_Bps / (PS_PER_S / self.machine.cycle_ps))

    def _freed(self, state: _State) -> None:
        state.is_busy = False
        while state.queue and not state.is_busy:
            self._serve(state, state.queue.popleft())
