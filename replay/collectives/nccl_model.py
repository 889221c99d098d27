"""What NCCL's collectives take: the fastest of its algorithms and protocols.

As in NCCL's own tuning model (`src/graph/tuning.cc`) each algorithm with each protocol takes a fixed time and
a time for each byte, and the fastest is run: time over size is a chain of straight lines, each flatter than
the one before. What the parameters are is `calibration.py`; a machine file states them.

The first dimension is a node, the others are the network between nodes. A ring passes all members, node by
node. Its n - 1 steps take the latency of the links they pass; its bandwidth is the least of what the node's
links reach and of what all adapters of a node reach together, one for each of its members in the group. It
does not fall with the number of nodes, and there is no phase for each dimension.

    all-reduce, ring   overhead + 2 * (hops along the ring) + D/n * (2 * (n - 1) + ends) / B
    all-reduce, tree   overhead + 2 * (hops of a chain in the node, log2 of the nodes) + 2 * D / (B * tree)
    NVLS               overhead + D * (1 + 1/n) / B', in one node of more than two ranks: the switch adds up
    reduce-scatter,
    all-gather         overhead, and half of the rest of a ring's all-reduce
    broadcast, reduce  overhead + hops along the ring + D / B
    all-to-all         message + (n - 2) * peer + the most of (peers over a link) * D/n / B''
    gather, scatter    likewise, with the root's links
    barrier            an all-reduce of 4 bytes

B of a protocol is what it carries beside its flags, and its own limit at most. D is what a rank gives, in an
all-gather and in a gather n of them. Reductions, and the root's place, are free.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, inf, log2

from chakrasim.replay.collectives.placement import Shape, placement
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.machine.nccl_parameters import PAYLOAD, Calibration
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_S

BARRIER_BYTES = 4
GATHERING = (CommKind.ALL_GATHER, CommKind.GATHER)
"""Kinds of which a rank gives one part of n."""

Line = tuple[float, float]
"""Picoseconds without any byte, and for each byte."""


def nccl_ps(machine: Machine, kind: CommKind, size_bytes: float, ranks: tuple[int, ...]) -> float:
    """Picoseconds of a collective of two members or more on a sized, calibrated machine.

    O(n log n) the first time a group is seen, then O(1). Rises with the size.
    """
    return fastest(_lines(machine, kind, placement(machine.dimensions, ranks).shape), size_bytes)


def fastest(lines: tuple[Line, ...], size_bytes: float) -> float:
    """The least of some lines at a size."""
    return min(fixed_ps + size_bytes * per_byte_ps for fixed_ps, per_byte_ps in lines)


# A fit tries many machines, each once: `lines` itself keeps none.
@lru_cache(maxsize=1024)
def _lines(machine: Machine, kind: CommKind, of: Shape) -> tuple[Line, ...]:
    return lines(machine, kind, of)


def lines(machine: Machine, kind: CommKind, of: Shape) -> tuple[Line, ...]:
    """What each algorithm and protocol takes, over the bytes that a rank gives."""
    if kind == CommKind.BARRIER:
        few = fastest(lines(machine, CommKind.ALL_REDUCE, of), BARRIER_BYTES)
        return ((few, 0.0),)
    if kind in (CommKind.ALL_TO_ALL, CommKind.GATHER, CommKind.SCATTER):
        found = [_exchange(machine, of)]
    elif kind == CommKind.ALL_REDUCE:
        found = _all_reduces(machine, of)
    else:
        found = [_once_around(machine, kind, of, protocol) for protocol in calibrated(machine).protocols]
    # So far for each byte of all n parts.
    parts = of.n if kind in GATHERING else 1
    return tuple((fixed_ps, per_byte_ps * parts) for fixed_ps, per_byte_ps in found)


def calibrated(machine: Machine) -> Calibration:
    """What NCCL reaches of the machine, which states it."""
    assert machine.nccl is not None, f"{machine.name} has no nccl block"
    return machine.nccl


def bus_Bps(machine: Machine, of: Shape, protocol: str) -> float:
    """Bytes a second that pass each member's place in a ring."""
    most = inf
    for index, (dimension, links) in enumerate(
        zip(machine.dimensions, calibrated(machine).links, strict=True)
    ):
        if of.crossings[index]:
            count = of.adapters if index else 1
            most = min(most, count * dimension.injection_Bps(of.widths[index]) * links.efficiency)
    limit = calibrated(machine).protocols[protocol].most_Bps
    return min(most * PAYLOAD[protocol], inf if limit is None else limit)


def _hops_ps(machine: Machine, steps: tuple[int, ...], protocol: str) -> float:
    links = calibrated(machine).links
    return float(sum(count * link.hop_ps[protocol] for count, link in zip(steps, links, strict=True)))


def _depths(of: Shape) -> tuple[int, ...]:
    """Steps from the farthest leaf of a tree to its root: a chain in the node, and a tree of nodes."""
    return (of.widths[0] - 1, *(ceil(log2(width)) for width in of.widths[1:]))


def _all_reduces(machine: Machine, of: Shape) -> list[Line]:
    calibration, n = calibrated(machine), of.n
    found = []
    for protocol in calibration.protocols:
        overhead_ps = calibration.protocols[protocol].overhead_ps
        byte_ps = PS_PER_S / bus_Bps(machine, of, protocol)
        around_ps = overhead_ps + 2 * _hops_ps(machine, of.crossings, protocol)
        found.append((around_ps, (2 * (n - 1) + calibration.ring_ends) / n * byte_ps))
        if any(of.crossings[1:]):
            up_and_down_ps = overhead_ps + 2 * _hops_ps(machine, _depths(of), protocol)
            found.append((up_and_down_ps, 2 * byte_ps / calibration.tree_efficiency))
    if calibration.in_switch is not None and n > 2 and not any(of.crossings[1:]):
        # Each link carries out all that is to be added, and one part of n of the sums.
        rate_Bps = machine.dimensions[0].injection_Bps(n) * calibration.in_switch.efficiency
        found.append((calibration.in_switch.overhead_ps, (1 + 1 / n) * PS_PER_S / rate_Bps))
    return found


def _once_around(machine: Machine, kind: CommKind, of: Shape, protocol: str) -> Line:
    calibration, n = calibrated(machine), of.n
    fixed_ps = calibration.protocols[protocol].overhead_ps + _hops_ps(machine, of.crossings, protocol)
    byte_ps = PS_PER_S / bus_Bps(machine, of, protocol)
    if kind in (CommKind.BROADCAST, CommKind.REDUCE):
        return fixed_ps, byte_ps
    assert kind in (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK, CommKind.ALL_GATHER)
    return fixed_ps, (n - 1 + calibration.ring_ends / 2) / n * byte_ps


def _exchange(machine: Machine, of: Shape) -> Line:
    """One part of n to or from every other member, all at once."""
    calibration = calibrated(machine)

    passed = []
    for index, (dimension, links) in enumerate(zip(machine.dimensions, calibration.links, strict=True)):
        if of.peers[index]:
            rate_Bps = dimension.injection_Bps(of.widths[index]) * links.exchange_efficiency
            passed.append((links.message_ps, of.peers[index] / of.n * PS_PER_S / rate_Bps))
    fixed_ps = max(latency_ps for latency_ps, _ in passed) + (of.n - 2) * calibration.peer_ps
    return fixed_ps, max(per_byte_ps for _, per_byte_ps in passed)
