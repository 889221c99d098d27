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


def covered_by_group_ps(groups: Ints, starts_ps: Ints, ends_ps: Ints, count: int) -> Ints:
    """int64[count]: for each group 0, 1, … the length of the union of its intervals [start, end). O(n log n).

    >>> covered_by_group_ps(np.array([0, 1, 0]), np.array([0, 0, 5]), np.array([10, 3, 12]), 2)
    array([12,  3])
    """
    order = np.lexsort((starts_ps, groups))
    groups, starts_ps, ends_ps = groups[order], starts_ps[order], ends_ps[order]
    # Ends as numbers that are larger in every later group: the running maximum then stays within a group.
    moments_ps, numbers = np.unique(ends_ps, return_inverse=True)
    base = groups * len(moments_ps)
    reached_ps = moments_ps[np.maximum.accumulate(base + numbers) - base]
    is_first = np.diff(groups, prepend=-1) != 0
    reached_before_ps = np.where(is_first, starts_ps, np.roll(reached_ps, 1))
    covered = np.zeros(count, dtype=np.int64)
    np.add.at(covered, groups, np.maximum(reached_ps - np.maximum(starts_ps, reached_before_ps), 0))
    return covered
