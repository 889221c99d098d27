"""Dependencies between autograd's threads and the thread that calls `backward`.

On a GPU, backward operators run on a thread of the autograd engine while the caller waits inside `backward`,
where the profiler records nothing: a gap. Only the plain case is linked: the caller is idle, the engine's
thread is idle when that gap begins and when it ends, and in between it evaluates backward functions. Then the
engine waits for the caller's last segment, and what the caller does after it waits for the engine. Besides,
a backward operator waits for the forward operator that a recorded flow names.
"""

from __future__ import annotations

import numpy as np

from chakrasim.converters.pytorch.host.segments import GAP, HostSegments, ThreadWait
from chakrasim.converters.pytorch.read.kineto import Ints, Recording

_ENGINE = "autograd::engine::evaluate_function"
MIN_ENGINE_SHARE = 0.01
"""A thread is the engine's if more than this part of its operators evaluate backward functions.

An estimate: with 0.1 or 10 % nothing changes on eleven recordings (V100, A100, MI250).
"""
MIN_CALLER_GAP_NS = 20_000
"""Gaps of the caller shorter than this aren't looked into: a backward pass takes longer. With 5 or 100 us
nothing changes on eleven recordings (V100, A100, MI250)."""


def find_autograd_waits(recording: Recording, segments: HostSegments) -> list[ThreadWait]:
    """Waits of autograd's threads for the busiest other thread, and of that one for them."""
    is_engine_name = np.array([name.startswith(_ENGINE) for name in recording.names], dtype=np.bool_)
    events = np.flatnonzero(_is_listed(segments.event, len(recording.host)) & ~recording.host.is_call)
    if not len(events):
        return []
    names = recording.host.name_id[events]
    threads = recording.host.thread[events]
    operators = np.bincount(threads, minlength=len(recording.threads))
    evaluations = np.bincount(threads[is_engine_name[names]], minlength=len(recording.threads))
    is_engine = evaluations > MIN_ENGINE_SHARE * operators
    caller = int(np.where(is_engine, 0, operators).argmax())
    if is_engine[caller] or not is_engine.any() or not operators[caller]:
        return []
    engines = np.flatnonzero(is_engine).tolist()
    low, high = segments.bounds(caller)
    length = segments.end_ns[low:high] - segments.start_ns[low:high]
    gaps = low + np.flatnonzero((segments.event[low:high] == GAP) & (length >= MIN_CALLER_GAP_NS))
    return [
        wait
        for engine in engines
        for gap in gaps.tolist()
        for wait in _waits_around(recording, segments, caller, int(engine), gap, is_engine_name)
    ]


def _is_listed(rows: Ints, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """bool[count]: the rows in a list that may hold GAP, too."""
    found = np.zeros(count + 1, dtype=np.bool_)
    found[rows] = True  # GAP, -1, is the last
    return found[:-1]


def _waits_around(
    recording: Recording,
    segments: HostSegments,
    caller: int,
    engine: int,
    gap: int,
    is_engine_name: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> list[ThreadWait]:
    """The engine's wait before a gap of the caller and the caller's wait in it, or none."""
    begin, end = int(segments.start_ns[gap]), int(segments.end_ns[gap])
    low, high = segments.bounds(engine)
    first = low + int(np.searchsorted(segments.end_ns[low:high], begin, side="right"))
    last = low + int(np.searchsorted(segments.end_ns[low:high], end, side="right"))
    if first >= high or segments.event[first] != GAP or segments.end_ns[first] >= end:
        return []  # busy when the gap begins, or nothing starts in it
    if last < high:
        if segments.event[last] != GAP:
            return []  # busy when the gap ends
        finished = int(segments.start_ns[last])
    else:
        finished = int(segments.end_ns[high - 1])
    inside = segments.event[first:last]
    inside = inside[inside != GAP]
    if finished <= begin or not is_engine_name[recording.host.name_id[inside]].any():
        return []
    thread_waits = []
    if gap > 0 and segments.thread[gap - 1] == caller:
        thread_waits.append(ThreadWait(engine, int(segments.start_ns[first]), begin, caller))
    thread_waits.append(ThreadWait(caller, begin, finished, engine))
    return thread_waits


def forward_to_backward(recording: Recording, segments: HostSegments) -> Ints:
    """Edges from the ends of forward operators to the begins of their backward ones: int64[edges, 2].

    Only across threads, where the order on a thread doesn't say it, and only where the forward operator had
    ended. O(n log n).
    """
    flows = [flow for flow in recording.flows if flow[0][0] != flow[1][0]]
    if not flows:
        return np.zeros((0, 2), dtype=np.int64)
    rows = np.flatnonzero(segments.event != GAP)
    first = np.full(len(recording.host), -1, dtype=np.int64)
    last = first.copy()
    first[segments.event[rows[::-1]]] = rows[::-1]
    last[segments.event[rows]] = rows
    begins = {
        (thread, start): row
        for row, (thread, start) in enumerate(
            zip(recording.host.thread.tolist(), recording.host.start_ns.tolist(), strict=True)
        )
        if first[row] >= 0
    }
    pairs = [(begins.get(begin, -1), begins.get(end, -1)) for begin, end in flows]
    edges = [(last[forward], first[back]) for forward, back in pairs if forward >= 0 and back >= 0]
    found = np.array(edges, dtype=np.int64).reshape(-1, 2)
    is_causal: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
        segments.end_ns[found[:, 0]] <= segments.start_ns[found[:, 1]]
    )
    return found[is_causal]
