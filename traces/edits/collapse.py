"""Host operators between two launches or waits as one node each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import edges_of
from chakrasim.traces.edits.parts.contract import contract, first_of_runs
from chakrasim.traces.edits.parts.each import with_graphs
from chakrasim.traces.edits.parts.start import is_start_delay
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

HOST = "host"
"""Name of a node that stands for several of the host's."""
HOST_GAP = "host gap"
"""Name of a node that stands for host time between the recorded operators."""


def collapse_host(workload: Workload) -> Workload:
    """The workload with chains of host nodes as one node each; see `collapse_rows`."""
    before = len(workload)
    collapsed = with_graphs(workload, lambda rank, graph: collapse_rows(graph))
    merged = sum(int((g.name_ids == g.names.index(HOST)).sum()) for g in _with_host(collapsed))
    note = f"collapsed {before - len(collapsed) + merged:,} host nodes to {merged:,} called {HOST!r}"
    return collapsed.with_notes([note])


def _with_host(workload: Workload) -> list[ExecutionGraph]:
    return [graph for graph in workload.graphs.values() if HOST in graph.names]


def collapse_rows(graph: ExecutionGraph) -> ExecutionGraph:
    """The graph in which compute nodes of the host that only wait for each other are one node, called `host`.

    Two nodes of a thread join if the second waits for the first alone and nothing else waits for the first. A
    launch or a wait is therefore the end of a node. No time that a replay finds changes: where another node
    of the thread could come between the two, because no edge puts it before or after them, they stay apart;
    only nodes that become ready for one lane at the same picosecond may change places. On a rank without
    device nodes, gaps between operators stay apart from operators, since they don't count as compute.
    O(n log n + m).

    >>> from chakrasim.traces.testing import graph
    >>> collapse_rows(graph("a:1 -> b:2"))  # not of the host
    <ExecutionGraph rank 0: 2 nodes, 1 edges>
    """
    rows, joins = _runs(graph)
    if not joins.any():
        return graph
    return contract(graph, first_of_runs(rows, joins, len(graph)), HOST)


def _runs(graph: ExecutionGraph) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The rows of lanes, thread after thread, and whether each joins the one before it."""
    is_host = (
        graph.is_cpu & (graph.kinds == NodeKind.COMP) & (graph.lanes != NO_LANE) & ~is_start_delay(graph)
    )
    # The host's nodes without a lane share one with the host's memory nodes, but with nothing else.
    is_memory = (graph.kinds == NodeKind.MEM_LOAD) | (graph.kinds == NodeKind.MEM_STORE)
    on_lane = np.flatnonzero((graph.lanes >= 0) | is_host | (is_memory & graph.is_cpu & (graph.lanes == -1)))
    rows = on_lane[np.argsort(graph.lanes[on_lane], kind="stable")]
    same_lane = graph.lanes[rows[1:]] == graph.lanes[rows[:-1]]
    children, parents, _ = edges_of(graph)
    edges = children * len(graph) + parents
    is_linked = same_lane & np.isin(rows[1:] * len(graph) + rows[:-1], edges)
    # A link holds nothing apart on a lane that some node before it may enter at any time.
    lane_begins = np.concatenate([[True], ~same_lane])
    breaks = np.cumsum(np.concatenate([[False], same_lane & ~is_linked]))
    at_begin = np.maximum.accumulate(np.where(lane_begins, breaks[: len(rows)], 0))
    is_ordered = breaks[: len(rows)] == at_begin
    parent_counts = np.diff(graph.parent_offsets)
    child_counts = np.bincount(graph.parents, minlength=len(graph))
    joins = is_linked & is_ordered[1:] & is_host[rows[1:]] & is_host[rows[:-1]]
    joins &= (parent_counts[rows[1:]] == 1) & (child_counts[rows[:-1]] == 1)
    if HOST_GAP in graph.names and not _has_device(graph):
        is_gap = graph.name_ids == graph.names.index(HOST_GAP)
        joins &= is_gap[rows[1:]] == is_gap[rows[:-1]]
    return rows, joins


def _has_device(graph: ExecutionGraph) -> bool:
    is_work = (graph.kinds >= NodeKind.MEM_LOAD) & (graph.kinds <= NodeKind.COMP)
    return bool((is_work & ~graph.is_cpu).any())
