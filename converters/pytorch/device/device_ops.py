"""Device operations: kernels, copies and memsets on streams, and gloo's jobs.

An operation starts after its launch, after the operation before it on its stream, and after the events its
stream waits for. Launches are linked by correlation id, CUDA's and HIP's alike; a graph launch has many
operations. One that overlaps a part of the one before on its stream (programmatic dependent launch) starts
when that has ended, and loses that part; where most of it overlaps (branches of a captured graph) it gets a
lane of its own and waits for what had ended when it started.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.read.kineto import Annotation, HostEvents, Ints, Recording

LAUNCH_NS = 5_000
"""Time until a call that outlasts its launch begins to wait, where the recording can't tell.

An estimate. It hardly matters: with 1 or 20 us, a replay with host or device twice as fast changes by at most
0.003 % on eleven recordings (V100, A100, MI250).
"""
_ROUNDING_NS = 2
"""Start and duration are each rounded to 1 ns, so neighbours may seem to overlap by two."""
_WHOLE_US_ROUNDING_NS = 1_000
"""Rounding of whole microseconds, as older versions of Kineto write them."""


@dataclass
class DeviceOps:
    """Columns of length n: first the device's rows in file order, then gloo's jobs."""

    start_ns: Ints
    end_ns: Ints
    stream: Ints
    """Index in `stream_names`; -1 occupies nothing (gloo's sends and receives)."""
    stream_names: list[str]
    launch: Ints
    """Host row of the call or operator that issued it, -1 if that wasn't recorded."""
    issued_ns: Ints
    """Begin of the launch. Where it wasn't recorded, the operation's own start; before the recording's begin
    for operations before the first of their stream with a launch: they were under way by then."""
    jobs: list[Annotation]
    """gloo's jobs; job j is row `len(device) + j`."""
    lane: Ints
    """Index in `lane_names`; -1 occupies nothing."""
    lane_names: list[str]
    edge_source: Ints
    """Awaited operation, by edge."""
    edge_waiter: Ints
    """Waiting operation, by edge: on the same stream at first, across streams later on."""
    partial_overlaps: int = 0
    """Works whose start was moved to the end of the one before."""

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def device_count(self) -> int:
        """Rows before the first of gloo's jobs."""
        return len(self) - len(self.jobs)


def link_launches(recording: Recording) -> Ints:
    """For each device event the host row with its correlation id, -1 if there is none.

    A call that began after what it seems to have launched didn't launch it: its correlation id is wrong.
    """
    host, device = recording.host, recording.device
    calls = np.flatnonzero(host.is_call & (host.correlation >= 0))
    if not len(calls):
        return np.full(len(device), -1, dtype=np.int64)
    calls = calls[np.argsort(host.correlation[calls], kind="stable")]
    correlations = host.correlation[calls]
    at = np.minimum(np.searchsorted(correlations, device.correlation), len(calls) - 1)
    is_found = (correlations[at] == device.correlation) & (device.correlation > 0)
    is_found &= host.start_ns[calls[at]] <= device.start_ns
    return np.where(is_found, calls[at], -1)


def gather_device_ops(recording: Recording, jobs: list[Annotation], job_launches: list[int]) -> DeviceOps:
    """Put device events and gloo's jobs together and order them on their streams."""
    host, device = recording.host, recording.device
    names = [f"gpu{device_id} stream {stream}" for device_id, stream in recording.streams]
    workers: dict[int, int] = {}
    job_streams = []
    for job in jobs:
        if job.name in ("gloo:send", "gloo:recv"):
            job_streams.append(-1)
            continue
        if job.thread not in workers:
            workers[job.thread] = len(names)
            names.append(f"thread {recording.threads[job.thread][1]}")
        job_streams.append(workers[job.thread])
    launch = np.concatenate([link_launches(recording), np.array(job_launches, dtype=np.int64)])
    starts = [
        # a message leaves at any moment of the operator that posts it, and is annotated after that
        int(host.start_ns[issuer]) if stream < 0 and issuer >= 0 else job.start_ns
        for job, stream, issuer in zip(jobs, job_streams, job_launches, strict=True)
    ]
    start = np.concatenate([device.start_ns, np.array(starts, dtype=np.int64)])
    device_ops = DeviceOps(
        start_ns=start,
        end_ns=np.concatenate([device.end_ns, np.array([j.end_ns for j in jobs], dtype=np.int64)]),
        stream=np.concatenate([device.stream, np.array(job_streams, dtype=np.int64)]),
        stream_names=names,
        launch=launch,
        issued_ns=np.where(launch >= 0, host.start_ns[launch], start) if len(host) else start.copy(),
        jobs=jobs,
        lane=np.zeros(0, dtype=np.int64),
        lane_names=[],
        edge_source=np.zeros(0, dtype=np.int64),
        edge_waiter=np.zeros(0, dtype=np.int64),
    )
    first_launched = np.full(len(names) + 1, np.iinfo(np.int64).max)  # the last is that of no stream
    has_launch = launch >= 0
    np.minimum.at(first_launched, device_ops.stream[has_launch], start[has_launch])
    until = first_launched[device_ops.stream]
    was_under_way = ~has_launch & (start < until) & (until < np.iinfo(np.int64).max)
    device_ops.issued_ns[was_under_way] = recording.origin_ns - 1
    _order_streams(device_ops, _WHOLE_US_ROUNDING_NS if recording.is_whole_us else _ROUNDING_NS)
    return device_ops


def _order_streams(device_ops: DeviceOps, rounding_ns: int) -> None:
    """Fill lanes and edges; make operations that overlap by rounding, or by less than half, adjacent."""
    order = np.lexsort((device_ops.end_ns, device_ops.start_ns, device_ops.stream))
    order = order[device_ops.stream[order] >= 0]
    start, end, stream = device_ops.start_ns[order], device_ops.end_ns[order], device_ops.stream[order]
    is_same = stream[:-1] == stream[1:]
    overlap = np.where(is_same, end[:-1] - start[1:], 0)
    rounded = np.flatnonzero((overlap > 0) & (overlap <= rounding_ns))
    end[rounded] = start[rounded + 1]
    shorter = np.minimum(end[:-1] - start[:-1], end[1:] - start[1:])
    partial = np.flatnonzero((overlap > rounding_ns) & (2 * overlap <= shorter))
    start[partial + 1] = end[partial]
    device_ops.start_ns[order], device_ops.end_ns[order] = start, end
    device_ops.partial_overlaps = len(partial)
    device_ops.lane = device_ops.stream.copy()
    device_ops.lane_names = list(device_ops.stream_names)
    overlapping = np.unique(stream[1:][is_same & (end[:-1] > start[1:])])
    is_plain = is_same & ~np.isin(stream[1:], overlapping)
    sources, waiting = [order[:-1][is_plain]], [order[1:][is_plain]]
    for number in overlapping.tolist():
        edges = _order_overlapping(
            device_ops, order[stream == number].tolist(), device_ops.stream_names[number]
        )
        sources.append(edges[:, 0])
        waiting.append(edges[:, 1])
    device_ops.edge_source, device_ops.edge_waiter = np.concatenate(sources), np.concatenate(waiting)


def _order_overlapping(device_ops: DeviceOps, rows: list[int], name: str) -> Ints:
    """Order a stream with concurrent operations: int64[edges, 2], awaited and waiting operation."""
    starts, ends = device_ops.start_ns, device_ops.end_ns
    lanes: dict[int, int] = {}
    last: list[int] = []  # the latest operation on each lane
    edges: list[tuple[int, int]] = []
    for row in rows:
        begin = starts[row]
        ended = [other for other in last if ends[other] <= begin]
        if len(ended) > 1:  # one that started after another ended already waits for it
            latest = max(starts[other] for other in ended)
            ended = [o for o in ended if ends[o] > latest or starts[o] == latest]
        edges += [(other, row) for other in ended]
        free = next((k for k, other in enumerate(last) if ends[other] <= begin), len(last))
        last[free : free + 1] = [row]
        if free:
            if free not in lanes:
                lanes[free] = len(device_ops.lane_names)
                device_ops.lane_names.append(f"{name} overlap {free}")
            device_ops.lane[row] = lanes[free]
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def latest_ends(device_ops: DeviceOps, count: int) -> Ints:
    """int64[count]: end of the last operation that each waits for, the smallest number for none."""
    ends = np.full(count, np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(ends, device_ops.edge_waiter, device_ops.end_ns[device_ops.edge_source])
    return ends


def launch_times(device_ops: DeviceOps, host: HostEvents) -> Ints:
    """Launch time of each operation, inside its launch call; -1 without a launch.

    That is the end of the call for an operation that started later, and its own start for one that started
    while the call was still running. If the stream was busy when that call began, the operation's start says
    nothing about the host: then the call is taken to have launched it within its first microseconds.
    """
    times = np.full(len(device_ops), -1, dtype=np.int64)
    rows = np.flatnonzero(device_ops.launch >= 0)
    begin, end = host.start_ns[device_ops.launch[rows]], host.end_ns[device_ops.launch[rows]]
    times[rows] = np.minimum(np.maximum(device_ops.start_ns[rows], begin), end)
    is_inside = times[rows] < end
    was_busy = latest_ends(device_ops, len(device_ops))[rows] > begin
    is_early = is_inside & was_busy
    times[rows[is_early]] = np.minimum(times[rows], begin + LAUNCH_NS)[is_early]
    return times


class StreamOrder:
    """Index of each stream's operations by time of issue and of end."""

    def __init__(self, device_ops: DeviceOps) -> None:
        order = np.lexsort((device_ops.start_ns, device_ops.stream))
        order = order[device_ops.stream[order] >= 0]
        self.rows: list[list[int]] = []
        self.issued: list[list[int]] = []
        self.ends: list[list[int]] = []
        bounds = np.searchsorted(device_ops.stream[order], np.arange(len(device_ops.stream_names) + 1))
        for stream in range(len(device_ops.stream_names)):
            rows = order[bounds[stream] : bounds[stream + 1]]
            self.rows.append(rows.tolist())
            self.issued.append(np.maximum.accumulate(device_ops.issued_ns[rows]).tolist())
            self.ends.append(np.maximum.accumulate(device_ops.end_ns[rows]).tolist())

    def last_issued(self, stream: int, before_ns: int) -> int:
        """The last operation on a stream issued before a time, -1 if none."""
        at = bisect_left(self.issued[stream], before_ns) - 1
        return self.rows[stream][at] if at >= 0 else -1

    def last_ended(self, stream: int, by_ns: int) -> int:
        """The last operation on a stream that had ended by a time, -1 if none."""
        at = bisect_right(self.ends[stream], by_ns) - 1
        return self.rows[stream][at] if at >= 0 else -1
