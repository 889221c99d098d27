"""Messages that share the ports of the ranks that send and receive them.

A rank has an outgoing and an incoming port in each dimension of the machine. A message uses those of the
narrowest dimension that it passes. If it would drain in w ps alone, which is its analytical cost without the
latency, it drains at the rate

    min(1 / messages in its outgoing port, 1 / messages in its incoming port)

of that, recomputed whenever a message starts or has drained; it lands one latency after it has drained. That
is equal sharing of each port. It comes close to max-min fairness, which would also hand on what a message
that is slowed down at its other end leaves unused; so this model is never faster than that one. Links between
the ports are taken to be wide enough. Collectives don't take part: they are costed as on idle links.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
from heapdict import heapdict

from chakrasim.replay.costs import endpoints
from chakrasim.replay.engine.kernel import NEVER_PS, SEND

if TYPE_CHECKING:
    from chakrasim.replay.engine.program import Program
    from chakrasim.replay.machine.machine import Machine


@dataclass(frozen=True)
class Message:
    """What one send gives to the network."""

    outgoing: int
    """Number of the port at its source."""
    incoming: int
    """Number of the port at its destination; outgoing and incoming ports are counted apart."""
    drain_ps: int
    """Time to drain alone."""
    latency_ps: int


@dataclass(eq=False)
class _Flow:
    message: Message
    event: int
    sequence: int
    left_ps: float
    """Time to drain alone, from `since_ps` on."""
    since_ps: int
    share: int = 1
    """Slowed down by this factor since then."""


class SharedPorts:
    """A `SharedNetwork`. Deterministic: ties go by the sequence numbers of the sends."""

    def __init__(self, messages: dict[int, Message]) -> None:
        self.messages = messages
        self.leaving: dict[int, dict[_Flow, None]] = defaultdict(dict)
        self.entering: dict[int, dict[_Flow, None]] = defaultdict(dict)
        # Draining ends move whenever a message starts or ends beside it: a heap whose keys can change.
        self.draining: Any = heapdict()
        self.landing: list[tuple[int, int, int]] = []

    @classmethod
    def of(cls, program: Program, machine: Machine) -> SharedPorts:
        """The network for a program's sends on a sized machine."""
        from chakrasim.replay.transport.uncontended import coordinates, message_ps

        sends = np.flatnonzero(program.roles == SEND)
        sources, destinations, sizes = (column[sends] for column in endpoints(program))
        latency_ps = message_ps(machine, sources, destinations, np.zeros_like(sizes))
        drain_ps = message_ps(machine, sources, destinations, sizes) - latency_ps
        passed = np.stack(coordinates(machine, sources)) != np.stack(coordinates(machine, destinations))
        widths_Bps = np.array([[dimension.bandwidth_Bps] for dimension in machine.dimensions])
        narrowest = np.where(passed, widths_Bps, np.inf).argmin(axis=0)
        outgoing, incoming = (
            ranks * len(machine.dimensions) + narrowest for ranks in (sources, destinations)
        )
        columns = (column.tolist() for column in (outgoing, incoming, drain_ps, latency_ps))
        messages = (Message(*fields) for fields in zip(*columns, strict=True))
        return cls(dict(zip(sends.tolist(), messages, strict=True)))

    def start(self, now_ps: int, event: int, sequence: int) -> None:
        """A message joins its two ports and slows down those that are there."""
        message = self.messages[event]
        flow = _Flow(message, event, sequence, float(message.drain_ps), now_ps)
        self.leaving[message.outgoing][flow] = None
        self.entering[message.incoming][flow] = None
        self._share_anew(message, now_ps)

    def next_ps(self) -> int:
        """When the next message has drained or landed, if none starts before; NEVER_PS without messages."""
        drained_ps = self.draining.peekitem()[1][0] if self.draining else NEVER_PS
        landed_ps = self.landing[0][0] if self.landing else NEVER_PS
        return min(drained_ps, landed_ps)

    def advance(self, to_ps: int) -> list[tuple[int, int]]:
        """Move to `next_ps()`; (time_ps, event) of the messages that land then, often none."""
        while self.draining and self.draining.peekitem()[1][0] <= to_ps:
            flow = self.draining.popitem()[0]
            message = flow.message
            del self.leaving[message.outgoing][flow], self.entering[message.incoming][flow]
            heappush(self.landing, (to_ps + message.latency_ps, flow.sequence, flow.event))
            self._share_anew(message, to_ps)
        landed = []
        while self.landing and self.landing[0][0] <= to_ps:
            time_ps, _, event = heappop(self.landing)
            landed.append((time_ps, event))
        return landed

    def _share_anew(self, message: Message, now_ps: int) -> None:
        """Messages at the two ports of `message`, which came or went, get their new shares."""
        for flow in {**self.leaving[message.outgoing], **self.entering[message.incoming]}:
            share = max(len(self.leaving[flow.message.outgoing]), len(self.entering[flow.message.incoming]))
            if share == flow.share and flow in self.draining:
                continue
            flow.left_ps -= (now_ps - flow.since_ps) / flow.share
            flow.since_ps, flow.share = now_ps, share
            # The last bits of a float may say "a moment ago".
            end_ps = max(now_ps, now_ps + round(flow.left_ps * share))
            self.draining[flow] = (end_ps, flow.sequence)
