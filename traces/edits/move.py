"""Moving nodes to another lane, as communication kernels to a stream of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import edges_of, take_rows
from chakrasim.traces.edits.parts.each import choose, counted, counts, with_graphs
from chakrasim.traces.edits.parts.meeting import in_order_of
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, Ints, NodeKind
from chakrasim.traces.order import program_order
from chakrasim.traces.workload import Workload


def move(workload: Workload, pattern: str, lane: str) -> Workload:
    """The workload with the nodes whose name a pattern means on another lane; see `move_rows`.

    Raises ConfigError for a lane without a name, or if no node on a lane has such a name.
    """
    if not lane:
        raise ConfigError(f"moving {pattern!r}: the lane needs a name, as in {pattern}=comm")
    moved = choose(workload, pattern, "node on a lane", is_movable)
    edited = with_graphs(workload, lambda rank, graph: move_rows(graph, moved[rank], lane), moved)
    note = (
        f"moved {counted(counts(moved))} that match {pattern!r} to lane {lane!r}; that they waited for the "
        "node before them on their lane, and the node after them for them, is taken for the lane's order only"
    )
    return edited.with_notes([note])


def is_movable(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: nodes that occupy a lane."""
    return np.not_equal(graph.lanes, NO_LANE) & np.greater(graph.kinds, NodeKind.METADATA)


def move_rows(graph: ExecutionGraph, moved: NDArray[np.bool_], lane: str) -> ExecutionGraph:
    """The graph with some rows on another lane, one that it has or a new one.

    An edge is taken for the order of a lane, and not for a cause, if it leads from a node to the next on the
    same lane in program order, directly or through a latency: a node on no lane with that one parent and
    that one child. A trace can't tell whether data passes there too, so what comes out is the best case. All
    other edges are causes and stay: launches, waits for events, and waits for earlier nodes of the lane.
    Where a node's predecessor on its lane is another one afterwards, such an edge (or latency) starts there
    instead; nodes that come to the lane are put between its own in program order. If none of the lanes
    concerned has such edges, none are made: nodes then share the lane as they become ready. O(n log n + m).

    >>> from chakrasim.traces.testing import graph
    >>> g = move_rows(graph("a:1@s -> b:2@s -> c:3@s"), np.array([False, True, False]), "t")
    >>> [g.lane_name(row) for row in range(3)], g.parents_of(1).tolist(), g.parents_of(2).tolist()
    (['s', 't', 's'], [], [0])
    """
    names = graph.lane_names if lane in graph.lane_names else (*graph.lane_names, lane)
    moved = moved & (graph.lanes != names.index(lane))
    if not moved.any():
        return graph
    order = program_order(graph)
    lanes = np.where(moved, names.index(lane), graph.lanes).astype(np.int32)
    old_previous, new_previous = (_previous(graph, column, order) for column in (graph.lanes, lanes))
    children, parents, is_control = edges_of(graph)
    waiter = _waiters(graph)[children]
    is_order = (parents == old_previous[waiter]) & (waiter >= 0)
    concerned = np.zeros(len(names) + 2, dtype=np.bool_)
    concerned[graph.lanes[moved]] = concerned[names.index(lane)] = True
    is_queue = bool((is_order & concerned[graph.lanes[waiter]]).any())

    is_changed = is_order & (new_previous[waiter] != old_previous[waiter])
    parents = np.where(is_changed, new_previous[waiter], parents)
    stays = parents >= 0
    edges = children[stays], parents[stays], is_control[stays]
    arrives = np.flatnonzero((lanes == names.index(lane)) & (new_previous >= 0) & is_queue)
    arrives = arrives[moved[arrives] | moved[new_previous[arrives]]]
    edges = (
        np.concatenate([edges[0], arrives]),
        np.concatenate([edges[1], new_previous[arrives]]),
        np.concatenate([edges[2], np.ones(len(arrives), dtype=np.bool_)]),
    )
    rows = np.arange(len(graph))
    edited = replace(take_rows(graph, rows, edges), lanes=lanes, lane_names=names)
    return in_order_of(graph, rows, edited)


def _previous(graph: ExecutionGraph, lanes: NDArray[np.int32], order: Ints) -> Ints:
    """int64[n]: the row before each one on its lane, -1 for the first and for nodes on no named lane."""
    previous = np.full(len(graph), -1, dtype=np.int64)
    rows = np.flatnonzero((lanes >= 0) & (graph.kinds > NodeKind.METADATA))
    rows = rows[np.lexsort((order[rows], lanes[rows]))]
    follows = lanes[rows[1:]] == lanes[rows[:-1]]
    previous[rows[1:][follows]] = rows[:-1][follows]
    return previous


def _waiters(graph: ExecutionGraph) -> Ints:
    """int64[n]: the node on a lane that a row stands for: of a latency its child, of any other itself."""
    waiters = np.arange(len(graph))
    offsets, children = graph.children()
    is_latency = (graph.lanes == NO_LANE) & (graph.kinds == NodeKind.COMP)
    is_latency &= (np.diff(graph.parent_offsets) == 1) & (np.diff(offsets) == 1)
    waiters[is_latency] = children[offsets[:-1][is_latency]]
    return waiters
