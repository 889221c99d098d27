"""Merging nodes: neighbours on a lane to one node, as a fused kernel or a fused collective would be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import edges_of
from chakrasim.traces.edits.parts.contract import contract, first_of_runs
from chakrasim.traces.edits.parts.each import choose, counted, counts, with_graphs
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, ExecutionGraph, Ints, NodeKind
from chakrasim.traces.names.patterns import matching_rows
from chakrasim.traces.order import program_order
from chakrasim.traces.workload import Workload

ALIKE = (
    "lanes",
    "kinds",
    "is_cpu",
    "comm_kinds",
    "group_ids",
    "tags",
    "involved_dims",
    "priorities",
    "dtype_ids",
    "op_kind_ids",
)
"""Columns in which merged neighbours agree; also `peers`."""


def merge(workload: Workload, pattern: str) -> Workload:
    """The workload with runs of neighbours whose name a pattern means as one node each; see `merge_rows`.

    Raises ConfigError if no node on a lane has such a name, or if ranks would no longer agree on the order of
    their collectives and messages.
    """
    chosen = choose(workload, pattern, "node on a lane", is_mergeable)
    merged = with_graphs(workload, lambda rank, graph: merge_rows(graph, chosen[rank]), chosen)
    after = sum(
        int((matching_rows(graph, pattern) & is_mergeable(graph)).sum()) for graph in merged.graphs.values()
    )
    return merged.with_notes([f"merged {counted(counts(chosen))} that match {pattern!r} into {after:,}"])


def is_mergeable(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: nodes that occupy a lane."""
    return np.not_equal(graph.lanes, NO_LANE) & np.greater(graph.kinds, NodeKind.METADATA)


def merge_rows(graph: ExecutionGraph, chosen: NDArray[np.bool_]) -> ExecutionGraph:
    """The graph in which maximal runs of chosen neighbours on one lane are one node each.

    Neighbours stand next to each other in program order among the nodes of their lane. They join if they are
    of one kind; collectives only if they also agree on kind, group and root, messages on peer and tag. The
    node takes the sum of their durations (not the time from the first start to the last end), operations and
    bytes, and the first one's name; it waits for what any of them waited for, and what waited for any waits
    for the whole. A latency between two of them, a node on no lane that waits for the one only and that only
    the other waits for, goes into it with its time. Where a path leaves a run and comes back, the run is
    split, so that no cycle arises. O((n + m) log n), with a plain loop over what lies on such paths.

    >>> from chakrasim.traces.testing import graph
    >>> fused = merge_rows(graph("a:1@s -> b:2@s -> c:3@s"), np.array([True, True, False]))
    >>> [(fused.name(row), int(fused.durations_ps[row]) // 10**6) for row in range(len(fused))]
    [('a', 3), ('c', 3)]
    """
    order = program_order(graph)
    rows, joins = _candidates(graph, chosen, order)
    if not joins.any():
        return graph
    run = np.full(len(graph), -1, dtype=np.int64)
    run[rows] = np.concatenate([[0], np.cumsum(~joins)])
    sizes = np.bincount(run[rows])
    run[rows[sizes[run[rows]] == 1]] = -1
    latency, holder = _latencies_inside(graph, run)
    run[latency] = holder
    levels = _levels(graph, run, order)
    joins &= levels[rows[1:]] == levels[rows[:-1]]
    first = first_of_runs(rows, joins, len(graph))
    # A latency joins where the nodes that it lies between do.
    before = graph.parents[graph.parent_offsets[latency]]
    offsets, children = graph.children()
    after = children[offsets[latency]]
    joined = first[before] == first[after]
    first[latency[joined]] = first[before[joined]]
    return contract(graph, _lowest(first))


def _candidates(
    graph: ExecutionGraph, chosen: NDArray[np.bool_], order: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Rows on lanes, lane after lane in program order, and whether each may join the one before it."""
    rows = np.flatnonzero(is_mergeable(graph))
    # Nodes that name no lane share one by kind: the host's, the device's, or that of communication.
    by_kind = np.where(graph.is_communication, 2, graph.is_cpu.astype(np.int64))
    lane = np.where(graph.lanes == DEFAULT_LANE, -1 - by_kind, graph.lanes)
    rows = rows[np.lexsort((order[rows], lane[rows]))]
    joins = chosen[rows[1:]] & chosen[rows[:-1]]
    for name in (*ALIKE, "peers"):
        column = getattr(graph, name)[rows]
        joins &= column[1:] == column[:-1]
    return rows, joins


def _latencies_inside(graph: ExecutionGraph, run: Ints) -> tuple[Ints, Ints]:
    """Nodes on no lane with one parent and one child, both of one run, and that run."""
    offsets, children = graph.children()
    is_single = (graph.lanes == NO_LANE) & (graph.kinds == NodeKind.COMP)
    is_single &= (np.diff(graph.parent_offsets) == 1) & (np.diff(offsets) == 1)
    rows = np.flatnonzero(is_single)
    before = run[graph.parents[graph.parent_offsets[rows]]]
    inside = (before >= 0) & (before == run[children[offsets[rows]]])
    return rows[inside], before[inside]


def _levels(graph: ExecutionGraph, run: Ints, order: Ints) -> Ints:
    """int64[n]: how often a path to a row has left a run; rows of one run and level can be one node.

    A node has the highest level of its parents, plus one for a parent in another run than its own. Then no
    edge leads down, and each edge that leaves a node made of one run and level leads up: there is no cycle.
    Only the part of the graph that lies on cycles between whole runs is looked at; elsewhere all are 0.
    """
    levels = np.zeros(len(graph), dtype=np.int64)
    children, parents, _ = edges_of(graph)
    whole = np.where(run >= 0, run, int(run.max(initial=-1)) + 1 + np.arange(len(graph)))
    leads_out = whole[children] != whole[parents]
    in_core = _core(whole[children[leads_out]], whole[parents[leads_out]], int(whole.max(initial=-1)) + 1)
    is_inner = in_core[whole[children]] & in_core[whole[parents]]
    if not is_inner.any():
        return levels
    children, parents = children[is_inner], parents[is_inner]
    steps = ((run[parents] >= 0) & (run[parents] != run[children])).tolist()
    by_child = np.argsort(order[children], kind="stable")
    found = levels.tolist()
    child_list, parent_list = children.tolist(), parents.tolist()
    for edge in by_child.tolist():
        level = found[parent_list[edge]] + steps[edge]
        if level > found[child_list[edge]]:
            found[child_list[edge]] = level
    return np.array(found, dtype=np.int64)


def _core(children: Ints, parents: Ints, n: int) -> NDArray[np.bool_]:
    """bool[n]: what is left when nodes without parents, then ones without children, are taken away."""
    remains = np.ones(n, dtype=np.bool_)
    for sources, targets in ((parents, children), (children, parents)):
        order = np.argsort(sources, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=n))]).tolist()
        nexts = targets[order].tolist()
        inside = remains[sources] & remains[targets]
        waiting = np.bincount(targets[inside], minlength=n).tolist()
        stack = np.flatnonzero(remains & (np.array(waiting) == 0)).tolist()
        alive = remains.tolist()
        while stack:
            node = stack.pop()
            alive[node] = False
            for other in nexts[offsets[node] : offsets[node + 1]]:
                waiting[other] -= 1
                if waiting[other] == 0 and alive[other]:
                    stack.append(other)
        remains = np.array(alive, dtype=np.bool_)
    return remains


def _lowest(first: Ints) -> Ints:
    """The same clusters, each under its lowest row."""
    lowest = np.full(len(first), len(first))
    np.minimum.at(lowest, first, np.arange(len(first)))
    return lowest[first]
