"""What collectives cost: algorithms, and how a group lies on the machine's dimensions."""

from __future__ import annotations

from chakrasim.replay.collectives.cost import collective_ps
from chakrasim.replay.collectives.hockney import ALGORITHMS

__all__ = ["ALGORITHMS", "collective_ps"]
