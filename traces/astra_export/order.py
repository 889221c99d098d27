"""Orders of nodes for ASTRA-sim, which has no threads and streams.

It gives a rank one unit for the host, one for compute and one for communication, and each takes what is
ready, lowest id first. So each rank's nodes are put in the order in which they ended, and neighbours on a
thread, stream or unit are joined by edges. Collectives need more: two ranks that took those of different
groups in different orders would wait for each other for ever, so there is one order of them over all ranks.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, ExecutionGraph, Ints
from chakrasim.traces.matching import CollectiveMatching, MessageMatching
from chakrasim.traces.workload import Workload


@dataclass(frozen=True)
class Edges:
    """Dependencies between rows of one graph: parent, child, and whether it is a control edge."""

    parents: Ints
    children: Ints
    is_control: NDArray[np.bool_]

    @classmethod
    def of(cls, graph: ExecutionGraph) -> Edges:
        """The edges of a graph."""
        children = np.repeat(np.arange(len(graph), dtype=np.int64), np.diff(graph.parent_offsets))
        return cls(graph.parents.astype(np.int64), children, graph.parent_is_control)

    def with_chains(self, chains: Sequence[Ints]) -> Edges:
        """With a control edge between neighbours of each chain of rows."""
        before = [chain[:-1] for chain in chains]
        after = [chain[1:] for chain in chains]
        count = sum(len(rows) for rows in before)
        return Edges(
            np.concatenate([self.parents, *before]),
            np.concatenate([self.children, *after]),
            np.concatenate([self.is_control, np.ones(count, dtype=np.bool_)]),
        )


def without_rows(graph: ExecutionGraph, is_dropped: NDArray[np.bool_], place: Ints) -> Edges:
    """The edges once some rows are gone: their children wait for their parents instead.

    `place` is the graph's program order. O(n + m), and for each dropped row its parents times its children.
    """
    edges = Edges.of(graph)
    if not is_dropped.any():
        return edges
    dropped = np.flatnonzero(is_dropped)
    # For each dropped row the kept rows it waits for, through other dropped ones too.
    behind: dict[int, dict[int, bool]] = {}
    for row in dropped[np.argsort(place[dropped])].tolist():
        found: dict[int, bool] = {}
        begin, end = graph.parent_offsets[row], graph.parent_offsets[row + 1]
        kinds = graph.parent_is_control[begin:end].tolist()
        for parent, is_control in zip(graph.parents_of(row).tolist(), kinds, strict=True):
            for kept in behind.get(parent, (parent,)):
                found[kept] = found.get(kept, True) and is_control
        behind[row] = found
    is_lost = is_dropped[edges.parents] | is_dropped[edges.children]
    bridged = np.flatnonzero(is_dropped[edges.parents] & ~is_dropped[edges.children])
    added = [
        (kept, int(edges.children[edge]), is_control and bool(edges.is_control[edge]))
        for edge in bridged.tolist()
        for kept, is_control in behind[int(edges.parents[edge])].items()
    ]
    table = np.array(added, dtype=np.int64).reshape(-1, 3)
    return Edges(
        np.concatenate([edges.parents[~is_lost], table[:, 0]]),
        np.concatenate([edges.children[~is_lost], table[:, 1]]),
        np.concatenate([edges.is_control[~is_lost], table[:, 2] != 0]),
    )


@dataclass(frozen=True)
class Timeline:
    """Start of each of a rank's n nodes, as far as the recording says."""

    begins_ps: Ints
    ends_ps: Ints

    @classmethod
    def of(cls, graph: ExecutionGraph, edges: Edges, program: Ints) -> Timeline:
        """A node without a recorded start begins when its parents have ended and its lane is free.

        `program` is the graph's program order. O(n + m).
        """
        begins = graph.starts_ps
        unknown = begins < 0
        if not unknown.any():
            return cls(begins, begins + graph.durations_ps)
        order = np.argsort(edges.children, kind="stable")
        offsets = np.zeros(len(graph) + 1, dtype=np.int64)
        np.cumsum(np.bincount(edges.children, minlength=len(graph)), out=offsets[1:])
        parents, at = edges.parents[order].tolist(), offsets.tolist()
        starts, durations, lanes = begins.tolist(), graph.durations_ps.tolist(), graph.lanes.tolist()
        is_cpu = graph.is_cpu.tolist()
        ends = [0] * len(graph)
        free: dict[tuple[int, bool], int] = {}
        for row in np.argsort(program).tolist():
            lane = (lanes[row], lanes[row] == DEFAULT_LANE and is_cpu[row])
            if starts[row] < 0:
                after = [ends[parent] for parent in parents[at[row] : at[row + 1]]]
                starts[row] = max([0 if lanes[row] == NO_LANE else free.get(lane, 0), *after])
            ends[row] = starts[row] + durations[row]
            free[lane] = max(free.get(lane, 0), ends[row])
        return cls(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))


def order_of_ends(timeline: Timeline, edges: Edges) -> Ints:
    """int64[n]: each row's place in the order of ends, then of begins, then of rows, that respects the edges.

    The graph must have no cycle. O((n + m) log n).
    """
    n = len(timeline.ends_ps)
    order = np.lexsort((timeline.begins_ps, timeline.ends_ps))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    if (place[edges.parents] < place[edges.children]).all():
        return place
    return _earliest_first(edges.parents, edges.children, place, np.ones(n, dtype=np.bool_))


def order_of_all(
    workload: Workload,
    edges: Mapping[int, Edges],
    timelines: Mapping[int, Timeline],
    collectives: CollectiveMatching,
    messages: MessageMatching,
) -> dict[int, Ints]:
    """For each rank int64[n]: each row's place in one order over the nodes of all ranks.

    A node comes after what it depends on, a collective at one place for all its members, a receive after its
    send; else the earliest end goes first, of a collective the latest of its members. Raises TraceError where
    the ranks wait for each other in a circle. O((n + m) log n) over all ranks.
    """
    sizes = [len(graph) for graph in workload.graphs.values()]
    total = sum(sizes)
    bases = dict(zip(workload.graphs, (np.cumsum(sizes) - sizes).tolist(), strict=True))
    base_by_rank = np.zeros(max(bases) + 1, dtype=np.int64)
    base_by_rank[list(bases)] = list(bases.values())
    # The first member of a collective stands for all.
    first = np.arange(total, dtype=np.int64)
    offsets, ranks, rows = collectives.members
    numbers = base_by_rank[ranks] + rows
    first[numbers] = np.repeat(numbers[offsets[:-1]], np.diff(offsets)) if len(numbers) else numbers
    sends = base_by_rank[messages.send_rank] + messages.send_row
    receives = base_by_rank[messages.recv_rank] + messages.recv_row
    parents = first[np.concatenate([*(edges[r].parents + b for r, b in bases.items()), sends])]
    children = first[np.concatenate([*(edges[r].children + b for r, b in bases.items()), receives])]
    ends_ps = np.full(total, -1, dtype=np.int64)
    np.maximum.at(ends_ps, first, np.concatenate([timelines[rank].ends_ps for rank in bases]))
    rank_local = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
    keys = np.empty(total, dtype=np.int64)
    keys[np.lexsort((rank_local, ends_ps))] = np.arange(total)
    is_node = first == np.arange(total)
    place = _earliest_first(parents, children, keys, is_node)
    lost = np.flatnonzero(is_node & (place < 0))
    if len(lost):
        rank = max(r for r, base in bases.items() if base <= lost[0])
        node = workload.graphs[rank].ids[lost[0] - bases[rank]]
        raise TraceError(
            f"{workload.sources[rank]}: rank {rank} node {node}: in the recorded order of threads and "
            "streams the ranks would wait for each other in a circle; `chakrasim replay` shows what for"
        )
    place = place[first]
    return {rank: place[base : base + len(workload.graphs[rank])] for rank, base in bases.items()}


def _earliest_first(parents: Ints, children: Ints, keys: Ints, is_node: NDArray[np.bool_]) -> Ints:
    """int64[n]: place in the topological order by distinct keys; -1 for what is in or behind a circle."""
    n = len(keys)
    order = np.argsort(parents, kind="stable")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(parents, minlength=n), out=offsets[1:])
    kids, begins = children[order].tolist(), offsets.tolist()
    waiting = np.bincount(children, minlength=n).tolist()
    key = keys.tolist()
    node_of_key = np.argsort(keys).tolist()
    ready = [key[node] for node in np.flatnonzero(is_node).tolist() if not waiting[node]]
    heapq.heapify(ready)
    place = np.full(n, -1, dtype=np.int64)
    position = 0
    while ready:
        node = node_of_key[heapq.heappop(ready)]
        place[node] = position
        position += 1
        for child in kids[begins[node] : begins[node + 1]]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, key[child])
    return place


def busy_shares(begins_ps: Ints, ends_ps: Ints, freed_ps: Ints) -> Ints:
    """int64[k], ps: durations of nodes one after the other that end as k nodes ended side by side.

    The nodes stand in the order in which they are to run; `freed_ps` is when what each waited for had ended.
    Each gets the time in which any of the k ran, from there or from the end before it on. O(k log k).

    >>> busy_shares(np.array([4, 0, 20]), np.array([5, 10, 21]), np.array([0, 0, 0])).tolist()
    [5, 5, 1]
    >>> busy_shares(np.array([4, 0, 20]), np.array([5, 10, 21]), np.array([4, 0, 0])).tolist()
    [1, 5, 1]
    """
    order = np.argsort(begins_ps, kind="stable")
    begins = begins_ps[order]
    reached = np.maximum.accumulate(ends_ps[order])
    before = np.append(np.iinfo(np.int64).min, reached[:-1])
    total = np.append(0, np.cumsum(np.maximum(0, ends_ps[order] - np.maximum(begins, before))))

    def busy_until(times_ps: Ints) -> Ints:
        # All that was added by intervals begun by then, less what of it lies later.
        begun = np.searchsorted(begins, times_ps, side="right")
        later = np.maximum(0, reached[np.maximum(begun, 1) - 1] - times_ps)
        return np.asarray(total[begun] - np.where(begun > 0, later, 0))

    last = np.maximum.accumulate(ends_ps)
    start = np.maximum(np.append(np.iinfo(np.int64).min, last[:-1]), freed_ps)
    return np.asarray(np.maximum(0, busy_until(ends_ps) - busy_until(np.minimum(start, ends_ps))))
