"""Every network model keeps the promises of network models."""

from __future__ import annotations

from random import Random

import numpy as np

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.network.analytical import Analytical
from chakrasim.replay.network.congestion_aware import CongestionAware
from chakrasim.replay.network.interface import ASK_PS, NetworkModel, Priced
from chakrasim.replay.network.measured import Measured
from chakrasim.replay.network.recorded import Recorded
from chakrasim.replay.network.shared_ports import SharedPorts
from chakrasim.replay.network.traffic import Traffic
from chakrasim.replay.plugins import NETWORKS
from chakrasim.replay.testing.network import NetworkContract
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import message_ps


class TestAnalytical(NetworkContract):
    model = Analytical


class TestCongestionAware(NetworkContract):
    model = CongestionAware


class TestSharedPorts(NetworkContract):
    model = SharedPorts


class TestMeasured(NetworkContract):
    model = Measured


class TestRecorded(NetworkContract):
    model = Recorded


class JitteryLinks(Transport):
    """Idle links on which every message takes up to a tenth longer."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine, self.random = clock, machine, Random(1)

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        alone_ps = message_ps(self.machine, source, destination, size_bytes)
        self.clock.at(self.clock.now_ps + int(alone_ps * self.random.uniform(1, 1.1)), arrived)


class Jitter(NetworkModel):
    """A network with jitter: one class and one line in a registry."""

    summary = "idle links with jitter"
    prices_ahead = False
    is_symmetric = False

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        message = np.full(len(traffic.nodes), ASK_PS)
        if machine.scheduling is not None:
            return Priced(message, np.full(len(traffic.program.collectives), ASK_PS))
        return Priced(message, traffic.idle_collectives_ps(machine))

    def open(self, machine: Machine, clock: Clock) -> Transport:
        return JitteryLinks(clock, machine)


class TestJitter(NetworkContract):
    model = Jitter


class WholePrices(NetworkModel):
    """A model that prices everything beforehand, twice the idle network's, and has no transport."""

    summary = "twice the time of idle links"

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        collectives = traffic.idle_collectives_ps(machine) if machine.scheduling is None else None
        if collectives is None:
            collectives = np.full(len(traffic.program.collectives), ASK_PS)
        return Priced(2 * traffic.idle_messages_ps(machine), collectives)


class TestWholePrices(NetworkContract):
    model = WholePrices


class Blinkered(Transport):
    """Idle links that can't look ahead, as some simulators: they know what lands once they are there."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine, self.now_ps = clock, machine, 0
        self.under_way: list[tuple[int, int, Event]] = []

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        assert self.now_ps <= self.clock.now_ps, "it has gone past the time of a message"
        self.now_ps = self.clock.now_ps
        lands_ps = self.now_ps + message_ps(self.machine, source, destination, size_bytes)
        self.under_way.append((lands_ps, len(self.under_way), arrived))
        self.under_way.sort(key=lambda one: one[0])

    def next_ps(self, limit_ps: int) -> int:
        if not self.under_way:
            return super().next_ps(limit_ps)
        self.now_ps = max(self.now_ps, min(limit_ps, self.under_way[0][0]))
        return self.under_way[0][0] if self.under_way[0][0] <= limit_ps else limit_ps + 1

    def advance(self, to_ps: int) -> None:
        self.now_ps = max(self.now_ps, to_ps)
        while self.under_way and self.under_way[0][0] <= to_ps:
            self.under_way.pop(0)[2]()


class CoSimulated(Jitter):
    summary = "a simulator that can't look ahead"

    def open(self, machine: Machine, clock: Clock) -> Transport:
        return Blinkered(clock, machine)


class TestCoSimulated(NetworkContract):
    model = CoSimulated

    def test_it_gives_what_idle_links_give(self) -> None:
        from chakrasim.replay.simulate import simulate
        from chakrasim.replay.testing.network import neighbours

        ends = [
            simulate(neighbours(), self.machine(), network=name, classes=False).ends_ps.tolist()
            for name in ("under-test", "analytical")
        ]
        assert ends[0] == ends[1]


def test_built_in_models_are_registered_with_a_summary() -> None:
    entries = {entry.name: entry.summary for entry in NETWORKS.entries()}
    for name in ("analytical", "congestion-aware", "measured", "recorded", "shared-ports"):
        assert entries[name]
