"""The backward pass: autograd's threads take over from the thread that called `backward`, and hand back.

On a GPU, backward operators run on a thread of the autograd engine while the caller waits inside
`backward`, where the profiler records nothing: a gap. Only the plain case is linked: the caller is idle,
the engine's thread is idle when that gap begins and when it ends, and in between it evaluates backward
functions. Then the engine's work waits for the caller's last piece, and what the caller does after it
waits for the engine. Beside that, a backward operator waits for the forward operator that a recorded flow
names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.host.segments import GAP, Pieces
from chakrasim.converters.pytorch.read.kineto import Ints, Recording

_ENGINE = "autograd::engine::evaluate_function"
_LOADER = "enumerate(DataLoader)"
_SHARE = 0.01
"""A thread is the engine's if more than this part of its operators evaluate backward functions."""
_SHORTEST_NS = 20_000
"""Gaps of the caller shorter than this aren't looked into."""


@dataclass(frozen=True)
class Handover:
    """`thread` only waits in [begin_ns, end_ns), for the piece of `source` that ends at `end_ns`."""

    thread: int
    begin_ns: int
    end_ns: int
    source: int


def find_handovers(recording: Recording, pieces: Pieces) -> list[Handover]:
    """Hand-overs from the busiest other thread to autograd's threads and back."""
    is_engine_name = np.array([name.startswith(_ENGINE) for name in recording.names], dtype=np.bool_)
    events = np.flatnonzero(_is_listed(pieces.event, len(recording.host)) & ~recording.host.is_call)
    if not len(events):
        return []
    names = recording.host.name_id[events]
    threads = recording.host.thread[events]
    operators = np.bincount(threads, minlength=len(recording.threads))
    evaluations = np.bincount(threads[is_engine_name[names]], minlength=len(recording.threads))
    is_engine = evaluations > _SHARE * operators
    caller = int(np.where(is_engine, 0, operators).argmax())
    if is_engine[caller] or not is_engine.any() or not operators[caller]:
        return []
    engines = np.flatnonzero(is_engine).tolist()
    low, high = pieces.bounds(caller)
    length = pieces.end_ns[low:high] - pieces.start_ns[low:high]
    gaps = low + np.flatnonzero((pieces.event[low:high] == GAP) & (length >= _SHORTEST_NS))
    return [
        handover
        for engine in engines
        for gap in gaps.tolist()
        for handover in _take_over(recording, pieces, caller, int(engine), gap, is_engine_name)
    ]


def _is_listed(rows: Ints, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """bool[count]: which rows are in a list that may hold GAP, too."""
    found = np.zeros(count + 1, dtype=np.bool_)
    found[rows] = True  # GAP, -1, is the last
    return found[:-1]


def _take_over(
    recording: Recording,
    pieces: Pieces,
    caller: int,
    engine: int,
    gap: int,
    is_engine_name: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> list[Handover]:
    """The two hand-overs around a gap of the caller, or none."""
    begin, end = int(pieces.start_ns[gap]), int(pieces.end_ns[gap])
    low, high = pieces.bounds(engine)
    first = low + int(np.searchsorted(pieces.end_ns[low:high], begin, side="right"))
    last = low + int(np.searchsorted(pieces.end_ns[low:high], end, side="right"))
    if first >= high or pieces.event[first] != GAP or pieces.end_ns[first] >= end:
        return []  # busy when the gap begins, or nothing starts in it
    if last < high:
        if pieces.event[last] != GAP:
            return []  # busy when the gap ends
        finished = int(pieces.start_ns[last])
    else:
        finished = int(pieces.end_ns[high - 1])
    inside = pieces.event[first:last]
    inside = inside[inside != GAP]
    if finished <= begin or not is_engine_name[recording.host.name_id[inside]].any():
        return []
    handovers = []
    if gap > 0 and pieces.thread[gap - 1] == caller:
        handovers.append(Handover(engine, int(pieces.start_ns[first]), begin, caller))
    handovers.append(Handover(caller, begin, finished, engine))
    return handovers


def find_loader_handovers(recording: Recording, pieces: Pieces) -> list[Handover]:
    """Where a thread waited for its data loader's thread that pins memory, which is another one.

    The loader's `__next__` returns what that thread put into a queue: it waited for the last pinning that
    ended inside it, if it did nothing else until then. O(n log n).
    """
    host, names = recording.host, recording.names
    is_loader = np.array([name.startswith(_LOADER) for name in names], dtype=np.bool_)
    rows = np.flatnonzero(is_loader[host.name_id]) if len(host) else np.zeros(0, dtype=np.int64)
    loaders = (phase for phase in recording.phases if phase.name.startswith(_LOADER))
    spans = [(phase.thread, phase.start_ns, phase.end_ns) for phase in loaders]
    spans += list(
        zip(host.thread[rows].tolist(), host.start_ns[rows].tolist(), host.end_ns[rows].tolist(), strict=True)
    )
    if not spans:
        return []
    pins = np.array(["pin_memory" in name for name in names], dtype=np.bool_)
    pinned = np.flatnonzero(pins[host.name_id])
    pinned = pinned[np.argsort(host.end_ns[pinned], kind="stable")]
    found = []
    for thread, begin, end in spans:
        inside = pinned[(host.end_ns[pinned] > begin) & (host.end_ns[pinned] <= end)]
        inside = inside[host.thread[inside] != thread]
        if not len(inside):
            continue
        until = int(host.end_ns[inside[-1]])
        low, high = pieces.bounds(thread)
        first = low + int(np.searchsorted(pieces.end_ns[low:high], begin, side="right"))
        last = low + int(np.searchsorted(pieces.start_ns[low:high], until))
        events = pieces.event[first:last]
        if is_loader[host.name_id[events[events != GAP]]].all():
            found.append(Handover(thread, begin, until, int(host.thread[inside[-1]])))
    return found


def forward_to_backward(recording: Recording, pieces: Pieces) -> Ints:
    """Pieces that end forward operators and pieces that begin their backward ones: int64[edges, 2].

    Only across threads, where the order on a thread doesn't say it, and only where the forward operator had
    ended. O(n log n).
    """
    flows = [flow for flow in recording.flows if flow[0][0] != flow[1][0]]
    if not flows:
        return np.zeros((0, 2), dtype=np.int64)
    rows = np.flatnonzero(pieces.event != GAP)
    first = np.full(len(recording.host), -1, dtype=np.int64)
    last = first.copy()
    first[pieces.event[rows[::-1]]] = rows[::-1]
    last[pieces.event[rows]] = rows
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
        pieces.end_ns[found[:, 0]] <= pieces.start_ns[found[:, 1]]
    )
    return found[is_causal]
