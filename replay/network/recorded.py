"""Recorded durations, with nobody waiting for anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chakrasim.replay.network.interface import NetworkModel, Priced

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.traces.workload import Workload


class Recorded(NetworkModel):
    """Every rank by itself."""

    summary = "as long as recorded, and nobody waits for another rank"
    waits = False
    needs_recording = True

    def plays_collectives(self, workload: Workload, machine: Machine) -> bool:
        """None: what was recorded holds whatever the real machine's scheduling was."""
        return False

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Not asked: nodes take their recorded durations."""
        raise NotImplementedError
