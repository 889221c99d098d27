"""Work that host threads hand to others: kernels, copies and memsets on streams, gloo's jobs.

A work starts after its launch, after the work before it on its stream, and after the events its stream
waits for. Launches are linked by correlation id, CUDA's and HIP's alike; a graph launch has many works.
Works that overlap on one stream by a part (programmatic dependent launches) start when the one before has
ended and lose that part; where most of a work overlaps (branches of a captured graph) it gets a lane of
its own and waits for what had ended when it started.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.read.kineto import Annotation, HostEvents, Ints, Recording

LAUNCH_NS = 5_000
"""How long a call that outlasts its launch works before it waits, where the recording can't tell."""
_ROUNDING_NS = 2
_WHOLE_US_ROUNDING_NS = 1_000


@dataclass
class Works:
    """Columns of length n: first the device's rows in file order, then gloo's jobs."""

    start_ns: Ints
    end_ns: Ints
    stream: Ints
    """Index in `stream_names`; -1 occupies nothing (gloo's sends and receives)."""
    stream_names: list[str]
    launch: Ints
    """Host row of the call or operator that issued it, -1 if that wasn't recorded."""
    issued_ns: Ints
    """When the launch began; where it wasn't recorded, the work's own start, or before the recording's begin
    for works before the first of their stream with a launch: those were under way by then."""
    jobs: list[Annotation]
    """gloo's jobs; job j is row `len(device) + j`."""
    lane: Ints
    """Index in `lane_names`; -1 occupies nothing."""
    lane_names: list[str]
    edge_source: Ints
    """By edge: the work that is waited for."""
    edge_work: Ints
    """By edge: the work that waits, for what comes before it on its stream or, later on, across streams."""
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

    A call that began after the work it seems to have launched didn't launch it: its correlation id is wrong.
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


def gather_works(recording: Recording, jobs: list[Annotation], job_launches: list[int]) -> Works:
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
    works = Works(
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
        edge_work=np.zeros(0, dtype=np.int64),
    )
    first_launched = np.full(len(names) + 1, np.iinfo(np.int64).max)  # the last is that of no stream
    has_launch = launch >= 0
    np.minimum.at(first_launched, works.stream[has_launch], start[has_launch])
    until = first_launched[works.stream]
    was_under_way = ~has_launch & (start < until) & (until < np.iinfo(np.int64).max)
    works.issued_ns[was_under_way] = recording.origin_ns - 1
    _order_streams(works, _WHOLE_US_ROUNDING_NS if recording.is_whole_us else _ROUNDING_NS)
    return works


def _order_streams(works: Works, rounding_ns: int) -> None:
    """Fill lanes and edges; make works that overlap by rounding, or by less than half, adjacent."""
    order = np.lexsort((works.end_ns, works.start_ns, works.stream))
    order = order[works.stream[order] >= 0]
    start, end, stream = works.start_ns[order], works.end_ns[order], works.stream[order]
    is_same = stream[:-1] == stream[1:]
    overlap = np.where(is_same, end[:-1] - start[1:], 0)
    rounded = np.flatnonzero((overlap > 0) & (overlap <= rounding_ns))
    end[rounded] = start[rounded + 1]
    shorter = np.minimum(end[:-1] - start[:-1], end[1:] - start[1:])
    partial = np.flatnonzero((overlap > rounding_ns) & (2 * overlap <= shorter))
    start[partial + 1] = end[partial]
    works.start_ns[order], works.end_ns[order] = start, end
    works.partial_overlaps = len(partial)
    works.lane = works.stream.copy()
    works.lane_names = list(works.stream_names)
    overlapping = np.unique(stream[1:][is_same & (end[:-1] > start[1:])])
    is_plain = is_same & ~np.isin(stream[1:], overlapping)
    sources, waiting = [order[:-1][is_plain]], [order[1:][is_plain]]
    for number in overlapping.tolist():
        edges = _order_overlapping(works, order[stream == number].tolist(), works.stream_names[number])
        sources.append(edges[:, 0])
        waiting.append(edges[:, 1])
    works.edge_source, works.edge_work = np.concatenate(sources), np.concatenate(waiting)


def _order_overlapping(works: Works, rows: list[int], name: str) -> Ints:
    """Order one stream with works beside each other: int64[edges, 2], source and waiting work."""
    starts, ends = works.start_ns, works.end_ns
    lanes: dict[int, int] = {}
    last: list[int] = []  # the latest work on each lane
    edges: list[tuple[int, int]] = []
    for row in rows:
        begin = starts[row]
        ended = [other for other in last if ends[other] <= begin]
        if len(ended) > 1:  # a work that started after another ended already waits for it
            latest = max(starts[other] for other in ended)
            ended = [o for o in ended if ends[o] > latest or starts[o] == latest]
        edges += [(other, row) for other in ended]
        free = next((k for k, other in enumerate(last) if ends[other] <= begin), len(last))
        last[free : free + 1] = [row]
        if free:
            if free not in lanes:
                lanes[free] = len(works.lane_names)
                works.lane_names.append(f"{name} overlap {free}")
            works.lane[row] = lanes[free]
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def latest_ends(works: Works, count: int) -> Ints:
    """int64[count]: when the last of what each work waits for ended, the smallest number for none."""
    ends = np.full(count, np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(ends, works.edge_work, works.end_ns[works.edge_source])
    return ends


def launch_times(works: Works, host: HostEvents) -> Ints:
    """When, inside its launch call, each work was launched; -1 without a launch.

    That is the end of the call for a work that started later, and the work's own start for one that
    started while the call was still running. If the stream was busy when that call began, the work's start
    says nothing about the host: then the call is taken to have launched it within its first microseconds.
    """
    times = np.full(len(works), -1, dtype=np.int64)
    rows = np.flatnonzero(works.launch >= 0)
    begin, end = host.start_ns[works.launch[rows]], host.end_ns[works.launch[rows]]
    times[rows] = np.minimum(np.maximum(works.start_ns[rows], begin), end)
    is_inside = times[rows] < end
    was_busy = latest_ends(works, len(works))[rows] > begin
    is_early = is_inside & was_busy
    times[rows[is_early]] = np.minimum(times[rows], begin + LAUNCH_NS)[is_early]
    return times


class StreamOrder:
    """Answers which work was the last on a stream to be issued before, or to end by, a time."""

    def __init__(self, works: Works) -> None:
        order = np.lexsort((works.start_ns, works.stream))
        order = order[works.stream[order] >= 0]
        self.rows: list[list[int]] = []
        self.issued: list[list[int]] = []
        self.ends: list[list[int]] = []
        bounds = np.searchsorted(works.stream[order], np.arange(len(works.stream_names) + 1))
        for stream in range(len(works.stream_names)):
            rows = order[bounds[stream] : bounds[stream + 1]]
            self.rows.append(rows.tolist())
            self.issued.append(np.maximum.accumulate(works.issued_ns[rows]).tolist())
            self.ends.append(np.maximum.accumulate(works.end_ns[rows]).tolist())

    def last_issued(self, stream: int, before_ns: int) -> int:
        """The last work on a stream issued before a time, -1 if none."""
        at = bisect_left(self.issued[stream], before_ns) - 1
        return self.rows[stream][at] if at >= 0 else -1

    def last_ended(self, stream: int, by_ns: int) -> int:
        """The last work on a stream that had ended by a time, -1 if none."""
        at = bisect_right(self.ends[stream], by_ns) - 1
        return self.rows[stream][at] if at >= 0 else -1
