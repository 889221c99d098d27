"""Time that no recorded cause explains: between the last cause of a work and its start.

After a launch it is launch latency; after a work on the device it is the stream's; where nothing came before,
the launch wasn't recorded. Each becomes a node of its own that occupies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chakrasim.converters.pytorch.device import Works
from chakrasim.converters.pytorch.host import Pieces
from chakrasim.converters.pytorch.kineto import Ints

AFTER_LAUNCH = -1
AFTER_NOTHING = -2


@dataclass
class Delays:
    """Columns by work."""

    length_ns: Ints
    """0 where a work started as soon as its causes had ended."""
    after: list[int]
    """The work that ended last before it, or AFTER_LAUNCH or AFTER_NOTHING."""


def find_delays(works: Works, pieces: Pieces, launchers: Ints, origin_ns: int) -> Delays:
    """Compare each work's start with the ends of its launch and parents; `origin_ns` is where time begins."""
    starts, ends = works.start_ns.tolist(), works.end_ns.tolist()
    lengths, after = [0] * len(starts), [-1] * len(starts)
    for row, start in enumerate(starts):
        launcher = int(launchers[row])
        cause, explained = AFTER_NOTHING, origin_ns
        if launcher >= 0:
            cause, explained = AFTER_LAUNCH, int(pieces.end_ns[launcher])
        for parent in works.parents[row]:
            if ends[parent] > explained or cause == AFTER_NOTHING:
                cause, explained = parent, ends[parent]
        lengths[row], after[row] = max(0, start - explained), cause
    return Delays(np.array(lengths, dtype=np.int64), after)
