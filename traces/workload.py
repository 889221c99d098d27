"""A workload: the graphs of all ranks and the process groups that join them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, NodeKind, Rows
from chakrasim.traces.io import rank_in_name, read_bytes, read_graph, unpacked_bytes, write_graph

WORLD = "world"
WORLD_NAMES = ("", "0", WORLD)
"""Names that mean all ranks, unless something declares them otherwise."""
SUFFIXES = (".et", ".et.gz")
STANDS_FOR = "stands_for"
"""Metadata of a graph: how many ranks do what this one does, itself included, if others have no graph."""


@dataclass(frozen=True)
class ProcessGroup:
    """Ranks that communicate with each other, in the group's own order."""

    name: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Others:
    """Ranks without a graph, for which those with one stand."""

    are_alike: Callable[[Sequence[int]], bool]
    """Whether that is exact on a machine with blocks of so many ranks (hosts, racks of hosts): whether groups
    and messages lie on blocks in the same way for all ranks of a kind."""
    everyone: Callable[[], Workload]
    """Makes the workload with all ranks' graphs."""


@dataclass(frozen=True, eq=False, repr=False)
class Workload:
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
    """Where each rank came from, for messages."""
    is_partial: bool = False
    notes: tuple[str, ...] = ()
    """What was assumed or not understood on the way here, for people."""
    stands_for: Mapping[int, int] = field(default_factory=dict)
    """Where only one of each kind of rank has a graph: how many do what it does, itself included. Groups hold
    all of their ranks; those without a graph come when the one comes that stands for them."""
    others: Others | None = None
    """What `stands_for` counts, where it can still be made."""
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
        """Whether ranks without a graph are exactly like the others on a machine with blocks of these sizes,
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


def read_groups(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Read a communicator-group file: `{"1": [0, 1], "2": [2, 3]}`; list order is group order.

    Raises TraceError if it is anything else.
    """
    path = Path(path)
    try:
        content = orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as error:
        raise TraceError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise TraceError(f'{path}: expected an object like {{"1": [0, 1], "2": [2, 3]}}')
    for name, ranks in content.items():
        if not (isinstance(ranks, list) and all(_is_rank(rank) for rank in ranks) and ranks):
            raise TraceError(f"{path}: group {name!r} is not a list of ranks: {ranks!r}")
        if len(set(ranks)) < len(ranks):
            raise TraceError(f"{path}: group {name!r} lists a rank twice: {ranks!r}")
    return {name: tuple(ranks) for name, ranks in content.items()}


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def find_rank_files(path: Path) -> dict[int, Path]:
    """The `.et` files of a folder, of a prefix (`dir/name` for `dir/name.<rank>.et`), or one file, by rank.

    Raises TraceError if there is none, if a folder holds several prefixes, or if two files claim one rank.
    """
    if path.is_file():
        return {rank_in_name(path) or 0: path}
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.name.endswith(SUFFIXES)]
        where = f"{path}: no .et files in this folder"
    else:
        parent = path.parent
        files = [f for f in sorted(parent.iterdir()) if _prefix(f) == path.name] if parent.is_dir() else []
        where = f"{path}: no such file or folder, and no files {path.name}.<rank>.et in {parent}"
    ranked = [(rank, f) for f in files if (rank := rank_in_name(f)) is not None]
    if not ranked:
        if files:
            where += f" have a rank in their names; expected name.<rank>.et, found {files[0].name}"
        raise TraceError(where)
    prefixes = sorted({_prefix(f) for _, f in ranked})
    if len(prefixes) > 1:
        raise TraceError(
            f"{path}: the folder holds several workloads ({', '.join(prefixes)}); "
            f"name one of them, for example {path / prefixes[0]}"
        )
    found: dict[int, Path] = {}
    for rank, file in ranked:
        if rank in found:
            raise TraceError(f"{path}: {found[rank].name} and {file.name} are both rank {rank}")
        found[rank] = file
    return dict(sorted(found.items()))


def _prefix(file: Path) -> str:
    name = file.name
    for suffix in (".gz", ".et"):
        name = name.removesuffix(suffix)
    return name.rpartition(".")[0] if file.name.endswith(SUFFIXES) else ""


def load_workload(
    path: str | os.PathLike[str],
    *,
    groups_file: str | os.PathLike[str] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    partial: bool = False,
    drop_unknown_dependencies: bool = False,
) -> Workload:
    """Read and check the graphs of a folder, a prefix or one file (see `find_rank_files`).

    Process groups come from a file, else from `groups`, else from the graphs themselves. One file alone, or
    `partial`, makes a workload in which other ranks of the world are missing. Raises
    TraceError for whatever is wrong, OSError for a file that can't be opened.
    """
    from chakrasim.traces.check import raise_problems

    workload = read_workload(
        path,
        groups_file=groups_file,
        groups=groups,
        partial=partial,
        drop_unknown_dependencies=drop_unknown_dependencies,
    )
    raise_problems(workload)
    return workload


def read_workload(
    path: str | os.PathLike[str],
    *,
    groups_file: str | os.PathLike[str] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    partial: bool = False,
    drop_unknown_dependencies: bool = False,
) -> Workload:
    """As `load_workload`, without the check of nodes and collectives: for looking at broken traces."""
    path = Path(path)
    if groups_file is not None:
        groups = read_groups(groups_file)
    files = find_rank_files(path)
    single = path.is_file()
    graphs: dict[int, ExecutionGraph] = {}
    seen: dict[bytes, ExecutionGraph] = {}
    total_bytes = unpacked_bytes(files.values())
    for rank, file in files.items():
        graph = read_graph(
            file,
            None if single else rank,
            drop_unknown_dependencies=drop_unknown_dependencies,
            seen=None if drop_unknown_dependencies else seen,
            total_bytes=total_bytes,
        )
        graphs[graph.rank] = graph
    if not (single or partial):
        _require_all_ranks(path, files, graphs)
    dropped = sum(int(g.metadata.get("dropped_dependencies", 0)) for g in graphs.values())
    notes = _recorded_notes(graphs)
    if dropped:
        notes.append(f"{dropped:,} dependencies on nodes that are not in the trace were dropped")
    return Workload.from_graphs(
        graphs,
        name=path.name if path.is_file() else _prefix(next(iter(files.values()))),
        groups=groups,
        sources={graph.rank: str(f) for graph, f in zip(graphs.values(), files.values(), strict=True)},
        partial=partial or single,
        notes=notes,
        stands_for=_stands_for(graphs),
    )


def _stands_for(graphs: Mapping[int, ExecutionGraph]) -> dict[int, int]:
    """As the graphs say; nothing unless all of the world's ranks are accounted for."""
    counts = {rank: int(graph.metadata.get(STANDS_FOR, 0) or 0) for rank, graph in graphs.items()}
    sizes = {int(graph.metadata.get("world_size", 0) or 0) for graph in graphs.values()}
    return counts if min(counts.values()) > 0 and sizes == {sum(counts.values())} else {}


def _require_all_ranks(path: Path, files: Mapping[int, Path], graphs: Mapping[int, ExecutionGraph]) -> None:
    expected: set[int] = set()
    for graph in graphs.values():
        expected |= set(graph.metadata.get("trace_ranks") or ())
    missing = sorted((expected or set(range(max(files) + 1))) - set(files))
    if missing:
        example = next(iter(files.values())).name.replace(f".{min(files)}.", f".{missing[0]}.")
        listed = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        raise TraceError(
            f"{path}: no file for rank {listed} (found {len(files)} files, highest rank {max(files)}); "
            f"expected {example}; to replay without the missing ranks, use --partial"
        )


def _recorded_notes(graphs: Mapping[int, ExecutionGraph]) -> list[str]:
    notes: dict[str, None] = {}
    for graph in graphs.values():
        notes |= dict.fromkeys(graph.metadata.get("notes") or ())
    return list(notes)


def save_workload(
    workload: Workload,
    folder: str | os.PathLike[str],
    prefix: str = "trace",
    *,
    compress: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:
    """Write `folder/prefix.<rank>.et` for every rank and return the paths. Makes the folder if needed.

    `progress` is told what is done, of how much, and the name of the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for rank, graph in workload.graphs.items():
        declared = dict(graph.groups) | {
            name: workload.groups[index].ranks
            for name, index in zip(graph.group_names, workload.group_tables[rank], strict=True)
            if index >= 0
        }
        metadata = dict(graph.metadata) | {
            "world_size": workload.world_size,
            "trace_ranks": list(workload.ranks),
        }
        if rank in workload.stands_for:
            metadata[STANDS_FOR] = workload.stands_for[rank]
        if workload.notes:
            metadata["notes"] = list(workload.notes)
        path = folder / f"{prefix}.{rank}.et{'.gz' if compress else ''}"
        write_graph(replace(graph, rank=rank, groups=declared, metadata=metadata), path)
        if progress is not None:
            progress(len(paths) + 1, len(workload.graphs), path.name)
        paths.append(path)
    return paths
