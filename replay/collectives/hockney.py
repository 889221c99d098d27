"""Closed forms of collective algorithms on one dimension, for members that start together.

The model is Hockney's: a message of m bytes takes a + m * b, with a the latency of its way and 1/b the
bandwidth of the links on it; reductions are free. The ring's costs are those of Thakur, Rabenseifner and
Gropp, "Optimization of Collective Communication Operations in MPICH" (2005), section 4. Where several
messages of one collective cross one link they share it, as in Chan et al., "Collective communication:
theory, practice, and experience" (2007).

Sizes are what a rank gives to the collective: its shard for an all-gather or gather, its whole buffer for
every other kind (the root's, for a broadcast or scatter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_S


@dataclass(frozen=True)
class Span:
    """How a group lies along one dimension."""

    n: int
    """Members along it."""
    latency_ps: int
    """Between neighbours in the group, the slowest pair."""
    far_latency_ps: int
    """Between the members farthest apart."""
    bandwidth_Bps: float
    exchange_load: float
    """Messages that cross the busiest link when every member sends one to every other at once."""
    fan_load: float
    """The same, when one member sends one to every other."""

    def step_ps(self, size_bytes: float) -> float:
        """Every member sends to its neighbour."""
        return self.latency_ps + size_bytes * PS_PER_S / self.bandwidth_Bps

    def exchange_ps(self, size_bytes: float) -> float:
        """Every member sends so many bytes to every other at once."""
        return self.far_latency_ps + self.exchange_load * size_bytes * PS_PER_S / self.bandwidth_Bps

    def fan_ps(self, size_bytes: float) -> float:
        """One member sends so many bytes to every other at once, or receives them."""
        return self.far_latency_ps + self.fan_load * size_bytes * PS_PER_S / self.bandwidth_Bps


def ring(kind: CommKind, size_bytes: float, span: Span) -> float:
    """Messages only between neighbours, always in one direction; ps.

    Reduce-scatter and all-gather take n - 1 steps, an all-reduce is one after the other. In an all-to-all
    each block travels on until it is there: step s still carries n - s blocks. Broadcast and reduce are
    pipelined around the ring in n pieces: the last starts n - 1 steps after the first and takes n - 1 itself.
    """
    n = span.n
    if kind in (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK, CommKind.SCATTER):
        return (n - 1) * span.step_ps(size_bytes / n)
    if kind in (CommKind.ALL_GATHER, CommKind.GATHER):
        return (n - 1) * span.step_ps(size_bytes)
    if kind in (CommKind.ALL_REDUCE, CommKind.BROADCAST, CommKind.REDUCE):
        return 2 * (n - 1) * span.step_ps(size_bytes / n)
    if kind == CommKind.ALL_TO_ALL:
        return (n - 1) * span.step_ps(size_bytes / 2)
    assert kind == CommKind.BARRIER
    return 2 * (n - 1) * span.step_ps(0)


def direct(kind: CommKind, size_bytes: float, span: Span) -> float:
    """Every message goes straight to its destination, all at once; ps.

    An all-reduce is a reduce-scatter and an all-gather.
    """
    n = span.n
    if kind in (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK, CommKind.ALL_TO_ALL):
        return span.exchange_ps(size_bytes / n)
    if kind == CommKind.ALL_GATHER:
        return span.exchange_ps(size_bytes)
    if kind == CommKind.ALL_REDUCE:
        return 2 * span.exchange_ps(size_bytes / n)
    if kind in (CommKind.BROADCAST, CommKind.REDUCE, CommKind.GATHER):
        return span.fan_ps(size_bytes)
    if kind == CommKind.SCATTER:
        return span.fan_ps(size_bytes / n)
    assert kind == CommKind.BARRIER
    return 2 * span.exchange_ps(0)


Algorithm = Callable[[CommKind, float, Span], float]

ALGORITHMS: dict[str, Algorithm] = {"ring": ring, "direct": direct}
