"""Gaps between the last recorded cause of a device operation and its start.

After a launch it is launch latency, the host's; if it is too long for that, the device had something else to
do. After another operation it is the stream's latency; where nothing came before, the launch wasn't recorded.
Each gap becomes a node of its own that occupies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.device.device_ops import DeviceOps, latest_ends
from chakrasim.converters.pytorch.host.segments import HostSegments
from chakrasim.converters.pytorch.read.kineto import Ints

AFTER_LAUNCH = -1
AFTER_NOTHING = -2
UNEXPLAINED_NS = 50_000
"""No launch takes this long by itself: ten times what launches on idle devices take in the traces seen."""


@dataclass
class LaunchGaps:
    """Columns by device operation."""

    length_ns: Ints
    """0 where an operation started as soon as its causes had ended."""
    after: Ints
    """The operation that ended last before it, or AFTER_LAUNCH or AFTER_NOTHING."""


def find_launch_gaps(
    device_ops: DeviceOps, segments: HostSegments, launchers: Ints, origin_ns: int
) -> LaunchGaps:
    """Gaps between the ends of each operation's launch and parents and its start, counted from `origin_ns`.

    O(operations + edges).
    """
    n = len(device_ops)
    has_launcher = launchers >= 0
    explained = np.full(n, np.iinfo(np.int64).min, dtype=np.int64)
    explained[has_launcher] = segments.end_ns[launchers[has_launcher]]
    after = np.where(has_launcher, AFTER_LAUNCH, AFTER_NOTHING)
    ended = latest_ends(device_ops, n)
    is_later = ended > explained
    # of parents that end together the first counts
    first_edge = np.full(n, len(device_ops.edge_source), dtype=np.int64)
    is_last = device_ops.end_ns[device_ops.edge_source] == ended[device_ops.edge_waiter]
    np.minimum.at(first_edge, device_ops.edge_waiter[is_last], np.flatnonzero(is_last))
    after[is_later] = device_ops.edge_source[first_edge[is_later]]
    explained = np.where(after == AFTER_NOTHING, origin_ns, np.maximum(explained, ended))
    return LaunchGaps(np.maximum(device_ops.start_ns - explained, 0), after)
