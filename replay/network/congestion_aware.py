"""The machine's links, one message at a time on each: every message is played, those of collectives
included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.network.interface import ASK_PS, NetworkModel, Priced

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Clock
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.replay.transport.fifo_links import FifoLinks
    from chakrasim.traces.workload import Workload


class CongestionAware(NetworkModel):
    """Links with a queue each (`transport/fifo_links.py`)."""

    summary = "the machine's links, one message at a time on each"
    prices_ahead = False
    is_symmetric = False

    def plays_collectives(self, workload: Workload, machine: Machine) -> bool:
        """Always, in one chunk where the machine schedules nothing."""
        return True

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Nothing has a time beforehand."""
        collectives = len(traffic.program.collectives)
        return Priced(np.full(len(traffic.nodes), ASK_PS), np.full(collectives, ASK_PS))

    def open(self, machine: Machine, clock: Clock) -> FifoLinks:
        """The links."""
        from chakrasim.replay.transport.fifo_links import FifoLinks

        links = FifoLinks(clock, machine)
        if machine.nccl is not None:
            links.notes = ("messages have the full bandwidth of the links, not what NCCL's sends reach",)
        return links
