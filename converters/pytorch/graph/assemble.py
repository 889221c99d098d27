"""One recording to one execution graph: the parts are found elsewhere, here they become nodes and edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.communication.custom_kernels import KernelTable
from chakrasim.converters.pytorch.communication.gloo import JobGroups, find_jobs, job_waits, worker_threads
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.converters.pytorch.communication.match_comm import find_communications
from chakrasim.converters.pytorch.device.device_ops import Works, gather_works, launch_times
from chakrasim.converters.pytorch.device.launch_gaps import find_delays
from chakrasim.converters.pytorch.device.synchronisation import Synchronisation, Wait
from chakrasim.converters.pytorch.graph.nodes import HostEdges, make_graph, resumed_pieces
from chakrasim.converters.pytorch.graph.notes import (
    communication_notes,
    custom_kernel_notes,
    device_notes,
    gloo_notes,
)
from chakrasim.converters.pytorch.host.autograd_dependencies import (
    Handover,
    find_handovers,
    find_loader_handovers,
    forward_to_backward,
)
from chakrasim.converters.pytorch.host.segments import Pieces, cut, lay_out, piece_that_ends
from chakrasim.converters.pytorch.read.kineto import Ints, Recording
from chakrasim.traces.graph import ExecutionGraph


def assemble(
    recording: Recording,
    groups: Groups,
    origin_ns: int,
    metadata: dict[str, Any],
    *,
    kernels: KernelTable | None = None,
) -> tuple[ExecutionGraph, list[str]]:
    """Make the graph of one rank; the second result says what was assumed or not understood.

    `origin_ns` is the time from which node starts are counted; it may lie before this rank's own first event.
    """
    jobs, job_launches = find_jobs(recording)
    workers = worker_threads(jobs)
    is_used = ~np.isin(recording.host.thread, list(workers))
    works = gather_works(recording, jobs, job_launches)
    launched_ns = launch_times(works, recording.host)
    sync = Synchronisation(recording, works, launched_ns)
    sources, waiting = np.array(sync.stream_edges, dtype=np.int64).reshape(-1, 2).T
    works.edge_source = np.concatenate([works.edge_source, sources])
    works.edge_work = np.concatenate([works.edge_work, waiting])
    own_origin_ns = recording.origin_ns
    pieces = lay_out(recording.host, is_used, len(recording.threads), own_origin_ns)
    found, missed_waits = job_waits(recording, works, pieces)
    waits = sync.waits + found
    handovers = find_handovers(recording, pieces) + find_loader_handovers(recording, pieces)
    pieces = cut(pieces, *_cuts(recording, works, launched_ns, [*waits, *handovers]))
    has_launch = works.launch >= 0
    launchers = np.full(len(works), -1, dtype=np.int64)
    launchers[has_launch] = piece_that_ends(
        pieces, recording.host, works.launch[has_launch], launched_ns[has_launch]
    )
    delays = find_delays(works, pieces, launchers, own_origin_ns)
    job_groups = JobGroups(recording, jobs, job_launches, groups)
    communications = find_communications(recording, works, groups, job_groups, kernels)
    notes = [
        *communication_notes(communications, groups),
        *custom_kernel_notes(recording, communications),
        *device_notes(works, delays, sync.counts),
        *gloo_notes(works, job_groups, missed_waits),
    ]
    graph = make_graph(
        recording,
        works,
        pieces,
        launchers,
        delays,
        _host_edges(pieces, waits, handovers, forward_to_backward(recording, pieces)),
        communications,
        rank=groups.rank,
        origin_ns=origin_ns,
        groups=groups.used,
        metadata={**metadata, "notes": notes},
    )
    return graph, notes


def _cuts(
    recording: Recording, works: Works, launched_ns: Ints, waits: Sequence[Wait | Handover]
) -> tuple[Ints, Ints]:
    """Where host pieces have to end: threads and times."""
    rows = np.flatnonzero(works.launch >= 0)
    threads = [recording.host.thread[works.launch[rows]]]
    times = [launched_ns[rows]]
    for wait in waits:
        threads.append(np.array([wait.thread, wait.thread]))
        times.append(np.array([wait.begin_ns, wait.end_ns]))
    return np.concatenate(threads), np.concatenate(times)


def _host_edges(pieces: Pieces, waits: list[Wait], handovers: list[Handover], backward: Ints) -> HostEdges:
    """Which pieces only wait, and what those after a wait or a hand-over depend on.

    `backward` are edges between pieces, int64[edges, 2].
    """
    is_wait = np.zeros(len(pieces), dtype=np.bool_)
    on_works: list[tuple[int, int]] = []
    on_pieces: list[tuple[int, int]] = []
    for wait in waits:
        first, last, resumed = resumed_pieces(pieces, wait.thread, wait.begin_ns, wait.end_ns)
        is_wait[first:last] = True
        if resumed >= 0:
            on_works += [(work, resumed) for work in wait.works]
    for handover in handovers:
        first, last, resumed = resumed_pieces(pieces, handover.thread, handover.begin_ns, handover.end_ns)
        is_wait[first:last] = True
        low, high = pieces.bounds(handover.source)
        ended = pieces.end_ns[low:high]
        source = low + int(np.searchsorted(ended, handover.end_ns, side="right")) - 1
        if source >= low and resumed >= 0:
            on_pieces.append((source, resumed))
    work, work_waiter = np.array(on_works, dtype=np.int64).reshape(-1, 2).T
    between = np.concatenate([np.array(on_pieces, dtype=np.int64).reshape(-1, 2), backward])
    return HostEdges(is_wait, work, work_waiter, between[:, 0], between[:, 1])
