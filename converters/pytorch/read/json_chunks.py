"""A profiler trace's JSON, plain or gzipped, in chunks: a large file's events never exist all at once.

Parsed whole, the Python objects of an event take five to ten times its text. So a large document is cut at
the borders between events (`},` then `{`) every few hundred kilobytes and each part parsed by orjson on its
own. A border could also stand inside an event; such a part isn't JSON by itself, and grows to the next one.
"""

from __future__ import annotations

import gc
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import orjson

from chakrasim.traces.errors import TraceError


class BrokenChunk(TraceError):
    """A part of the events isn't JSON. The whole file may be, if its events end before its last megabyte."""


CHUNK_BYTES = 200_000
"""The objects of a chunk fit the processor's cache: with 16 MB reading took a third longer."""
NEVER_CUT = 2**62
_BORDER = re.compile(rb"\}\s*,(?=\s*\{)")
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_TAIL_BYTES = 1_000_000
"""The events' list is taken to end in the last so many bytes."""
_LAST_EVENT = re.compile(rb"\}\s*\](?=\s*(?:\}\s*\Z|,\s*\"))")
_CLOSE_BORDERS = 8
_MAX_TRIED = 100
"""Ends of lists of objects that are tried for the events' own."""
GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector away while objects are made by the million, none of them in a cycle.

    It would look at all of them again and again: parsing takes nearly twice as long with it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_bytes(path: Path) -> bytes:
    """The file's content, unpacked if it is gzipped. Raises TraceError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: can't be read ({error.strerror or error})") from None
    if not data:
        raise TraceError(f"{path}: is empty; expected a PyTorch profiler trace (Kineto JSON)")
    if data.startswith(GZIP_MAGIC):
        try:
            return gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise TraceError(
                f"{path}: the gzip stream is damaged or cut off ({error}); copy or record it again"
            ) from None
    return data


def read_document(path: Path, chunk_bytes: int = CHUNK_BYTES) -> tuple[dict[str, Any], Iterator[list[Any]]]:
    """Everything but the events, and the events in batches.

    Raises TraceError, from the iterator too, for what isn't the JSON of a profiler trace.
    """
    data = read_bytes(path)
    opening = _EVENTS.search(data, 0, 1_000_000) if len(data) > 2 * chunk_bytes else None
    if opening is None:
        return _read_whole(path, data)
    head = data[: opening.end()]
    ends = _LAST_EVENT.finditer(data, max(opening.end(), len(data) - _TAIL_BYTES))
    for match in islice(ends, _MAX_TRIED):
        closing = match.end() - 1
        try:
            document = orjson.loads(head + data[closing:])
        except orjson.JSONDecodeError:
            continue  # a list of objects inside an event
        header = {key: value for key, value in document.items() if key != "traceEvents"}
        return header, _chunks(path, data, opening.end(), closing, chunk_bytes)
    return _read_whole(path, data)  # the file is cut off, or of another form: the whole tells which


def _chunks(path: Path, data: bytes, begin: int, end: int, chunk_bytes: int) -> Iterator[list[Any]]:
    start = begin
    while start < end:
        stop = min(start + chunk_bytes, end)
        for attempt in count():
            # of a long list inside an event not every border is tried
            further = 0 if attempt < _CLOSE_BORDERS else 1_000 << min(attempt - _CLOSE_BORDERS, 40)
            border = _BORDER.search(data, min(stop + further, end), end)
            stop = border.start() + 1 if border else end
            try:
                events = orjson.loads(b"[" + data[start:stop] + b"]")
                break
            except orjson.JSONDecodeError as error:
                if border is None:
                    raise BrokenChunk(_broken(path, error, start)) from None
        yield events
        start = border.end() if border else end


def _read_whole(path: Path, data: bytes) -> tuple[dict[str, Any], Iterator[list[Any]]]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise TraceError(_broken(path, error)) from None
    header: dict[str, Any] = {}
    events = document
    if isinstance(document, dict):
        events = document.pop("traceEvents", None)
        header = document
        if events is None and "nodes" in document:
            raise TraceError(
                f"{path}: is a host execution trace (ExecutionTraceObserver); "
                "expected the profiler's own trace, from export_chrome_trace"
            )
        if events is None:
            raise TraceError(f"{path}: has no 'traceEvents'; expected a PyTorch profiler trace")
    if not isinstance(events, list):
        raise TraceError(f"{path}: its events are {type(events).__name__}, expected a list of objects")
    if not events:
        raise TraceError(f"{path}: has no events")
    return header, iter([events])


def _broken(path: Path, error: orjson.JSONDecodeError, offset: int = 0) -> str:
    where = f"{error.msg} near byte {offset + error.pos}" if offset else str(error)
    return f"{path}: isn't complete JSON ({where}); was it cut off while it was written or copied?"
