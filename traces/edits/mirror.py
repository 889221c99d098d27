"""Copies of recorded ranks for those of a job that have no trace, so that its collectives and messages meet.

A job's ranks lie on a grid of process groups: a group of n ranks with stride t from its first belongs to a
family that covers the world, blocks of n * t ranks with t such groups in each. So a rank's place in one group
says which group of the same family any other rank is in, which is what a copy needs. Ranks that sit together
in groups, through others too, play one part of the job (a pipeline stage, for example); a copy is taken
from a recorded rank of the same part. A part of which nothing is recorded, but with which a recorded rank
exchanges messages, is played by copies of that rank in which sends and receives between the two have
changed places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from chakrasim.traces.attributes import RowsOf
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.workload import ProcessGroup, Workload

Ranks = tuple[int, ...]
NOBODY = -1
"""Value of `Part.plays` for a rank about whose messages nothing is recorded."""
OF_RANKS = ("comm_src", "comm_dst", "comm_root")
"""Attributes that name ranks, which have columns."""


@dataclass(frozen=True)
class Part:
    """Source of a missing rank: the recorded rank that it is a copy of."""

    source: int
    """The recorded rank."""
    plays: int
    """Whose part it plays: that of `source`, or of a peer of it, or `NOBODY`'s."""


def mirror_ranks(workload: Workload) -> Workload:
    """The workload with a graph for every rank of the world; one that has them all comes back as it is.

    A missing rank r is a copy of a recorded rank that shares a process group with it, else of one of the same
    part of the job, else of any; where there are several, of the (r modulo their number)-th. Its collectives
    run over the group of the same family that r is in (see the module). Its messages go to the member of such
    a group that is as many places on as in the recording, and elsewhere as many ranks on. Copies share the
    columns of their graphs, so they take no memory to speak of. The notes say what was copied and assumed.

    Raises TraceError where the copies don't fit: a group that is no regular part of the world, or collectives
    and messages that still have no counterpart. O(ranks * groups of a rank), and the check of the result.
    """
    missing = [rank for rank in range(workload.world_size) if rank not in workload.graphs]
    if not missing:
        return replace(workload, is_partial=False)
    families = _Families(workload)
    first_problem = None
    for repeats_messages in (True, False):
        mirrored = _mirrored(workload, families, missing, repeats_messages)
        problems = check_workload(mirrored)
        if not problems:
            return mirrored
        first_problem = first_problem or problems[0]
    raise TraceError(
        f"{workload.name}: copies of the ranks that have a trace don't fit together: {first_problem}; "
        "record more ranks, or replay without copies of them (--partial)"
    )


def _mirrored(
    workload: Workload, families: _Families, missing: list[int], repeats_messages: bool
) -> Workload:
    """A workload with copies that may not fit together yet.

    `repeats_messages`: ranks of one part exchange messages as the recorded one does, as in a ring. Else
    whoever a recorded rank exchanges messages with does its side of those and nothing more.
    """
    parts = _parts(workload, families, missing, repeats_messages)
    graphs = {rank: _with_declared_groups(workload, rank) for rank in workload.ranks}
    left_out: Counter[int] = Counter()
    alike: dict[int, ExecutionGraph] = {}
    for rank in missing:
        source = parts[rank].source
        if _is_same_anywhere(workload.graphs[source], families.used[source], families.world):
            graphs[rank] = alike.setdefault(source, replace(graphs[source], records=None))
        else:
            graphs[rank] = _copy(workload, families, rank, parts[rank], repeats_messages, left_out)
    return Workload.from_graphs(
        graphs,
        name=workload.name,
        sources={
            rank: workload.sources.get(rank)
            or f"{workload.sources[parts[rank].source]} as a copy for rank {rank}"
            for rank in sorted(graphs)
        },
        notes=(*workload.notes, *_notes(workload, parts, left_out)),
        world_size=workload.world_size,
    )


class _Families:
    """Groups that the copies of a rank use."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.world: Ranks = tuple(range(workload.world_size))
        self.names: dict[Ranks, set[str]] = {}
        """Names by which recorded ranks know a group."""
        self.used: dict[int, dict[str, Ranks]] = {}
        """For each recorded rank, the groups that it has collectives in."""
        for rank, graph in workload.graphs.items():
            rows = np.flatnonzero((graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0))
            local = [index for index in np.unique(graph.group_ids[rows]).tolist() if index >= 0]
            table = workload.group_tables[rank]
            self.used[rank] = {
                graph.group_names[index]: workload.groups[int(table[index])].ranks for index in local
            }
            for name, ranks in self.used[rank].items():
                self.names.setdefault(ranks, set()).add(name)

    def of(self, rank: int, name: str, ranks: Ranks) -> Ranks:
        """The group that stands to `rank` as `ranks` to its members. Raises TraceError if there is none."""
        if rank in ranks:
            return ranks
        first, count = min(ranks), len(ranks)
        stride = (max(ranks) - first) // (count - 1) if count > 1 else 1
        block = stride * count
        reason = None
        if sorted(ranks) != list(range(first, first + block, stride)):
            reason = "its ranks aren't evenly spaced"
        elif first % block >= stride or self.workload.world_size % block:
            reason = f"groups like it don't cover the {self.workload.world_size} ranks of the world"
        if reason is not None:
            shown = f"{list(ranks[:16])}" + (" …" if count > 16 else "")
            raise TraceError(
                f"{self.workload.name}: process group {name!r} has ranks {shown}: {reason}, so the group of "
                f"rank {rank}, which has no trace, can't be told; record it, or replay without copies "
                "(--partial)"
            )
        start = rank // block * block + rank % stride
        return tuple(start + other - first for other in ranks)


def _parts(
    workload: Workload, families: _Families, missing: list[int], repeats_messages: bool
) -> dict[int, Part]:
    """Source of each missing rank."""
    recorded = list(workload.ranks)
    together = _Union(workload.world_size)
    regular = {
        (name, ranks): None
        for used in families.used.values()
        for name, ranks in used.items()
        if ranks != families.world
    }
    for name, ranks in regular:
        for rank in range(workload.world_size):
            together.join(rank, families.of(rank, name, ranks)[0])
    peers = {rank: _missing_peers(workload, rank) for rank in recorded}
    by_part: dict[int, list[int]] = {}
    for rank in recorded:
        by_part.setdefault(together.find(rank), []).append(rank)
    counterparts: dict[int, list[Part]] = {}
    for rank in recorded:
        for peer in peers[rank]:
            counterparts.setdefault(together.find(peer), []).append(Part(rank, peer))
    parts = {}
    for rank in missing:
        sharing = [
            source
            for source in recorded
            if any(rank in ranks for ranks in families.used[source].values() if ranks != families.world)
        ]
        same = by_part.get(together.find(rank), [])
        others = counterparts.get(together.find(rank), [])
        direct = [part for part in others if part.plays == rank]
        if (sharing or same) and (repeats_messages or not direct):
            sources = sharing or same
            source = sources[rank % len(sources)]
            parts[rank] = Part(source, source if repeats_messages else NOBODY)
        elif direct:
            if len(direct) > 1:
                raise TraceError(
                    f"{workload.name}: rank {rank} has no trace and exchanges messages with ranks "
                    f"{sorted(part.source for part in direct)}, which have: in which order can't be told; "
                    "record it, or replay without copies (--partial)"
                )
            parts[rank] = direct[0]
        elif others:
            parts[rank] = others[rank % len(others)]
        else:
            parts[rank] = Part(recorded[rank % len(recorded)], NOBODY)
    return parts


class _Union:
    """Sets of ranks that play one part."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def find(self, rank: int) -> int:
        """The number of the rank's set."""
        while self.parent[rank] != rank:
            self.parent[rank] = self.parent[self.parent[rank]]
            rank = self.parent[rank]
        return rank

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        self.parent[self.find(one)] = self.find(other)


def _missing_peers(workload: Workload, rank: int) -> list[int]:
    graph = workload.graphs[rank]
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    found = np.unique(graph.peers[is_message]).tolist()
    return [peer for peer in found if peer not in workload.graphs and 0 <= peer < workload.world_size]


def _is_same_anywhere(graph: ExecutionGraph, used: Mapping[str, Ranks], world: Ranks) -> bool:
    """True if a copy needs no change: no messages, and collectives of all ranks only."""
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    return not is_message.any() and all(ranks == world for ranks in used.values())


def _with_declared_groups(workload: Workload, rank: int) -> ExecutionGraph:
    """The recorded graph with its groups' ranks in it, wherever they came from."""
    graph = workload.graphs[rank]
    return replace(graph, groups=dict(graph.groups) | _declared(workload, rank))


def _declared(workload: Workload, rank: int) -> dict[str, Ranks]:
    graph, table = workload.graphs[rank], workload.group_tables[rank]
    named: Mapping[int, ProcessGroup] = dict(enumerate(workload.groups))
    return {
        name: named[index].ranks
        for name, index in zip(graph.group_names, table.tolist(), strict=True)
        if index >= 0
    }


def _copy(
    workload: Workload,
    families: _Families,
    rank: int,
    part: Part,
    repeats_messages: bool,
    left_out: Counter[int],
) -> ExecutionGraph:
    """The graph of a missing rank. `left_out` counts messages by rank that have no counterpart."""
    graph = workload.graphs[part.source]
    own = _declared(workload, part.source)
    names = list(graph.group_names)
    declared = dict(own)
    changed: dict[str, object] = {}
    roots = graph.peers.copy()
    for index, name in enumerate(graph.group_names):
        if name not in families.used[part.source]:
            continue
        ranks = families.of(rank, name, own[name])
        known = families.names.get(ranks, set())
        # Where recorded ranks know the group by another name, it is that one.
        if name not in known and len(known) == 1 and not known & set(names):
            names[index] = next(iter(known))
        declared[names[index]] = ranks
        rooted = (graph.group_ids == index) & (graph.kinds == NodeKind.COLL) & (graph.peers >= 0)
        if rooted.any() and ranks != own[name]:
            place = dict(zip(own[name], ranks, strict=True))
            roots[rooted] = [place.get(root, root) for root in graph.peers[rooted].tolist()]
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    if is_message.any():
        kinds = graph.kinds.copy()
        for peer in np.unique(graph.peers[is_message]).tolist():
            rows = is_message & (graph.peers == peer)
            to = _peer(families, rank, part, peer, repeats_messages)
            if to is None or not 0 <= to < workload.world_size:
                kinds[rows] = NodeKind.INVALID
                left_out[rank] += int(rows.sum())
                continue
            roots[rows] = to
            if peer == part.plays:
                kinds[rows] = np.where(graph.kinds[rows] == NodeKind.SEND, NodeKind.RECV, NodeKind.SEND)
        changed["kinds"] = kinds
    if (roots != graph.peers).any():
        changed["peers"] = roots
    read = graph.read_attributes
    if read is not None and changed:
        changed["read_attributes"] = RowsOf(read, np.arange(len(graph)), frozenset(OF_RANKS))
    return replace(
        graph,
        rank=rank,
        groups=declared,
        group_names=tuple(names),
        metadata={key: value for key, value in graph.metadata.items() if key != "rank"},
        records=None,
        **changed,  # type: ignore[arg-type]
    )


def _peer(families: _Families, rank: int, part: Part, peer: int, repeats_messages: bool) -> int | None:
    """Whom a copy exchanges messages with where its source did with `peer`; None is nobody known.

    It may be a number that is no rank, beyond the ends of a pipeline for example.
    """
    if peer == part.plays:
        return part.source + rank - part.plays
    if not repeats_messages:
        return None
    shared = [
        (len(ranks), name, ranks)
        for name, ranks in families.used[part.source].items()
        if peer in ranks and ranks != families.world
    ]
    if shared:
        _, name, ranks = min(shared)
        own = families.of(rank, name, ranks)
        return own[(own.index(rank) + ranks.index(peer) - ranks.index(part.source)) % len(own)]
    return peer + rank - part.source if part.plays == part.source else None


def _notes(workload: Workload, parts: Mapping[int, Part], left_out: Counter[int]) -> list[str]:
    """Sentences on what was assumed."""
    notes = []
    by_part: dict[tuple[int, bool], list[int]] = {}
    for rank, part in parts.items():
        by_part.setdefault((part.source, part.plays in (part.source, NOBODY)), []).append(rank)
    for (source, is_same), ranks in sorted(by_part.items()):
        notes.append(
            f"{len(ranks):,} of {workload.world_size:,} ranks ({_shown(ranks)}) have no trace and are taken "
            f"to do what rank {source} did, as fast and from the same moment: it never waits for them, "
            "but where its recorded durations hold waiting"
            + ("" if is_same else ", and its messages to them go the other way round")
        )
    if left_out:
        notes.append(
            f"{sum(left_out.values()):,} messages on {len(left_out):,} copied ranks have no counterpart and "
            "take no time"
        )
    return notes


def _shown(ranks: list[int]) -> str:
    text = ", ".join(map(str, ranks[:8]))
    return text if len(ranks) <= 8 else f"{text}, …"
