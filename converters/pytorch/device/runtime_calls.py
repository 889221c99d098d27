"""Effect of runtime and driver calls on the order of things, by their CUDA and HIP names."""

from __future__ import annotations

import re
from enum import Enum

_PREFIX = re.compile(r"^(cuda|cu|hip)(?=[A-Z])")
_SUFFIX = re.compile(r"(_v\d+|_pt[ds]z|_spt|WithFlags)+$")


class Call(Enum):
    """Calls that order a thread and the device."""

    RECORD_EVENT = "records an event on a stream"
    STREAM_WAITS = "makes a stream wait for an event"
    SYNC_DEVICE = "waits until the device is idle"
    SYNC_STREAM = "waits until a stream is empty"
    SYNC_EVENT = "waits until an event has happened"
    SYNC_PERHAPS = "waits until the device is idle, if the recording shows it"
    COPY = "copies and returns when the copy has ended"
    COPY_PERHAPS = "may return before its copy has ended"


_CALLS = {
    "EventRecord": Call.RECORD_EVENT,
    "StreamWaitEvent": Call.STREAM_WAITS,
    "DeviceSynchronize": Call.SYNC_DEVICE,
    "ThreadSynchronize": Call.SYNC_DEVICE,
    "CtxSynchronize": Call.SYNC_DEVICE,
    "StreamSynchronize": Call.SYNC_STREAM,
    "EventSynchronize": Call.SYNC_EVENT,
    "Free": Call.SYNC_PERHAPS,
    "FreeHost": Call.SYNC_PERHAPS,
    "HostFree": Call.SYNC_PERHAPS,
    "MemFree": Call.SYNC_PERHAPS,
    "MemFreeHost": Call.SYNC_PERHAPS,
}


def call_of(name: str) -> Call | None:
    """The ordering effect of a call; None if it has none.

    >>> call_of("hipStreamSynchronize").name, call_of("cudaMemcpyAsync").name, call_of("cudaMalloc")
    ('SYNC_STREAM', 'COPY_PERHAPS', None)
    """
    stem, count = _PREFIX.subn("", name)
    if not count:
        return None
    stem = _SUFFIX.sub("", stem)
    if stem.startswith("Memcpy"):
        return Call.COPY_PERHAPS if "Async" in stem else Call.COPY
    return _CALLS.get(stem)
