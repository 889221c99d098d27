"""Collectives in other process groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from chakrasim.traces.edits.parts.each import choose, counted, counts
from chakrasim.traces.edits.sizes import UNTIMED, is_understood, without_times
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.workload import Workload

Ranks = tuple[int, ...]


def regroup(workload: Workload, pattern: str, group: str | Sequence[Sequence[int]]) -> Workload:
    """The workload with the collectives whose name a pattern means in other process groups.

    `group` is the name of a group that the workload has; where ranks use one name for different groups, each
    rank takes its own. Or it is new groups as lists of ranks, each rank's being the one that lists it. Sizes
    stay; recorded durations are forgotten, see `resize`. Raises ConfigError for an unknown group, a rank
    that none of the groups lists, or that is listed twice. O(n).
    """
    if not isinstance(group, str):
        listed = [rank for ranks in group for rank in ranks]
        again = next((rank for rank in listed if listed.count(rank) > 1), None)
        if again is not None:
            raise ConfigError(f"{workload.name}: the groups for {pattern!r} list rank {again} more than once")
    chosen = choose(workload, pattern, "collective", is_understood)
    graphs = {}
    for rank, graph in workload.graphs.items():
        rows = chosen[rank]
        declared = declared_groups(workload, rank)
        if rows.any():
            name, ranks = _group_of(workload, rank, group, pattern)
            roots = graph.peers[rows & (graph.peers >= 0)]
            outside = np.setdiff1d(roots, ranks)
            if len(outside):
                raise ConfigError(
                    f"{workload.name}: {pattern!r} on rank {rank} means a collective with root {outside[0]}, "
                    f"which group {name!r} doesn't have: its ranks are {list(ranks[:16])}"
                )
            if declared.get(name, ranks) != ranks:
                name = f"{name} {','.join(map(str, ranks))}"
            names = graph.group_names if name in graph.group_names else (*graph.group_names, name)
            group_ids = np.where(rows, names.index(name), graph.group_ids).astype(np.int32)
            graph = without_times(graph, rows, group_ids=group_ids, group_names=names)
            declared[name] = ranks
        graphs[rank] = replace(graph, groups=declared)
    where = f"group {group!r}" if isinstance(group, str) else "groups " + "/".join(_listed(g) for g in group)
    note = f"put {counted(counts(chosen))} that match {pattern!r} into {where}; {UNTIMED}"
    return with_groups_of(workload, graphs).with_notes([note])


def _listed(ranks: Sequence[int]) -> str:
    return ",".join(map(str, ranks))


def _group_of(
    workload: Workload, rank: int, group: str | Sequence[Sequence[int]], pattern: str
) -> tuple[str, Ranks]:
    """Name and ranks of the group that a rank goes to."""
    if not isinstance(group, str):
        for ranks in group:
            if rank in ranks:
                return f"ranks {_listed(ranks)}", tuple(ranks)
        raise ConfigError(
            f"{workload.name}: rank {rank} has collectives that match {pattern!r}, but none of the groups "
            f"{'/'.join(_listed(ranks) for ranks in group)} lists it"
        )
    declared = declared_groups(workload, rank)
    if group in declared:
        return group, declared[group]
    for other in workload.groups:
        if other.name == group:
            return group, other.ranks
    raise UnknownName("process group", group, {*declared, *(known.name for known in workload.groups)})


def declared_groups(workload: Workload, rank: int) -> dict[str, Ranks]:
    """The groups of a rank's graph under the names that it has for them."""
    names, table = workload.graphs[rank].group_names, workload.group_tables[rank]
    used = {
        name: workload.groups[index].ranks
        for name, index in zip(names, table.tolist(), strict=True)
        if index >= 0
    }
    return {**workload.graphs[rank].groups, **used}


def with_groups_of(
    workload: Workload,
    graphs: Mapping[int, ExecutionGraph],
    *,
    world_size: int | None = None,
    sources: Mapping[int, str] | None = None,
) -> Workload:
    """The workload with other graphs, which themselves declare all their groups."""
    return Workload.from_graphs(
        graphs,
        name=workload.name,
        sources=workload.sources if sources is None else sources,
        notes=workload.notes,
        world_size=world_size or workload.world_size,
        partial=workload.is_partial,
    )
