"""Messages that share the ports of the ranks that send and receive them.

A rank has an outgoing and an incoming port in each dimension of the machine. A message uses those of the
narrowest dimension that it passes. If it would drain in w ps alone, which is its time on an idle network
without the latency, it drains at the rate

    min(1 / messages in its outgoing port, 1 / messages in its incoming port)

of that, recomputed whenever a message starts or has drained; it lands one latency after it has drained. That
is equal sharing of each port. It comes close to max-min fairness, which would also hand on what a message
that is slowed down at its other end leaves unused; so this model is never faster than that one. Links between
the ports are taken to be wide enough.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

from heapdict import heapdict

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.engine.kernel import NEVER_PS
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.idle_links import IdleTimes
from chakrasim.replay.transport.interface import Transport


@dataclass(eq=False)
class _Flow:
    """A message while it drains."""

    outgoing: int
    """Number of the port at its source."""
    incoming: int
    """Number of the port at its destination; outgoing and incoming ports are counted apart."""
    latency_ps: int
    sequence: int
    arrived: Event
    left_ps: float
    """Time to drain alone, from `since_ps` on."""
    since_ps: int
    share: int = 1
    """Factor by which others slow it down since then."""


class FairShare(Transport):
    """The ports of a sized machine. Messages that drain or land in one tick do so in the order of their
    starts."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine = clock, machine
        self._leaving: dict[int, dict[_Flow, None]] = defaultdict(dict)
        self._entering: dict[int, dict[_Flow, None]] = defaultdict(dict)
        # Ends of draining move whenever a message starts or ends beside it: a heap whose keys can change.
        self._draining: Any = heapdict()
        self._landing: list[tuple[int, int, Event]] = []
        self._sequence = 0
        self._ports: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._times = IdleTimes(machine)
        self._next_ps: int | None = NEVER_PS
        """Answer of `next_ps`; None when a message has come or gone since."""

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """A message joins its two ports and slows down those that are there."""
        ends = source, destination
        if ends not in self._ports:
            self._ports[ends] = self._find_ports(source, destination)
        outgoing, incoming, latency_ps = self._ports[ends]
        now_ps = self.clock.now_ps
        drain_ps = self._times.message_ps(source, destination, size_bytes) - latency_ps
        flow = _Flow(outgoing, incoming, latency_ps, self._sequence, arrived, float(drain_ps), now_ps)
        self._sequence += 1
        self._leaving[outgoing][flow] = None
        self._entering[incoming][flow] = None
        self._share_anew(flow, now_ps)

    def _find_ports(self, source: int, destination: int) -> tuple[int, int, int]:
        """The two ports and the latency between two ranks."""
        widths_Bps, stride = [], 1
        for dimension in self.machine.dimensions:
            size = dimension.size or 1
            passes = source // stride % size != destination // stride % size
            widths_Bps.append(dimension.bandwidth_Bps if passes else inf)
            stride *= size
        narrowest, count = widths_Bps.index(min(widths_Bps)), len(widths_Bps)
        return (
            source * count + narrowest,
            destination * count + narrowest,
            self._times.message_ps(source, destination, 0),
        )

    def next_ps(self, limit_ps: int) -> int:
        """When the next message has drained or landed, if none starts before."""
        if self._next_ps is None:
            drained_ps = self._draining.peekitem()[1][0] if self._draining else NEVER_PS
            landed_ps = self._landing[0][0] if self._landing else NEVER_PS
            self._next_ps = min(drained_ps, landed_ps)
        return self._next_ps

    def advance(self, to_ps: int) -> None:
        """See `Transport`."""
        self._next_ps = None
        while self._draining and self._draining.peekitem()[1][0] <= to_ps:
            flow = self._draining.popitem()[0]
            del self._leaving[flow.outgoing][flow], self._entering[flow.incoming][flow]
            heappush(self._landing, (to_ps + flow.latency_ps, flow.sequence, flow.arrived))
            self._share_anew(flow, to_ps)
        while self._landing and self._landing[0][0] <= to_ps:
            arrived = heappop(self._landing)[2]
            self._next_ps = None
            arrived()

    def _share_anew(self, joined: _Flow, now_ps: int) -> None:
        """Messages at the two ports of one that came or went get their new shares."""
        self._next_ps = None
        for flow in {**self._leaving[joined.outgoing], **self._entering[joined.incoming]}:
            share = max(len(self._leaving[flow.outgoing]), len(self._entering[flow.incoming]))
            if share == flow.share and flow in self._draining:
                continue
            flow.left_ps -= (now_ps - flow.since_ps) / flow.share
            flow.since_ps, flow.share = now_ps, share
            # The last bits of a float may say "a moment ago".
            end_ps = max(now_ps, now_ps + round(flow.left_ps * share))
            self._draining[flow] = (end_ps, flow.sequence)
