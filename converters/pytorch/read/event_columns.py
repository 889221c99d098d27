"""Columns of a file's events while it is read, and the `Recording` made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.read.kineto import (
    Annotation,
    DeviceEvents,
    HostEvents,
    Ints,
    Recording,
    SyncRecord,
)
from chakrasim.traces.errors import TraceError

STEP = "ProfilerStep"


class EventColumns:
    """The columns of a recording while its events are read, batch by batch."""

    def __init__(self, source: str, describes: Callable[[str], bool]) -> None:
        self.source = source
        self.describes = describes
        self.count = 0
        self.names: dict[Any, tuple[int, bool, bool, bool]] = {}
        """By name: its number, whether it describes communication, is a profiler step, sounds like a kernel
        of NCCL's or RCCL's."""
        self.threads: dict[tuple[object, object], int] = {}
        self.streams: dict[tuple[int, int], int] = {}
        self.host = Table(("thread", "name_id", "is_call", "correlation", "function_id", "external_id"))
        self.device = Table(("kind", "name_id", "stream", "correlation", "size_bytes"))
        self.notes = Table(("thread", "name_id"))
        self.flows = Table(("thread", "flow", "is_end"))
        self.host_arguments: dict[int, dict[str, Any]] = {}
        self.device_arguments: dict[int, dict[str, Any]] = {}
        self.note_arguments: list[dict[str, Any]] = []
        self.sync_records: dict[int, SyncRecord] = {}

    def know(self, name: Any) -> tuple[int, bool, bool, bool]:
        """Number and properties of a name that wasn't seen before."""
        text = str(name)
        describes = self.describes(text)
        known = len(self.names), describes, text.startswith(STEP), "ccl" in text
        return self.names.setdefault(name, known)

    def stream(self, device: Any, stream: Any) -> int:
        """The number of a stream by its device and its own number, as recorded."""
        return self.streams.setdefault((whole(device, 0), whole(stream, 0)), len(self.streams))

    def add_record(self, event: dict[str, Any]) -> None:
        """Take a synchronisation record."""
        arguments = event.get("args")
        of = arguments.get if isinstance(arguments, dict) else {}.get
        self.sync_records[whole(of("correlation"))] = SyncRecord(
            whole(of("device", event.get("pid")), 0),
            whole(of("stream")),
            whole(of("wait_on_stream")),
            whole(of("wait_on_cuda_event_record_corr_id")),
        )

    def end_batch(self) -> None:
        """Turn the events that were taken into columns. Raises TraceError for impossible times."""
        for table in (self.host, self.device, self.notes, self.flows):
            table.end_batch(self)

    def finish(self, header: dict[str, Any]) -> Recording:
        """Join the batches and check them."""
        host_start, host_end, host = self.host.join()
        device_start, device_end, device = self.device.join()
        annotations, steps, phases = self._finish_annotations()
        if not len(host_start) and not len(device_start) and not _has_jobs(annotations):
            raise TraceError(
                f"{self.source}: none of its {self.count} events is an operator, a runtime call or a "
                "kernel; record with the profiler's CPU or CUDA activity on"
            )
        self._require_one_time(host_start, host["name_id"])
        self._require_one_time(device_start, device["name_id"])
        distributed = header.get("distributedInfo")
        is_call = host.pop("is_call") > 0
        return Recording(
            source=self.source,
            names=tuple(str(name) for name in self.names),
            threads=tuple(self.threads),
            streams=tuple(self.streams),
            host=HostEvents(
                start_ns=host_start,
                end_ns=host_end,
                is_call=is_call,
                arguments=self.host_arguments,
                **host,
            ),
            device=DeviceEvents(
                start_ns=device_start, end_ns=device_end, arguments=self.device_arguments, **device
            ),
            annotations=annotations,
            sync_records=self.sync_records,
            is_whole_us=self.host.is_whole_us and self.device.is_whole_us and self.notes.is_whole_us,
            distributed=distributed if isinstance(distributed, dict) else {},
            steps=steps,
            phases=phases,
            flows=self._finish_flows(),
        )

    def _require_one_time(self, starts: Ints, name_ids: Ints) -> None:
        """Raise TraceError for an event that was recorded ages before or after the others."""
        if not len(starts):
            return
        apart = np.abs(starts - int(np.median(starts)))
        worst = int(apart.argmax())
        if apart[worst] > _MAX_SPAN_NS:
            raise TraceError(
                f"{self.source}: an event ({str(list(self.names)[name_ids[worst]])!r}) starts at "
                f"{starts[worst] / 1000:.0f} us, {apart[worst] / 1e9:,.0f} s from the middle of all; "
                "its time stamp is damaged"
            )

    def _finish_annotations(self) -> tuple[list[Annotation], list[Annotation], list[Annotation]]:
        """Those about communication, profiler steps, and all others."""
        starts, ends, columns = self.notes.join()
        names = [(str(name), describes) for name, (_, describes, _, _) in self.names.items()]
        annotations: list[Annotation] = []
        steps: list[Annotation] = []
        phases: list[Annotation] = []
        for start, end, thread, name_id, arguments in zip(
            starts.tolist(),
            ends.tolist(),
            columns["thread"].tolist(),
            columns["name_id"].tolist(),
            self.note_arguments,
            strict=True,
        ):
            name, describes = names[name_id]
            annotation = Annotation(name, thread, start, end, arguments)
            kind = steps if name.startswith(STEP) else annotations if describes else phases
            kind.append(annotation)
        longest = (a for a in (*steps, *phases) if a.end_ns - a.start_ns > _MAX_SPAN_NS)
        if (damaged := next(longest, None)) is not None:
            seconds = (damaged.end_ns - damaged.start_ns) / 1e9
            raise TraceError(
                f"{self.source}: annotation {damaged.name!r} lasts {seconds:,.0f} s: its time or duration "
                "is damaged"
            )
        for some in (steps, phases):
            some.sort(key=lambda a: (a.start_ns, -a.end_ns))
        return annotations, steps, phases

    def _finish_flows(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        starts, _, columns = self.flows.join()
        begun: dict[int, tuple[int, int]] = {}
        ended: dict[int, tuple[int, int]] = {}
        for start, thread, number, is_end in zip(
            starts.tolist(),
            columns["thread"].tolist(),
            columns["flow"].tolist(),
            columns["is_end"].tolist(),
            strict=True,
        ):
            (ended if is_end else begun)[number] = (thread, start)
        return [(place, ended[number]) for number, place in begun.items() if number in ended]


def _has_jobs(annotations: list[Annotation]) -> bool:
    return any(a.name.startswith("gloo:") for a in annotations)


class Table:
    """Rows of one batch, and the columns of the batches before."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.batch: list[tuple[Any, ...]] = []
        self.done = 0
        """Rows of the batches before."""
        self.is_whole_us = True
        self.parts: list[tuple[Ints, ...]] = []

    def end_batch(self, collected: EventColumns) -> None:
        """Turn the batch into columns. Raises TraceError for impossible times."""
        if not self.batch:
            return
        source = collected.source
        ts, dur, *columns, index = zip(*self.batch, strict=True)
        try:
            start, length = nanoseconds(ts), nanoseconds(dur)
        except (TypeError, ValueError, OverflowError):
            bad = next(row for row in range(len(ts)) if not _is_time(ts[row], dur[row]))
            raise TraceError(
                f"{source}: event {index[bad]}{self._named(collected, columns, bad)} has ts {ts[bad]!r} "
                f"and dur {dur[bad]!r}, expected microseconds"
            ) from None
        negative = np.flatnonzero(length < 0)
        if len(negative):
            bad = int(negative[0])
            raise TraceError(
                f"{source}: event {index[bad]}{self._named(collected, columns, bad)} has a negative "
                f"duration, {dur[bad]} us; {len(negative)} of {len(ts)} events do"
            )
        self.add((start, start + length, *(_column(column) for column in columns)))
        self.batch.clear()

    def add(self, columns: tuple[Ints, ...]) -> None:
        """Take columns as they are: start and end in ns, and then by `names`."""
        start, end = columns[:2]
        self.is_whole_us = self.is_whole_us and not (np.any(start % 1000) or np.any(end % 1000))
        self.parts.append(columns)
        self.done += len(start)

    def _named(self, collected: EventColumns, columns: list[tuple[Any, ...]], row: int) -> str:
        if "name_id" not in self.names:
            return ""
        name_id = columns[self.names.index("name_id")][row]
        return f" ({str(list(collected.names)[name_id])!r})"

    def join(self) -> tuple[Ints, Ints, dict[str, Ints]]:
        """Start and end in ns, and the other columns by name."""
        if not self.parts:
            start, end, *columns = (np.zeros(0, dtype=np.int64) for _ in range(2 + len(self.names)))
        elif len(self.parts) == 1:
            start, end, *columns = self.parts[0]
        else:
            start, end, *columns = (np.concatenate(c) for c in zip(*self.parts, strict=True))
        return start, end, dict(zip(self.names, columns, strict=True))


_MAX_SPAN_NS = 10**15
"""No recording lasts longer than this: eleven days."""
_MAX_TIME_US = 2.0**52
"""Nothing is recorded after this: the year 2112, counted from 1970."""


def nanoseconds(microseconds: tuple[Any, ...]) -> Ints:
    """Microseconds as ints, floats or text to int64 ns, exact to the nanosecond below 2**52 us."""
    values = np.array(microseconds)
    if values.ndim != 1:
        raise ValueError
    if values.dtype.kind in "iu":
        if len(values) and not (values.min() > -_MAX_TIME_US and values.max() < _MAX_TIME_US):
            raise ValueError
        whole_ns: Ints = values.astype(np.int64) * 1000
        return whole_ns
    floats: NDArray[np.float64] = values.astype(np.float64)  # text becomes numbers, anything else raises
    if not (np.abs(floats) < _MAX_TIME_US).all():
        raise ValueError
    whole_us = np.floor(floats)
    fraction_ns: Ints = np.rint((floats - whole_us) * 1000).astype(np.int64)
    return whole_us.astype(np.int64) * 1000 + fraction_ns


def _is_time(ts: Any, dur: Any) -> bool:
    try:
        return abs(float(ts)) < _MAX_TIME_US and abs(float(dur)) < _MAX_TIME_US
    except (TypeError, ValueError, OverflowError):
        return False


def _column(values: tuple[Any, ...]) -> Ints:
    try:
        return np.array(values, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):  # text, or numbers beyond int64
        return np.array([whole(value) for value in values], dtype=np.int64)


def whole(value: Any, absent: int = -1) -> int:
    """A small whole number as recorded: an int, a float or text. An unsigned -1 (2**32 - 1) is absent."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return absent
    return absent if number in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) or abs(number) >= 2**63 else number
