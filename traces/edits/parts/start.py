"""A rank that begins after the others: a node that all nodes without parents wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.attributes import RowsOf
from chakrasim.traces.edits.parts.columns import COLUMNS
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, NodeKind

LATER_START = "starts later"
"""Name of the node by which a rank begins after the others."""


def delay_start(graph: ExecutionGraph, delay_ps: int) -> ExecutionGraph:
    """The graph with a node on no lane that takes `delay_ps` and that all nodes without parents wait for.

    It stands last, with the next free id. O(n + m).

    >>> from chakrasim.traces.testing import graph
    >>> later = delay_start(graph("a:10 -> b:5"), 7)
    >>> [later.name(row) for row in later.parents_of(0)]
    ['starts later']
    """
    n = len(graph)
    counts = np.diff(graph.parent_offsets)
    is_root = counts == 0
    # A root's only parent goes where its parents would stand; the new node itself has none.
    roots_before = np.concatenate([[0], np.cumsum(is_root)])
    offsets = np.append(graph.parent_offsets + roots_before, len(graph.parents) + int(is_root.sum()))
    at = graph.parent_offsets[:-1][is_root]
    names = graph.names if LATER_START in graph.names else (*graph.names, LATER_START)
    added = {
        "ids": graph.ids.max(initial=0) + np.uint64(1),
        "kinds": NodeKind.COMP,
        "name_ids": names.index(LATER_START),
        "durations_ps": delay_ps,
        "is_cpu": True,
        "lanes": NO_LANE,
        "priorities": 0,
    }
    columns: dict[str, Any] = {
        name: np.append(column, np.array([added.get(name, -1)], dtype=column.dtype))
        for name in COLUMNS
        for column in [getattr(graph, name)]
    }
    read = graph.read_attributes
    return replace(
        graph,
        **columns,
        names=names,
        parent_offsets=offsets,
        parents=np.insert(graph.parents, at, n).astype(np.int32),
        parent_is_control=np.insert(graph.parent_is_control, at, True),
        read_attributes=None if read is None else RowsOf(read, np.arange(n)),
        records=None,
    )


def is_start_delay(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: the node that `delay_start` added. It is no work of the host's."""
    if LATER_START not in graph.names:
        return np.zeros(len(graph), dtype=np.bool_)
    return np.equal(graph.name_ids, graph.names.index(LATER_START))
