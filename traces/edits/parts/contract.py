"""Several nodes to one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from chakrasim.traces.edits.parts.columns import edges_of, take_rows
from chakrasim.traces.edits.parts.meeting import in_order_of
from chakrasim.traces.graph import ExecutionGraph, Ints

SUMMED = ("ops", "tensor_bytes", "comm_bytes")
"""Columns of which a cluster has the sum of those that are not absent."""


def contract(graph: ExecutionGraph, first: Ints, name: str | None = None) -> ExecutionGraph:
    """The graph in which the rows of one `first` are one node, which stands where that row stood.

    `first` is int64[n]: of each row the lowest row of its cluster, itself for a node that stays alone. A
    cluster takes the sum of its durations, operations and bytes, waits for whatever one of its nodes waited
    for outside, and what waited for one of them waits for the whole. Everything else is that of its first
    node, but for `name`, if one is given. No path may lead out of a cluster and back. O(n + m log m).
    """
    kept, cluster = np.unique(first, return_inverse=True)
    children, parents, is_control = edges_of(graph)
    inside = cluster[children] == cluster[parents]
    edges = cluster[children][~inside], cluster[parents][~inside], is_control[~inside]
    columns: dict[str, Any] = {"durations_ps": _summed(graph.durations_ps, cluster, absent=0)}
    for column in SUMMED:
        columns[column] = _summed(getattr(graph, column), cluster, absent=-1)
    names, is_several = graph.names, np.bincount(cluster) > 1
    if name is not None and is_several.any():
        names = names if name in names else (*names, name)
        columns["name_ids"] = np.where(is_several, names.index(name), graph.name_ids[kept]).astype(np.int32)
    contracted = replace(take_rows(graph, kept, edges), names=names, **columns)
    return in_order_of(graph, kept, contracted)


def _summed(values: Ints, cluster: Ints, absent: int) -> Ints:
    """int64[clusters]: the sum of what isn't absent, absent where nothing is."""
    count = int(cluster.max(initial=-1)) + 1
    is_known = values != absent
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, cluster[is_known], values[is_known])
    return np.where(np.bincount(cluster[is_known], minlength=count) > 0, sums, absent)


def first_of_runs(rows: Ints, joins: np.ndarray[Any, np.dtype[np.bool_]], n: int) -> Ints:
    """int64[n] for `contract`: `joins[i]` says that `rows[i + 1]` belongs to the cluster of `rows[i]`."""
    first = np.arange(n)
    run = np.concatenate([[0], np.cumsum(~joins)])[: len(rows)]
    lowest = np.full(int(run.max(initial=-1)) + 1, n)
    np.minimum.at(lowest, run, rows)
    first[rows] = lowest[run]
    return first
