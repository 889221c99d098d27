"""Kineto's JSON as columns: what a PyTorch profiler wrote, before anything is made of it.

Read (by `kineto_reader`): complete events (`ph` "X") of CPU operators, runtime and driver calls, kernels,
copies, memsets, stream synchronisation records, user annotations, and the flows from forward to backward
operators. Left out on purpose: Python stacks, instant events, all other flows (launches are linked by
correlation id), and Kineto's own spans. Seen and read: PyTorch 1.9 (capitalised categories, a bare list of
events, threads as text) to 2.13, CUDA and HIP. Times become int64 nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

OPERATOR, CALL, KERNEL, COPY, MEMSET, SYNC_RECORD, ANNOTATION = range(1, 8)

CATEGORIES = {
    "cpu_op": OPERATOR,
    "Operator": OPERATOR,
    "cuda_runtime": CALL,
    "cuda_driver": CALL,
    "hip_runtime": CALL,
    "hip_driver": CALL,
    "xpu_runtime": CALL,
    "xpu_driver": CALL,
    "mtia_runtime": CALL,
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
    external_id: Ints
    """Kineto's `External id` of an operator, else -1."""
    arguments: dict[int, dict[str, Any]]
    """Arguments of operators that describe communication, by row."""

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
    """A user annotation."""

    name: str
    thread: int
    start_ns: int
    end_ns: int
    arguments: dict[str, Any]


@dataclass(frozen=True)
class SyncRecord:
    """A `cuda_sync` event, about the call with the same correlation id. -1 for what isn't known."""

    device: int
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
    """Those that describe communication (`nccl:…`, `gloo:…`)."""
    sync_records: dict[int, SyncRecord]
    """By correlation id of the call."""
    is_whole_us: bool
    """Every time stamp is a whole number of microseconds."""
    distributed: dict[str, Any] = field(default_factory=dict)
    """Kineto's `distributedInfo`."""
    steps: list[Annotation] = field(default_factory=list)
    """Profiler steps, in order of time."""
    phases: list[Annotation] = field(default_factory=list)
    """All other annotations, in order of time."""
    flows: list[tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    """Links from forward to backward operators: thread and start in ns of either end."""

    @property
    def origin_ns(self) -> int:
        """Start of the earliest converted event."""
        starts = [c.min() for c in (self.host.start_ns, self.device.start_ns) if len(c)]
        starts += [a.start_ns for a in self.annotations if a.name.startswith("gloo:")]
        return int(min(starts))
