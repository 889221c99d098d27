"""Workloads in folders of `.et` files: which file is which rank, reading, and saving."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from chakrasim.traces.check import raise_problems
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.io import rank_in_name, read_bytes, read_graph, unpacked_bytes, write_graph
from chakrasim.traces.workload import STANDS_FOR, Workload

SUFFIXES = (".et", ".et.gz")


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
    """Load like `load_workload`, without the check of nodes and collectives: for looking at broken traces."""
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
    """Counts that the graphs state; none unless all of the world's ranks are accounted for."""
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
