"""Dropping nodes: what waited for them waits for what they waited for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import Edges, edges_of, take_rows
from chakrasim.traces.edits.parts.each import choose, counted, counts, with_graphs
from chakrasim.traces.edits.parts.meeting import in_order_of, require_whole
from chakrasim.traces.edits.parts.start import is_start_delay
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, Ints, NodeKind
from chakrasim.traces.order import program_order
from chakrasim.traces.workload import Workload


def drop(workload: Workload, pattern: str) -> Workload:
    """The workload without the nodes whose name a pattern means; see `drop_rows`.

    Latencies of which only such nodes are the children go with them, as what a launch costs goes with it.
    Raises ConfigError if there are none, if nothing of a rank would be left, or if a collective or message
    would be left without its other ranks.
    """
    gone = choose(workload, pattern, "node")
    require_whole(workload, gone, f"dropping {pattern!r}")
    note = f"dropped {counted(counts(gone))} that match {pattern!r}"
    gone = {rank: with_latencies(workload.graphs[rank], rows) for rank, rows in gone.items()}
    for rank, rows in gone.items():
        if rows.all():
            raise ConfigError(f"{workload.name}: dropping {pattern!r} leaves nothing of rank {rank}")
    dropped = with_graphs(workload, lambda rank, graph: drop_rows(graph, gone[rank]), gone)
    return dropped.with_notes([note])


def with_latencies(graph: ExecutionGraph, gone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[n]: the rows, and latencies (compute nodes on no lane) that have no children but these."""
    children, parents, _ = edges_of(graph)
    is_latency = (graph.lanes == NO_LANE) & (graph.kinds == NodeKind.COMP) & ~is_start_delay(graph)
    is_latency[is_latency] = np.bincount(parents, minlength=len(graph))[is_latency] > 0
    while True:
        is_needed = np.zeros(len(graph), dtype=np.bool_)
        is_needed[parents[~gone[children]]] = True
        more = is_latency & ~is_needed & ~gone
        if not more.any():
            return gone
        gone = gone | more


def drop_rows(graph: ExecutionGraph, gone: NDArray[np.bool_]) -> ExecutionGraph:
    """The graph without some rows, in which each child of such a row has its parents instead.

    So one of the other nodes comes after another one exactly if it did before. Of inherited parents that
    follow each other on a lane only the last is kept, since it comes after the others: there are at most as
    many as lanes, and the whole takes O((n + m) lanes). Raises ConfigError if collectives or messages
    could not keep their order.

    >>> from chakrasim.traces.testing import graph
    >>> g = drop_rows(graph("a:1 -> b:2 -> c:3"), np.array([False, True, False]))
    >>> [g.name(row) for row in g.parents_of(1)]
    ['a']
    """
    if not gone.any():
        return graph
    children, parents, is_control = _inherited(graph, gone)
    kept = np.flatnonzero(~gone)
    number = np.cumsum(~gone) - 1
    return in_order_of(graph, kept, take_rows(graph, kept, (number[children], number[parents], is_control)))


def _inherited(graph: ExecutionGraph, gone: NDArray[np.bool_]) -> Edges:
    """Edges between the rows that stay."""
    children, parents, is_control = edges_of(graph)
    stays = ~gone[children] & ~gone[parents]
    order = program_order(graph)
    chain = _chains(graph, order)
    # Rows that go, and those that wait for one: parents first, so that each finds its parents' answers.
    concerned = gone.copy()
    concerned[children[gone[parents]]] = True
    rows = np.flatnonzero(concerned)
    rows = rows[np.argsort(order[rows])]
    offsets, of_parents = graph.parent_offsets.tolist(), graph.parents.tolist()
    goes, chain_of, place = gone.tolist(), chain.tolist(), order.tolist()
    nothing: tuple[int, ...] = ()
    instead: dict[int, tuple[int, ...]] = {}
    new_children: list[int] = []
    new_parents: list[int] = []
    for row in rows.tolist():
        found, several = nothing, False
        for parent in of_parents[offsets[row] : offsets[row + 1]]:
            if goes[parent]:
                more = instead[parent]
            elif goes[row]:
                more = (parent,)
            else:
                continue
            several = several or bool(found and more and found != more)
            found = found + more if several else more or found
        if several:
            last: dict[int, int] = {}
            for parent in found:
                known = last.setdefault(chain_of[parent], parent)
                if place[known] < place[parent]:
                    last[chain_of[parent]] = parent
            found = tuple(last.values())
        if goes[row]:
            instead[row] = found
        else:
            new_children += [row] * len(found)
            new_parents += found
    return (
        np.concatenate([children[stays], np.array(new_children, dtype=np.int64)]),
        np.concatenate([parents[stays], np.array(new_parents, dtype=np.int64)]),
        np.concatenate([is_control[stays], np.ones(len(new_children), dtype=np.bool_)]),
    )


def _chains(graph: ExecutionGraph, order: Ints) -> Ints:
    """int64[n]: nodes of one number follow each other on a lane, each the parent of the next."""
    n = len(graph)
    by_lane = np.lexsort((order, graph.lanes))
    children, parents, _ = edges_of(graph)
    wanted = by_lane[1:] * n + by_lane[:-1]
    edges = children * n + parents
    at = np.minimum(np.searchsorted(edges, wanted), max(len(edges) - 1, 0))
    follows = edges[at] == wanted if len(edges) else np.zeros(len(wanted), dtype=np.bool_)
    follows &= graph.lanes[by_lane[1:]] == graph.lanes[by_lane[:-1]]
    chain = np.empty(n, dtype=np.int64)
    chain[by_lane] = np.concatenate([[0], np.cumsum(~follows)])
    return chain
