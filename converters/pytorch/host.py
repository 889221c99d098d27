"""Host threads as lines of pieces: whose time each moment of a thread is.

Operators and calls nest. A moment belongs to the innermost one that is open; where none is, the thread is
in a gap, which is host time too (Python, the framework, waiting). Pieces tile a thread without holes from
the trace's origin to its last event, so a replay that runs them one after another takes as long as the
recording did. They are cut further where something else depends on a moment inside, such as a kernel that
started before its launch call returned, or a wait that ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.kineto import HostEvents, Ints

GAP = -1
_ROUNDING_NS = 2_000
"""Neighbours may overlap by this much because their ends were rounded."""


@dataclass
class Pieces:
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
        """First piece of a thread, and one past its last."""
        low, high = np.searchsorted(self.thread, [thread, thread + 1])
        return int(low), int(high)


def lay_out(host: HostEvents, is_used: NDArray[np.bool_], threads: int, origin_ns: int) -> Pieces:
    """Flatten nested operators and calls into pieces. Rows where `is_used` is False are left out.

    Every event keeps at least one piece, of no length if need be. O(n log n).
    """
    order = np.lexsort((np.arange(len(host)), -host.end_ns, host.start_ns, host.thread))
    rows = order[is_used[order]]
    thread, start, n = host.thread[rows], host.start_ns[rows], len(rows)
    nested = _Nesting()
    bounds = np.searchsorted(thread, np.arange(threads + 1)).tolist()
    for low, high in pairwise(bounds):
        nested.add(low, start[low:high].tolist(), host.end_ns[rows[low:high]].tolist())
    parent, end = np.array(nested.parents, dtype=np.int64), np.array(nested.ends, dtype=np.int64)
    is_leaf = np.ones(len(host), dtype=np.bool_)
    is_leaf[rows[parent[parent >= 0]]] = False
    # Events are brackets: before the k-th opens, all but those around it have closed.
    opens = 2 * np.arange(n) - np.array(nested.depths, dtype=np.int64)
    is_open = np.zeros(2 * n, dtype=np.bool_)
    is_open[opens] = True
    event = np.empty(2 * n, dtype=np.int64)
    event[opens] = np.arange(n)
    event[~is_open] = nested.closed
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
    return Pieces(thread[event[is_kept]], begin[is_kept], time[is_kept], of_event, is_leaf)


class _Nesting:
    """Which event stands in which, thread after thread; ends are shortened where events overlap otherwise."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        """The event around each, -1 for none."""
        self.depths: list[int] = []
        self.ends: list[int] = []
        self.closed: list[int] = []
        """All events in the order in which they end."""

    def add(self, first: int, starts: list[int], ends: list[int]) -> None:
        """One thread's events by start, outer before inner; `first` is the number of its first one."""
        stack: list[int] = []
        top_end = -1
        parents, depths, closed = self.parents.append, self.depths.append, self.closed.append
        for row, start in enumerate(starts):
            end = ends[row]
            while stack:
                if top_end > start:
                    if end <= top_end:
                        break
                    overlap = top_end - start
                    if overlap > _ROUNDING_NS or overlap >= end - start:
                        end = ends[row] = top_end
                        break
                    ends[stack[-1]] = start
                closed(first + stack.pop())
                top_end = ends[stack[-1]] if stack else -1
            parents(first + stack[-1] if stack else -1)
            depths(len(stack))
            stack.append(row)
            top_end = end
        for row in reversed(stack):
            closed(first + row)
        self.ends += ends


def cut(pieces: Pieces, threads: Ints, times_ns: Ints) -> Pieces:
    """Cut the pieces of `threads` at `times_ns`; times on a border or outside change nothing."""
    found: list[NDArray[np.int64]] = []
    cuts: list[NDArray[np.int64]] = []
    for thread in np.unique(threads).tolist():
        times = np.unique(times_ns[threads == thread])
        low, high = pieces.bounds(thread)
        at = low + np.searchsorted(pieces.end_ns[low:high], times, side="right")
        inside = at < high
        at, times = at[inside], times[inside]
        inside = pieces.start_ns[at] < times
        found.append(at[inside])
        cuts.append(times[inside])
    if not found:
        return pieces
    source = np.concatenate([np.arange(len(pieces)), *found])
    start = np.concatenate([pieces.start_ns, *cuts])
    order = np.lexsort((start, source))
    source, start = source[order], start[order]
    end = pieces.end_ns[source]
    goes_on = source[1:] == source[:-1]
    end[:-1][goes_on] = start[1:][goes_on]
    return Pieces(pieces.thread[source], start, end, pieces.event[source], pieces.is_leaf)


def segment_numbers(pieces: Pieces) -> Ints:
    """For each piece, how many pieces of the same event come before it; 0 for gaps."""
    order = np.argsort(pieces.event, kind="stable")
    event = pieces.event[order]
    begins = np.ones(len(event), dtype=np.bool_)
    begins[1:] = event[1:] != event[:-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(event)), 0))
    numbers = np.empty(len(event), dtype=np.int64)
    numbers[order] = np.arange(len(event)) - first
    numbers[pieces.event == GAP] = 0
    return numbers


def piece_that_ends(pieces: Pieces, host: HostEvents, events: Ints, times_ns: Ints) -> Ints:
    """For each event, its piece that ends at the given time: the one that a launch at that time comes from.

    A time at or before the event's start gives the piece before it, -1 if there is none; a time after its end
    gives its last piece.
    """
    first = np.full(len(host), -1, dtype=np.int64)
    last = np.full(len(host), -1, dtype=np.int64)
    rows = np.flatnonzero(pieces.event != GAP)
    first[pieces.event[rows[::-1]]] = rows[::-1]
    last[pieces.event[rows]] = rows
    result = np.empty(len(events), dtype=np.int64)
    threads = host.thread[events]
    for thread in np.unique(threads).tolist():
        low, high = pieces.bounds(thread)
        chosen = threads == thread
        at = low + np.searchsorted(pieces.end_ns[low:high], times_ns[chosen], side="right") - 1
        event = events[chosen]
        at = np.clip(at, first[event], last[event])
        is_before = (times_ns[chosen] <= host.start_ns[event]) & (host.end_ns[event] > host.start_ns[event])
        at = np.where(is_before, first[event] - 1, at)
        result[chosen] = np.where(at >= low, at, -1)
    return result


def piece_from(pieces: Pieces, thread: int, time_ns: int) -> int:
    """The first piece of a thread that starts at or after a time, -1 if the thread has ended by then."""
    low, high = pieces.bounds(thread)
    at = low + int(np.searchsorted(pieces.start_ns[low:high], time_ns, side="left"))
    return at if at < high else -1
