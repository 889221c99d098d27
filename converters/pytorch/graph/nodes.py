"""Nodes and edges of one recording as the columns of a graph.

Nodes are segments of host threads, gaps before device operations, and device operations. Rows are handed out
in the order in which things were issued, so that parents mostly stand before children.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.communication.describe import Communication
from chakrasim.converters.pytorch.device.device_ops import DeviceOps
from chakrasim.converters.pytorch.device.launch_gaps import (
    AFTER_LAUNCH,
    AFTER_NOTHING,
    UNEXPLAINED_NS,
    LaunchGaps,
)
from chakrasim.converters.pytorch.host.segments import GAP, HostSegments, segment_from, segment_numbers
from chakrasim.converters.pytorch.read.kineto import COPY, KERNEL, Ints, Recording
from chakrasim.traces.attributes import NodeAttributes
from chakrasim.traces.builder import StringTable, graph_of_columns, narrowed
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_NS

_COMMUNICATION = {
    "comm_kinds": np.int8,
    "comm_bytes": np.int64,
    "group_ids": np.int32,
    "peers": np.int32,
    "tags": np.int64,
    "dtype_ids": np.int8,
}


@dataclass(frozen=True)
class HostEdges:
    """Edges to host segments, beside those from the segment before: pairs of columns."""

    is_wait: NDArray[np.bool_]
    """[segments]: only waits, so that it takes no time of its own."""
    op: Ints
    """Device operation that a segment waits for, by edge."""
    op_waiter: Ints
    """That segment, by edge."""
    source: Ints
    """Segment of another thread that a segment waits for, by edge."""
    source_waiter: Ints
    """The waiting segment, by edge."""


def make_graph(
    recording: Recording,
    device_ops: DeviceOps,
    segments: HostSegments,
    launchers: Ints,
    gaps: LaunchGaps,
    edges: HostEdges,
    communications: dict[int, Communication],
    *,
    rank: int,
    origin_ns: int,
    groups: dict[str, tuple[int, ...]],
    metadata: dict[str, Any],
) -> ExecutionGraph:
    """Put all nodes and edges into one graph. O(n log n)."""
    delayed = np.flatnonzero(gaps.length_ns > 0)
    segment_count, op_count, first_op = len(segments), len(device_ops), len(segments) + len(delayed)
    n = first_op + op_count
    times = np.concatenate([segments.start_ns, device_ops.issued_ns[delayed], device_ops.issued_ns])
    order = np.argsort(times, kind="stable")
    row_of = np.empty(n, dtype=np.int64)
    row_of[order] = np.arange(n)
    segment_row, delay_row, op_row = np.split(row_of, [segment_count, first_op])

    names, name_ids = _names(recording, device_ops, segments, gaps, edges.is_wait, delayed)
    lane_names = [*thread_names(recording), *device_ops.lane_names]
    is_job = np.arange(op_count) >= device_ops.device_count
    is_unexplained = gaps.length_ns[delayed] > UNEXPLAINED_NS
    lengths = np.where(edges.is_wait, 0, segments.end_ns - segments.start_ns)
    op_lane = np.where(device_ops.lane >= 0, device_ops.lane + len(recording.threads), NO_LANE)
    columns: dict[str, NDArray[Any]] = {
        "name_ids": name_ids,
        "kinds": np.concatenate(
            [np.full(first_op, NodeKind.COMP, dtype=np.int8), _op_kinds(recording, device_ops)]
        ),
        "durations_ps": np.concatenate(
            [lengths, gaps.length_ns[delayed], device_ops.end_ns - device_ops.start_ns]
        )
        * PS_PER_NS,
        "starts_ps": (
            np.concatenate(
                [
                    segments.start_ns,
                    device_ops.start_ns[delayed] - gaps.length_ns[delayed],
                    device_ops.start_ns,
                ]
            )
            - origin_ns
        )
        * PS_PER_NS,
        "is_cpu": np.concatenate(
            [
                np.ones(segment_count, dtype=np.bool_),
                ((gaps.after[delayed] == AFTER_LAUNCH) & ~is_unexplained) | is_job[delayed],
                is_job,
            ]
        ),
        "lanes": np.concatenate([segments.thread, np.full(len(delayed), NO_LANE), op_lane]).astype(np.int32),
    }
    # in order of rows; what few rows have is put there
    for name in columns:
        columns[name] = columns[name][order]
    columns["tensor_bytes"] = np.full(n, -1, dtype=np.int64)
    moves = np.flatnonzero(recording.device.kind != KERNEL)
    columns["tensor_bytes"][op_row[moves]] = recording.device.size_bytes[moves]
    group_names, dtypes, attributes = _put_communications(columns, communications, op_row)
    rows_of = segment_row, delay_row, op_row
    children, parents = _edges(device_ops, segments, launchers, gaps, edges, delayed, *rows_of)
    number = segment_numbers(segments)
    function_id, part = (np.full(n, -1, dtype=np.int64) for _ in range(2))
    begins = np.flatnonzero((segments.event != GAP) & (number == 0))
    function_id[segment_row[begins]] = recording.host.function_id[segments.event[begins]]
    goes_on = np.flatnonzero(number > 0)
    part[segment_row[goes_on]] = number[goes_on]
    return graph_of_columns(
        rank,
        n,
        columns,
        children=children,
        parents=parents,
        names=names,
        group_names=group_names,
        lane_names=lane_names,
        dtypes=dtypes,
        groups=groups,
        metadata=metadata,
        attributes=NodeAttributes({"rf_id": narrowed(function_id), "segment": narrowed(part)}, attributes),
    )


def thread_names(recording: Recording) -> list[str]:
    plain = Counter(str(thread) for _, thread in recording.threads)
    return [
        f"thread {thread}" if plain[str(thread)] == 1 else f"thread {process}/{thread}"
        for process, thread in recording.threads
    ]


def _names(
    recording: Recording,
    device_ops: DeviceOps,
    segments: HostSegments,
    gaps: LaunchGaps,
    is_wait: NDArray[np.bool_],
    delayed: Ints,
) -> tuple[tuple[str, ...], Ints]:
    """The names in use, and the number of each node's."""
    table = StringTable()
    recorded = np.array([table(name) for name in recording.names], dtype=np.int64)
    host_ids = np.where(is_wait, table("host wait"), table("host gap"))
    is_event = segments.event != GAP
    if is_event.any():
        host_ids[is_event] = recorded[recording.host.name_id[segments.event[is_event]]]
    after = gaps.after[delayed]
    delay_ids = np.full(len(delayed), table("stream latency"), dtype=np.int64)
    delay_ids[after == AFTER_LAUNCH] = table("launch latency")
    delay_ids[(after == AFTER_LAUNCH) & (gaps.length_ns[delayed] > UNEXPLAINED_NS)] = table(
        "unexplained delay"
    )
    delay_ids[after == AFTER_NOTHING] = table("unrecorded launch")
    delay_ids[delayed >= device_ops.device_count] = table("worker latency")
    job_ids = np.array([table(job.name) for job in device_ops.jobs], dtype=np.int64)
    device_ids = recorded[recording.device.name_id] if len(recording.device) else np.zeros(0, dtype=np.int64)
    ids = np.concatenate([host_ids, delay_ids, device_ids, job_ids])
    names = table.names()
    used = np.flatnonzero(np.bincount(ids, minlength=len(names)))
    number = np.zeros(len(names), dtype=np.int32)
    number[used] = np.arange(len(used))
    return tuple(names[k] for k in used.tolist()), number[ids]


def _op_kinds(recording: Recording, device_ops: DeviceOps) -> NDArray[np.int8]:
    kinds = np.full(len(device_ops), NodeKind.COMP, dtype=np.int8)
    device = recording.device
    # what leaves the device is loaded from it; copies to it, on it, and memsets store there
    leaves = np.array(["DtoH" in name for name in recording.names], dtype=np.bool_)
    if len(device):
        is_load = (device.kind == COPY) & leaves[device.name_id]
        kinds[: len(device)][device.kind != KERNEL] = NodeKind.MEM_STORE
        kinds[: len(device)][is_load] = NodeKind.MEM_LOAD
    return kinds


def _put_communications(
    columns: dict[str, NDArray[Any]], communications: dict[int, Communication], op_row: Ints
) -> tuple[tuple[str, ...], tuple[str, ...], dict[int, dict[str, Any]]]:
    """Fill the columns of communication: names of groups and data types, and further attributes by row."""
    groups, dtypes = StringTable(), StringTable()
    rows = op_row[list(communications)].tolist()
    attributes: dict[int, dict[str, Any]] = {}
    values = []
    for row, known in zip(rows, communications.values(), strict=True):
        group = groups(known.group) if known.group else -1
        dtype_id = dtypes(known.dtype) if known.dtype else -1
        comm_bytes, peer, tag = known.comm_bytes, known.peer, known.tag
        values.append((known.comm_kind, comm_bytes, group, peer, tag, dtype_id, known.kind))
        attrs = dict(known.attrs)
        if known.problem:
            attrs["not_understood"] = known.problem
        if attrs:
            attributes[row] = attrs
    *by_name, kinds = np.array(values, dtype=np.int64).reshape(-1, 7).T
    columns["kinds"][rows] = kinds
    for (name, dtype), column in zip(_COMMUNICATION.items(), by_name, strict=True):
        columns[name] = np.full(len(columns["kinds"]), -1, dtype=dtype)
        columns[name][rows] = column
    return groups.names(), dtypes.names(), attributes


def _edges(
    device_ops: DeviceOps,
    segments: HostSegments,
    launchers: Ints,
    gaps: LaunchGaps,
    edges: HostEdges,
    delayed: Ints,
    segment_row: Ints,
    delay_row: Ints,
    op_row: Ints,
) -> tuple[Ints, Ints]:
    """Children and parents, by row."""
    follows = np.flatnonzero(segments.thread[1:] == segments.thread[:-1])
    after = gaps.after[delayed]
    is_launched, is_queued = after == AFTER_LAUNCH, after >= 0
    launched = np.flatnonzero(launchers >= 0)
    pairs = [
        (segment_row[follows + 1], segment_row[follows]),
        (segment_row[edges.op_waiter], op_row[edges.op]),
        (segment_row[edges.source_waiter], segment_row[edges.source]),
        (delay_row[is_launched], segment_row[launchers[delayed[is_launched]]]),
        (delay_row[is_queued], op_row[after[is_queued]]),
        (op_row[device_ops.edge_waiter], op_row[device_ops.edge_source]),
        (op_row[launched], segment_row[launchers[launched]]),
        (op_row[delayed], delay_row),
    ]
    return np.concatenate([c for c, _ in pairs]), np.concatenate([p for _, p in pairs])


def resumed_segments(segments: HostSegments, thread: int, begin_ns: int, end_ns: int) -> tuple[int, int, int]:
    """Range of the segments of a thread inside [begin_ns, end_ns), and the first after them, -1 for none."""
    low, high = segments.bounds(thread)
    first = low + int(np.searchsorted(segments.start_ns[low:high], begin_ns))
    last = low + int(np.searchsorted(segments.end_ns[low:high], end_ns, side="right"))
    return first, last, segment_from(segments, thread, end_ns)
