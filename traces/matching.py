"""Matching of collectives, and of sends and receives, across ranks.

Matching is static: the k-th collective of a group on one rank, in program order (`order.py`), meets
the k-th of the same group on every other member; the k-th send of a (source, destination, tag, bytes)
meets the k-th such receive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.traces.graph import CommKind, ExecutionGraph, Ints, NodeKind, Rows
from chakrasim.traces.order import program_order
from chakrasim.traces.shared.memoize import remembered

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

UNEVEN_KINDS = (CommKind.ALL_TO_ALL, CommKind.GATHER, CommKind.SCATTER, CommKind.ALL_GATHER)
"""Collectives whose members may rightly give different numbers of bytes (all-to-all-v and the like)."""


@dataclass(frozen=True)
class CollectiveMatching:
    """Instances of collectives over all ranks; c of them."""

    instance: Mapping[int, Rows]
    """For each rank int32[n]: the instance a row takes part in, -1 for other nodes."""
    group: Rows
    """int32[c]: index in `Workload.groups`."""
    ordinal: Rows
    """int32[c]: which collective of its group this is, from 0."""
    kind: Rows
    """int32[c]: `CommKind` number, as the lowest rank present states it."""
    size_bytes: Ints
    """int64[c]: the largest `comm_bytes` of the members present."""
    root: Rows
    """int32[c]: root rank, -1 where none is stated."""
    first_bytes: Ints
    """int64[c]: `comm_bytes` of the lowest rank that has it."""
    first_root: Rows
    """int32[c]: root as that rank states it."""
    present: Rows
    """int32[c]: members that have the collective in their trace."""
    first_rank: Rows
    """int32[c]: the lowest rank that has it."""

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def members(self) -> tuple[Ints, Rows, Rows]:
        """Offsets [c + 1], ranks and rows: who takes part in each instance, in order of rank."""
        ranks = [np.full(len(i), rank, dtype=np.int32) for rank, i in self.instance.items()]
        rows = [np.arange(len(i), dtype=np.int32) for i in self.instance.values()]
        instance = np.concatenate([*self.instance.values(), np.empty(0, dtype=np.int32)])
        chosen = instance >= 0
        order = np.argsort(instance[chosen], kind="stable")
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.bincount(instance[chosen], minlength=len(self)), out=offsets[1:])
        empty = np.empty(0, dtype=np.int32)
        return (
            offsets,
            np.concatenate([*ranks, empty])[chosen][order],
            np.concatenate([*rows, empty])[chosen][order],
        )


@remembered
def match_collectives(workload: Workload) -> CollectiveMatching:
    """Give every understood collective node of every rank its instance. O(nodes log nodes)."""
    groups, ordinals, kinds, sizes, roots, ranks, row_lists = [], [], [], [], [], [], []
    for rank, graph in workload.graphs.items():
        rows = np.flatnonzero((graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0))
        if len(rows):
            rows = rows[np.argsort(program_order(graph)[rows])]
        group = workload.group_index(rank)[rows]
        order = np.argsort(group, kind="stable")
        counts = np.bincount(group, minlength=1)
        starts = np.cumsum(counts) - counts
        ordinal = np.empty(len(rows), dtype=np.int64)
        ordinal[order] = np.arange(len(rows)) - starts[group[order]]
        groups.append(group)
        ordinals.append(ordinal)
        kinds.append(graph.comm_kinds[rows])
        sizes.append(graph.comm_bytes[rows])
        roots.append(graph.peers[rows])
        ranks.append(np.full(len(rows), rank, dtype=np.int32))
        row_lists.append(rows)
    group = _joined(groups).astype(np.int64)
    ordinal = _joined(ordinals).astype(np.int64)
    base = int(ordinal.max(initial=-1)) + 1
    keys, first, inverse = np.unique(group * max(base, 1) + ordinal, return_index=True, return_inverse=True)
    size_bytes = np.full(len(keys), -1, dtype=np.int64)
    np.maximum.at(size_bytes, inverse, _joined(sizes))
    root = np.full(len(keys), -1, dtype=np.int32)
    np.maximum.at(root, inverse, _joined(roots).astype(np.int32))
    instance: dict[int, Rows] = {}
    position = 0
    for (rank, graph), rows in zip(workload.graphs.items(), row_lists, strict=True):
        column = np.full(len(graph), -1, dtype=np.int32)
        column[rows] = inverse[position : position + len(rows)]
        position += len(rows)
        instance[rank] = column
    return CollectiveMatching(
        instance=instance,
        group=group[first].astype(np.int32),
        ordinal=ordinal[first].astype(np.int32),
        kind=_joined(kinds)[first].astype(np.int32),
        size_bytes=size_bytes,
        root=root,
        first_bytes=_joined(sizes)[first],
        first_root=_joined(roots)[first].astype(np.int32),
        present=np.bincount(inverse, minlength=len(keys)).astype(np.int32),
        first_rank=_joined(ranks)[first].astype(np.int32),
    )


def _joined(columns: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([*columns, np.empty(0, dtype=np.int64)])


@dataclass(frozen=True)
class MessageMatching:
    """Sends and receives, paired. The four matched columns have equal length."""

    send_rank: Rows
    send_row: Rows
    recv_rank: Rows
    recv_row: Rows
    lone_sends: tuple[tuple[int, int], ...]
    """(rank, row) of sends that no receive meets."""
    lone_recvs: tuple[tuple[int, int], ...]
    """(rank, row) of receives that no send meets."""


def message_labels(graph: ExecutionGraph, rows: Ints | slice = slice(None)) -> tuple[Ints, Ints]:
    """Tag and bytes of sends and receives, as those that belong together must share them: int64, 0 where a
    node states none."""
    return np.maximum(graph.tags[rows], 0).astype(np.int64), np.maximum(graph.comm_bytes[rows], 0)


@remembered
def match_messages(workload: Workload) -> MessageMatching:
    """Pair sends with receives by source, destination, tag, bytes and order. O(messages log messages)."""
    sends, recvs = _messages(workload, NodeKind.SEND), _messages(workload, NodeKind.RECV)
    # Columns: source, destination, tag, bytes, ordinal among equals, own rank, row,
    # place in program order.
    both = np.concatenate([sends, recvs])
    _, key = np.unique(both[:, :5], axis=0, return_inverse=True)
    key = key.reshape(-1)
    send_key, recv_key = key[: len(sends)], key[len(sends) :]
    _, at_send, at_recv = np.intersect1d(send_key, recv_key, return_indices=True)

    def lone(table: Ints, matched: Ints) -> tuple[tuple[int, int], ...]:
        rest = np.delete(table, matched, axis=0)
        return tuple((int(rank), int(row)) for rank, row in rest[:, 5:7])

    return MessageMatching(
        send_rank=sends[at_send, 5].astype(np.int32),
        send_row=sends[at_send, 6].astype(np.int32),
        recv_rank=recvs[at_recv, 5].astype(np.int32),
        recv_row=recvs[at_recv, 6].astype(np.int32),
        lone_sends=lone(sends, at_send),
        lone_recvs=lone(recvs, at_recv),
    )


def _messages(workload: Workload, kind: NodeKind) -> Ints:
    tables = []
    shared: dict[int, Ints] = {}
    for rank, graph in workload.graphs.items():
        key = id(graph.kinds)
        rows = shared[key] if key in shared else np.flatnonzero(graph.kinds == kind)
        shared[key] = rows
        if not len(rows):
            continue
        place = program_order(graph)[rows]
        own = np.full(len(rows), rank, dtype=np.int64)
        peer = graph.peers[rows].astype(np.int64)
        source, destination = (own, peer) if kind == NodeKind.SEND else (peer, own)
        tag, size_bytes = message_labels(graph, rows)
        ordinal = np.zeros(len(rows), dtype=np.int64)
        tables.append(
            np.stack(
                [source, destination, tag, size_bytes, ordinal, own, rows, place],
                axis=1,
            )
        )
    table = np.concatenate([*tables, np.empty((0, 8), dtype=np.int64)])
    order = np.lexsort((table[:, 7], table[:, 3], table[:, 2], table[:, 1], table[:, 0]))
    ordered = table[order]
    new_key = np.ones(len(table), dtype=np.bool_)
    new_key[1:] = (ordered[1:, :4] != ordered[:-1, :4]).any(axis=1)
    starts = np.flatnonzero(new_key)
    lengths = np.diff(np.append(starts, len(table)))
    ordered[:, 4] = np.arange(len(table)) - np.repeat(starts, lengths)
    return ordered
