"""Columns of a graph, and graphs made of some of another one's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.attributes import NodeAttributes, RowsOf
from chakrasim.traces.builder import csr_edges
from chakrasim.traces.graph import ExecutionGraph, Ints

COLUMNS = (
    "ids",
    "kinds",
    "name_ids",
    "durations_ps",
    "starts_ps",
    "ops",
    "tensor_bytes",
    "comm_kinds",
    "comm_bytes",
    "group_ids",
    "peers",
    "tags",
    "lanes",
    "is_cpu",
    "dtype_ids",
    "op_kind_ids",
    "involved_dims",
    "priorities",
)
"""Columns of one entry a node."""

Edges = tuple[Ints, Ints, NDArray[np.bool_]]
"""Children, parents and whether each is a control edge."""


def edges_of(graph: ExecutionGraph) -> Edges:
    """The graph's edges by row, in order of child, then parent. O(n + m)."""
    children = np.repeat(np.arange(len(graph)), np.diff(graph.parent_offsets))
    return children, graph.parents.astype(np.int64), graph.parent_is_control


def take_rows(graph: ExecutionGraph, rows: Ints, edges: Edges) -> ExecutionGraph:
    """The graph of these rows, in this order, with new edges between them, numbered as they now stand.

    Ids go with their rows, so `rows` ascend unless the caller renumbers. O(n + m log m).
    """
    offsets, parents, is_control = csr_edges(len(rows), *edges)
    columns: dict[str, Any] = {name: getattr(graph, name)[rows] for name in COLUMNS}
    return replace(
        graph,
        **columns,
        parent_offsets=offsets,
        parents=parents,
        parent_is_control=is_control,
        read_attributes=_attributes(graph.read_attributes, rows),
        records=None,
    )


def _attributes(
    read: Callable[[int], dict[str, Any]] | None, rows: Ints
) -> Callable[[int], dict[str, Any]] | None:
    if read is None:
        return None
    if isinstance(read, NodeAttributes):
        new_row = dict(zip(rows.tolist(), range(len(rows)), strict=True)) if read.rows else {}
        return NodeAttributes(
            {name: column[rows] for name, column in read.columns.items()},
            {new_row[row]: found for row, found in read.rows.items() if row in new_row},
        )
    return RowsOf(read, rows)
