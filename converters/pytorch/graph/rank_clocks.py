"""Alignment of the ranks' clocks, and the time at which each rank begins.

A collective ends for all members at nearly the same time, whatever their clocks say: over many of them, the
median of how far a rank's end lies from the middle of all members' is the error of its clock, unless single
ends lie further apart than that. Ranks that share messages only keep the clocks they have, as far as no
message then arrives before it was sent.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from chakrasim.traces.edits.parts.start import delay_start
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
    ranks = list(workload.graphs)
    groups = _ends_by_group(workload)
    everyone = groups.get(tuple(ranks))
    if everyone is not None:
        apart = everyone - np.median(everyone, axis=1, keepdims=True)
        clock_ps = np.rint(np.median(apart, axis=0)).astype(np.int64)
        if is_one_clock:  # a clock that seems off by less than its ends scatter is right for all we know
            scatter_ps = np.percentile(np.abs(apart - clock_ps), 90, axis=0)
            clock_ps[np.abs(clock_ps) <= scatter_ps] = 0
        rest_ps = int(np.median(np.abs(apart - clock_ps).max(axis=1)))
        how = (
            f"clocks are aligned by the ends of {len(everyone):,} collectives, which then agree to within "
            f"{format_time(rest_ps)} (median)"
        )
    elif (by_groups := _clocks_by_groups(ranks, groups)) is not None:
        clock_ps = by_groups
        how = f"clocks are aligned by the ends of collectives in {len(groups):,} groups"
    elif is_one_clock and (groups or len(match_messages(workload).send_row)):
        clock_ps = _clocks_by_messages(workload, match_messages(workload))
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


def _ends_by_group(workload: Workload) -> dict[tuple[int, ...], Ints]:
    """By the ranks that took part: int64[collectives, ranks], when each ended those that all recorded."""
    offsets, ranks, rows = match_collectives(workload).members
    ends_ps = np.empty(len(ranks), dtype=np.int64)
    for rank, graph in workload.graphs.items():
        own = ranks == rank
        starts_ps, durations_ps = graph.starts_ps[rows[own]], graph.durations_ps[rows[own]]
        ends_ps[own] = np.where((starts_ps >= 0) & (durations_ps > 0), starts_ps + durations_ps, -1)
    found: dict[tuple[int, ...], list[Ints]] = {}
    for low, high in pairwise(offsets.tolist()):
        if high > low + 1 and (ends_ps[low:high] >= 0).all():
            found.setdefault(tuple(ranks[low:high].tolist()), []).append(ends_ps[low:high])
    return {members: np.stack(ends) for members, ends in found.items()}


def _clocks_by_groups(ranks: list[int], groups: dict[tuple[int, ...], Ints]) -> Ints | None:
    """int64[ranks]: how far each clock is ahead of the first one's, from group to group; None if some aren't
    reached."""
    ahead_ps = {ranks[0]: 0}
    reached = True
    while reached and len(ahead_ps) < len(ranks):
        reached = False
        for members, ends_ps in sorted(groups.items(), key=lambda item: -len(item[1])):
            known = next((k for k, rank in enumerate(members) if rank in ahead_ps), None)
            if known is None or all(rank in ahead_ps for rank in members):
                continue
            later_ps = np.median(ends_ps - ends_ps[:, known : known + 1], axis=0)
            for rank, ps in zip(members, later_ps.tolist(), strict=True):
                ahead_ps.setdefault(rank, ahead_ps[members[known]] + round(ps))
            reached = True
    if len(ahead_ps) < len(ranks):
        return None
    return np.array([ahead_ps[rank] for rank in ranks], dtype=np.int64)


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
