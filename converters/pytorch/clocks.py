"""When each rank's recording begins, on one clock.

A collective ends for all members at nearly the same time, whatever their clocks say: over many of them, the
median of how far a rank's end lies from the middle of all members' is the error of its clock. Ranks that
share messages only keep the clocks they have, as far as no message then arrives before it was sent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chakrasim.traces.edit import delay_start
from chakrasim.traces.graph import CLOCK, Ints
from chakrasim.traces.matching import MessageMatching, match_collectives, match_messages
from chakrasim.traces.units import format_time
from chakrasim.traces.workload import Workload


def align_starts(workload: Workload, *, is_one_clock: bool = True) -> Workload:
    """The workload with ranks that began to record later beginning later, and a note that says so.

    `is_one_clock` says that the ranks' clocks at least count from the same moment. Unchanged if there is one
    rank only, or nothing says how the clocks stand to each other. O(nodes log nodes).
    """
    if len(workload.graphs) < 2 or any((g.starts_ps < 0).all() for g in workload.graphs.values()):
        return workload
    ends_ps = _ends_of_common_collectives(workload)
    if len(ends_ps):
        apart = ends_ps - np.median(ends_ps, axis=1, keepdims=True)
        clock_ps = np.rint(np.median(apart, axis=0)).astype(np.int64)
        rest_ps = int(np.median(np.abs(apart - clock_ps).max(axis=1)))
        how = (
            f"clocks are aligned by the ends of {len(ends_ps):,} collectives, which then agree to within "
            f"{format_time(rest_ps)} (median)"
        )
    elif is_one_clock:
        messages = match_messages(workload)
        clock_ps = _clocks_by_messages(workload, messages)
        moved_ps = int(np.abs(clock_ps).max())
        how = "clocks are taken as recorded"
        if moved_ps:
            how += f", but for up to {format_time(moved_ps)}, so that no message arrives before it was sent"
    else:
        return workload
    begun_ps = np.array(
        [int(graph.starts_ps[graph.starts_ps >= 0].min()) for graph in workload.graphs.values()]
    )
    delays_ps = begun_ps - clock_ps
    delays_ps -= delays_ps.min()
    graphs = {
        rank: replace(
            delay_start(graph, delay_ps) if delay_ps else graph, metadata={**graph.metadata, CLOCK: clock}
        )
        for (rank, graph), delay_ps, clock in zip(
            workload.graphs.items(), delays_ps.tolist(), clock_ps.tolist(), strict=True
        )
    }
    latest = format_time(int(delays_ps.max()))
    note = f"ranks begin up to {latest} after the first, as their recordings did; {how}"
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


def _clocks_by_messages(workload: Workload, messages: MessageMatching) -> Ints:
    """int64[ranks]: how far each clock has to be ahead for no message to arrive before it was sent.

    Rank by rank, against the ranks before it. O(messages + ranks^2).
    """
    ranks = list(workload.graphs)
    clock_ps = np.zeros(len(ranks), dtype=np.int64)
    sent_ps, received_ps = np.empty((2, len(messages.send_row)), np.int64)
    for rank, graph in workload.graphs.items():
        own = messages.send_rank == rank
        sent_ps[own] = graph.starts_ps[messages.send_row[own]]
        own = messages.recv_rank == rank
        rows = messages.recv_row[own]
        received_ps[own] = np.where(graph.durations_ps[rows] > 0, graph.starts_ps[rows], -1)
        received_ps[own] += np.where(received_ps[own] >= 0, graph.durations_ps[rows], 0)
    has_times = (sent_ps >= 0) & (received_ps >= 0)
    index = np.full(max(ranks) + 1, -1)
    index[ranks] = np.arange(len(ranks))
    source, target = index[messages.send_rank], index[messages.recv_rank]
    travel_ps = received_ps - sent_ps
    for k in range(1, len(ranks)):
        arrives = has_times & (target == k) & (source < k)
        leaves = has_times & (source == k) & (target < k)
        # a clock that is ahead makes what arrives look slow and what leaves look fast
        most = (travel_ps[arrives] + clock_ps[source[arrives]]).min(initial=2**62)
        least = (clock_ps[target[leaves]] - travel_ps[leaves]).max(initial=-(2**62))
        clock_ps[k] = (most + least) // 2 if least > most else min(max(0, least), most)
    return clock_ps
