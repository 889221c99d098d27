"""Collectives: algorithms, placement of groups on the machine, cost, and execution.

Touch it to change how long a collective takes. It knows machines and transports, and neither graphs nor
nodes.
"""

from __future__ import annotations

from chakrasim.replay.collectives.cost import collective_ps

__all__ = ["collective_ps"]
