"""The simulated timeline in the Trace Event Format that Perfetto and chrome://tracing open.

A process for each rank, a thread for each lane, a slice ("B" to "E") for each node; inside a collective
or receive, a slice for its waiting. Arrows ("s" to "f") lead from host nodes to the device nodes that
they launch, and from sends to receives. Where graphs state memory, a counter ("C") has what a rank needs.
Nodes that occupy no lane may overlap each other: they are dealt out to as many extra threads as it takes
for none to overlap. Nodes that a deadlock left waiting last until the last event, and say so.

Times are microseconds, as the format wants: decimals that keep the picoseconds. Slices have a beginning and
an end rather than a duration ("X"): one that ends when the next begins then says so with the same number,
which a reader can't round to an overlap.
"""

from __future__ import annotations

import gzip
import os
from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from chakrasim.replay.analysis.memory import activations
from chakrasim.replay.engine.program import DEFAULT_LANES, is_marker, lanes_of
from chakrasim.traces.graph import CommKind, Ints, NodeKind, Rows
from chakrasim.traces.io import write_bytes_atomically
from chakrasim.traces.memory import held_bytes
from chakrasim.traces.units import PS_PER_US

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result

Event = dict[str, Any]


def write_timeline(result: Result, path: str | os.PathLike[str]) -> None:
    """Write the timeline to a `.json` or, by that suffix, a `.json.gz` file: whole, or not at all."""
    path = Path(path)
    data = timeline_json(result)
    if path.name.endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)
    write_bytes_atomically(path, data)


def timeline_json(result: Result) -> bytes:
    """The timeline as JSON."""
    # A rank's events at a time: as Python objects those of a whole job take twenty times their text.
    parts = [orjson.dumps(_rank_events(result, rank))[1:-1] for rank in result.workload.ranks]
    parts.append(orjson.dumps(list(_messages(result)))[1:-1])
    head = orjson.dumps(
        {
            "displayTimeUnit": "ns",
            "otherData": {
                "workload": result.workload.name,
                "machine": result.machine.name,
                "compute": result.compute,
                "network": result.network,
            },
        }
    )
    return head[:-1] + b',"traceEvents":[\n' + b",\n".join(part for part in parts if part) + b"\n]}\n"


def _rank_events(result: Result, rank: int) -> list[Event]:
    """Names, slices and launch arrows of one rank."""
    starts_ps, ends_ps = _shown_times(result, rank)
    threads, names = _threads(result, rank, starts_ps, ends_ps)
    events: list[Event] = [
        _metadata(rank, 0, "process_name", name=f"rank {rank}"),
        _metadata(rank, 0, "process_sort_index", sort_index=rank),
    ]
    for thread, name in names.items():
        events.append(_metadata(rank, thread, "thread_name", name=name))
        events.append(_metadata(rank, thread, "thread_sort_index", sort_index=thread))
    events += _slices(result, rank, starts_ps, ends_ps, threads)
    events += _launches(result, rank, starts_ps, threads)
    events += _memory(result, rank)
    return events


def _shown_times(result: Result, rank: int) -> tuple[Ints, Ints]:
    """Starts, -1 for what never started, and ends; what never ended lasts until the last event."""
    rows = result.rows(rank)
    starts_ps, ends_ps = result.starts_ps[rows], result.ends_ps[rows]
    last_ps = max(int(result.ends_ps.max(initial=0)), int(result.starts_ps.max(initial=0)))
    return starts_ps, np.where((starts_ps >= 0) & (ends_ps < 0), last_ps, ends_ps)


def _threads(result: Result, rank: int, starts_ps: Ints, ends_ps: Ints) -> tuple[Rows, dict[int, str]]:
    """Thread numbers int32[n] and the threads' names, lanes first."""
    graph = result.workload.graphs[rank]
    lanes = lanes_of(graph)
    threads = np.where(lanes >= 0, lanes + 1, 0).astype(np.int32)
    lane_names = (*graph.lane_names, *DEFAULT_LANES)
    names = {int(lane) + 1: lane_names[lane] for lane in np.unique(lanes[lanes >= 0])}
    free = len(lane_names) + 1
    is_receive = graph.kinds == NodeKind.RECV
    is_unlaned = (lanes < 0) & (starts_ps >= 0)
    for title, chosen in (
        ("receives", is_unlaned & is_receive),
        ("markers", is_unlaned & is_marker(graph.kinds)),
        ("communication", is_unlaned & ~is_receive & graph.is_communication),
        ("no lane", is_unlaned & ~graph.is_communication & ~is_marker(graph.kinds)),
    ):
        rows = np.flatnonzero(chosen)
        tracks = _tracks(starts_ps[rows], ends_ps[rows])
        threads[rows] = free + tracks
        for track in range(int(tracks.max(initial=-1)) + 1):
            names[free + track] = title if track == 0 else f"{title} {track + 1}"
        free = max(names, default=0) + 1 if len(rows) else free
    return threads, names


def _tracks(starts_ps: Ints, ends_ps: Ints) -> Ints:
    """The least tracks on which no two intervals overlap, int64[n]; each takes the lowest free one."""
    tracks = np.zeros(len(starts_ps), dtype=np.int64)
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    used = 0
    for i in np.lexsort((ends_ps, starts_ps)).tolist():
        while busy and busy[0][0] <= starts_ps[i]:
            heappush(free, heappop(busy)[1])
        if free:
            track = heappop(free)
        else:
            track, used = used, used + 1
        tracks[i] = track
        heappush(busy, (int(ends_ps[i]), track))
    return tracks


def _slices(result: Result, rank: int, starts_ps: Ints, ends_ps: Ints, threads: Rows) -> Iterator[Event]:
    graph, rows = result.workload.graphs[rank], result.rows(rank)
    waits_ps, has_ended = result.waits_ps[rows], result.ends_ps[rows] >= 0
    group_index = result.workload.group_index(rank)
    labels = {int(kind): kind.label for kind in NodeKind}
    # Readers sort by time and keep the file's order among equals: an end must stand before the next begin.
    started = np.flatnonzero(starts_ps >= 0)
    for row in started[np.lexsort((ends_ps[started], starts_ps[started]))].tolist():
        args: dict[str, Any] = {"id": int(graph.ids[row])}
        kind = labels[int(graph.kinds[row])]
        args["kind"] = kind
        if graph.comm_kinds[row] >= 0 and group_index[row] >= 0:
            args["collective"] = CommKind(graph.comm_kinds[row]).label
            args["group"] = result.workload.groups[group_index[row]].name
        if graph.comm_bytes[row] >= 0:
            args["bytes"] = int(graph.comm_bytes[row])
        elif graph.tensor_bytes[row] >= 0:
            args["bytes"] = int(graph.tensor_bytes[row])
        if graph.ops[row] > 0:
            args["operations"] = int(graph.ops[row])
        if graph.peers[row] >= 0:
            args["peer"] = int(graph.peers[row])
        if not has_ended[row]:
            args["never_ended"] = True
        start_ps, wait_ps = int(starts_ps[row]), int(waits_ps[row])
        begin: Event = {
            "ph": "B",
            "name": graph.name(row) or kind,
            "cat": kind,
            "pid": rank,
            "tid": int(threads[row]),
            "ts": start_ps / PS_PER_US,
            "args": args,
        }
        end: Event = {"ph": "E", "name": begin["name"], "pid": rank, "tid": begin["tid"]}
        end["ts"] = int(ends_ps[row]) / PS_PER_US
        if wait_ps:
            args["waiting_us"] = wait_ps / PS_PER_US
        yield begin
        if wait_ps:
            yield begin | {"name": "waiting", "cat": "waiting", "args": {}}
            yield end | {"name": "waiting", "ts": (start_ps + wait_ps) / PS_PER_US}
        yield end


def _launches(result: Result, rank: int, starts_ps: Ints, threads: Rows) -> Iterator[Event]:
    """Arrows along data edges from nodes of the host to those of the device."""
    graph = result.workload.graphs[rank]
    children = np.repeat(np.arange(len(graph)), np.diff(graph.parent_offsets))
    is_launch = graph.is_cpu[graph.parents] & ~graph.is_cpu[children] & ~graph.parent_is_control
    is_launch &= (starts_ps[children] >= 0) & ~is_marker(graph.kinds)[graph.parents]
    for edge in np.flatnonzero(is_launch).tolist():
        parent, child = int(graph.parents[edge]), int(children[edge])
        ends = ((rank, int(threads[row]), int(starts_ps[row])) for row in (parent, child))
        yield from _arrow("launch", f"{rank}.{edge}", *ends)


def _memory(result: Result, rank: int) -> Iterator[Event]:
    """A counter of what the rank needs; nothing where its graph states no memory."""
    held = held_bytes(result.workload.graphs[rank])
    if held is None:
        return
    begin = sum(held.values())
    times_ps, size_bytes = activations(result, rank)
    # It begins with what is held, unless something is allocated at that moment.
    before = [] if len(times_ps) and times_ps[0] == 0 else [(0, 0)]
    for time_ps, size in (*before, *zip(times_ps.tolist(), size_bytes.tolist(), strict=True)):
        at = {"pid": rank, "tid": 0, "ts": time_ps / PS_PER_US}
        # Readers put the series' name behind the counter's: it is shown as "memory GB".
        yield {"ph": "C", "name": "memory", **at, "args": {"GB": (begin + size) / 1e9}}


def _messages(result: Result) -> Iterator[Event]:
    """Arrows from sends to their receives."""
    messages = result.program.messages
    threads: dict[int, Rows] = {}
    by_rank: dict[int, list[int]] = defaultdict(list)
    columns = (messages.send_rank, messages.send_row, messages.recv_rank, messages.recv_row)
    for rank in {*messages.send_rank.tolist(), *messages.recv_rank.tolist()}:
        threads[rank] = _threads(result, rank, *_shown_times(result, rank))[0]
        by_rank[rank] = result.starts_ps[result.rows(rank)].tolist()
    for number, (source, send, destination, receive) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        sent_ps, posted_ps = by_rank[source][send], by_rank[destination][receive]
        if sent_ps >= 0 and posted_ps >= 0:
            tail = (source, int(threads[source][send]), sent_ps)
            # A receive that was posted before its message was sent lasts beyond that moment.
            head = (destination, int(threads[destination][receive]), max(sent_ps, posted_ps))
            yield from _arrow("message", f"m{number}", tail, head)


def _arrow(name: str, number: str, tail: tuple[int, int, int], head: tuple[int, int, int]) -> Iterator[Event]:
    for phase, (rank, thread, time_ps) in (("s", tail), ("f", head)):
        event: Event = {
            "ph": phase,
            "name": name,
            "cat": name,
            "id": number,
            "pid": rank,
            "tid": thread,
            "ts": time_ps / PS_PER_US,
        }
        if phase == "f":
            event["bp"] = "e"
        yield event


def _metadata(rank: int, thread: int, what: str, **args: Any) -> Event:
    return {"ph": "M", "name": what, "pid": rank, "tid": thread, "ts": 0, "args": args}
