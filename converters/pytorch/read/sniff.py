"""Telling profiler traces from other files by their first kilobytes."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

_HEAD_BYTES = 65_536
_EVENT_LIST = re.compile(rb'\s*\[\s*\{[^{}]*"(?:ph|ts|cat)"\s*:')
_HOST_TRACE = re.compile(rb'\s*\{[^{}\[\]]*"(?:schema|nodes|pid)"\s*:')
_SUFFIXES = (".json", ".json.gz")


def head(path: Path) -> bytes:
    """The first unpacked bytes of a file, empty if it can't be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES)
    except OSError:
        return b""
    if data.startswith(b"\x1f\x8b"):
        try:
            return zlib.decompressobj(wbits=31).decompress(data, _HEAD_BYTES)
        except zlib.error:
            return b""
    return data


def is_profiler_file(path: Path) -> bool:
    """Whether a file begins like a profiler trace."""
    data = head(path)
    if b'"traceEvents"' in data or _EVENT_LIST.match(data):
        return True
    # a header of more than a few kilobytes (device properties, the profiler's log) stands before the events
    return bool(re.match(rb"\s*\{", data)) and any(
        key in data for key in (b'"schemaVersion"', b'"deviceProperties"', b'"distributedInfo"')
    )


def is_host_trace(path: Path) -> bool:
    """Whether a file begins like a host execution trace (ExecutionTraceObserver)."""
    data = head(path)
    return b'"nodes"' in data and bool(_HOST_TRACE.match(data)) and b'"traceEvents"' not in data


def candidates(folder: Path) -> list[Path]:
    """The JSON files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(_SUFFIXES))


def is_pytorch_trace(path: Path) -> bool:
    """Whether `path` is a PyTorch profiler trace or host trace, or a folder with at least one.

    Reads only the files' heads.
    """
    path = Path(path)
    if path.is_dir():
        return any(is_profiler_file(file) or is_host_trace(file) for file in candidates(path))
    return path.is_file() and (is_profiler_file(path) or is_host_trace(path))
