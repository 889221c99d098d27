"""Rank classes: ranks that do the same at the same times. One of each is replayed.

Ranks are of one class if their graphs are the same (`fingerprint.py`) and what they meet is: the groups of
their collectives lie on the machine in the same way and have members of the same classes, and their
messages take as long and go to, and come from, the same nodes of the same classes. That is the coarsest
equitable partition of ranks and what joins them, found by refining the first condition by the second until
nothing changes. It is exact: by induction over the instants of a replay, in which no rank has precedence
over another (`kernel.py`), ranks of one class are in the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.collectives.cost import place
from chakrasim.replay.symmetry.fingerprint import Kinds, kinds_of_graphs
from chakrasim.traces.graph import Ints, NodeKind, Rows
from chakrasim.traces.matching import match_messages
from chakrasim.traces.shared.pickling import FieldsOnly

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.workload import Workload


@dataclass(frozen=True, eq=False)
class Memberships(FieldsOnly):
    """Memberships: M pairs of a rank and one of its groups, in order of rank and number."""

    ranks: Rows
    """int32[M]: place of the rank in the workload."""
    numbers: Rows
    """int32[M]: which of the rank's groups it is."""
    groups: Rows
    """int32[M]: index in `Workload.groups`."""
    places: dict[int, int]
    """By group a number that is equal for groups that lie on the machine in the same way."""

    @cached_property
    def by_group(self) -> Ints:
        """The pairs in order of their groups."""
        return np.argsort(self.groups, kind="stable")

    def colours(self, classes: Rows) -> Ints:
        """int64[M]: equal for groups in the same place with members of the same classes."""
        most = int(self.numbers.max(initial=0)) + 1
        groups = self.groups[self.by_group].astype(np.int64)
        members = (classes[self.ranks].astype(np.int64) * most + self.numbers)[self.by_group]
        pairs = np.unique(np.stack([groups, members], axis=1), axis=0)
        found, offsets = _spans(pairs[:, 0])
        labels = np.ascontiguousarray(pairs[:, 1])
        keys = (
            (self.places[group], labels[first:last].tobytes())
            for group, first, last in zip(found.tolist(), offsets, offsets[1:], strict=False)
        )
        number = np.zeros(int(self.groups.max(initial=0)) + 1, dtype=np.int64)
        number[found] = numbered(keys)
        return number[self.groups]


@dataclass(frozen=True, eq=False)
class Exchanges:
    """Ends of messages: E of them, in order of rank and row."""

    ranks: Rows
    """int32[E]: place of the rank in the workload."""
    rows: Rows
    peers: Rows
    """int32[E]: place of the rank at the other end, -1 for a message of one end."""
    peer_rows: Rows
    """int32[E]: the node there, or -1."""
    costs_ps: Ints
    """int64[E]: of the message."""

    def colours(self, classes: Rows) -> Ints:
        """int64[E]: equal where as long a message joins the same node of the same class."""
        if not len(self.ranks):
            return np.empty(0, dtype=np.int64)
        peers = np.where(self.peers < 0, -1, classes[self.peers])
        keys = np.stack([peers, self.peer_rows, self.costs_ps], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class RankClasses(FieldsOnly):
    """The classes of a workload's ranks on a machine. R ranks in the order of the workload."""

    workload: Workload
    index: Rows
    """int32[R]: the class of each; classes are numbered by their lowest ranks."""
    stages: tuple[Rows, ...] = ()
    """The partitions on the way, the first by the graphs alone and the last that of `index`."""
    kinds: Kinds | None = None
    memberships: Memberships | None = None
    exchanges: Exchanges | None = None
    why_all: str = ""
    """Why every rank is a class of its own, if classes weren't looked for."""

    def __len__(self) -> int:
        return len(self.representatives)

    @cached_property
    def representatives(self) -> tuple[int, ...]:
        """The lowest rank of each class."""
        ranks, first = self.workload.ranks, np.unique(self.index, return_index=True)[1]
        return tuple(ranks[at] for at in first.tolist())

    @cached_property
    def sizes(self) -> Ints:
        """int64[classes]: ranks of each."""
        return np.bincount(self.index).astype(np.int64)

    @cached_property
    def representative_of(self) -> dict[int, int]:
        """By rank the one that is replayed for it."""
        ranks = self.workload.ranks
        return {rank: self.representatives[at] for rank, at in zip(ranks, self.index.tolist(), strict=True)}

    def ranks_of(self, number: int) -> tuple[int, ...]:
        """Ranks of a class, ascending."""
        ranks = self.workload.ranks
        return tuple(ranks[at] for at in np.flatnonzero(self.index == number).tolist())

    @property
    def is_whole(self) -> bool:
        """True if every rank is a class of its own."""
        return len(self) == len(self.index)


def every_rank(workload: Workload, why: str) -> RankClasses:
    """No two ranks in one class."""
    return RankClasses(workload, np.arange(len(workload.graphs), dtype=np.int32), why_all=why)


def rank_classes(workload: Workload, machine: Machine | None, kinds: Kinds | None = None) -> RankClasses:
    """The classes of a checked workload on a sized machine whose network costs what it carries beforehand.

    `machine` is None where its network costs nothing; `kinds` are those of `kinds_of_graphs`, by default
    whatever the names and the roots. O(nodes + rounds * (memberships in groups + ends of messages)); there
    are fewer rounds than classes, and about half as many as stages of a pipeline.
    """
    kinds = kinds or kinds_of_graphs(workload)
    if len(kinds.shapes) == len(workload.graphs):
        return RankClasses(workload, kinds.number, (kinds.number,), kinds)
    why = _mismatch(workload, kinds)
    if why:
        return every_rank(workload, why)
    if machine is not None and not machine.holds(workload.world_size):
        machine = None  # nothing may be costed by it, which `costs.py` sees to
    memberships = _memberships(kinds, workload, machine)
    exchanges = _exchanges(workload, machine)
    classes, stages = kinds.number, [kinds.number]
    while True:
        met = _by_rank(memberships.ranks, memberships.colours(classes), len(classes))
        exchanged = _by_rank(exchanges.ranks, exchanges.colours(classes), len(classes))
        finer = numbered(zip(classes.tolist(), met, exchanged, strict=True)).astype(np.int32)
        if int(finer.max()) == int(classes.max()):
            return RankClasses(workload, classes, tuple(stages), kinds, memberships, exchanges)
        classes = finer
        stages.append(classes)


def numbered(keys: Iterable[object]) -> Ints:
    """Numbers of keys, equal for equal ones, in the order of their first appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _spans(column: Ints) -> tuple[Ints, list[int]]:
    """Distinct values of a sorted column, and where each begins, with the end."""
    firsts = np.flatnonzero(np.diff(column, prepend=-1)) if len(column) else np.empty(0, dtype=np.int64)
    return column[firsts], [*firsts.tolist(), len(column)]


def _by_rank(ranks: Rows, colours: Ints, count: int) -> list[bytes]:
    """The colours of each rank in their order, as a key."""
    offsets = np.searchsorted(ranks, np.arange(count + 1)).tolist()
    return [colours[first:last].tobytes() for first, last in pairwise(offsets)]


def _memberships(kinds: Kinds, workload: Workload, machine: Machine | None) -> Memberships:
    counts = [len(used) for used in kinds.used]
    groups = np.array([group for used in kinds.used for group in used], dtype=np.int32)
    where = [
        None if machine is None else place(machine, workload.groups[group].ranks)
        for group in np.unique(groups).tolist()
    ]
    places = dict(zip(np.unique(groups).tolist(), numbered(where).tolist(), strict=True))
    return Memberships(
        ranks=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        numbers=np.array([number for used in kinds.used for number in range(len(used))], dtype=np.int32),
        groups=groups,
        places=places,
    )


def _exchanges(workload: Workload, machine: Machine | None) -> Exchanges:
    from chakrasim.replay.transport.uncontended import message_ps

    graphs = workload.graphs
    found = match_messages(workload)
    lone = np.array([*found.lone_sends, *found.lone_recvs], dtype=np.int32).reshape(-1, 2)
    alone = np.full(len(lone), -1, dtype=np.int32)
    ranks = np.concatenate([found.send_rank, found.recv_rank, lone[:, 0]])
    rows = np.concatenate([found.send_row, found.recv_row, lone[:, 1]])
    peers = np.concatenate([found.recv_rank, found.send_rank, alone])
    peer_rows = np.concatenate([found.recv_row, found.send_row, alone])
    sorted_ = np.lexsort((rows, ranks))
    ranks, rows, peers, peer_rows = (column[sorted_] for column in (ranks, rows, peers, peer_rows))
    costs_ps = np.zeros(len(ranks), dtype=np.int64)
    if machine is not None and len(ranks):
        values, offsets = _spans(ranks.astype(np.int64))
        for rank, first, last in zip(values.tolist(), offsets, offsets[1:], strict=False):
            graph, own = graphs[rank], rows[first:last]
            mine = np.full(len(own), rank, dtype=np.int64)
            theirs = graph.peers[own].astype(np.int64)
            is_send = graph.kinds[own] == NodeKind.SEND
            ends = np.where(is_send, mine, theirs), np.where(is_send, theirs, mine)
            costs_ps[first:last] = message_ps(machine, *ends, np.maximum(graph.comm_bytes[own], 0))
    places = np.full(max(graphs) + 2, -1, dtype=np.int32)
    places[list(graphs)] = np.arange(len(graphs))
    return Exchanges(places[ranks], rows, places[peers], peer_rows, costs_ps)


def _mismatch(workload: Workload, kinds: Kinds) -> str:
    """Why ranks don't fit together so well that those of a class stand for each other; empty if they do."""
    counts = [np.bincount(shape.groups[shape.groups >= 0]).tolist() for shape in kinds.shapes]
    stated = [_stated_roots(shape.groups, shape.roots) for shape in kinds.shapes]
    issued: dict[int, int] = {}
    roots: dict[int, bytes] = {}
    users = np.zeros(len(workload.groups), dtype=np.int64)
    for used, kind in zip(kinds.used, kinds.number.tolist(), strict=True):
        for number, group in enumerate(used):
            users[group] += 1
            if (
                issued.setdefault(group, counts[kind][number]) != counts[kind][number]
                or roots.setdefault(group, stated[kind][number]) != stated[kind][number]
            ):
                return (
                    f"the members of group {workload.groups[group].name!r} don't issue the same collectives"
                )
    for group in issued:
        if sum(rank in workload.graphs for rank in workload.groups[group].ranks) != users[group]:
            return f"not all members of group {workload.groups[group].name!r} take part in its collectives"
    messages = match_messages(workload)
    for rank, row in (*messages.lone_sends, *messages.lone_recvs):
        if int(workload.graphs[rank].peers[row]) in workload.graphs:
            return f"a message of rank {rank} has one end only"
    return ""


def _stated_roots(groups: Rows, roots: Rows) -> list[bytes]:
    """For each group of a rank, a mask of its collectives that state a root, in order."""
    return [(roots[groups == number] > 0).tobytes() for number in range(int(groups.max(initial=-1)) + 1)]
