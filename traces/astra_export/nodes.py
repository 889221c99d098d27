"""One rank's nodes as ASTRA-sim takes them; `export.py` says what changes and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.astra_export.order import Edges, Timeline, busy_shares, order_of_ends
from chakrasim.traces.builder import csr_edges
from chakrasim.traces.edits.parts.columns import COLUMNS
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, CommKind, ExecutionGraph, Ints, NodeKind, Rows
from chakrasim.traces.units import PS_PER_US

COLL = NodeKind.COLL

WRITTEN_AS = {
    CommKind.REDUCE_SCATTER_BLOCK: CommKind.REDUCE_SCATTER,
    CommKind.BARRIER: CommKind.ALL_REDUCE,
    CommKind.REDUCE: CommKind.BROADCAST,
    CommKind.GATHER: CommKind.BROADCAST,
    CommKind.SCATTER: CommKind.BROADCAST,
}
"""Kinds that abort ASTRA-sim, and what is written instead."""
END = "end of rank"
"""Name of a node that is added so that a rank doesn't end in a message."""
TRACKED = ("inputs", "outputs")
"""Attributes that ASTRA-sim's memory tracker reads."""


@dataclass(frozen=True)
class Nodes:
    """One rank's graph, and what is known of its n nodes from the other ranks."""

    rank: int
    graph: ExecutionGraph
    edges: Edges
    """Without the rows that aren't written."""
    is_dropped: NDArray[np.bool_]
    kinds: NDArray[np.int8]
    """`NodeKind` numbers to write."""
    comm_kinds: NDArray[np.int8]
    """`CommKind` numbers to write."""
    sizes: Ints
    """int64[n]: bytes of communication, alike for all members of a collective."""
    tags: Ints
    group_ids: Rows
    """int32[n]: index in the names of the groups that are written; -1 is all ranks."""

    @property
    def is_communication(self) -> NDArray[np.bool_]:
        """bool[n]"""
        return np.greater_equal(self.kinds, NodeKind.SEND)

    @property
    def is_host(self) -> NDArray[np.bool_]:
        """bool[n]: what takes the host's unit. Communication of the host aborts ASTRA-sim."""
        return np.logical_and(self.graph.is_cpu, self.kinds < NodeKind.SEND)

    @property
    def holds_communication(self) -> NDArray[np.bool_]:
        """bool[n]: what takes the communication unit, of which a rank has one."""
        return np.isin(self.kinds, (NodeKind.COLL, NodeKind.SEND))


@dataclass(frozen=True)
class Layout:
    """A rank's nodes in the order of their ends, on the units that ASTRA-sim has."""

    durations_ps: Ints
    """int64[n]"""
    units: Ints
    """int64[n]: what carries the remainder of rounding: nodes of one number run one after the other."""
    place: Ints
    """int64[n]: the order."""
    chains: list[Ints]
    """Rows that follow each other."""


@dataclass
class Facts:
    """Details of notes besides numbers of nodes, over all ranks."""

    drawn_together: Counter[str] = field(default_factory=Counter)
    """By unit: ranks on which several threads or streams became one."""
    smallest_all_gather: int = 2**62
    unstated_roofline: int = 0
    """Compute nodes of the device without operations or bytes, where others have them."""


def lay_out(nodes: Nodes, timeline: Timeline, facts: Facts) -> Layout:
    """Order a rank's nodes by their ends, and draw together what ran side by side. O((n + m) log n)."""
    graph = nodes.graph
    place = order_of_ends(timeline, nodes.edges)
    durations_ps = graph.durations_ps.copy()
    units = _units(nodes)
    freed_ps = np.zeros(len(graph), dtype=np.int64)
    np.maximum.at(freed_ps, nodes.edges.children, timeline.ends_ps[nodes.edges.parents])
    ordered = np.flatnonzero(~nodes.is_dropped)
    ordered = ordered[np.argsort(place[ordered])]
    is_work = nodes.kinds[ordered] == NodeKind.COMP
    chains = _runs(ordered[graph.lanes[ordered] >= 0], graph.lanes)
    for number, name in enumerate(("threads", "streams")):
        rows = ordered[is_work & (nodes.is_host[ordered] == (number == 0))]
        if len(np.unique(graph.lanes[rows])) > 1:
            facts.drawn_together[name] += 1
            durations_ps[rows] = busy_shares(timeline.begins_ps[rows], timeline.ends_ps[rows], freed_ps[rows])
            units[rows] = number
            chains.append(rows)
    return Layout(durations_ps, units, place, chains)


def as_it_is(nodes: Nodes, program: Ints) -> Layout:
    """A rank without threads and streams: its durations, in program order."""
    return Layout(nodes.graph.durations_ps, _units(nodes), program, [])


def _units(nodes: Nodes) -> Ints:
    lanes = nodes.graph.lanes
    unit = np.where(nodes.is_communication, 2, np.where(nodes.is_host, 0, 1))
    # Communication is rounded apart from the rest of its lane: its durations matter by themselves.
    return np.where(lanes >= 0, 6 + 2 * lanes + nodes.is_communication, unit + 3 * (lanes == NO_LANE))


def _runs(rows: Ints, lanes: Rows) -> list[Ints]:
    """The rows of each lane, in the order in which they stand."""
    rows = rows[np.argsort(lanes[rows], kind="stable")]
    return [run for run in np.split(rows, np.flatnonzero(np.diff(lanes[rows])) + 1) if len(run) > 1]


def written_graph(
    nodes: Nodes,
    layout: Layout,
    edges: Edges,
    order: Ints | None,
    group_names: tuple[str, ...],
    changes: Counter[str],
) -> ExecutionGraph:
    """The graph to write: default lanes, whole microseconds, and what ASTRA-sim knows. O(n log n + m log m).

    Nodes are numbered in `order`, int64[n], a place for each; None keeps their ids. Counts in `changes`.
    """
    graph = nodes.graph
    kept = np.flatnonzero(~nodes.is_dropped)
    if order is not None:
        kept = kept[np.argsort(order[kept])]
    new_row = np.zeros(len(graph), dtype=np.int64)
    new_row[kept] = np.arange(len(kept))
    offsets, parents, is_control = csr_edges(
        len(kept), new_row[edges.children], new_row[edges.parents], edges.is_control
    )
    changes["edges_added"] += max(0, len(parents) - len(nodes.edges.parents))
    is_communication, is_message = nodes.is_communication, nodes.is_communication & (nodes.kinds != COLL)
    changed: dict[str, Any] = {
        "ids": graph.ids if order is None else new_row.astype(np.uint64),
        "kinds": nodes.kinds,
        "durations_ps": _whole_microseconds(layout, kept),
        "comm_kinds": np.where(is_communication, nodes.comm_kinds, -1).astype(np.int8),
        "comm_bytes": np.where(is_communication, np.maximum(nodes.sizes, 1), -1),
        "group_ids": np.where(nodes.kinds == COLL, nodes.group_ids, -1).astype(np.int32),
        "peers": np.where(is_communication, graph.peers, -1).astype(np.int32),
        "tags": np.where(is_message, np.maximum(nodes.tags, 0), -1),
        "lanes": np.full(len(graph), DEFAULT_LANE, dtype=np.int32),
        "is_cpu": nodes.is_host,
        "involved_dims": np.where(nodes.group_ids < 0, graph.involved_dims, -1),
    }
    adapted = replace(
        graph,
        rank=nodes.rank,
        **{name: changed.get(name, getattr(graph, name))[kept] for name in COLUMNS},
        lane_names=(),
        group_names=group_names,
        groups={},
        parent_offsets=offsets,
        parents=parents,
        parent_is_control=is_control,
        metadata={},
        defects=(),
        read_attributes=_tracked(graph, kept.tolist()),
        records=None,
    )
    return _with_end(adapted, changes)


def known_kinds(
    graph: ExecutionGraph, is_alone: NDArray[np.bool_], changes: Counter[str]
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """int8[n] twice: kinds of nodes and of collectives that ASTRA-sim has. `is_alone`: in groups of one."""
    kinds, comm_kinds = graph.kinds.copy(), graph.comm_kinds.copy()
    is_opaque = (kinds == NodeKind.COLL) & (comm_kinds < 0)
    is_memory = (kinds == NodeKind.MEM_LOAD) | (kinds == NodeKind.MEM_STORE)
    is_timed = is_memory & ((graph.durations_ps > 0) | (graph.tensor_bytes < 0))
    for key, chosen in (
        ("collectives_not_understood", is_opaque),
        ("collectives_of_one_rank", is_alone),
        ("memory_as_compute", is_timed),
    ):
        kinds[chosen] = NodeKind.COMP
        changes[key] += int(chosen.sum())
    changes["memory"] += int((is_memory & ~is_timed).sum())
    is_collective = kinds == NodeKind.COLL
    for kind, instead in WRITTEN_AS.items():
        chosen = is_collective & (graph.comm_kinds == kind)
        comm_kinds[chosen] = instead
        changes[f"{kind.label}_as_{instead.label}"] += int(chosen.sum())
    return kinds, comm_kinds


def tell(nodes: Nodes, changes: Counter[str], facts: Facts) -> None:
    """Count what else changes, and gather facts for the notes."""
    graph, kinds, sizes = nodes.graph, nodes.kinds, nodes.sizes
    changes["nodes_removed"] += int(nodes.is_dropped.sum())
    is_sized = nodes.is_communication
    states_none = is_sized & (sizes <= 0) & (graph.comm_kinds != CommKind.BARRIER)
    changes["bytes_of_none"] += int(states_none.sum())
    changes["bytes_made_equal"] += int((is_sized & (sizes > 0) & (sizes != graph.comm_bytes)).sum())
    is_replayed = (kinds == COLL) & (nodes.comm_kinds == CommKind.BROADCAST)
    changes["broadcasts"] += int((is_replayed & (graph.comm_kinds == CommKind.BROADCAST)).sum())
    changes["broadcasts_without_duration"] += int((is_replayed & (graph.durations_ps <= 0)).sum())
    gathers = sizes[(kinds == COLL) & (nodes.comm_kinds == CommKind.ALL_GATHER)]
    facts.smallest_all_gather = min(facts.smallest_all_gather, max(1, int(gathers.min(initial=2**62))))
    on_device = (kinds == NodeKind.COMP) & ~nodes.is_host
    is_stated = (graph.ops >= 0) & (graph.tensor_bytes >= 0)
    if (on_device & is_stated).any():
        facts.unstated_roofline += int((on_device & ~is_stated).sum())


def _whole_microseconds(layout: Layout, kept: Ints) -> Ints:
    """int64[n], ps: whole microseconds; what is rounded off goes to the next node of the unit."""
    rounded = np.zeros(len(layout.units), dtype=np.int64)
    order = kept[np.lexsort((layout.place[kept], layout.units[kept]))]
    if not len(order):
        return rounded
    durations, units = layout.durations_ps[order], layout.units[order]
    ends = np.cumsum(durations)
    begins = ends - durations
    is_first = np.append(True, units[1:] != units[:-1])
    origin = begins[is_first][np.cumsum(is_first) - 1] - PS_PER_US // 2
    rounded[order] = (ends - origin) // PS_PER_US - (begins - origin) // PS_PER_US
    return rounded * PS_PER_US


def _tracked(graph: ExecutionGraph, kept: list[int]) -> Callable[[int], dict[str, Any]] | None:
    """Reads of a row what ASTRA-sim's memory tracker wants."""
    if graph.read_attributes is None:
        return None

    def read(row: int) -> dict[str, Any]:
        attributes = graph.attributes(kept[row]) if row < len(kept) else {}
        return {name: attributes[name] for name in TRACKED if name in attributes}

    return read


def _with_end(graph: ExecutionGraph, changes: Counter[str]) -> ExecutionGraph:
    """With a last compute node of no duration where ASTRA-sim would abort without.

    Its statistics fail on host and memory nodes. That is passed over where the rank ends by a timer, but not
    where it ends by a message. A rank without any node can't be read at all.
    """
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    is_parent = np.zeros(len(graph), dtype=np.bool_)
    is_parent[graph.parents] = True
    last = np.flatnonzero(is_message & ~is_parent)
    is_memory = (graph.kinds == NodeKind.MEM_LOAD) | (graph.kinds == NodeKind.MEM_STORE)
    if len(graph) and not (len(last) and (graph.is_cpu | is_memory).any()):
        return graph
    changes["end_nodes"] += 1
    absent = {"ids": int(graph.ids.max(initial=0)) + 1, "kinds": NodeKind.COMP, "name_ids": len(graph.names)}
    absent |= {"durations_ps": 0, "is_cpu": False, "lanes": DEFAULT_LANE, "priorities": 0}
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        column = getattr(graph, name)
        columns[name] = np.append(column, np.array([absent.get(name, -1)], dtype=column.dtype))
    return replace(
        graph,
        **columns,
        names=(*graph.names, END),
        parent_offsets=np.append(graph.parent_offsets, len(graph.parents) + len(last)),
        parents=np.append(graph.parents, last).astype(np.int32),
        parent_is_control=np.append(graph.parent_is_control, np.ones(len(last), dtype=np.bool_)),
    )
