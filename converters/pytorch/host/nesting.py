"""Nesting of a thread's events, from their starts and ends alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.read.kineto import Ints
from chakrasim.traces.shared import jit

_ROUNDING_NS = 2_000
"""Neighbours may overlap by this much because whole microseconds were rounded, start and duration each."""
_COMPILED_FROM = 20_000
"""Events from which on the compiled loop pays, if numba is there."""


def nest(bounds: Ints, starts_ns: Ints, ends_ns: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Parents, depths, ends and the order of closing of events, thread after thread.

    A thread's events are those from one of `bounds` to the next, by start, outer before inner. int64[n] each:
    the event around each, -1 for none; how many stand around it; its end, shortened where events overlap
    otherwise than one inside another; all events in the order in which they end. O(n).
    """
    n = len(starts_ns)
    if n >= _COMPILED_FROM and jit.is_loaded():
        parents, depths, ends, closed = np.empty((4, n), dtype=np.int64)
        ends[:] = ends_ns
        compiled()(bounds, np.ascontiguousarray(starts_ns), ends, parents, depths, closed)
        return parents, depths, ends, closed
    # interpreted, lists are several times as fast as arrays
    columns: list[list[int]] = [ends_ns.tolist(), [0] * n, [0] * n, [0] * n]
    _walk(bounds.tolist(), starts_ns.tolist(), *columns)
    found = np.array(columns, dtype=np.int64).reshape(4, n)
    return found[1], found[2], found[0], found[3]


@cache
def compiled() -> Callable[..., int]:
    """`_walk` compiled by numba."""
    walk = jit.compiled(_walk)
    jit.announce(walk, "the nesting of operators")
    return walk


def _walk(bounds: Any, starts: Any, ends: Any, parents: Any, depths: Any, closed: Any) -> int:
    """Fill in all but `bounds` and `starts`; returns how many events have ended."""
    done = 0
    for thread in range(len(bounds) - 1):
        top = -1  # the innermost event that is open
        top_end = -1
        for row in range(bounds[thread], bounds[thread + 1]):
            start, end = starts[row], ends[row]
            while top >= 0:
                if top_end > start:
                    if end <= top_end:
                        break
                    overlap = top_end - start
                    if overlap > _ROUNDING_NS or overlap >= end - start:
                        end = top_end
                        break
                    ends[top] = start
                closed[done] = top
                done += 1
                top = parents[top]
                top_end = ends[top] if top >= 0 else -1
            ends[row] = end
            parents[row] = top
            depths[row] = depths[top] + 1 if top >= 0 else 0
            top, top_end = row, end
        while top >= 0:
            closed[done] = top
            done += 1
            top = parents[top]
    return done
