"""Collectives and messages that an edit must not part or reorder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.columns import edges_of, take_rows
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.matching import match_collectives, match_messages
from chakrasim.traces.order import find_cycle, program_order
from chakrasim.traces.workload import Workload


def require_whole(workload: Workload, gone: Mapping[int, NDArray[np.bool_]], edit: str) -> None:
    """Raise ConfigError if a collective or message would go on some of its ranks and stay on others.

    `gone` is bool[n] for each rank, `edit` what does it, as in "dropping 'nccl*'". O(nodes log nodes).
    """
    if not any((gone[rank] & graph.is_communication).any() for rank, graph in workload.graphs.items()):
        return
    collectives = match_collectives(workload)
    taken = np.zeros(len(collectives), dtype=np.int64)
    for rank, instance in collectives.instance.items():
        np.add.at(taken, instance[gone[rank] & (instance >= 0)], 1)
    for index in np.flatnonzero((taken > 0) & (taken < collectives.present))[:1].tolist():
        offsets, ranks, rows = collectives.members
        members = list(zip(ranks.tolist(), rows.tolist(), strict=True))[offsets[index] : offsets[index + 1]]
        goes = next(member for member in members if gone[member[0]][member[1]])
        stays = next(member for member in members if not gone[member[0]][member[1]])
        group = workload.groups[int(collectives.group[index])].name
        raise ConfigError(
            f"{workload.name}: {edit} takes {_node(workload, *goes)} but leaves {_node(workload, *stays)}, "
            f"which is the same collective, number {collectives.ordinal[index]} of group {group!r}: it has "
            "to go on all its ranks"
        )
    messages = match_messages(workload)
    sends = zip(messages.send_rank.tolist(), messages.send_row.tolist(), strict=True)
    receives = zip(messages.recv_rank.tolist(), messages.recv_row.tolist(), strict=True)
    for send, receive in zip(sends, receives, strict=True):
        if gone[send[0]][send[1]] != gone[receive[0]][receive[1]]:
            goes, stays = (send, receive) if gone[send[0]][send[1]] else (receive, send)
            raise ConfigError(
                f"{workload.name}: {edit} takes {_node(workload, *goes)} but leaves "
                f"{_node(workload, *stays)}, its other end: both have to go"
            )


def _node(workload: Workload, rank: int, row: int) -> str:
    graph = workload.graphs[rank]
    return f"node {graph.ids[row]} ({graph.name(row)!r}) of rank {rank}"


def in_order_of(before: ExecutionGraph, kept: Ints, after: ExecutionGraph) -> ExecutionGraph:
    """An edited graph whose collectives and messages are issued in the order in which they were before.

    Ranks match them by that order (`matching.py`), which follows from ids and edges, and so may be upset by
    other edges. `kept` holds the row before of each row after. Where the order holds, which it does wherever
    ids ascend along edges, the graph comes back as it is; else rows and ids are handed out anew. Raises
    ConfigError if no order can be the same. O(n + m log m), a few times more where ids don't ascend.
    """
    is_communication = after.is_communication
    rows = np.flatnonzero(is_communication)
    if not len(rows):
        return after
    children, parents, is_control = edges_of(after)
    if (parents < children).all() and (np.diff(kept[rows]) > 0).all() and _ascends(before):
        return after
    place = program_order(before)[kept[rows]]
    is_message = after.kinds[rows] != NodeKind.COLL
    peers = np.where(is_message, after.peers[rows], 0)
    keys = np.stack([place, peers, after.group_ids[rows], after.kinds[rows]])
    ordered = rows[np.lexsort(keys)]
    keys = keys[:, np.lexsort(keys)]
    follows = np.flatnonzero((keys[1:, 1:] == keys[1:, :-1]).all(axis=0))
    first, second = ordered[follows], ordered[follows + 1]
    if not find_cycle(after):
        now = program_order(after)
        if (now[first] < now[second]).all():
            return after
    bound = take_rows(
        after,
        np.arange(len(after)),
        (
            np.concatenate([children, second]),
            np.concatenate([parents, first]),
            np.concatenate([is_control, np.ones(len(first), dtype=np.bool_)]),
        ),
    )
    cycle = find_cycle(bound)
    if cycle:
        shown = " → ".join(f"{after.ids[row]} ({after.name(row)!r})" for row in cycle[:6])
        raise ConfigError(
            f"rank {after.rank}: the edit makes the rank issue its collectives or messages in another order "
            f"than other ranks do: {shown}; choose a pattern that leaves those out"
        )
    position = program_order(bound)
    renumbered = take_rows(after, np.argsort(position), (position[children], position[parents], is_control))
    return replace(renumbered, ids=np.arange(len(after), dtype=np.uint64))


def _ascends(graph: ExecutionGraph) -> bool:
    children, parents, _ = edges_of(graph)
    return bool((parents < children).all())
