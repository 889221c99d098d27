"""Other sizes of collectives and messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.check import MAX_BYTES
from chakrasim.traces.edits.parts.each import choose, counted, counts, with_graphs
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.units import format_bytes
from chakrasim.traces.workload import Workload

UNTIMED = "what was recorded of their time no longer holds: the network costs them"


def resize(
    workload: Workload, pattern: str, *, factor: float | None = None, size_bytes: int | None = None
) -> Workload:
    """The workload with other sizes of the collectives and messages whose name a pattern means.

    Either their bytes times a factor, to the nearest byte, or a number of bytes. Their recorded durations are
    forgotten, so that a network which takes those costs them by its links. Those that state no size keep
    none. Raises ConfigError if there are none, or for a size that no node can have. O(n).
    """
    if (factor is None) == (size_bytes is None):
        raise ConfigError(f"the size of {pattern!r}: expected either a factor or a number of bytes")
    if factor is not None and not 0 <= factor < float("inf"):
        raise ConfigError(f"the size of {pattern!r} times {factor}: expected a factor of 0 or more")
    if size_bytes is not None and not 0 <= size_bytes <= MAX_BYTES:
        raise ConfigError(f"the size of {pattern!r} is {size_bytes}: expected bytes, 0 to {MAX_BYTES:,}")
    chosen = choose(
        workload,
        pattern,
        "collective or message with a size",
        _has_size,
    )

    def edit(rank: int, graph: ExecutionGraph) -> ExecutionGraph:
        rows = chosen[rank]
        if factor is None:
            sizes = np.where(rows, size_bytes or 0, graph.comm_bytes)
        else:
            sizes = np.where(rows, np.rint(graph.comm_bytes * factor), graph.comm_bytes)
        if sizes.max(initial=0) > MAX_BYTES:
            raise ConfigError(
                f"the size of {pattern!r} times {factor} is over {MAX_BYTES:,} bytes, which can't be"
            )
        return without_times(graph, rows, comm_bytes=sizes.astype(np.int64))

    how = f"{factor:g} times its bytes" if size_bytes is None else format_bytes(size_bytes)
    note = f"gave each of {counted(counts(chosen))} that match {pattern!r} {how}; {UNTIMED}"
    return with_graphs(workload, edit, chosen).with_notes([note])


def is_understood(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: collectives whose kind is known, so that a network can cost them."""
    understood: NDArray[np.bool_] = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0)
    return understood


def _has_size(graph: ExecutionGraph) -> NDArray[np.bool_]:
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    has_size: NDArray[np.bool_] = (is_understood(graph) | is_message) & (graph.comm_bytes >= 0)
    return has_size


def without_times(graph: ExecutionGraph, rows: NDArray[np.bool_], **columns: Any) -> ExecutionGraph:
    """The graph with other columns, in which some rows have no recorded start and duration any more."""
    return replace(
        graph,
        durations_ps=np.where(rows, 0, graph.durations_ps),
        starts_ps=np.where(rows, -1, graph.starts_ps),
        records=None,
        **columns,
    )
