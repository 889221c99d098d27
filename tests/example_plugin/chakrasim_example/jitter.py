"""A network on which every message and collective takes up to a tenth longer, always by the same draw."""

from __future__ import annotations

import numpy as np

from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.network.analytical import Analytical
from chakrasim.replay.network.interface import Priced
from chakrasim.replay.network.traffic import Traffic


class Jitter(Analytical):
    """Idle links with a draw on top."""

    summary = "the machine's links, up to a tenth slower at random"
    is_symmetric = False

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Lengthen what idle links take; what is played (below 0) stays."""
        priced = super().price(traffic, machine)
        random = np.random.default_rng(7)
        message_ps, collective_ps = (
            column + np.maximum(column, 0) * random.integers(0, 101, len(column)) // 1000
            for column in (priced.message_ps, priced.collective_ps)
        )
        return Priced(message_ps, collective_ps, priced.notes)
