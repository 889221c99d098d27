"""Messages on an idle network: latency of the way plus bytes over the narrowest link.

A message passes the dimensions in which source and destination differ, the innermost first: the shorter way
around a ring, one link in a fully connected dimension, up and down through a switch. It is cut through, not
stored and forwarded, so its bytes are paid once. By ASTRA-sim's rules it pays for one of those dimensions
only: the innermost (version 2) or the outermost (version 1). On a machine with an `nccl` block it takes what
NCCL's sends and receives were measured to reach.
"""

from __future__ import annotations

from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.nccl_parameters import Calibration
from chakrasim.traces.graph import Ints
from chakrasim.traces.units import PS_PER_S, whole_ps


class HasDimensions(Protocol):
    """A machine, or what else has the dimensions of one."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The network's dimensions, innermost first."""


def coordinates(network: HasDimensions, ranks: Ints) -> list[Ints]:
    """Each rank's place along every dimension, innermost first."""
    out = []
    for dimension in network.dimensions:
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
    rules = machine.system.rules
    sources_at, destinations_at = coordinates(machine, sources), coordinates(machine, destinations)
    places = list(zip(machine.dimensions, sources_at, destinations_at, strict=True))
    for dimension, from_, to in rules.paid(places):
        passes = from_ != to
        if rules.message_pays != "all":
            passes &= np.isinf(bandwidth_Bps)
        latency_ps += np.where(passes, dimension.wiring.hops(from_, to), 0) * dimension.latency_ps
        bandwidth_Bps[passes] = np.minimum(bandwidth_Bps[passes], dimension.bandwidth_Bps)
    return latency_ps, bandwidth_Bps


def reached(
    nccl: Calibration, machine: Machine, sources: Ints, destinations: Ints
) -> tuple[Ints, NDArray[np.float64]]:
    """As `way`, by what NCCL reaches: the latency of the outermost dimension passed, which was measured with
    all that lies before it, and the least of what the links reach."""
    latency_ps = np.zeros(len(sources), dtype=np.int64)
    bandwidth_Bps = np.full(len(sources), np.inf)
    places = zip(coordinates(machine, sources), coordinates(machine, destinations), strict=True)
    for dimension, links, (from_, to) in zip(machine.dimensions, nccl.links, places, strict=True):
        passes = from_ != to
        latency_ps[passes] = links.message_ps
        bandwidth = dimension.bandwidth_Bps * links.message_efficiency
        bandwidth_Bps[passes] = np.minimum(bandwidth_Bps[passes], bandwidth)
    return latency_ps, bandwidth_Bps


def in_cycles(
    machine: Machine, sources: Ints, destinations: Ints
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latency in cycles and bytes a cycle from each source to its destination.

    A message takes the latency plus its bytes over those. In this order a double rounds as ASTRA-sim's does.
    """
    ends = sources, destinations
    latency_ps, bandwidth_Bps = (
        way(machine, *ends) if machine.nccl is None else reached(machine.nccl, machine, *ends)
    )
    latency = latency_ps / machine.cycle_ps
    if machine.system.rules.rounds_latency:
        latency = np.floor(latency)
    return latency, bandwidth_Bps / (PS_PER_S / machine.cycle_ps)


@overload
def message_ps(machine: Machine, source: int, destination: int, size_bytes: int) -> int: ...
@overload
def message_ps(machine: Machine, source: Ints, destination: Ints, size_bytes: Ints | int) -> Ints: ...
def message_ps(
    machine: Machine, source: int | Ints, destination: int | Ints, size_bytes: int | Ints
) -> int | Ints:
    """Picoseconds from a message's start to its landing, rounded down to the machine's cycle.

    Takes numbers or arrays; the machine must be sized (`Machine.sized_for`).
    """
    ends = np.atleast_1d(source), np.atleast_1d(destination)
    cycle_ps = machine.cycle_ps
    latency, bytes_per_cycle = in_cycles(machine, *ends)
    cycles = latency + np.atleast_1d(size_bytes) / bytes_per_cycle

    def name(at: int) -> str:
        size = int(np.broadcast_to(size_bytes, cycles.shape)[at])
        return f"a message of {size:,} bytes from rank {ends[0][at]} to {ends[1][at]} on {machine.name!r}"

    total = whole_ps(cycles, name, cycle_ps)
    return total if isinstance(source, np.ndarray) else int(total[0])
