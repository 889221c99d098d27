"""What is in a trace, as a JSON document: see `docs/json.md` for its keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.memory import held_bytes
from chakrasim.traces.units import ps_to_ns

if TYPE_CHECKING:
    from chakrasim.traces.doctor import Mend
    from chakrasim.traces.workload import Workload

Document = dict[str, Any]


def describe_workload(
    workload: Workload, problems: Iterable[str] = (), mendable: Iterable[Mend] = ()
) -> Document:
    """Ranks, nodes by kind, collectives by kind and group, messages, spans, lanes, notes and problems.

    `mendable` is what the trace doctor found.

    O(nodes), no simulation. Works on a workload that has problems.
    """
    ranks = [describe_rank(workload, rank) for rank in workload.ranks]
    return {
        "trace": workload.name,
        "world_size": workload.world_size,
        "missing_ranks": workload.missing_ranks,
        "nodes": len(workload),
        "edges": sum(rank["edges"] for rank in ranks),
        "nodes_by_kind": _added(rank["nodes_by_kind"] for rank in ranks),
        "not_understood": sum(rank["not_understood"] for rank in ranks),
        "collectives": _collectives(workload),
        "messages": {
            "count": sum(rank["sends"] for rank in ranks),
            "bytes": sum(rank["send_bytes"] for rank in ranks),
        },
        "groups": [{"name": g.name, "ranks": list(g.ranks)} for g in workload.groups],
        "ranks": ranks,
        "notes": list(workload.notes),
        "problems": list(problems),
        "mendable": _mendable(mendable),
    }


def _mendable(mends: Iterable[Mend]) -> list[Document]:
    mended = [mend for mend in mends if mend.is_mended]
    if not mended:
        return []
    from chakrasim.replay.report.trace.mends import describe_mend

    return [describe_mend(mend) for mend in mended]


def describe_rank(workload: Workload, rank: int) -> Document:
    """One rank's entry of `describe_workload`."""
    graph = workload.graphs[rank]
    is_send, held = graph.kinds == NodeKind.SEND, held_bytes(graph)
    return {
        "rank": rank,
        "source": workload.sources.get(rank, workload.name),
        "nodes": len(graph),
        "edges": len(graph.parents),
        "nodes_by_kind": _nodes_by_kind(graph),
        "not_understood": int(((graph.kinds == NodeKind.COLL) & (graph.comm_kinds < 0)).sum()),
        "sends": int(is_send.sum()),
        "send_bytes": int(np.maximum(graph.comm_bytes[is_send], 0).sum()),
        "recorded_nodes": int((graph.durations_ps > 0).sum()),
        "span_ns": _span_ns(graph),
        "lanes": _lanes(graph),
        **({} if held is None else {"held": held}),
    }


def describe_conversion(workload: Workload, paths: Sequence[Path]) -> Document:
    """What a conversion wrote: the files, and what is in each."""
    files = {rank: str(path) for rank, path in zip(workload.ranks, paths, strict=True)}
    kept = ("rank", "source", "nodes", "edges", "nodes_by_kind", "not_understood", "span_ns")
    described = [describe_rank(workload, rank) for rank in workload.ranks]
    return {
        "world_size": workload.world_size,
        "ranks": [{"file": files[entry["rank"]]} | {key: entry[key] for key in kept} for entry in described],
        "notes": list(workload.notes),
    }


def _nodes_by_kind(graph: ExecutionGraph) -> dict[str, int]:
    kinds, counts = np.unique(graph.kinds, return_counts=True)
    known = {int(kind) for kind in NodeKind}
    return {
        NodeKind(kind).label if int(kind) in known else f"kind {kind}": int(count)
        for kind, count in zip(kinds, counts, strict=True)
    }


def _added(tables: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for table in tables:
        for name, count in table.items():
            total[name] = total.get(name, 0) + count
    return total


def _span_ns(graph: ExecutionGraph) -> int | float | None:
    """From the first recorded start to the last recorded end; None where no start is recorded."""
    has_start = graph.starts_ps >= 0
    if not has_start.any():
        return None
    starts = graph.starts_ps[has_start]
    return ps_to_ns(int((starts + graph.durations_ps[has_start]).max() - starts.min()))


def _lanes(graph: ExecutionGraph) -> list[Document]:
    lanes = []
    for lane in np.unique(graph.lanes).tolist():
        on_lane = graph.lanes == lane
        named = {DEFAULT_LANE: "(chosen by kind)", NO_LANE: "(none)"}
        lanes.append(
            {
                "name": graph.lane_names[lane] if lane >= 0 else named[lane],
                "nodes": int(on_lane.sum()),
                "recorded_ns": ps_to_ns(int(graph.durations_ps[on_lane].sum())),
            }
        )
    return sorted(lanes, key=lambda lane: -lane["recorded_ns"])


def _collectives(workload: Workload) -> list[Document]:
    """By group and kind; the figures of the member that has most, since members do the same."""
    found: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
    for rank, graph in workload.graphs.items():
        index = workload.group_index(rank)
        is_collective = graph.kinds == NodeKind.COLL
        pairs = np.stack([index[is_collective], graph.comm_kinds[is_collective]])
        for group, kind in np.unique(pairs, axis=1).T.tolist():
            rows = is_collective & (index == group) & (graph.comm_kinds == kind)
            size = int(np.maximum(graph.comm_bytes[rows], 0).sum())
            recorded = int(graph.durations_ps[rows].sum())
            found.setdefault((group, _kind_label(kind)), []).append((int(rows.sum()), size, recorded))
    return [
        {
            "kind": kind,
            "group": workload.groups[group].name if group >= 0 else "(unknown)",
            "group_size": len(workload.groups[group].ranks) if group >= 0 else None,
            "count": max(count for count, _, _ in members),
            "bytes": max(size for _, size, _ in members),
            "recorded_ns": ps_to_ns(max(recorded for _, _, recorded in members)),
        }
        for (group, kind), members in sorted(found.items())
    ]


def _kind_label(kind: int) -> str:
    if kind < 0:
        return "(not understood)"
    return CommKind(kind).label if kind <= max(CommKind) else f"kind {kind}"
