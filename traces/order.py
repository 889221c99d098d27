"""Orders of a graph's nodes that respect its dependencies; O(n + m) and without recursion."""

from __future__ import annotations

import heapq

import numpy as np

from chakrasim.traces.graph import ExecutionGraph, Ints
from chakrasim.traces.shared.memoize import remembered


@remembered
def program_order(graph: ExecutionGraph) -> Ints:
    """int64[n]: each row's place in the order in which the rank would issue its nodes one at a time.

    That is the topological order in which, among nodes that could come next, the lowest id does.
    Where ids already respect the dependencies it is the order of ids. The graph must have no cycle.
    """
    n = len(graph)
    children = np.repeat(np.arange(n), np.diff(graph.parent_offsets))
    if (graph.parents < children).all():
        return np.arange(n, dtype=np.int64)
    offsets, kids = (column.tolist() for column in graph.children())
    waiting = np.diff(graph.parent_offsets).tolist()
    ready = [row for row in range(n) if waiting[row] == 0]
    place = np.empty(n, dtype=np.int64)
    for position in range(n):
        row = heapq.heappop(ready)
        place[row] = position
        for child in kids[offsets[row] : offsets[row + 1]]:
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(ready, child)
    return place


def find_cycle(graph: ExecutionGraph) -> list[int]:
    """Rows of one dependency cycle, parents first, or [] if there is none. O(n + m)."""
    n = len(graph)
    if (graph.parents < np.repeat(np.arange(n), np.diff(graph.parent_offsets))).all():
        return []
    offsets, children = graph.children()
    waiting = np.diff(graph.parent_offsets)
    ready = np.flatnonzero(waiting == 0)
    done = 0
    # Kahn's algorithm a whole generation at a time; a long chain has many small generations, which
    # the plain loop below takes faster.
    while len(ready) > 64:
        done += len(ready)
        counts = offsets[ready + 1] - offsets[ready]
        edges = np.repeat(offsets[ready] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        freed, times = np.unique(children[edges], return_counts=True)
        waiting[freed] -= times
        ready = freed[waiting[freed] == 0]
    stack = ready.tolist()
    left, first, kids = waiting.tolist(), offsets.tolist(), children.tolist()
    while stack:
        row = stack.pop()
        done += 1
        for child in kids[first[row] : first[row + 1]]:
            left[child] -= 1
            if left[child] == 0:
                stack.append(child)
    if done == n:
        return []
    # Every row still waiting has a parent still waiting: walk parents until one repeats.
    row = next(r for r in range(n) if left[r] > 0)
    position: dict[int, int] = {}
    path: list[int] = []
    while row not in position:
        position[row] = len(path)
        path.append(row)
        row = next(int(p) for p in graph.parents_of(row) if left[int(p)] > 0)
    return path[position[row] :][::-1]
