"""Messages that take the time of an idle network, whatever else is under way."""

from __future__ import annotations

import numpy as np

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import in_cycles
from chakrasim.traces.units import whole_ps_of

MAX_RANKS_AT_ONCE = 1024
"""Ranks up to which a source's ways to all others are worked out together: 16 MB for all of them, where one
call on columns takes as long as for a single pair."""


class IdleTimes:
    """Times of single messages on a sized machine, as `uncontended.message_ps`; O(1) but for new pairs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._pairs: dict[tuple[int, int], tuple[float, float]] = {}
        self._everyone = np.arange(machine.size or 0) if (machine.size or 0) <= MAX_RANKS_AT_ONCE else None

    def message_ps(self, source: int, destination: int, size_bytes: int) -> int:
        """Picoseconds from a message's start to its landing."""
        ends = source, destination
        if ends not in self._pairs:
            self._learn(source, destination)
        latency_cycles, rate = self._pairs[ends]
        return whole_ps_of(
            latency_cycles + size_bytes / rate,
            lambda: (
                f"a message of {size_bytes:,} bytes from rank {source} to {destination} on "
                f"{self.machine.name!r}"
            ),
            self.machine.cycle_ps,
        )

    def _learn(self, source: int, destination: int) -> None:
        """Work out the way between two ranks, on small machines together with the source's other ways."""
        to = np.array([destination]) if self._everyone is None else self._everyone
        latencies, rates = in_cycles(self.machine, np.full(len(to), source), to)
        self._pairs.update(
            ((source, end), way)
            for end, way in zip(
                to.tolist(), zip(latencies.tolist(), rates.tolist(), strict=True), strict=True
            )
        )


class IdleLinks(Transport):
    """The links of a sized machine, without contention."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.times = clock, IdleTimes(machine)

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """See `Transport`."""
        takes_ps = self.times.message_ps(source, destination, size_bytes)
        self.clock.at(self.clock.now_ps + takes_ps, arrived)
