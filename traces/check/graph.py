"""Invariants of one rank's graph: columns in range, complete communication, no dependency cycle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.traces.check.problem import MAX_LISTED, Problem
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.order import find_cycle
from chakrasim.traces.units import MAX_TIME_PS, PS_PER_S

MAX_BYTES = 10**15
"""More bytes than one node can have: a thousand times the largest memory there is."""


_Found = Iterator[tuple[int, str]]
"""Rows of a graph and what is wrong with each."""


def check_graph(graph: ExecutionGraph, source: str) -> list[Problem]:
    """Every broken invariant of one rank's graph alone. O(n + m) when all is well."""
    problems = [Problem(source, graph.rank, d.node_id, d.message) for d in graph.defects]
    for found in (_collectives(graph), _messages(graph), _quantities(graph), _cycle(graph)):
        problems += [Problem(source, graph.rank, int(graph.ids[row]), message) for row, message in found]
    return problems


def _each(graph: ExecutionGraph, wrong: np.ndarray, message: str) -> _Found:
    """The message for each row of bool[n], the first ones of many."""
    for row in np.flatnonzero(wrong)[:MAX_LISTED]:
        yield row, f"({graph.name(row)!r}) {message}"


def _collectives(graph: ExecutionGraph) -> _Found:
    is_collective, comm_kinds = graph.kinds == NodeKind.COLL, graph.comm_kinds
    for row in np.flatnonzero(is_collective & (comm_kinds > max(CommKind)))[:MAX_LISTED]:
        yield (
            row,
            f"({graph.name(row)!r}) has unknown collective kind {comm_kinds[row]}; "
            f"expected comm_type 0..{max(CommKind)}",
        )
    unexplained = is_collective & (comm_kinds < 0)
    for row in np.flatnonzero(unexplained):
        unexplained[row] = "not_understood" not in graph.attributes(int(row))
    yield from _each(graph, unexplained, "is a collective without comm_type")


def _messages(graph: ExecutionGraph) -> _Found:
    """Sizes of collectives and messages, and peers of messages."""
    kinds, peers = graph.kinds, graph.peers
    is_send, is_receive = kinds == NodeKind.SEND, kinds == NodeKind.RECV
    is_sized = (kinds == NodeKind.COLL) & (graph.comm_kinds >= 0) & (graph.comm_kinds != CommKind.BARRIER)
    for row in np.flatnonzero((is_sized | is_send | is_receive) & (graph.comm_bytes < 0))[:MAX_LISTED]:
        yield row, f"({graph.name(row)!r}) is a {NodeKind(kinds[row]).label} without comm_size (bytes)"
    yield from _each(graph, is_send & (peers < 0), "is a send without comm_dst, the rank it sends to")
    yield from _each(
        graph, is_receive & (peers < 0), "is a receive without comm_src, the rank it receives from"
    )
    for row in np.flatnonzero((is_send | is_receive) & (peers == graph.rank))[:MAX_LISTED]:
        yield row, f"({graph.name(row)!r}) is a {NodeKind(kinds[row]).label} whose peer is its own rank"


def _quantities(graph: ExecutionGraph) -> _Found:
    """Bytes and durations that can't be."""
    for column, name in ((graph.comm_bytes, "comm_size"), (graph.tensor_bytes, "tensor_size")):
        yield from _each(
            graph, column > MAX_BYTES, f"has a {name} of over {MAX_BYTES:,} bytes, which can't be"
        )
    if float(graph.durations_ps.sum(dtype=np.float64)) > MAX_TIME_PS:
        longest = int(np.argmax(graph.durations_ps))
        yield (
            longest,
            f"({graph.name(longest)!r}) is the longest of nodes that together last over "
            f"{MAX_TIME_PS / PS_PER_S:,.0f} s, which can't be",
        )
    yield from _each(graph, graph.durations_ps < 0, "has a negative duration")


def _cycle(graph: ExecutionGraph) -> _Found:
    cycle = find_cycle(graph)
    if cycle:
        shown = " → ".join(f"{graph.ids[row]} ({graph.name(row)!r})" for row in cycle[:6])
        if len(cycle) > 6:
            shown += f" → … ({len(cycle)} nodes)"
        yield (
            cycle[0],
            f"is part of a dependency cycle: {shown} → {graph.ids[cycle[0]]}; none can start",
        )
