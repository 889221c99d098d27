"""Synchronisation: streams that wait for events of other streams, host calls that wait for the device.

`cuda_sync` records say it exactly; most traces have none. Then an event wait is paired with the record
before it on the same thread, and a host call with the operation whose recorded end falls inside the call.
What the recording contradicts is dropped, never bent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.device.device_ops import DeviceOps, StreamOrder
from chakrasim.converters.pytorch.device.runtime_calls import Call, call_of
from chakrasim.converters.pytorch.read.kineto import Ints, Recording

TOLERANCE_NS = 2_000
"""Host and device clocks are taken to disagree by up to this much.

An estimate: without it, or with 10 us, a replay with host or device twice as fast changes by at most 0.001 %
on eleven recordings (V100, A100, MI250). A copy may end this much after its blocking call.
"""
_WAKE_NS = 20_000
"""A call that needn't wait (`cudaFree`, say) is taken to have waited if it returns this soon after the device
became idle. An estimate: with 5 or 100 us nothing changes on eleven recordings (V100, A100, MI250).
"""


@dataclass(frozen=True)
class DeviceWait:
    """A stretch in which a thread only waits, for `device_ops`."""

    thread: int
    begin_ns: int
    end_ns: int
    device_ops: tuple[int, ...]


class Synchronisation:
    """Stream edges and host waits of one recording, found in one pass over its calls in time order."""

    def __init__(self, recording: Recording, device_ops: DeviceOps, launched_ns: Ints) -> None:
        self.recording = recording
        self.device_ops = device_ops
        self.order = StreamOrder(device_ops)
        self.launched_ns = launched_ns
        self.counts: Counter[str] = Counter()
        self.stream_edges: list[tuple[int, int]] = []
        """Awaited and waiting operation."""
        self.waits: list[DeviceWait] = []
        device_streams = len(recording.streams)
        self.streams = range(device_streams)
        self.stream_index = {stream: k for k, stream in enumerate(recording.streams)}
        self.start_of_correlation = (
            {
                int(recording.host.correlation[row]): int(recording.host.start_ns[row])
                for row in np.flatnonzero(recording.host.correlation >= 0)
            }
            if recording.sync_records
            else {}
        )
        self._run()

    def _run(self) -> None:
        host, device_ops = self.recording.host, self.device_ops
        what_by_name = [call_of(name) for name in self.recording.names]
        is_interesting = np.array([w is not None for w in what_by_name], dtype=np.bool_)
        # calls that order something, and launches, each thread's in time order
        launched = np.flatnonzero(device_ops.launch[: device_ops.device_count] >= 0)[::-1]
        first_op = dict(zip(device_ops.launch[launched].tolist(), launched.tolist(), strict=True))
        is_listed = host.is_call & is_interesting[host.name_id] if len(host) else host.is_call
        is_listed[list(first_op)] = True
        rows = np.flatnonzero(is_listed)
        rows = rows[np.lexsort((host.start_ns[rows], host.thread[rows]))]
        thread = -1
        columns = (column[rows].tolist() for column in (host.thread, host.name_id, host.start_ns))
        for row, on_thread, name_id, start in zip(rows.tolist(), *columns, strict=True):
            if on_thread != thread:
                thread = on_thread
                last_record = -1
                last_stream = -1
                waiting: list[tuple[int, int]] = []
            what = what_by_name[name_id]
            if what is Call.RECORD_EVENT:
                last_record = start
            elif what is Call.STREAM_WAITS:
                waiting.append((row, last_record if last_record >= 0 else start))
            elif what is not None:
                self._host_call(row, what, first_op.get(row, -1), last_stream)
            if row in first_op:
                op = first_op[row]
                last_stream = int(device_ops.stream[op])
                for wait_row, recorded_ns in waiting:
                    self._stream_wait(wait_row, recorded_ns, op)
                waiting = []

    def _stream_wait(self, wait_row: int, recorded_ns: int, op: int) -> None:
        """Add the edge of a stream wait before the launch of `op`, from what the event stood behind."""
        host, device_ops = self.recording.host, self.device_ops
        record = self.recording.sync_records.get(int(host.correlation[wait_row]))
        if record is not None:
            waiting = self.stream_index.get((record.device, record.stream), -1)
            awaited = self.stream_index.get((record.device, record.awaited_stream), -1)
            if awaited < 0:
                return  # nothing of this trace ran there
            at = self.start_of_correlation.get(record.record_correlation, recorded_ns)
            source = self.order.last_issued(awaited, at)
            if waiting >= 0 and waiting != device_ops.stream[op]:
                op = self._next_on(waiting, int(host.start_ns[wait_row]))
            self._add_edge(source, op)
            return
        candidates = [
            self.order.last_issued(stream, recorded_ns)
            for stream in self.streams
            if stream != device_ops.stream[op]
        ]
        candidates = [c for c in candidates if c >= 0]
        if candidates:
            self._add_edge(max(candidates, key=lambda c: int(device_ops.issued_ns[c])), op)

    def _next_on(self, stream: int, after_ns: int) -> int:
        rows, issued = self.order.rows[stream], self.order.issued[stream]
        at = int(np.searchsorted(issued, after_ns, side="right"))
        return rows[at] if at < len(rows) else -1

    def _add_edge(self, source: int, op: int) -> None:
        if source < 0 or op < 0:
            return
        if self.device_ops.end_ns[source] > self.device_ops.start_ns[op]:
            self.counts["contradicted event waits"] += 1
            return
        self.counts["event waits"] += 1
        self.stream_edges.append((source, op))

    def _host_call(self, row: int, what: Call, own_op: int, last_stream: int) -> None:
        host, device_ops = self.recording.host, self.device_ops
        start, end = int(host.start_ns[row]), int(host.end_ns[row])
        if what in (Call.COPY, Call.COPY_PERHAPS):
            if own_op < 0:
                return
            copied = int(device_ops.end_ns[own_op])
            name = self.recording.names[self.recording.device.name_id[own_op]]
            blocks = what is Call.COPY or "Pageable" in name or "Paged" in name
            if blocks and start < copied <= end + TOLERANCE_NS:
                begin = int(self.launched_ns[own_op])
                self._add_wait(row, begin, min(copied, end), own_op)
            return
        op = self._awaited(row, what, start, end, last_stream)
        if op >= 0:
            self._add_wait(row, start, min(int(device_ops.end_ns[op]), end), op)

    def _awaited(self, row: int, what: Call, start: int, end: int, last_stream: int) -> int:
        """The operation whose end a synchronising call waited for, -1 if none ended inside it."""
        record = self.recording.sync_records.get(int(self.recording.host.correlation[row]))
        if record is not None and what is Call.SYNC_EVENT:
            awaited = self.stream_index.get((record.device, record.awaited_stream), -1)
            recorded = self.start_of_correlation.get(record.record_correlation)
            if awaited < 0 or recorded is None:
                return -1
            return self._inside(self.order.last_issued(awaited, recorded), start, end)
        if record is not None and what is Call.SYNC_STREAM:
            stream = self.stream_index.get((record.device, record.stream), -1)
        else:
            stream = -1
        if stream >= 0:
            return self._inside(self.order.last_issued(stream, start), start, end)
        if what is Call.SYNC_STREAM and last_stream >= 0:
            found = self._inside(self.order.last_issued(last_stream, start), start, end)
            if found >= 0:
                return found
        if what is Call.SYNC_EVENT:
            by = end + TOLERANCE_NS
            found_rows = [self.order.last_ended(stream, by) for stream in self.streams]
            found_rows = [r for r in found_rows if r >= 0 and self.device_ops.issued_ns[r] < start]
        else:
            found_rows = [self.order.last_issued(stream, start) for stream in self.streams]
        found_rows = [r for r in found_rows if self._inside(r, start, end) >= 0]
        if not found_rows:
            return -1
        latest = max(found_rows, key=lambda r: int(self.device_ops.end_ns[r]))
        if what is not Call.SYNC_DEVICE and end - self.device_ops.end_ns[latest] > _WAKE_NS:
            return -1
        return latest

    def _inside(self, op: int, start: int, end: int) -> int:
        """The operation itself if it ended inside [start, end], else -1."""
        if op >= 0 and start < self.device_ops.end_ns[op] <= end + TOLERANCE_NS:
            return op
        return -1

    def _add_wait(self, row: int, begin: int, end: int, op: int) -> None:
        thread = int(self.recording.host.thread[row])
        self.counts["host waits"] += 1
        self.waits.append(DeviceWait(thread, begin, end, (op,)))
