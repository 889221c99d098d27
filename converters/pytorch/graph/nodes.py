"""From the parts of a recording to the columns of a graph.

Nodes are, in this order: pieces of host threads, delays before works, works. Rows are handed out in the order
in which things were issued, so that parents mostly stand before children.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.communication.describe import Communication
from chakrasim.converters.pytorch.device.device_ops import Works
from chakrasim.converters.pytorch.device.launch_gaps import (
    AFTER_LAUNCH,
    AFTER_NOTHING,
    UNEXPLAINED_NS,
    Delays,
)
from chakrasim.converters.pytorch.host.segments import GAP, Pieces, piece_from, segment_numbers
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
    """What host pieces wait for beside the one before them. Edges as pairs of columns."""

    is_wait: NDArray[np.bool_]
    """[pieces]: nothing but waiting: its time is that of what it waits for."""
    work: Ints
    """By edge: the work that a piece waits for, …"""
    work_waiter: Ints
    """… and that piece."""
    source: Ints
    """By edge: the piece of another thread that a piece waits for, …"""
    source_waiter: Ints
    """… and that piece."""


def make_graph(
    recording: Recording,
    works: Works,
    pieces: Pieces,
    launchers: Ints,
    delays: Delays,
    edges: HostEdges,
    communications: dict[int, Communication],
    *,
    rank: int,
    origin_ns: int,
    groups: dict[str, tuple[int, ...]],
    metadata: dict[str, Any],
) -> ExecutionGraph:
    """Put all nodes and edges into one graph. O(n log n)."""
    delayed = np.flatnonzero(delays.length_ns > 0)
    piece_count, work_count, first_work = len(pieces), len(works), len(pieces) + len(delayed)
    n = first_work + work_count
    times = np.concatenate([pieces.start_ns, works.issued_ns[delayed], works.issued_ns])
    order = np.argsort(times, kind="stable")
    row_of = np.empty(n, dtype=np.int64)
    row_of[order] = np.arange(n)
    piece_row, delay_row, work_row = np.split(row_of, [piece_count, first_work])

    names, name_ids = _names(recording, works, pieces, delays, edges.is_wait, delayed)
    lane_names = [*thread_names(recording), *works.lane_names]
    is_job = np.arange(work_count) >= works.device_count
    is_unexplained = delays.length_ns[delayed] > UNEXPLAINED_NS
    lengths = np.where(edges.is_wait, 0, pieces.end_ns - pieces.start_ns)
    work_lane = np.where(works.lane >= 0, works.lane + len(recording.threads), NO_LANE)
    columns: dict[str, NDArray[Any]] = {
        "name_ids": name_ids,
        "kinds": np.concatenate(
            [np.full(first_work, NodeKind.COMP, dtype=np.int8), _work_kinds(recording, works)]
        ),
        "durations_ps": np.concatenate([lengths, delays.length_ns[delayed], works.end_ns - works.start_ns])
        * PS_PER_NS,
        "starts_ps": (
            np.concatenate(
                [
                    pieces.start_ns,
                    works.start_ns[delayed] - delays.length_ns[delayed],
                    works.start_ns,
                ]
            )
            - origin_ns
        )
        * PS_PER_NS,
        "is_cpu": np.concatenate(
            [
                np.ones(piece_count, dtype=np.bool_),
                ((delays.after[delayed] == AFTER_LAUNCH) & ~is_unexplained) | is_job[delayed],
                is_job,
            ]
        ),
        "lanes": np.concatenate([pieces.thread, np.full(len(delayed), NO_LANE), work_lane]).astype(np.int32),
    }
    # in order of rows; what few rows have is put there
    for name in columns:
        columns[name] = columns[name][order]
    columns["tensor_bytes"] = np.full(n, -1, dtype=np.int64)
    moves = np.flatnonzero(recording.device.kind != KERNEL)
    columns["tensor_bytes"][work_row[moves]] = recording.device.size_bytes[moves]
    group_names, dtypes, attributes = _put_communications(columns, communications, work_row)
    rows_of = piece_row, delay_row, work_row
    children, parents = _edges(works, pieces, launchers, delays, edges, delayed, *rows_of)
    number = segment_numbers(pieces)
    function_id, segment = (np.full(n, -1, dtype=np.int64) for _ in range(2))
    begins = np.flatnonzero((pieces.event != GAP) & (number == 0))
    function_id[piece_row[begins]] = recording.host.function_id[pieces.event[begins]]
    goes_on = np.flatnonzero(number > 0)
    segment[piece_row[goes_on]] = number[goes_on]
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
        attributes=NodeAttributes({"rf_id": narrowed(function_id), "segment": narrowed(segment)}, attributes),
    )


def thread_names(recording: Recording) -> list[str]:
    plain = Counter(str(thread) for _, thread in recording.threads)
    return [
        f"thread {thread}" if plain[str(thread)] == 1 else f"thread {process}/{thread}"
        for process, thread in recording.threads
    ]


def _names(
    recording: Recording,
    works: Works,
    pieces: Pieces,
    delays: Delays,
    is_wait: NDArray[np.bool_],
    delayed: Ints,
) -> tuple[tuple[str, ...], Ints]:
    """The names in use, and the number of each node's."""
    table = StringTable()
    recorded = np.array([table(name) for name in recording.names], dtype=np.int64)
    host_ids = np.where(is_wait, table("host wait"), table("host gap"))
    is_event = pieces.event != GAP
    if is_event.any():
        host_ids[is_event] = recorded[recording.host.name_id[pieces.event[is_event]]]
    after = delays.after[delayed]
    delay_ids = np.full(len(delayed), table("stream latency"), dtype=np.int64)
    delay_ids[after == AFTER_LAUNCH] = table("launch latency")
    delay_ids[(after == AFTER_LAUNCH) & (delays.length_ns[delayed] > UNEXPLAINED_NS)] = table(
        "unexplained delay"
    )
    delay_ids[after == AFTER_NOTHING] = table("unrecorded launch")
    delay_ids[delayed >= works.device_count] = table("worker latency")
    job_ids = np.array([table(job.name) for job in works.jobs], dtype=np.int64)
    device_ids = recorded[recording.device.name_id] if len(recording.device) else np.zeros(0, dtype=np.int64)
    ids = np.concatenate([host_ids, delay_ids, device_ids, job_ids])
    names = table.names()
    used = np.flatnonzero(np.bincount(ids, minlength=len(names)))
    number = np.zeros(len(names), dtype=np.int32)
    number[used] = np.arange(len(used))
    return tuple(names[k] for k in used.tolist()), number[ids]


def _work_kinds(recording: Recording, works: Works) -> NDArray[np.int8]:
    kinds = np.full(len(works), NodeKind.COMP, dtype=np.int8)
    device = recording.device
    # what leaves the device is loaded from it; copies to it, on it, and memsets store there
    leaves = np.array(["DtoH" in name for name in recording.names], dtype=np.bool_)
    if len(device):
        is_load = (device.kind == COPY) & leaves[device.name_id]
        kinds[: len(device)][device.kind != KERNEL] = NodeKind.MEM_STORE
        kinds[: len(device)][is_load] = NodeKind.MEM_LOAD
    return kinds


def _put_communications(
    columns: dict[str, NDArray[Any]], communications: dict[int, Communication], work_row: Ints
) -> tuple[tuple[str, ...], tuple[str, ...], dict[int, dict[str, Any]]]:
    """Fill the columns of communication: names of groups and data types, and further attributes by row."""
    groups, dtypes = StringTable(), StringTable()
    rows = work_row[list(communications)].tolist()
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
    works: Works,
    pieces: Pieces,
    launchers: Ints,
    delays: Delays,
    edges: HostEdges,
    delayed: Ints,
    piece_row: Ints,
    delay_row: Ints,
    work_row: Ints,
) -> tuple[Ints, Ints]:
    """Children and parents, by row."""
    follows = np.flatnonzero(pieces.thread[1:] == pieces.thread[:-1])
    after = delays.after[delayed]
    is_launched, is_queued = after == AFTER_LAUNCH, after >= 0
    launched = np.flatnonzero(launchers >= 0)
    pairs = [
        (piece_row[follows + 1], piece_row[follows]),
        (piece_row[edges.work_waiter], work_row[edges.work]),
        (piece_row[edges.source_waiter], piece_row[edges.source]),
        (delay_row[is_launched], piece_row[launchers[delayed[is_launched]]]),
        (delay_row[is_queued], work_row[after[is_queued]]),
        (work_row[works.edge_work], work_row[works.edge_source]),
        (work_row[launched], piece_row[launchers[launched]]),
        (work_row[delayed], delay_row),
    ]
    return np.concatenate([c for c, _ in pairs]), np.concatenate([p for _, p in pairs])


def resumed_pieces(pieces: Pieces, thread: int, begin_ns: int, end_ns: int) -> tuple[int, int, int]:
    """The pieces of a thread inside [begin_ns, end_ns), as a range, and the first after them, -1 for none."""
    low, high = pieces.bounds(thread)
    first = low + int(np.searchsorted(pieces.start_ns[low:high], begin_ns))
    last = low + int(np.searchsorted(pieces.end_ns[low:high], end_ns, side="right"))
    return first, last, piece_from(pieces, thread, end_ns)
