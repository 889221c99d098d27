"""Fingerprints of graphs: equal for ranks that differ in names of groups and numbers of ranks alone.

Groups are numbered in the order in which a rank's collectives first use them. Of a root only matters whether
it is the rank itself. With whom a message is exchanged, and who the members of the groups are, is left to
`classes.py`. Names, tags, ids and attributes without a column change a time only where a compute model or a
scale looks at them, and it is the durations that those give which are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute.durations import Durations
from chakrasim.traces.graph import CLOCK, ExecutionGraph, Ints, NodeKind, Rows
from chakrasim.traces.shared.pickling import FieldsOnly
from chakrasim.traces.workload import Workload

COLUMNS = (
    *("kinds", "durations_ps", "comm_kinds", "comm_bytes", "ops", "tensor_bytes", "starts_ps", "lanes"),
    *("is_cpu", "dtype_ids", "op_kind_ids", "involved_dims", "priorities", "parent_offsets", "parents"),
)
"""Columns of a graph that change its times, or what is said of them."""
TABLES = ("dtypes", "op_kinds")
MODELLED = ("modelled_ps", "recorded_ps")
"""Columns of `Durations`."""

OTHER_ROOT, OWN_ROOT = 1, 2


@dataclass(frozen=True, eq=False)
class Shape(FieldsOnly):
    """A rank's graph without what names groups and ranks."""

    graph: ExecutionGraph
    use: _Use
    numbers: tuple[int, ...]
    """Numbers of the groups in `use.local`."""
    clock_ps: int
    durations: Durations | None = None
    """By the compute model, where those are known."""

    @cached_property
    def groups(self) -> Rows:
        """int32[n]: number of each collective's group among those that the rank uses; -1 for other nodes."""
        groups = np.full(len(self.graph), -1, dtype=np.int32)
        if len(self.use.rows):
            groups[self.use.rows] = np.array(self.numbers, dtype=np.int32)[self.use.place]
        return groups

    @cached_property
    def roots(self) -> Rows:
        """int32[n]: OTHER_ROOT or OWN_ROOT of a collective that states one, else 0."""
        roots = np.zeros(len(self.graph), dtype=np.int32)
        stated = self.use.stated
        roots[self.use.rows] = np.where(
            stated < 0, 0, np.where(stated == self.graph.rank, OWN_ROOT, OTHER_ROOT)
        )
        return roots

    def column(self, name: str) -> Ints:
        """One of the columns that are compared, by its name in `ExecutionGraph`, `Durations` or here."""
        if name in ("groups", "roots"):
            found: Ints = getattr(self, name)
        elif name in MODELLED:
            assert self.durations is not None, "asked for where both have them"
            found = getattr(self.durations, name)
        else:
            found = getattr(self.graph, name)
        return found


def differences(one: Shape, other: Shape) -> Iterator[tuple[str, int]]:
    """Each column in which two graphs differ, with the first row that does; -1 where they differ as a whole.

    Nothing if they are the same. O(nodes + edges).
    """
    a, b = one.graph, other.graph
    if len(a) != len(b):
        yield "nodes", -1
        return
    if one.clock_ps != other.clock_ps:
        yield CLOCK, -1
    yield from ((name, -1) for name in TABLES if getattr(a, name) != getattr(b, name))
    modelled = () if one.durations is None or other.durations is None else MODELLED
    for name in (*COLUMNS, "groups", "roots", *modelled):
        left, right = one.column(name), other.column(name)
        if left is right or np.array_equal(left, right):
            continue
        if len(left) != len(right):
            continue  # of edges, which the offsets tell
        row = int(np.argmax(left != right))
        if name == "parent_offsets":
            row -= 1
        elif name == "parents":
            row = int(np.searchsorted(a.parent_offsets, row, side="right")) - 1
        yield name, row


@dataclass(frozen=True, eq=False)
class Kinds:
    """The ranks' graphs, sorted by what they do. R ranks in the order of the workload."""

    graphs: tuple[ExecutionGraph, ...]
    number: Rows
    """int32[R]: equal for ranks whose graphs are the same."""
    shapes: tuple[Shape, ...]
    """The first of each number."""
    used: tuple[tuple[int, ...], ...]
    """For each rank the group, by index in `Workload.groups`, that each of its numbers stands for."""

    def with_durations(self, durations: Sequence[Durations]) -> Kinds:
        """Ranks whose nodes don't take equally long kept apart, too. `durations` are in order of rank.

        O(nodes) of those that don't share their durations.
        """
        numbers: list[int] = []
        shapes: list[Shape] = []
        known: dict[tuple[int, int], int] = {}
        prints: defaultdict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
        for kind, graph, one in zip(self.number.tolist(), self.graphs, durations, strict=True):
            key = kind, id(one)
            if key not in known:
                sums = tuple(_sum(getattr(one, name)) for name in MODELLED)
                alike = prints[(kind, sums)]
                same = (n for n in alike if _take_equally_long(shapes[n].durations, one))
                number = next(same, len(shapes))
                if number == len(shapes):
                    shapes.append(replace(self.shapes[kind], graph=graph, durations=one))
                    alike.append(number)
                known[key] = number
            numbers.append(known[key])
        return replace(self, number=np.array(numbers, dtype=np.int32), shapes=tuple(shapes))


def _take_equally_long(one: Durations | None, other: Durations) -> bool:
    return one is not None and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in MODELLED
    )


def kinds_of_graphs(workload: Workload, *, by_root: bool = False) -> Kinds:
    """Compare all ranks' graphs. O(nodes) of graphs that don't share columns, if few are nearly the same.

    Roots of collectives count only if it is said that they do.
    """
    numbers, used = [], []
    shapes: list[Shape] = []
    uses: dict[tuple[int, ...], _Use] = {}
    known: dict[tuple[object, ...], int] = {}
    prints: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for rank, graph in workload.graphs.items():
        identity = tuple(map(id, _compared(graph)))
        if identity not in uses:
            uses[identity] = _Use.of(graph, by_root=by_root)
        use = uses[identity]
        groups = use.groups_of(workload, rank)
        clock_ps = int(graph.metadata.get(CLOCK, 0) or 0)
        order = use.renumbering(groups)
        key = identity, order, use.own_roots(rank), clock_ps
        if key not in known:
            shape = Shape(graph, use, order, clock_ps)
            alike = prints[_print(shape)]
            same = (n for n in alike if not any(differences(shapes[n], shape)))
            number = next(same, len(shapes))
            if number == len(shapes):
                shapes.append(shape)
                alike.append(number)
            known[key] = number
        numbers.append(known[key])
        used.append(tuple(dict.fromkeys(groups)))
    graphs = tuple(workload.graphs.values())
    return Kinds(graphs, np.array(numbers, dtype=np.int32), tuple(shapes), tuple(used))


@dataclass(frozen=True, eq=False)
class _Use:
    """Groups and roots named by the collectives of ranks that share columns."""

    COLUMNS = ("group_ids", "peers")

    rows: Ints
    """Rows of the collectives."""
    local: tuple[int, ...]
    """Group ids in the order of their first collective."""
    place: Rows
    """For each collective its group's place in `local`."""
    stated: Rows
    """The root of each, -1 for none that counts."""
    roots: frozenset[int]

    @classmethod
    def of(cls, graph: ExecutionGraph, *, by_root: bool) -> _Use:
        rows = np.flatnonzero((graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0))
        ids, first, inverse = np.unique(graph.group_ids[rows], return_index=True, return_inverse=True)
        order = np.argsort(first)
        places = np.empty(len(ids), dtype=np.int32)
        places[order] = np.arange(len(ids), dtype=np.int32)
        stated = graph.peers[rows] if by_root else np.full(len(rows), -1, dtype=np.int32)
        roots = np.unique(stated)
        return cls(
            rows,
            tuple(ids[order].tolist()),
            places[inverse.reshape(-1)],
            stated,
            frozenset(roots[roots >= 0].tolist()),
        )

    def groups_of(self, workload: Workload, rank: int) -> tuple[int, ...]:
        """Index in the workload's groups of each local one."""
        table = workload.group_tables[rank]
        return tuple(int(table[one]) if one >= 0 else 0 for one in self.local)

    def renumbering(self, groups: tuple[int, ...]) -> tuple[int, ...]:
        """Number of each local group; two names of one group have the same."""
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        return tuple(numbers[group] for group in groups)

    def own_roots(self, rank: int) -> int:
        """The rank, if it is the root of any of the collectives, else -1."""
        return rank if rank in self.roots else -1


_compared = attrgetter(*COLUMNS, *TABLES, *_Use.COLUMNS)
"""Parts of a graph that tell whether ranks share it."""


def _print(shape: Shape) -> tuple[int, ...]:
    """Numbers that are equal for the same graphs, and nearly never for others. O(nodes)."""
    graph = shape.graph
    sums = (_sum(column) for column in (graph.durations_ps, graph.comm_bytes, graph.kinds))
    return len(graph), len(graph.parents), shape.clock_ps, *sums


def _sum(column: NDArray[Any]) -> int:
    """A sum that wraps around, in which a value counts by where it stands."""
    return int((column * _weights(len(column))).sum())


@lru_cache(maxsize=4)
def _weights(n: int) -> Ints:
    weights: Ints = np.arange(1, n + 1, dtype=np.int64) * np.int64(0x1E3779B97F4A7C15)
    return weights
