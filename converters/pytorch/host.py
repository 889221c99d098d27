"""Host threads as lines of pieces: whose time each moment of a thread is.

Operators and calls nest. A moment belongs to the innermost one that is open; where none is, the thread is
in a gap, which is host time too (Python, the framework, waiting). Pieces tile a thread without holes from
the trace's origin to its last event, so a replay that runs them one after another takes as long as the
recording did. They are cut further where something else depends on a moment inside, such as a kernel that
started before its launch call returned, or a wait that ended.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """Flatten nested operators and calls into pieces. Rows where `is_used` is False are left out."""
    order = np.lexsort((np.arange(len(host)), -host.end_ns, host.start_ns, host.thread))
    order = order[is_used[order]]
    of_thread = np.searchsorted(host.thread[order], np.arange(threads + 1))
    starts, ends = host.start_ns.tolist(), host.end_ns.tolist()
    is_leaf = np.ones(len(host), dtype=np.bool_)
    out = _Tiles()
    for thread in range(threads):
        rows = order[of_thread[thread] : of_thread[thread + 1]].tolist()
        if rows:
            out.begin_thread(thread, origin_ns)
            _lay_out_thread(rows, starts, ends, is_leaf, out)
    return out.pieces(is_leaf)


class _Tiles:
    """The pieces made so far and how far the current thread is covered."""

    def __init__(self) -> None:
        self.thread: list[int] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.event: list[int] = []
        self.current = 0
        self.cursor = 0

    def pieces(self, is_leaf: NDArray[np.bool_]) -> Pieces:
        columns = (self.thread, self.start, self.end, self.event)
        thread, start, end, event = (np.array(c, dtype=np.int64) for c in columns)
        return Pieces(thread, start, end, event, is_leaf)

    def begin_thread(self, thread: int, origin_ns: int) -> None:
        self.current, self.cursor = thread, origin_ns

    def put(self, event: int, end: int) -> None:
        self.thread.append(self.current)
        self.start.append(self.cursor)
        self.end.append(end)
        self.event.append(event)
        self.cursor = end


def _lay_out_thread(
    rows: list[int], starts: list[int], ends: list[int], is_leaf: NDArray[np.bool_], out: _Tiles
) -> None:
    """One sweep over a thread's events by start; `ends` is shortened where events overlap without nesting."""
    stack: list[int] = []
    has_piece: list[bool] = []

    def close(now: int) -> None:
        """Close what has ended by `now`. Everything keeps at least one piece, of no length if need be."""
        while stack and ends[stack[-1]] <= now:
            row, has = stack.pop(), has_piece.pop()
            if ends[row] > out.cursor or not has:
                out.put(row, max(ends[row], out.cursor))

    for row in rows:
        start = starts[row]
        close(start)
        while stack and ends[row] > ends[stack[-1]]:
            overlap = ends[stack[-1]] - start
            if overlap > _ROUNDING_NS or overlap >= ends[row] - start:
                ends[row] = ends[stack[-1]]
                break
            ends[stack[-1]] = start
            close(start)
        if start > out.cursor:
            out.put(stack[-1] if stack else GAP, start)
            if stack:
                has_piece[-1] = True
        if stack:
            is_leaf[stack[-1]] = False
        stack.append(row)
        has_piece.append(False)
    if stack:
        close(max(ends[row] for row in stack))


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
