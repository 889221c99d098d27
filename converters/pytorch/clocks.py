"""When each rank's recording begins, on one clock: ranks are aligned by the ends of their collectives.

A collective ends for all members at nearly the same time, whatever their clocks say. Over many of them the
median of how far a rank's end lies from the middle of all members' is the error of its clock.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chakrasim.traces.edit import delay_start
from chakrasim.traces.graph import Ints
from chakrasim.traces.matching import match_collectives
from chakrasim.traces.units import format_time
from chakrasim.traces.workload import Workload


def align_starts(workload: Workload) -> Workload:
    """The workload with ranks that began to record later beginning later, and a note that says so.

    Unchanged if there is one rank only, or no collective that all recorded ranks took part in: then nothing
    says how their clocks stand to each other. O(nodes log nodes).
    """
    ends_ps = _ends_of_common_collectives(workload)
    if len(workload.graphs) < 2 or not len(ends_ps):
        return workload
    apart = ends_ps - np.median(ends_ps, axis=1, keepdims=True)
    clock_ps = np.median(apart, axis=0)
    begun_ps = np.array(
        [graph.starts_ps[graph.starts_ps >= 0].min() for graph in workload.graphs.values()], dtype=np.float64
    )
    begun_ps -= clock_ps
    delays_ps = np.rint(begun_ps - begun_ps.min()).astype(np.int64).tolist()
    graphs = {
        rank: delay_start(graph, delay_ps) if delay_ps else graph
        for (rank, graph), delay_ps in zip(workload.graphs.items(), delays_ps, strict=True)
    }
    rest_ps = np.abs(apart - clock_ps).max(axis=1)
    note = (
        f"ranks begin up to {format_time(max(delays_ps))} after the first, as their recordings did; clocks "
        f"are aligned by the ends of {len(ends_ps):,} collectives, which then agree to within "
        f"{format_time(int(np.median(rest_ps)))} (median)"
    )
    return replace(workload, graphs=graphs, notes=(*workload.notes, note))


def _ends_of_common_collectives(workload: Workload) -> Ints:
    """int64[collectives, ranks]: when each rank ended the collectives of which all recorded the time."""
    matching = match_collectives(workload)
    offsets, ranks, rows = matching.members
    count = len(workload.graphs)
    is_common = np.diff(offsets) == count
    ends_ps = np.empty(len(ranks), dtype=np.int64)
    for rank, graph in workload.graphs.items():
        own = ranks == rank
        starts_ps, durations_ps = graph.starts_ps[rows[own]], graph.durations_ps[rows[own]]
        ends_ps[own] = np.where((starts_ps >= 0) & (durations_ps > 0), starts_ps + durations_ps, -1)
    common = ends_ps[np.repeat(is_common, np.diff(offsets))].reshape(-1, count)
    complete: Ints = common[(common >= 0).all(axis=1)]
    return complete
