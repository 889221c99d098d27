"""Nodes whose ends only the network knows: members of collectives, messages, and accesses of shared
memory."""

from __future__ import annotations

from functools import cached_property, partial

from chakrasim.replay.engine.coupled import CoupledNetwork
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.engine.program import Program
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.network.collectives_in_flight import CollectivesInFlight
from chakrasim.replay.network.interface import NetworkModel
from chakrasim.replay.network.memory_links import MemoryLinks
from chakrasim.replay.network.messages import NodeMessages, plays_messages
from chakrasim.replay.transport.idle_links import IdleLinks
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces.graph import Ints, NodeKind

_COLLECTIVE, _MESSAGES = int(NodeKind.COLL), {int(NodeKind.SEND), int(NodeKind.RECV)}


class NodeNetwork(CoupledNetwork):
    """The network of one replay, on the transport that its model opens once something needs it.

    `timers_ps` are durations of nodes that are only to end in order with the others, -1 for the rest.
    """

    def __init__(
        self, program: Program, machine: Machine, model: NetworkModel, timers_ps: Ints | None = None
    ) -> None:
        """The machine is sized."""
        self.program, self.machine, self.model = program, machine, model
        self.timers = timers_ps.tolist() if timers_ps is not None else None
        self.clock = Clock()
        self._transport: Transport | None = None
        self._ended: list[int] = []
        self._kinds: list[int] = program.kinds.tolist()

    def start(self, now_ps: int, event: int, sequence: int) -> None:
        """A node starts."""
        self.clock.now_ps = now_ps
        ended = partial(self._ended.append, event)
        kind = self._kinds[event]
        if self.timers is not None and self.timers[event] >= 0:
            rank, _ = self.program.locate(event)
            self.clock.timer(rank, now_ps + self.timers[event], ended)
        elif kind == _COLLECTIVE:
            self._collectives.start(event, ended)
        elif kind in _MESSAGES:
            self._messages.start(event, ended)
        else:
            rank, row = self.program.locate(event)
            self._memory.start(rank, int(self.program.workload.graphs[rank].tensor_bytes[row]), ended)

    def next_ps(self, limit_ps: int) -> int:
        """See `CoupledNetwork`."""
        due_ps = self.clock.next_ps()
        if self._transport is None:
            return due_ps
        return min(due_ps, self._transport.next_ps(min(due_ps, limit_ps)))

    def advance(self, to_ps: int) -> list[tuple[int, int]]:
        """Run what is due; (time_ps, event) of the nodes that ended, in order.

        Where the network keeps the order of all nodes it stops as soon as one ends: what that leads to comes
        before the rest of the tick. Else the whole tick is run, so that it has the same order for every rank.
        """
        clock, transport = self.clock, self._transport
        while not (self._ended and self.timers is not None):
            if transport is not None and transport.next_ps(to_ps) <= to_ps:
                clock.now_ps = to_ps
                transport.advance(to_ps)
            elif clock.next_ps() <= to_ps:
                clock.step()
            else:
                break
        ended = [(to_ps, node) for node in self._ended]
        self._ended.clear()
        return ended

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions that were made on the way."""
        collectives = self.__dict__.get("_collectives")
        return (
            *(collectives.notes if collectives is not None else ()),
            *(self._transport.notes if self._transport is not None else ()),
        )

    @cached_property
    def _opened(self) -> Transport | None:
        """The transport for all messages; None where they don't meet and nobody needs each one of them."""
        transport = self.model.open(self.machine, self.clock)
        if transport is None and plays_messages(self.machine):
            transport = IdleLinks(self.clock, self.machine)
        self._transport = transport
        return transport

    @cached_property
    def _collectives(self) -> CollectivesInFlight:
        return CollectivesInFlight(self.program, self.machine, self.clock, self._opened)

    @cached_property
    def _messages(self) -> NodeMessages:
        transport = self._opened or IdleLinks(self.clock, self.machine)
        mailbox = Mailbox(self.clock, transport.send, rendezvous=self.machine.system.rendezvous)
        return NodeMessages(self.program, transport, mailbox)

    @cached_property
    def _memory(self) -> MemoryLinks:
        return MemoryLinks(self.clock, self.machine)
