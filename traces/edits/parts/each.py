"""An edit of single graphs, made on every rank of a workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import COLUMNS
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CLOCK, EDITED, ExecutionGraph
from chakrasim.traces.names.patterns import matching_rows, near_names
from chakrasim.traces.workload import Workload

Chosen = dict[int, NDArray[np.bool_]]
"""For each rank bool[n]: nodes that an edit is about."""
OWN = ("rank", "groups", "metadata")
"""Fields in which ranks differ that otherwise share one graph."""


def choose(
    workload: Workload,
    pattern: str,
    what: str,
    is_candidate: Callable[[ExecutionGraph], NDArray[np.bool_]] | None = None,
) -> Chosen:
    """The nodes of every rank whose name a pattern means, of those that an edit can be about.

    `what` says what those are, as in "no {what} has a name like …". Raises ConfigError if there is none,
    with names that are near.
    """
    found: Chosen = {}
    names: set[str] = set()
    for rank, graph in workload.graphs.items():
        may_be = np.ones(len(graph), dtype=np.bool_) if is_candidate is None else is_candidate(graph)
        found[rank] = matching_rows(graph, pattern) & may_be
        names.update(graph.names[index] for index in np.unique(graph.name_ids[may_be]).tolist())
    if not any(chosen.any() for chosen in found.values()):
        raise ConfigError(
            f"{workload.name}: no {what} has a name like {pattern!r}{near_names(pattern, names)}"
        )
    return found


def with_graphs(
    workload: Workload, edit: Callable[[int, ExecutionGraph], ExecutionGraph], rows: Chosen | None = None
) -> Workload:
    """The workload with every rank's graph edited.

    Ranks that share the columns of one graph, and whose `rows` are the same, are edited once and go on
    sharing.
    """
    edited: dict[tuple[object, ...], ExecutionGraph] = {}
    graphs: dict[int, ExecutionGraph] = {}
    for rank, graph in workload.graphs.items():
        about = rows[rank].tobytes() if rows is not None else b""
        key = (about, *(id(getattr(graph, name)) for name in (*COLUMNS, "parents")))
        if key not in edited:
            edited[key] = edit(rank, graph)
        done = edited[key]
        own = {name: getattr(graph, name) for name in OWN}
        graphs[rank] = done if done is graph else replace(done, **own)
    return replace(workload, graphs=graphs, others=None)


def counted(chosen: Mapping[int, int]) -> str:
    """Numbers of nodes and ranks, as text.

    >>> counted({0: 2, 1: 1, 2: 0}), counted({0: 1})
    ('3 nodes on 2 ranks', '1 node on 1 rank')
    """
    nodes, ranks = sum(chosen.values()), sum(count > 0 for count in chosen.values())
    return f"{_many(nodes, 'node')} on {_many(ranks, 'rank')}"


def counts(chosen: Chosen) -> dict[int, int]:
    """For each rank how many nodes were chosen."""
    return {rank: int(rows.sum()) for rank, rows in chosen.items()}


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def mark_edited(workload: Workload, *, keeps_clock: bool = True) -> Workload:
    """The workload with graphs that say that they are no recording any more; without `keeps_clock` their
    starts are on no common clock either.
    """
    graphs = {}
    for rank, graph in workload.graphs.items():
        metadata = {**graph.metadata, EDITED: True}
        if not keeps_clock:
            metadata.pop(CLOCK, None)
        graphs[rank] = replace(graph, metadata=metadata, records=None)
    return replace(workload, graphs=graphs, others=None)
