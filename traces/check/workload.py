"""Invariants of a workload: its graphs, and groups, collectives and messages across ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chakrasim.traces.check.graph import check_graph
from chakrasim.traces.check.problem import MAX_LISTED, Problem
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.matching import UNEVEN_KINDS, match_collectives, match_messages
from chakrasim.traces.workload import Workload

_CHECKED = (
    "ids", "kinds", "comm_kinds", "comm_bytes", "peers", "tensor_bytes", "durations_ps", "ops", "parents",
    "parent_offsets", "defects",
)  # fmt: skip
"""Columns that `check_graph` looks at: ranks that share them are sound together."""


def raise_problems(workload: Workload) -> None:
    """Raise TraceError with the first problem of a workload, if it has any, and the number of the others."""
    problems = check_workload(workload)
    if problems:
        more = f" (and {len(problems) - 1:,} more: see `chakrasim inspect`)"
        hint = ""
        if "which is not in the file" in problems[0].message:
            hint = "; --drop-unknown-dependencies replays without such dependencies"
        raise TraceError(f"{problems[0]}{hint}{more if len(problems) > 1 else ''}")


def check_workload(workload: Workload) -> list[Problem]:
    """Every broken invariant of a workload, its graphs included. O(nodes log nodes)."""
    problems: list[Problem] = []
    checked: set[int] = set()
    sound: set[tuple[int, ...]] = set()
    for rank, graph in workload.graphs.items():
        columns = tuple(id(getattr(graph, name)) for name in _CHECKED)
        if id(graph) not in checked and columns not in sound:
            checked.add(id(graph))
            found = check_graph(graph, workload.sources[rank])
            # Whether a message is its rank's own depends on the rank.
            if not found and not ((graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)).any():
                sound.add(columns)
            problems += found
        problems += _check_groups(workload, rank, graph)
    # Matching assumes that each node makes sense by itself.
    return problems or [*_check_collectives(workload), *_check_messages(workload)]


def _check_groups(workload: Workload, rank: int, graph: ExecutionGraph) -> Iterator[Problem]:
    source = workload.sources[rank]
    table = workload.group_tables[rank]
    is_collective = graph.kinds == NodeKind.COLL
    for local, index in enumerate(table.tolist()):
        rows = np.flatnonzero(is_collective & (graph.group_ids == local))
        if not len(rows):
            continue
        name, node_id = graph.group_names[local], int(graph.ids[rows[0]])
        if index < 0:
            known = ", ".join(repr(group.name) for group in workload.groups[:8])
            message = (
                f"({graph.name(rows[0])!r}) is a collective of process group {name!r}, which doesn't "
                f"exist (known: {known}); a file of groups is given with --groups"
            )
        elif rank not in workload.groups[index].ranks:
            message = (
                f"({graph.name(rows[0])!r}) is a collective of process group {name!r}, which doesn't "
                f"have this rank: its ranks are {list(workload.groups[index].ranks[:16])}"
            )
        elif max(workload.groups[index].ranks) >= workload.world_size:
            message = (
                f"process group {name!r} has rank {max(workload.groups[index].ranks)}, but the "
                f"workload has ranks 0..{workload.world_size - 1}"
            )
        else:
            continue
        yield Problem(source, rank, node_id, message)


def _check_collectives(workload: Workload) -> Iterator[Problem]:
    matching = match_collectives(workload)
    offsets, _, rows = matching.members
    for rank, graph in workload.graphs.items():
        taken = np.flatnonzero(matching.instance[rank] >= 0)
        instance = matching.instance[rank][taken]
        kind, size = graph.comm_kinds[taken], graph.comm_bytes[taken]
        root, first_root = graph.peers[taken], matching.first_root[instance]
        other_kind = kind != matching.kind[instance]
        other_size = (size != matching.first_bytes[instance]) & ~np.isin(kind, UNEVEN_KINDS)
        other_root = (root != first_root) & (root >= 0) & (first_root >= 0)
        for at in np.flatnonzero(other_kind | other_size | other_root)[:MAX_LISTED]:
            first = int(matching.first_rank[instance[at]])
            first_graph, first_row = workload.graphs[first], rows[offsets[instance[at]]]
            group = workload.groups[matching.group[instance[at]]].name
            own, theirs = (
                _collective(graph, int(taken[at])),
                _collective(first_graph, int(first_row)),
            )
            yield Problem(
                workload.sources[rank],
                rank,
                int(graph.ids[taken[at]]),
                f"is collective {matching.ordinal[instance[at]]} of group {group!r}: {own}; on rank "
                f"{first} that one is node {first_graph.ids[first_row]}: {theirs}; the members of a "
                "group must issue the same collectives in the same order",
            )
    yield from _check_counts(workload)


def _collective(graph: ExecutionGraph, row: int) -> str:
    root = f" root {graph.peers[row]}" if graph.peers[row] >= 0 else ""
    size = f" of {graph.comm_bytes[row]:,} bytes" if graph.comm_bytes[row] >= 0 else ""
    return f"{CommKind(graph.comm_kinds[row]).label}{size}{root}"


def _check_counts(workload: Workload) -> Iterator[Problem]:
    """Members of a group must issue equally many collectives."""
    counts = {}
    for rank, graph in workload.graphs.items():
        index = workload.group_index(rank)[graph.comm_kinds >= 0]
        counts[rank] = np.bincount(index[index >= 0], minlength=len(workload.groups))
    most = np.max(np.stack(list(counts.values())), axis=0)
    for group_index in np.flatnonzero(most):
        group = workload.groups[group_index]
        for rank in group.ranks:
            if rank in counts and counts[rank][group_index] < most[group_index]:
                full = next(r for r in counts if counts[r][group_index] == most[group_index])
                yield Problem(
                    workload.sources[rank],
                    rank,
                    None,
                    f"issues {counts[rank][group_index]} collectives of group {group.name!r}, rank {full} "
                    f"issues {most[group_index]}; the others would wait for ever",
                )


def _check_messages(workload: Workload) -> Iterator[Problem]:
    for rank, graph in workload.graphs.items():
        is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
        for row in np.flatnonzero(is_message & (graph.peers >= workload.world_size))[:MAX_LISTED]:
            yield Problem(
                workload.sources[rank],
                rank,
                int(graph.ids[row]),
                f"({graph.name(row)!r}) is a {NodeKind(graph.kinds[row]).label} whose peer is rank "
                f"{graph.peers[row]}, but the workload has ranks 0..{workload.world_size - 1}",
            )
    matching = match_messages(workload)
    for lone, verb, other in (
        (matching.lone_sends, "to", "receive"),
        (matching.lone_recvs, "from", "send"),
    ):
        for rank, row in lone[:MAX_LISTED]:
            graph = workload.graphs[rank]
            peer = int(graph.peers[row])
            if peer >= workload.world_size or peer not in workload.graphs:
                continue
            yield Problem(
                workload.sources[rank],
                rank,
                int(graph.ids[row]),
                f"({graph.name(row)!r}) is a {NodeKind(graph.kinds[row]).label} of "
                f"{graph.comm_bytes[row]:,} bytes {verb} rank {peer}, tag {max(graph.tags[row], 0)}, "
                f"without its {other}{_nearest_message(workload, rank, row)}",
            )


def _nearest_message(workload: Workload, rank: int, row: int) -> str:
    """End of the message: the message that the peer has instead, which is nearly always the mistake."""
    graph = workload.graphs[rank]
    peer = workload.graphs[int(graph.peers[row])]
    wanted = NodeKind.RECV if graph.kinds[row] == NodeKind.SEND else NodeKind.SEND
    rows = np.flatnonzero((peer.kinds == wanted) & (peer.peers == rank))
    if not len(rows):
        return f"; rank {peer.rank} has none for rank {rank}"
    at = int(rows[0])
    return (
        f"; rank {peer.rank} has one in node {peer.ids[at]} of {peer.comm_bytes[at]:,} bytes, "
        f"tag {max(peer.tags[at], 0)}: bytes and tag must agree, and the numbers of sends and receives"
    )
