"""What collectives cost: algorithms, and how a group lies on the machine's dimensions."""

from __future__ import annotations

from chakrasim.replay.collectives.cost import collective_ps

__all__ = ["collective_ps"]
