"""Telling profiler traces from other files by their first kilobytes."""

from __future__ import annotations

import re
from pathlib import Path

from chakrasim.converters.interface import head

_EVENT_LIST = re.compile(rb'\s*\[\s*\{[^{}]*"(?:ph|ts|cat)"\s*:')
_HOST_TRACE = re.compile(rb'\s*\{[^{}\[\]]*"(?:schema|nodes|pid)"\s*:')
SUFFIXES = (".json", ".json.gz")


def is_profiler_head(data: bytes) -> bool:
    """Tell a profiler trace by its first bytes."""
    if b'"traceEvents"' in data or _EVENT_LIST.match(data):
        return True
    # a header of more than a few kilobytes (device properties, the profiler's log) stands before the events
    return bool(re.match(rb"\s*\{", data)) and any(
        key in data for key in (b'"schemaVersion"', b'"deviceProperties"', b'"distributedInfo"')
    )


def is_host_trace_head(data: bytes) -> bool:
    """Tell a host execution trace (ExecutionTraceObserver) by its first bytes."""
    return b'"nodes"' in data and bool(_HOST_TRACE.match(data)) and b'"traceEvents"' not in data


def is_profiler_file(path: Path) -> bool:
    """Tell whether a file begins like a profiler trace."""
    return is_profiler_head(_head(path))


def is_host_trace(path: Path) -> bool:
    """Tell whether a file begins like a host execution trace."""
    return is_host_trace_head(_head(path))


def _head(path: Path) -> bytes:
    try:
        return head(path)
    except OSError:
        return b""


def candidates(folder: Path) -> list[Path]:
    """The JSON files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(SUFFIXES))


def is_pytorch_trace(path: Path) -> bool:
    """Tell whether `path` is a PyTorch profiler trace or host trace, or a folder with at least one.

    Reads only the files' heads.
    """
    path = Path(path)
    if path.is_dir():
        return any(is_profiler_file(file) or is_host_trace(file) for file in candidates(path))
    return path.is_file() and (is_profiler_file(path) or is_host_trace(path))
