"""The machine that files of ASTRA-sim describe, of either version."""

from __future__ import annotations

from dataclasses import dataclass

from chakrasim.replay.machine import Machine


@dataclass(frozen=True)
class Imported:
    """A machine, and what else the files say."""

    machine: Machine
    notes: tuple[str, ...]
    """Settings without effect, and those that ASTRA-sim would have read otherwise; sentences for people."""
    replay_only: bool
    """Durations come from the trace, those of collectives too."""
