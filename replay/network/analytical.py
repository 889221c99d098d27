"""Messages on an idle network: latency of the way plus bytes over the narrowest link.

A message passes the dimensions in which source and destination differ, the innermost first: the shorter way
around a ring, one link in a fully connected dimension, up and down through a switch. It is cut through, not
stored and forwarded, so its bytes are paid once.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.machine import Machine
from chakrasim.traces.graph import Ints
from chakrasim.traces.units import PS_PER_S


def coordinates(machine: Machine, ranks: Ints) -> list[Ints]:
    """Each rank's place along every dimension, innermost first."""
    out = []
    for dimension in machine.dimensions:
        size = dimension.size
        assert size is not None, "the machine isn't sized"
        out.append(ranks % size)
        ranks = ranks // size
    return out


def way(machine: Machine, sources: Ints, destinations: Ints) -> tuple[Ints, NDArray[np.float64]]:
    """Latency in ps and bandwidth in bytes a second from each source to its destination.

    Equal ends have latency 0 and infinite bandwidth.
    """
    latency_ps = np.zeros(len(sources), dtype=np.int64)
    bandwidth_Bps = np.full(len(sources), np.inf)
    from_, to = coordinates(machine, sources), coordinates(machine, destinations)
    for dimension, a, b in zip(machine.dimensions, from_, to, strict=True):
        if dimension.topology == "ring":
            apart = np.abs(a - b)
            hops = np.minimum(apart, (dimension.size or 0) - apart)
        else:
            hops = (a != b) * (2 if dimension.topology == "switch" else 1)
        latency_ps += hops * dimension.latency_ps
        bandwidth_Bps[a != b] = np.minimum(bandwidth_Bps[a != b], dimension.bandwidth_Bps)
    return latency_ps, bandwidth_Bps


@overload
def message_ps(machine: Machine, source: int, destination: int, size_bytes: int) -> int: ...
@overload
def message_ps(machine: Machine, source: Ints, destination: Ints, size_bytes: Ints) -> Ints: ...
def message_ps(
    machine: Machine, source: int | Ints, destination: int | Ints, size_bytes: int | Ints
) -> int | Ints:
    """Picoseconds from a message's start to its landing, rounded down to the machine's cycle.

    Takes numbers or arrays; the machine must be sized (`Machine.sized_for`).
    """
    latency_ps, bandwidth_Bps = way(machine, np.atleast_1d(source), np.atleast_1d(destination))
    total = latency_ps + (np.atleast_1d(size_bytes) * (PS_PER_S / bandwidth_Bps)).astype(np.int64)
    total -= total % machine.cycle_ps
    return total if isinstance(source, np.ndarray) else int(total[0])
