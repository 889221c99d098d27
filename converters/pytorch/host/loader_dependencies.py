"""Dependencies of a training thread on its data loader's thread that pins memory."""

from __future__ import annotations

import numpy as np

from chakrasim.converters.pytorch.host.segments import GAP, HostSegments, ThreadWait
from chakrasim.converters.pytorch.read.kineto import Recording

_LOADER = "enumerate(DataLoader)"


def find_loader_waits(recording: Recording, segments: HostSegments) -> list[ThreadWait]:
    """Waits for the last batch that another thread had pinned.

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
        low, high = segments.bounds(thread)
        first = low + int(np.searchsorted(segments.end_ns[low:high], begin, side="right"))
        last = low + int(np.searchsorted(segments.start_ns[low:high], until))
        events = segments.event[first:last]
        if is_loader[host.name_id[events[events != GAP]]].all():
            found.append(ThreadWait(thread, begin, until, int(host.thread[inside[-1]])))
    return found
