"""Host threads as segments of time, each spent in one operator, in one runtime call or between them.

Operators and calls nest. A moment belongs to the innermost one that is open; where none is, the thread is
in a gap, which is host time too (Python, the framework, waiting). Segments tile a thread without holes from
the trace's origin to its last event, so a replay that runs them one after another takes as long as the
recording did. They are cut further where something else depends on a moment inside, such as a kernel that
started before its launch call returned, or a wait that ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.host.nesting import nest
from chakrasim.converters.pytorch.read.kineto import HostEvents, Ints

GAP = -1


@dataclass
class HostSegments:
    """Stretches of host time, by thread and then by time. Columns of length n."""

    thread: Ints
    start_ns: Ints
    end_ns: Ints
    event: Ints
    """Row of the operator or call the time belongs to, or GAP."""
    is_leaf: NDArray[np.bool_]
    """[events]: nothing was recorded inside this operator or call."""

    def __len__(self) -> int:
        return len(self.thread)

    def bounds(self, thread: int) -> tuple[int, int]:
        """First segment of a thread, and one past its last."""
        low, high = np.searchsorted(self.thread, [thread, thread + 1])
        return int(low), int(high)


@dataclass(frozen=True)
class ThreadWait:
    """A stretch in which `thread` only waits, for the segment of thread `source` that ends with it."""

    thread: int
    begin_ns: int
    end_ns: int
    source: int


def lay_out(host: HostEvents, is_used: NDArray[np.bool_], threads: int, origin_ns: int) -> HostSegments:
    """Flatten nested operators and calls into segments. Rows where `is_used` is False are left out.

    Every event keeps at least one segment, of no length if need be. O(n log n).
    """
    order = np.lexsort((np.arange(len(host)), -host.end_ns, host.start_ns, host.thread))
    rows = order[is_used[order]]
    thread, start, n = host.thread[rows], host.start_ns[rows], len(rows)
    bounds = np.searchsorted(thread, np.arange(threads + 1))
    parent, depth, end, closed = nest(bounds, start, host.end_ns[rows])
    is_leaf = np.ones(len(host), dtype=np.bool_)
    is_leaf[rows[parent[parent >= 0]]] = False
    # Events are brackets: before the k-th opens, all but those around it have closed.
    opens = 2 * np.arange(n) - depth
    is_open = np.zeros(2 * n, dtype=np.bool_)
    is_open[opens] = True
    event = np.empty(2 * n, dtype=np.int64)
    event[opens] = np.arange(n)
    event[~is_open] = closed
    time = np.where(is_open, start[event], end[event])
    # The stretch before a bracket belongs to what was open after the bracket before.
    innermost = np.where(is_open, event, parent[event])
    is_first = np.ones(2 * n, dtype=np.bool_)
    is_first[1:] = thread[event[1:]] != thread[event[:-1]]
    owner = np.where(is_first, GAP, np.roll(innermost, 1))
    begin = np.where(is_first, origin_ns, np.roll(time, 1))
    is_kept = time > begin
    has_piece = np.zeros(n + 1, dtype=np.bool_)
    has_piece[owner[is_kept]] = True
    is_kept |= ~is_open & ~has_piece[event]
    owner = owner[is_kept]
    of_event = np.where(owner >= 0, rows[owner] if n else owner, GAP)
    return HostSegments(thread[event[is_kept]], begin[is_kept], time[is_kept], of_event, is_leaf)


def cut(segments: HostSegments, threads: Ints, times_ns: Ints) -> HostSegments:
    """Cut the segments of `threads` at `times_ns`; times on a border or outside change nothing."""
    found: list[NDArray[np.int64]] = []
    cuts: list[NDArray[np.int64]] = []
    for thread in np.unique(threads).tolist():
        times = np.unique(times_ns[threads == thread])
        low, high = segments.bounds(thread)
        at = low + np.searchsorted(segments.end_ns[low:high], times, side="right")
        inside = at < high
        at, times = at[inside], times[inside]
        inside = segments.start_ns[at] < times
        found.append(at[inside])
        cuts.append(times[inside])
    if not found:
        return segments
    source = np.concatenate([np.arange(len(segments)), *found])
    start = np.concatenate([segments.start_ns, *cuts])
    order = np.lexsort((start, source))
    source, start = source[order], start[order]
    end = segments.end_ns[source]
    goes_on = source[1:] == source[:-1]
    end[:-1][goes_on] = start[1:][goes_on]
    return HostSegments(segments.thread[source], start, end, segments.event[source], segments.is_leaf)


def segment_numbers(segments: HostSegments) -> Ints:
    """Number of each segment within its event, from 0; 0 for gaps."""
    order = np.argsort(segments.event, kind="stable")
    event = segments.event[order]
    begins = np.ones(len(event), dtype=np.bool_)
    begins[1:] = event[1:] != event[:-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(event)), 0))
    numbers = np.empty(len(event), dtype=np.int64)
    numbers[order] = np.arange(len(event)) - first
    numbers[segments.event == GAP] = 0
    return numbers


def segment_that_ends(segments: HostSegments, host: HostEvents, events: Ints, times_ns: Ints) -> Ints:
    """The segment of each event that ends at the given time: the one that a launch at that time comes from.

    A time at or before the event's start gives the segment before it, -1 if there is none; a time after its
    end gives its last segment.
    """
    first = np.full(len(host), -1, dtype=np.int64)
    last = np.full(len(host), -1, dtype=np.int64)
    rows = np.flatnonzero(segments.event != GAP)
    first[segments.event[rows[::-1]]] = rows[::-1]
    last[segments.event[rows]] = rows
    result = np.empty(len(events), dtype=np.int64)
    threads = host.thread[events]
    for thread in np.unique(threads).tolist():
        low, high = segments.bounds(thread)
        chosen = threads == thread
        at = low + np.searchsorted(segments.end_ns[low:high], times_ns[chosen], side="right") - 1
        event = events[chosen]
        at = np.clip(at, first[event], last[event])
        is_before = (times_ns[chosen] <= host.start_ns[event]) & (host.end_ns[event] > host.start_ns[event])
        at = np.where(is_before, first[event] - 1, at)
        result[chosen] = np.where(at >= low, at, -1)
    return result


def segment_from(segments: HostSegments, thread: int, time_ns: int) -> int:
    """The first segment of a thread that starts at or after a time, -1 if the thread has ended by then."""
    low, high = segments.bounds(thread)
    at = low + int(np.searchsorted(segments.start_ns[low:high], time_ns, side="left"))
    return at if at < high else -1
