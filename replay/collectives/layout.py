"""How a process group lies on the dimensions of a machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from chakrasim.replay.collectives.hockney import Span
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.transport.uncontended import coordinates, way
from chakrasim.traces.graph import Ints


@lru_cache(maxsize=1024)
def spans(machine: Machine, ranks: tuple[int, ...]) -> tuple[tuple[int, Span], ...]:
    """Index of the dimension and `Span` for each dimension that the group spans, innermost first.

    A group that fills a grid (every combination of its coordinates) has one span a dimension. Any other is
    one flat ring in order of rank over the slowest links it uses, at the index of the outermost dimension.
    O(ranks), and O(n^2) for n members spread over a ring.
    """
    members = np.array(sorted(ranks), dtype=np.int64)
    position = coordinates(machine, members)
    distinct = [np.unique(column) for column in position]
    counts = [len(values) for values in distinct]
    used = [index for index, count in enumerate(counts) if count > 1]
    if int(np.prod(counts)) == len(members):
        return tuple((index, _span(machine.dimensions[index], distinct[index])) for index in used)
    return ((used[-1], _flat(machine, members)),)


def _span(dimension: Dimension, at: Ints) -> Span:
    n, size = len(at), dimension.size or len(at)
    hops = {"fully_connected": 1, "switch": 2}.get(dimension.topology)
    if hops is not None:
        load = 1 if dimension.topology == "fully_connected" else n - 1
        latency_ps = hops * dimension.latency_ps
        return Span(n, latency_ps, latency_ps, dimension.bandwidth_Bps, load, load)
    gaps = (np.roll(at, -1) - at) % size
    step = int(np.minimum(gaps, size - gaps).max())
    apart = (at[None, :] - at[:, None]) % size
    far = int(np.minimum(apart, size - apart).max())
    exchange, fan = _ring_loads(at, size)
    return Span(
        n,
        step * dimension.latency_ps,
        far * dimension.latency_ps,
        dimension.bandwidth_Bps,
        exchange,
        fan,
    )


def _ring_loads(at: Ints, size: int) -> tuple[int, int]:
    """Messages over the busiest link of a ring in one direction: all to all, and the worst one to all.

    The shorter way is taken; of two equal ones the ascending.
    """
    clockwise, counter = np.zeros(2 * size, dtype=np.int64), np.zeros(2 * size, dtype=np.int64)
    fan = 0
    for source in at.tolist():
        ahead = (at - source) % size
        up = ahead[(ahead > 0) & (2 * ahead <= size)]
        down = size - ahead[2 * ahead > size]
        fan = max(fan, len(up), len(down))
        for loads, ways, start in ((clockwise, up, source), (counter, down, -source % size)):
            loads[start] += len(ways)
            np.subtract.at(loads, start + ways, 1)
    busiest = 0
    for loads in (clockwise, counter):
        along = np.cumsum(loads)
        busiest = max(busiest, int((along[:size] + along[size:]).max()))
    return busiest, fan


def _flat(machine: Machine, members: Ints) -> Span:
    n = len(members)
    latencies_ps, bandwidths_Bps = way(machine, members, np.roll(members, -1))
    far_ps, _ = way(machine, np.repeat(members[:1], n), members)
    return Span(
        n,
        int(latencies_ps.max()),
        int(max(latencies_ps.max(), far_ps.max())),
        float(bandwidths_Bps.min()),
        n - 1,
        n - 1,
    )
