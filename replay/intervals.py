"""Lengths of unions of time intervals, on columns."""

from __future__ import annotations

import numpy as np

from chakrasim.traces.graph import Ints


def covered_ps(starts_ps: Ints, ends_ps: Ints) -> int:
    """Length of the union of the intervals [start, end). O(n log n).

    >>> covered_ps(np.array([0, 5, 20]), np.array([10, 12, 21]))
    13
    """
    if not len(starts_ps):
        return 0
    order = np.argsort(starts_ps, kind="stable")
    starts_ps = starts_ps[order]
    reached_ps = np.maximum.accumulate(ends_ps[order])
    reached_before_ps = np.concatenate([starts_ps[:1], reached_ps[:-1]])
    return int(np.maximum(reached_ps - np.maximum(starts_ps, reached_before_ps), 0).sum())
