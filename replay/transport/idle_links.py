"""Messages that take the time of an idle network, whatever else is under way."""

from __future__ import annotations

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import message_ps


class IdleLinks(Transport):
    """The links of a sized machine, without contention."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine = clock, machine
        self._known_ps: dict[tuple[int, int, int], int] = {}

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """See `Transport`."""
        key = source, destination, size_bytes
        if key not in self._known_ps:
            self._known_ps[key] = message_ps(self.machine, *key)
        self.clock.at(self.clock.now_ps + self._known_ps[key], arrived)
