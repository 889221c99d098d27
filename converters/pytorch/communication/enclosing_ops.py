"""Operators and annotations about communication that enclose a launch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chakrasim.converters.pytorch.read.kineto import Recording

_TELL_NOTHING = frozenset(
    (
        *("External id", "Record function id", "Ev Idx", "Profiler Event Index", "Sequence number"),
        *("Fwd thread id", "Call stack", "Trace name", "Trace iteration", "Python id", "correlation"),
        *("cbid", "queued", "context", "stream", "device", "grid", "block", "registers per thread"),
        *("shared memory", "blocks per SM", "warps per SM", "est. achieved occupancy %"),
    )
)
"""Arguments that say nothing of what is communicated, but differ from event to event."""


def comm_arguments(arguments: Mapping[str, Any]) -> str:
    """An event's arguments about communication, as a text to compare."""
    return repr([item for item in arguments.items() if item[0] not in _TELL_NOTHING])


@dataclass(frozen=True, eq=False)
class Source:
    """An operator or annotation that tells something of a communication.

    Those of a recording that tell the same are one object.
    """

    name: str
    arguments: Mapping[str, Any]


class Span(NamedTuple):
    """A source on its thread."""

    start_ns: int
    end_ns: int
    source: Source
    outer: int
    """The span before it that may enclose it, -1 for none."""


class EnclosingOps:
    """Finds the operators and annotations about communication whose span holds a launch.

    O(n log n) for n of them, then O(log n + depth) a launch.
    """

    def __init__(self, recording: Recording) -> None:
        host = recording.host
        self.recording = recording
        found: dict[int, list[tuple[int, int, Source]]] = {}
        sources: dict[tuple[str, str], Source] = {}

        def add(thread: int, start: int, end: int, name: str, arguments: Mapping[str, Any]) -> None:
            key = name, comm_arguments(arguments)
            source = sources.get(key) or sources.setdefault(key, Source(name, arguments))
            found.setdefault(thread, []).append((start, end, source))

        rows = np.array(list(host.arguments), dtype=np.int64)
        columns = (
            column[rows].tolist() for column in (host.thread, host.start_ns, host.end_ns, host.name_id)
        )
        for thread, start, end, name_id, arguments in zip(*columns, host.arguments.values(), strict=True):
            add(thread, start, end, recording.names[name_id], arguments)
        for note in recording.annotations:
            if not note.name.startswith("gloo:"):
                add(note.thread, note.start_ns, note.end_ns, note.name, note.arguments)
        self.spans: dict[int, list[Span]] = {thread: _nest(spans) for thread, spans in found.items()}
        self.starts = {thread: [s.start_ns for s in spans] for thread, spans in self.spans.items()}

    def of(self, launch: int) -> list[Source]:
        """The sources around a host row, outermost first; empty for a row of -1."""
        return [span.source for span in self.spans_around(launch)]

    def spans_around(self, launch: int) -> list[Span]:
        """The sources around a host row with their times, outermost first."""
        if launch < 0:
            return []
        host = self.recording.host
        return self.enclosing(int(host.thread[launch]), int(host.start_ns[launch]))

    def enclosing(self, thread: int, time_ns: int) -> list[Span]:
        """The spans that are open on a thread at a time, or begin then; outermost first."""
        spans = self.spans.get(thread, [])
        at = bisect_right(self.starts.get(thread, []), time_ns) - 1
        inner_first = []
        while at >= 0:
            span = spans[at]
            if span.end_ns > time_ns or span.start_ns == time_ns:
                inner_first.append(span)
            at = span.outer
        return inner_first[::-1]


def _nest(found: list[tuple[int, int, Source]]) -> list[Span]:
    found.sort(key=lambda s: (s[0], -s[1]))
    spans: list[Span] = []
    open_spans: list[int] = []
    for start, end, source in found:
        while open_spans and spans[open_spans[-1]].end_ns < start:
            open_spans.pop()
        spans.append(Span(start, end, source, open_spans[-1] if open_spans else -1))
        open_spans.append(len(spans) - 1)
    return spans
