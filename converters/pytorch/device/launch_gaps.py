"""Time that no recorded cause explains: between the last cause of a work and its start.

After a launch it is launch latency, the host's; if it is too long for that, the device had something else to
do. After a work on the device it is the stream's; where nothing came before, the launch wasn't recorded. Each
becomes a node of its own that occupies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.device.device_ops import Works, latest_ends
from chakrasim.converters.pytorch.host.segments import Pieces
from chakrasim.converters.pytorch.read.kineto import Ints

AFTER_LAUNCH = -1
AFTER_NOTHING = -2
UNEXPLAINED_NS = 50_000
"""No launch takes this long by itself: ten times what launches on idle devices take in the traces seen."""


@dataclass
class Delays:
    """Columns by work."""

    length_ns: Ints
    """0 where a work started as soon as its causes had ended."""
    after: Ints
    """The work that ended last before it, or AFTER_LAUNCH or AFTER_NOTHING."""


def find_delays(works: Works, pieces: Pieces, launchers: Ints, origin_ns: int) -> Delays:
    """Compare each work's start with the ends of its launch and parents; `origin_ns` is where time begins.

    O(works + edges).
    """
    n = len(works)
    has_launcher = launchers >= 0
    explained = np.full(n, np.iinfo(np.int64).min, dtype=np.int64)
    explained[has_launcher] = pieces.end_ns[launchers[has_launcher]]
    after = np.where(has_launcher, AFTER_LAUNCH, AFTER_NOTHING)
    ended = latest_ends(works, n)
    is_later = ended > explained
    # of parents that end together the first counts
    first_edge = np.full(n, len(works.edge_source), dtype=np.int64)
    is_last = works.end_ns[works.edge_source] == ended[works.edge_work]
    np.minimum.at(first_edge, works.edge_work[is_last], np.flatnonzero(is_last))
    after[is_later] = works.edge_source[first_edge[is_later]]
    explained = np.where(after == AFTER_NOTHING, origin_ns, np.maximum(explained, ended))
    return Delays(np.maximum(works.start_ns - explained, 0), after)
