"""A workload: the graphs of all ranks and the process groups that join them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, NodeKind, Rows
from chakrasim.traces.shared.pickling import FieldsOnly

WORLD = "world"
WORLD_NAMES = ("", "0", WORLD)
"""Names that mean all ranks, unless something declares them otherwise."""
STANDS_FOR = "stands_for"
"""Metadata of a graph: how many ranks do what this one does, itself included, if others have no graph."""


@dataclass(frozen=True)
class ProcessGroup:
    """Ranks that communicate with each other, in the group's own order."""

    name: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Others:
    """Symmetric ranks that are represented by others and have no graph of their own."""

    are_alike: Callable[[Sequence[int]], bool]
    """True if that is exact on a machine with blocks of so many ranks (hosts, racks of hosts): whether groups
    and messages lie on blocks in the same way for all ranks of a kind."""
    everyone: Callable[[], Workload]
    """Makes the workload with all ranks' graphs."""


@dataclass(frozen=True, eq=False, repr=False)
class Workload(FieldsOnly):
    """The graphs of a job by rank, and its process groups.

    Ranks that do the same may share one graph object. Where some ranks of the world have no graph,
    `is_partial` is set, and the replay has to assume what those do.
    """

    name: str
    graphs: Mapping[int, ExecutionGraph]
    """By rank, ascending."""
    groups: tuple[ProcessGroup, ...]
    """Group 0 is the world."""
    world_size: int
    sources: Mapping[int, str] = field(default_factory=dict)
    """Origin of each rank, for error messages."""
    is_partial: bool = False
    notes: tuple[str, ...] = ()
    """Assumptions, and what was not understood on the way here, for people."""
    stands_for: Mapping[int, int] = field(default_factory=dict)
    """Number of ranks that a rank stands for, itself included, where one of each kind has a graph. Groups
    hold all of their ranks; those without a graph come when the one comes that stands for them."""
    others: Others | None = None
    """The ranks that `stands_for` counts, where they can still be made."""
    group_tables: Mapping[int, Rows] = field(default_factory=dict)
    """For each rank int32: index in `groups` for each of the graph's group names; -1 is unknown."""

    @classmethod
    def from_graphs(
        cls,
        graphs: Mapping[int, ExecutionGraph] | Sequence[ExecutionGraph],
        *,
        name: str = "workload",
        groups: Mapping[str, Sequence[int]] | None = None,
        sources: Mapping[int, str] | None = None,
        notes: Iterable[str] = (),
        world_size: int | None = None,
        partial: bool = False,
        stands_for: Mapping[int, int] | None = None,
        others: Others | None = None,
    ) -> Workload:
        """Join graphs. Groups come from the argument or, for names it lacks, from the traces themselves.

        Two ranks may use one name for different groups, as PyTorch does; those stay apart.
        """
        if not isinstance(graphs, Mapping):
            graphs = {graph.rank: graph for graph in graphs}
        graphs = dict(sorted(graphs.items()))
        if not graphs:
            raise TraceError(f"{name}: no ranks")
        stated = max(int(g.metadata.get("world_size", 0) or 0) for g in graphs.values())
        size = world_size or max(stated, max(graphs) + 1)
        world = tuple(range(size))
        index: dict[tuple[str, tuple[int, ...]], int] = {(WORLD, world): 0}
        tables: dict[int, Rows] = {}
        # Members that share one tuple needn't compare it rank by rank: its id is its own while it is kept.
        known: dict[tuple[str, int], tuple[int, tuple[int, ...]]] = {}
        for rank, graph in graphs.items():
            table = np.full(len(graph.group_names), -1, dtype=np.int32)
            for local, group_name in enumerate(graph.group_names):
                ranks = _ranks_of(group_name, groups or {}, graph.groups)
                if ranks is None:
                    continue
                # Another group of all ranks has an order of its own: it stays apart from the world.
                ranks = ranks or world
                key = group_name, id(ranks)
                if key not in known:
                    is_world = group_name in WORLD_NAMES and (ranks is world or ranks == world)
                    number = 0 if is_world else index.setdefault((group_name, ranks), len(index))
                    known[key] = number, ranks
                table[local] = known[key][0]
            tables[rank] = table
        return cls(
            name=name,
            graphs=graphs,
            groups=_named_apart(index),
            world_size=size,
            sources=sources or {rank: f"{name} rank {rank}" for rank in graphs},
            is_partial=partial or (len(graphs) < size and not stands_for),
            notes=tuple(notes),
            stands_for=stands_for or {},
            others=others,
            group_tables=tables,
        )

    def stands_for_all_on(self, blocks: Sequence[int] | None) -> bool:
        """True if ranks without a graph are exactly like the others on a machine with blocks of these sizes,
        or can't be made. None asks for all ranks."""
        return self.others is None or (blocks is not None and self.others.are_alike(blocks))

    def complete_for(self, blocks: Sequence[int] | None) -> Workload:
        """With graphs of all ranks, if those without one aren't exactly like the others on a machine with
        blocks of these sizes, or if that is None. A workload that was read can't be completed."""
        if self.others is None or self.stands_for_all_on(blocks):
            return self
        return self.others.everyone()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that have a graph, ascending."""
        return tuple(self.graphs)

    @property
    def missing_ranks(self) -> list[int]:
        """Ranks of the world that have no graph and no other's stands for them, ascending."""
        if self.stands_for and sum(self.stands_for.values()) == self.world_size:
            return []
        return sorted(set(range(self.world_size)) - set(self.graphs))

    def __repr__(self) -> str:
        of_world = f" of {self.world_size}" if len(self.graphs) < self.world_size else ""
        return f"<Workload {self.name!r}: {len(self.graphs)}{of_world} ranks, {len(self)} nodes>"

    def __len__(self) -> int:
        return sum(len(graph) for graph in self.graphs.values())

    def group_index(self, rank: int) -> Rows:
        """int32[n]: for each row of a rank its index in `groups` if it is a collective, else -1.

        Also -1 for a collective whose group is unknown; a checked workload has none of those.
        """
        return self._group_indexes[rank]

    @cached_property
    def _group_indexes(self) -> dict[int, Rows]:
        indexes = {}
        for rank, graph in self.graphs.items():
            # The appended 0 is where group id -1, the world, looks.
            table = np.append(self.group_tables[rank], np.int32(0))
            indexes[rank] = np.where(
                graph.kinds == NodeKind.COLL, table[graph.group_ids], np.int32(-1)
            ).astype(np.int32)
        return indexes

    def with_notes(self, notes: Iterable[str]) -> Workload:
        """The same workload with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def _ranks_of(
    name: str, given: Mapping[str, Sequence[int]], declared: Mapping[str, Sequence[int]]
) -> tuple[int, ...] | None:
    """Ranks of a group; () is the world, None is unknown."""
    if name in given:
        return tuple(given[name])
    if name in declared:
        return tuple(declared[name])
    return () if name in WORLD_NAMES else None


def _named_apart(index: Mapping[tuple[str, tuple[int, ...]], int]) -> tuple[ProcessGroup, ...]:
    uses = Counter(name for name, _ in index)
    return tuple(
        ProcessGroup(name if uses[name] == 1 else f"{name} ({_shown(ranks)})", ranks) for name, ranks in index
    )


def _shown(ranks: tuple[int, ...]) -> str:
    text = ",".join(map(str, ranks[:8]))
    return text if len(ranks) <= 8 else f"{text},… {len(ranks)} ranks"
