"""The machine's links, where messages share the ports of the ranks that send and receive them.

Collectives don't take part as long as the machine schedules none: they are priced as on idle links. With a
`scheduling` block their messages share ports too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.network.interface import ASK_PS, NetworkModel, Priced

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Clock
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.replay.transport.fair_share import FairShare


class SharedPorts(NetworkModel):
    """Ports with equal shares (`transport/fair_share.py`)."""

    summary = "the machine's links, messages share the ports of their ranks"
    prices_ahead = False
    is_symmetric = False

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Collectives that aren't scheduled."""
        message_ps = np.full(len(traffic.nodes), ASK_PS)
        if self.plays_collectives(traffic.program.workload, machine):
            return Priced(message_ps, np.full(len(traffic.program.collectives), ASK_PS))
        return Priced(message_ps, traffic.idle_collectives_ps(machine))

    def open(self, machine: Machine, clock: Clock) -> FairShare:
        """The ports."""
        from chakrasim.replay.transport.fair_share import FairShare

        return FairShare(clock, machine)
