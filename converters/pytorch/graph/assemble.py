"""Execution graph of one recording: calls the other rooms in order and joins what they find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.communication.custom_kernels import KernelTable
from chakrasim.converters.pytorch.communication.gloo import JobGroups, find_jobs, job_waits, worker_threads
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.converters.pytorch.communication.match_comm import find_communications
from chakrasim.converters.pytorch.device.device_ops import DeviceOps, gather_device_ops, launch_times
from chakrasim.converters.pytorch.device.launch_gaps import find_launch_gaps
from chakrasim.converters.pytorch.device.synchronisation import DeviceWait, Synchronisation
from chakrasim.converters.pytorch.graph.nodes import HostEdges, make_graph, resumed_segments
from chakrasim.converters.pytorch.graph.notes import (
    communication_notes,
    custom_kernel_notes,
    device_notes,
    gloo_notes,
)
from chakrasim.converters.pytorch.host.autograd_dependencies import find_autograd_waits, forward_to_backward
from chakrasim.converters.pytorch.host.loader_dependencies import find_loader_waits
from chakrasim.converters.pytorch.host.segments import (
    HostSegments,
    ThreadWait,
    cut,
    lay_out,
    segment_that_ends,
)
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
    device_ops = gather_device_ops(recording, jobs, job_launches)
    launched_ns = launch_times(device_ops, recording.host)
    sync = Synchronisation(recording, device_ops, launched_ns)
    sources, waiting = np.array(sync.stream_edges, dtype=np.int64).reshape(-1, 2).T
    device_ops.edge_source = np.concatenate([device_ops.edge_source, sources])
    device_ops.edge_waiter = np.concatenate([device_ops.edge_waiter, waiting])
    own_origin_ns = recording.origin_ns
    segments = lay_out(recording.host, is_used, len(recording.threads), own_origin_ns)
    found, missed_waits = job_waits(recording, device_ops, segments)
    waits = sync.waits + found
    thread_waits = find_autograd_waits(recording, segments) + find_loader_waits(recording, segments)
    segments = cut(segments, *_cuts(recording, device_ops, launched_ns, [*waits, *thread_waits]))
    has_launch = device_ops.launch >= 0
    launchers = np.full(len(device_ops), -1, dtype=np.int64)
    launchers[has_launch] = segment_that_ends(
        segments, recording.host, device_ops.launch[has_launch], launched_ns[has_launch]
    )
    gaps = find_launch_gaps(device_ops, segments, launchers, own_origin_ns)
    job_groups = JobGroups(recording, jobs, job_launches, groups)
    communications = find_communications(recording, device_ops, groups, job_groups, kernels)
    notes = [
        *communication_notes(communications, groups),
        *custom_kernel_notes(recording, communications),
        *device_notes(device_ops, gaps, sync.counts),
        *gloo_notes(device_ops, job_groups, missed_waits),
    ]
    graph = make_graph(
        recording,
        device_ops,
        segments,
        launchers,
        gaps,
        _host_edges(segments, waits, thread_waits, forward_to_backward(recording, segments)),
        communications,
        rank=groups.rank,
        origin_ns=origin_ns,
        groups=groups.used,
        metadata={**metadata, "notes": notes},
    )
    return graph, notes


def _cuts(
    recording: Recording, device_ops: DeviceOps, launched_ns: Ints, waits: Sequence[DeviceWait | ThreadWait]
) -> tuple[Ints, Ints]:
    """Threads and times at which host segments have to end."""
    rows = np.flatnonzero(device_ops.launch >= 0)
    threads = [recording.host.thread[device_ops.launch[rows]]]
    times = [launched_ns[rows]]
    for wait in waits:
        threads.append(np.array([wait.thread, wait.thread]))
        times.append(np.array([wait.begin_ns, wait.end_ns]))
    return np.concatenate(threads), np.concatenate(times)


def _host_edges(
    segments: HostSegments, waits: list[DeviceWait], thread_waits: list[ThreadWait], backward: Ints
) -> HostEdges:
    """Edges that end waits, and the segments that only wait.

    `backward` are edges between segments, int64[edges, 2].
    """
    is_wait = np.zeros(len(segments), dtype=np.bool_)
    on_ops: list[tuple[int, int]] = []
    on_segments: list[tuple[int, int]] = []
    for wait in waits:
        first, last, resumed = resumed_segments(segments, wait.thread, wait.begin_ns, wait.end_ns)
        is_wait[first:last] = True
        if resumed >= 0:
            on_ops += [(op, resumed) for op in wait.device_ops]
    for between in thread_waits:
        first, last, resumed = resumed_segments(segments, between.thread, between.begin_ns, between.end_ns)
        is_wait[first:last] = True
        low, high = segments.bounds(between.source)
        ended = segments.end_ns[low:high]
        source = low + int(np.searchsorted(ended, between.end_ns, side="right")) - 1
        if source >= low and resumed >= 0:
            on_segments.append((source, resumed))
    op, op_waiter = np.array(on_ops, dtype=np.int64).reshape(-1, 2).T
    pairs = np.concatenate([np.array(on_segments, dtype=np.int64).reshape(-1, 2), backward])
    return HostEdges(is_wait, op, op_waiter, pairs[:, 0], pairs[:, 1])
