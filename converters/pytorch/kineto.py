"""Kineto's JSON as columns: what a PyTorch profiler wrote, before anything is made of it.

Read: complete events (`ph` "X") of CPU operators, runtime and driver calls, kernels, copies, memsets,
stream synchronisation records, and the user annotations that describe communication. Left out on purpose:
Python stacks, other annotations, instant and flow events (launches are linked by correlation id), and
Kineto's own spans. Seen and read: PyTorch 1.9 (capitalised categories, a bare list of events, threads as
text) to 2.13, CUDA and HIP. Times become int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.jsonfile import read_document
from chakrasim.traces.builder import StringTable
from chakrasim.traces.errors import TraceError

Ints = NDArray[np.int64]

OPERATOR, CALL, KERNEL, COPY, MEMSET, SYNC_RECORD, ANNOTATION = range(1, 8)

CATEGORIES = {
    "cpu_op": OPERATOR,
    "Operator": OPERATOR,
    "cuda_runtime": CALL,
    "cuda_driver": CALL,
    "hip_runtime": CALL,
    "hip_driver": CALL,
    "privateuse1_runtime": CALL,
    "privateuse1_driver": CALL,
    "Runtime": CALL,
    "runtime": CALL,
    "Driver": CALL,
    "kernel": KERNEL,
    "Kernel": KERNEL,
    "gpu_memcpy": COPY,
    "Memcpy": COPY,
    "gpu_memset": MEMSET,
    "Memset": MEMSET,
    "cuda_sync": SYNC_RECORD,
    "user_annotation": ANNOTATION,
    "User_annotation": ANNOTATION,
}
"""Categories by every spelling seen. The capitalised ones are from before PyTorch 1.12."""

_DESCRIBES_COMMUNICATION = ("record_param_comms", "c10d::", "nccl:", "gloo:", "rccl:")


@dataclass
class HostEvents:
    """Operators and calls. Columns of length n in file order."""

    thread: Ints
    """Index in `Recording.threads`."""
    start_ns: Ints
    end_ns: Ints
    name_id: Ints
    is_call: NDArray[np.bool_]
    correlation: Ints
    """Correlation id of a runtime or driver call, else -1."""
    function_id: Ints
    """PyTorch's record-function id, else -1."""
    arguments: dict[int, dict[str, Any]]
    """What was recorded of the operators that describe communication, by row."""

    def __len__(self) -> int:
        return len(self.thread)


@dataclass
class DeviceEvents:
    """Kernels, copies and memsets. Columns of length n in file order."""

    kind: Ints
    """KERNEL, COPY or MEMSET."""
    start_ns: Ints
    end_ns: Ints
    name_id: Ints
    stream: Ints
    """Index in `Recording.streams`."""
    correlation: Ints
    size_bytes: Ints
    """Bytes a copy or memset moved, else -1."""
    arguments: dict[int, dict[str, Any]]
    """Arguments of communication kernels, by row."""

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Annotation:
    """A user annotation that describes communication (`nccl:…`, `gloo:…`)."""

    name: str
    thread: int
    start_ns: int
    end_ns: int
    arguments: dict[str, Any]


@dataclass(frozen=True)
class SyncRecord:
    """What a `cuda_sync` event says about the call with the same correlation id. -1 where it isn't known."""

    stream: int
    awaited_stream: int
    record_correlation: int


@dataclass
class Recording:
    """One rank's profiler trace."""

    source: str
    names: tuple[str, ...]
    threads: tuple[tuple[object, object], ...]
    """(process, thread) as recorded."""
    streams: tuple[tuple[int, int], ...]
    """(device, stream) as recorded."""
    host: HostEvents
    device: DeviceEvents
    annotations: list[Annotation]
    sync_records: dict[int, SyncRecord]
    """By correlation id of the call."""
    is_whole_us: bool
    """Every time stamp is a whole number of microseconds."""
    distributed: dict[str, Any] = field(default_factory=dict)
    """Kineto's `distributedInfo`."""
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    """Profiler steps: name, start, end in ns."""

    @property
    def origin_ns(self) -> int:
        """Start of the earliest converted event."""
        starts = [c.min() for c in (self.host.start_ns, self.device.start_ns) if len(c)]
        starts += [a.start_ns for a in self.annotations if a.name.startswith("gloo:")]
        return int(min(starts))


def read_recording(path: Path) -> Recording:
    """Read one profiler trace, plain or gzipped.

    Raises TraceError for what isn't complete JSON, isn't a profiler trace, has no events or impossible ones.
    """
    header, pieces = read_document(path)
    reader = _Reader(str(path))
    for events in pieces:
        reader.take(events)
    return reader.finish(header)


class _Reader:
    """Turns events into growing columns, so that a large file's events never exist all at once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0
        self.names = StringTable()
        self.threads: dict[tuple[object, object], int] = {}
        self.streams: dict[tuple[int, int], int] = {}
        self.host_columns: list[list[Any]] = [[] for _ in range(8)]
        self.device_columns: list[list[Any]] = [[] for _ in range(8)]
        self.host_arguments: dict[int, dict[str, Any]] = {}
        self.device_arguments: dict[int, dict[str, Any]] = {}
        self.annotations: list[tuple[Any, ...]] = []
        self.sync_records: dict[int, SyncRecord] = {}

    def take(self, events: Iterable[Any]) -> None:
        """Sort a batch of events into the columns."""
        try:
            self._take(events)
        except TypeError as error:  # a list or an object where a name or a number belongs
            raise TraceError(
                f"{self.source}: an event near number {self.count} isn't one of Kineto's ({error})"
            ) from None

    def _take(self, events: Iterable[Any]) -> None:
        no_arguments: dict[str, Any] = {}
        index = self.count - 1
        names, threads = self.names, self.threads
        host, device = self.host_columns, self.device_columns
        for index, event in enumerate(events, self.count):
            self.count = index
            if not isinstance(event, dict):
                raise TraceError(
                    f"{self.source}: event {index} is {type(event).__name__}, expected an object"
                )
            if event.get("ph") != "X":
                continue
            category = CATEGORIES.get(event.get("cat", ""), 0)
            if not category:
                continue
            name = str(event.get("name", ""))
            arguments = event.get("args")
            if not isinstance(arguments, dict):
                arguments = no_arguments
            if category <= CALL:
                if name.startswith("ProfilerStep"):
                    self._annotate(index, name, event, no_arguments)
                    continue
                row: tuple[Any, ...] = (
                    threads.setdefault((event.get("pid"), event.get("tid")), len(threads)),
                    event.get("ts"),
                    event.get("dur", 0),
                    names(name),
                    category == CALL,
                    arguments.get("correlation", -1) if category == CALL else -1,
                    arguments.get("Record function id", -1),
                    index,
                )
                if category == OPERATOR and name.startswith(_DESCRIBES_COMMUNICATION):
                    self.host_arguments[len(host[0])] = arguments
                for column, value in zip(host, row, strict=True):
                    column.append(value)
            elif category <= MEMSET:
                row = (
                    category,
                    event.get("ts"),
                    event.get("dur", 0),
                    names(name),
                    self._stream(event, arguments),
                    arguments.get("correlation", -1),
                    arguments.get("bytes", -1),
                    index,
                )
                if category == KERNEL and ("ccl" in name or "Collective name" in arguments):
                    self.device_arguments[len(device[0])] = arguments
                for column, value in zip(device, row, strict=True):
                    column.append(value)
            elif category == SYNC_RECORD:
                self.sync_records[_whole(arguments.get("correlation"))] = SyncRecord(
                    _whole(arguments.get("stream")),
                    _whole(arguments.get("wait_on_stream")),
                    _whole(arguments.get("wait_on_cuda_event_record_corr_id")),
                )
            elif name.startswith((*_DESCRIBES_COMMUNICATION, "ProfilerStep")):
                self._annotate(index, name, event, arguments)
        self.count = index + 1

    def _annotate(self, index: int, name: str, event: dict[str, Any], arguments: dict[str, Any]) -> None:
        key = (event.get("pid"), event.get("tid"))
        thread = self.threads.setdefault(key, len(self.threads))
        self.annotations.append((name, thread, event.get("ts"), event.get("dur", 0), arguments, index))

    def _stream(self, event: dict[str, Any], arguments: dict[str, Any]) -> int:
        device = _whole(arguments.get("device", event.get("pid")), 0)
        stream = arguments.get("stream")
        if stream is None:  # 2021 traces may say "stream 7" in place of the thread
            stream = str(event.get("tid", 0)).removeprefix("stream ")
        key = (device, _whole(stream, 0))
        return self.streams.setdefault(key, len(self.streams))

    def finish(self, header: dict[str, Any]) -> Recording:
        """Freeze the columns and check them."""
        thread, ts, dur, name, is_call, correlation, function, index = self.host_columns
        host_start, host_end, host_whole = self._times(ts, dur, index, name)
        host = HostEvents(
            _column(thread),
            host_start,
            host_end,
            _column(name),
            np.array(is_call, dtype=np.bool_),
            _column(correlation),
            _column(function),
            self.host_arguments,
        )
        kind, ts, dur, name, stream, correlation, size, index = self.device_columns
        device_start, device_end, device_whole = self._times(ts, dur, index, name)
        device = DeviceEvents(
            _column(kind),
            device_start,
            device_end,
            _column(name),
            _column(stream),
            _column(correlation),
            _column(size),
            self.device_arguments,
        )
        annotations, steps, noted_whole = self._finish_annotations()
        if not len(host) and not len(device) and not any(a.name.startswith("gloo:") for a in annotations):
            raise TraceError(
                f"{self.source}: none of its {self.count} events is an operator, a runtime call or a "
                "kernel; record with the profiler's CPU or CUDA activity on"
            )
        distributed = header.get("distributedInfo")
        return Recording(
            source=self.source,
            names=self.names.names(),
            threads=tuple(self.threads),
            streams=tuple(self.streams),
            host=host,
            device=device,
            annotations=annotations,
            sync_records=self.sync_records,
            is_whole_us=host_whole and device_whole and noted_whole,
            distributed=distributed if isinstance(distributed, dict) else {},
            steps=steps,
        )

    def _finish_annotations(
        self,
    ) -> tuple[list[Annotation], list[tuple[str, int, int]], bool]:
        if not self.annotations:
            return [], [], True
        names, threads, ts, dur, arguments, index = (list(c) for c in zip(*self.annotations, strict=True))
        start, end, whole = self._times(ts, dur, index, [self.names(n) for n in names])
        annotations, steps = [], []
        for row, name in enumerate(names):
            span = int(start[row]), int(end[row])
            if name.startswith("ProfilerStep"):
                steps.append((name, *span))
            else:
                annotations.append(Annotation(name, threads[row], *span, arguments[row]))
        return annotations, steps, whole

    def _times(
        self, ts: list[Any], dur: list[Any], index: list[int], name: list[int]
    ) -> tuple[Ints, Ints, bool]:
        """Start and end in ns, and whether all were whole microseconds."""
        try:
            start, length = _nanoseconds(ts), _nanoseconds(dur)
        except (TypeError, ValueError, OverflowError):
            bad = next(row for row in range(len(ts)) if not _is_time(ts[row], dur[row]))
            raise TraceError(
                f"{self.source}: event {index[bad]} ({self._name(name[bad])!r}) has ts {ts[bad]!r} and dur "
                f"{dur[bad]!r}, expected microseconds"
            ) from None
        negative = np.flatnonzero(length < 0)
        if len(negative):
            bad = int(negative[0])
            raise TraceError(
                f"{self.source}: event {index[bad]} ({self._name(name[bad])!r}) has a negative duration, "
                f"{dur[bad]} us; {len(negative)} of {len(ts)} events do"
            )
        is_whole = not (np.any(start % 1000) or np.any(length % 1000))
        return start, start + length, is_whole

    def _name(self, name_id: int) -> str:
        return self.names.names()[name_id]


_LATEST_US = 2.0**52
"""Nothing is recorded after this: the year 2112, counted from 1970."""


def _nanoseconds(microseconds: list[Any]) -> Ints:
    """Microseconds as ints, floats or text to int64 ns, exact to the nanosecond below 2**52 us."""
    values = np.array(microseconds) if microseconds else np.zeros(0, dtype=np.int64)
    if values.ndim != 1:
        raise ValueError
    if values.dtype.kind in "iu":
        whole_ns: Ints = values.astype(np.int64) * 1000
        return whole_ns
    floats: NDArray[np.float64] = values.astype(np.float64)  # text becomes numbers, anything else raises
    if not (np.abs(floats) < _LATEST_US).all():
        raise ValueError
    whole = np.floor(floats)
    whole_us: Ints = whole.astype(np.int64)
    fraction_ns: Ints = np.rint((floats - whole) * 1000).astype(np.int64)
    return whole_us * 1000 + fraction_ns


def _is_time(ts: Any, dur: Any) -> bool:
    try:
        return abs(float(ts)) < _LATEST_US and abs(float(dur)) < _LATEST_US
    except (TypeError, ValueError, OverflowError):
        return False


def _column(values: list[Any]) -> Ints:
    try:
        return np.array(values, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):  # text, or numbers beyond int64
        return np.array([_whole(value) for value in values], dtype=np.int64)


def _whole(value: Any, absent: int = -1) -> int:
    """A small whole number as recorded: an int, a float or text. An unsigned -1 (2**32 - 1) is absent."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return absent
    return absent if number in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) or abs(number) >= 2**63 else number
