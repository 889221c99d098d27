"""The machine's links without contention: every message and collective takes the time of an idle network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.network.interface import ASK_PS, NetworkModel, Priced

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Clock
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.replay.transport.interface import Transport
    from chakrasim.traces.workload import Workload


class Analytical(NetworkModel):
    """Idle links."""

    summary = "the machine's links, without contention"

    def plays_collectives(self, workload: Workload, machine: Machine) -> bool:
        """Also where ranks share remote memory: those leave a collective one by one, as they finish their
        part."""
        memory = machine.remote_memory
        return machine.scheduling is not None or (memory is not None and memory.is_shared)

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Everything but scheduled collectives."""
        message_ps = traffic.idle_messages_ps(machine)
        if self.plays_collectives(traffic.program.workload, machine):
            return Priced(message_ps, np.full(len(traffic.program.collectives), ASK_PS))
        return Priced(message_ps, traffic.idle_collectives_ps(machine))

    def open(self, machine: Machine, clock: Clock) -> Transport | None:
        """Idle links."""
        return None
