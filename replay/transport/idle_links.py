"""Messages that take the time of an idle network, whatever else is under way."""

from __future__ import annotations

import numpy as np

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import in_cycles
from chakrasim.traces.units import whole_ps_of


class IdleTimes:
    """Times of single messages on a sized machine, as `uncontended.message_ps`; O(1) but for new pairs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._pairs: dict[tuple[int, int], tuple[float, float]] = {}

    def message_ps(self, source: int, destination: int, size_bytes: int) -> int:
        """Picoseconds from a message's start to its landing."""
        ends = source, destination
        if ends not in self._pairs:
            latency, bytes_per_cycle = in_cycles(self.machine, *(np.array([end]) for end in ends))
            self._pairs[ends] = float(latency[0]), float(bytes_per_cycle[0])
        latency_cycles, rate = self._pairs[ends]
        return whole_ps_of(
            latency_cycles + size_bytes / rate,
            lambda: (
                f"a message of {size_bytes:,} bytes from rank {source} to {destination} on "
                f"{self.machine.name!r}"
            ),
            self.machine.cycle_ps,
        )


class IdleLinks(Transport):
    """The links of a sized machine, without contention."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.times = clock, IdleTimes(machine)

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """See `Transport`."""
        takes_ps = self.times.message_ps(source, destination, size_bytes)
        self.clock.at(self.clock.now_ps + takes_ps, arrived)
