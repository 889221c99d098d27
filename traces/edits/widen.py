"""More data-parallel ranks than were recorded.

Ranks of the widened groups are numbered by their positions: with n positions at stride s, a rank is
outer * n * s + position * s + inner. The positions that come do what a recorded one does: position p what
p modulo n did, with the same outer and inner place. So each n positions more are a further copy of the job:

- a group that has all positions of some places (the widened ones, and the world) gets the new positions;
- any other group is copied: its ranks, moved on by the positions of the copy, are a group of their own;
- sends and receives go to the peer moved on in the same way; roots of widened groups stay.

Data parallelism with a share per rank that stays, so compute nodes keep their durations. In widened groups:

- all-gather: bytes are the rank's own shard, of parameters that together stay: n / m of them for m positions;
- all others: bytes are the whole buffer, and stay. Those of all-reduce, reduce-scatter, reduce and broadcast
  are gradients or parameters; those of all-to-all, gather and scatter are of a rank's share.

Recorded durations of collectives in widened groups no longer hold and are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chakrasim.traces.edits.groups import Ranks, declared_groups, with_groups_of
from chakrasim.traces.edits.sizes import is_understood, without_times
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind, Rows
from chakrasim.traces.workload import WORLD, ProcessGroup, Workload


@dataclass(frozen=True)
class Grid:
    """Position of ranks, before and after."""

    stride: int
    before: int
    """Positions of the widened groups, n."""
    after: int

    def place(self, rank: int) -> tuple[int, int]:
        """Position of a recorded rank, and its outer and inner place as one number."""
        outer, within = divmod(rank, self.before * self.stride)
        position, inner = divmod(within, self.stride)
        return position, outer * self.stride + inner

    def rank(self, position: int, place: int) -> int:
        """The number of the rank at a new position."""
        outer, inner = divmod(place, self.stride)
        return outer * self.after * self.stride + position * self.stride + inner

    def moved(self, rank: int, copy: int) -> int | None:
        """The rank of a copy that does what a recorded rank did; None if the copy is cut short of it."""
        position, place = self.place(rank)
        position += copy * self.before
        return self.rank(position, place) if position < self.after else None

    def grown(self, ranks: Ranks) -> Ranks | None:
        """A group that has all positions of some places, with the new ones too; None for any other.

        Ranks in ascending order stay so; else the new positions' ranks follow in the order of the old.
        """
        places = {self.place(rank)[1] for rank in ranks}
        if len(ranks) != len(places) * self.before:
            return None
        copies = -(-self.after // self.before)
        every = [self.moved(rank, copy) for copy in range(copies) for rank in ranks]
        found = [rank for rank in every if rank is not None]
        return tuple(sorted(found) if sorted(ranks) == list(ranks) else found)


def widen(workload: Workload, positions: int, group: str | None = None) -> Workload:
    """The workload with `positions` ranks in each data-parallel group instead of as many as it has.

    `group` is the name of those groups, which may be several of one name or one, and must be evenly spaced
    and together cover the world; None is the world, if all collectives are of all ranks. See the module for
    what the new ranks do. Copies share columns, so they take little memory. Raises UnknownName for an unknown
    group, ConfigError for fewer positions than there are, groups that are no regular part of the world, or
    messages that a copy cut short has nobody for. O(ranks * (nodes + ranks)).
    """
    grid = _grid(workload, group, positions)
    shown = f"{group or WORLD!r}"
    if grid.after == grid.before:
        return workload.with_notes([f"widened nothing: group {shown} has {positions} ranks already"])
    copies = -(-grid.after // grid.before)
    graphs: dict[int, ExecutionGraph] = {}
    sources: dict[int, str] = {}
    world_size = workload.world_size // grid.before * grid.after
    for rank in workload.ranks:
        timeless, is_grown = _rescaled(workload, rank, grid)
        for copy in range(copies):
            new = grid.moved(rank, copy)
            if new is None:
                continue
            graphs[new] = _copied(workload, timeless, is_grown, grid, copy, new, world_size)
            source = workload.sources[rank]
            sources[new] = source if copy == 0 else f"{source} as a copy for rank {new}"
    note = (
        f"widened group {shown} from {grid.before} to {grid.after} ranks, the world from "
        f"{workload.world_size} to {world_size}: new ranks do what recorded ones did, each with its share "
        "of a batch that grows; in widened groups all-gathers give smaller shards of the same whole, all "
        "other collectives keep their bytes, and what was recorded of their time no longer holds"
    )
    widened = with_groups_of(
        workload, dict(sorted(graphs.items())), world_size=world_size, sources=dict(sorted(sources.items()))
    )
    return widened.with_notes([note])


def _grid(workload: Workload, group: str | None, positions: int) -> Grid:
    """Raises UnknownName and ConfigError, see `widen`."""
    groups = _groups_called(workload, group)
    sizes = {len(found) for found in groups}
    strides = {_stride(found) for found in groups}
    world, name = workload.world_size, workload.name
    what = f"{name}: can't widen {group or WORLD!r}"
    if len(sizes) > 1 or len(strides) > 1 or None in strides:
        listed = ", ".join(str(list(found[:8])) for found in groups[:4])
        raise ConfigError(f"{what}: its groups have to be alike and evenly spaced, but are {listed}")
    count, stride = sizes.pop(), strides.pop() or 1
    if world % (count * stride):
        raise ConfigError(f"{what}: {count} ranks at stride {stride} don't cover the {world} of the world")
    if positions < count:
        raise ConfigError(f"{what} to {positions} ranks: it has {count}; expected as many or more")
    grid = Grid(stride, count, positions)
    for found in groups:
        if len({grid.place(rank)[1] for rank in found}) > 1:
            raise ConfigError(f"{what}: group {list(found[:8])} doesn't lie on one line of the {world} ranks")
    return grid


def _groups_called(workload: Workload, group: str | None) -> list[Ranks]:
    world: ProcessGroup = workload.groups[0]
    if group in (None, WORLD):
        for rank in workload.ranks:
            index = workload.group_index(rank)
            others = np.unique(index[index > 0])
            if group is None and len(others):
                names = ", ".join(repr(workload.groups[other].name) for other in others.tolist()[:8])
                raise ConfigError(
                    f"{workload.name}: has collectives of groups {names} beside the world; say which one is "
                    "data parallel, as in --widen dp=8"
                )
        return [world.ranks]
    found = {
        declared_groups(workload, rank)[group]: None
        for rank in workload.ranks
        if group in declared_groups(workload, rank)
    }
    found |= {known.ranks: None for known in workload.groups if known.name == group}
    if not found:
        known_names = {name for rank in workload.ranks for name in declared_groups(workload, rank)}
        raise UnknownName("process group", str(group), {WORLD, *known_names})
    return list(found)


def _stride(ranks: Ranks) -> int | None:
    """Stride between a group's ranks; None where it differs."""
    steps = np.unique(np.diff(np.sort(ranks)))
    return 1 if len(ranks) == 1 else int(steps[0]) if len(steps) == 1 else None


def _rescaled(workload: Workload, rank: int, grid: Grid) -> tuple[ExecutionGraph, set[str]]:
    """A rank's graph with the new sizes, and the names of its groups that grow, "" for the world."""
    graph = workload.graphs[rank]
    grown = {
        name for name, ranks in declared_groups(workload, rank).items() if grid.grown(ranks) is not None
    } | {""}
    is_grown = np.array([name in grown for name in graph.group_names] + [True], dtype=np.bool_)
    rows = is_understood(graph) & is_grown[graph.group_ids]
    is_shard = rows & (graph.comm_kinds == CommKind.ALL_GATHER) & (graph.comm_bytes > 0)
    shards = -(-graph.comm_bytes * grid.before // grid.after)
    return without_times(graph, rows, comm_bytes=np.where(is_shard, shards, graph.comm_bytes)), grown


def _copied(
    workload: Workload,
    graph: ExecutionGraph,
    grown: set[str],
    grid: Grid,
    copy: int,
    rank: int,
    world_size: int,
) -> ExecutionGraph:
    """The graph of rank `rank`, which does in a copy of the job what the given one did."""
    declared: dict[str, Ranks] = {}
    for name, ranks in declared_groups(workload, graph.rank).items():
        bigger = grid.grown(ranks)
        moved = [grid.moved(other, copy) for other in ranks]
        if bigger is not None:
            declared[name] = bigger
        elif None not in moved:
            declared[name] = tuple(other for other in moved if other is not None)
        elif name in graph.group_names:
            raise ConfigError(
                f"{workload.name}: group {name!r} has several positions of the widened ones, so they can "
                f"only grow to a multiple of {grid.before}, not to {grid.after}"
            )
    return replace(
        graph,
        rank=rank,
        peers=_peers(workload, graph, grown, grid, copy),
        groups=declared,
        metadata={**graph.metadata, "rank": rank, "world_size": world_size},
        records=None,
    )


def _peers(workload: Workload, graph: ExecutionGraph, grown: set[str], grid: Grid, copy: int) -> Rows:
    """int32[n]: peers and roots; those of collectives in groups that grow stay in the first copy."""
    has_peer = graph.peers >= 0
    if not has_peer.any():
        return graph.peers
    in_grown = np.array([name in grown for name in graph.group_names] + [True], dtype=np.bool_)
    stays = (graph.kinds == NodeKind.COLL) & in_grown[graph.group_ids]
    peers: Rows = graph.peers.copy()
    for in_copy, rows in ((0, has_peer & stays), (copy, has_peer & ~stays)):
        for peer in np.unique(graph.peers[rows]).tolist():
            moved = grid.moved(peer, in_copy)
            if moved is None:
                raise ConfigError(
                    f"{workload.name}: rank {graph.rank} exchanges messages with rank {peer} at another "
                    f"position of the widened groups, so they can only grow to a multiple of {grid.before}, "
                    f"not to {grid.after}"
                )
            peers[rows & (graph.peers == peer)] = moved
    return peers
