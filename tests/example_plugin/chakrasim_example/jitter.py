"""A network model: idle links on which every message takes up to a tenth longer, drawn with a seed."""

from __future__ import annotations

from random import Random

import numpy as np

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine import Machine
from chakrasim.replay.network.interface import ASK_PS, NetworkModel, Priced
from chakrasim.replay.network.traffic import Traffic
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.uncontended import message_ps


class JitteryLinks(Transport):
    """Messages of one replay."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self.clock, self.machine, self.random = clock, machine, Random(1)

    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """Deliver a message after its time on idle links, and a bit."""
        alone_ps = message_ps(self.machine, source, destination, size_bytes)
        self.clock.at(self.clock.now_ps + int(alone_ps * self.random.uniform(1, 1.1)), arrived)


class Jitter(NetworkModel):
    """Jitter on messages; collectives have it where the machine's scheduling plays their messages."""

    summary = "idle links with jitter"
    prices_ahead = False
    is_symmetric = False  # ranks that do the same no longer take equally long

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Messages are left to the transport."""
        message = np.full(len(traffic.nodes), ASK_PS)
        if self.plays_collectives(traffic.program.workload, machine):
            return Priced(message, np.full(len(traffic.program.collectives), ASK_PS))
        return Priced(message, traffic.idle_collectives_ps(machine))

    def open(self, machine: Machine, clock: Clock) -> Transport:
        """Links of one replay."""
        return JitteryLinks(clock, machine)
