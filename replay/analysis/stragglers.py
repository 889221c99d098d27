"""Stragglers: the last member to arrive at each collective, and what made it late.

A member's stretch before a collective runs from its arrival at the group's collective before (or the start)
to its arrival at this one. What it did there is the time of its nodes that began there, up to the arrival,
without waiting for others and without the group's own collectives. Summed up by name, and compared with the
median of the other members' sums over their stretches, the last member's excess says which of its nodes took
longer. Nodes that run side by side, on the host and on the device for example, each count, so excesses
needn't add up to the lateness; what came from earlier stretches isn't in them either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chakrasim.traces.graph import CommKind, Ints

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.graph import ExecutionGraph

MAX_NODES = 5
"""Names told for each rank."""
MAX_COLLECTIVES = 20
"""Collectives told one by one, those that cost most."""


@dataclass(frozen=True)
class Excess:
    """Nodes of one name, on the stretches before collectives at which their rank was last."""

    name: str
    is_host: bool
    excess_ps: int
    """Their time beyond the median of the other members'."""
    own_ps: int


@dataclass(frozen=True)
class Straggler:
    """One rank's waiting, and that of others for it, at collectives."""

    rank: int
    last_at: int
    """Collectives at which it arrived last and others waited."""
    cost_ps: int
    """Sum of what the others waited there."""
    waiting_ps: int
    """Sum of what it waited at all collectives."""
    nodes: tuple[Excess, ...]
    """Nodes that made it late, the largest excess first, at most `MAX_NODES`."""


@dataclass(frozen=True)
class Meeting:
    """A collective at which members waited."""

    group: str
    kind: str
    ordinal: int
    """Ordinal of the collective in its group, from 0."""
    last_rank: int
    arrival_ps: int
    """Arrival time of that rank."""
    waits_ps: Mapping[int, int]
    """By rank of the group that has a trace."""


@dataclass(frozen=True, eq=False)
class Stragglers:
    """Stragglers by rank and by collective."""

    ranks: tuple[Straggler, ...]
    """Every rank that is in a collective with others, in order of rank."""
    meetings: tuple[Meeting, ...]
    """The collectives that cost most waiting, at most `MAX_COLLECTIVES`, the worst first."""


def find_stragglers(result: Result) -> Stragglers:
    """Find who waited for whom at every collective that all its members reached.

    Nothing is found where nobody waits, as with `--network recorded`. O(n log n) in the nodes of all ranks
    for each process group that a rank has collectives of.
    """
    program = result.program
    if not result.waits or not len(program.collectives):
        return Stragglers((), ())
    offsets, members = program.members()
    counts = np.diff(offsets)
    is_met = (result.arrivals_ps >= 0) & (counts > 1)
    starts_ps = result.starts_ps[members]
    of_member = np.repeat(np.arange(len(counts)), counts)
    waits_ps = np.where(is_met[of_member], result.arrivals_ps[of_member] - starts_ps, 0)
    # The first of those that arrived at the last moment.
    is_last = is_met[of_member] & (waits_ps == 0)
    last = np.full(len(counts), -1, dtype=np.int64)
    at = np.flatnonzero(is_last)[::-1]
    last[of_member[at]] = at
    costs_ps = np.bincount(of_member, weights=waits_ps, minlength=len(counts)).astype(np.int64)
    is_late = is_met & (costs_ps > 0)
    ranks = program.ranks[members]
    excess = _Excesses(result, is_late, ranks[np.maximum(last, 0)])
    size = result.workload.world_size
    own = np.bincount(ranks, weights=waits_ps, minlength=size)
    last_ranks = ranks[last[is_late]]
    cost = np.bincount(last_ranks, weights=costs_ps[is_late], minlength=size)
    last_at = np.bincount(last_ranks, minlength=size)
    involved = np.unique(ranks[is_met[of_member]]).tolist()
    worst = np.argsort(-costs_ps, kind="stable")[:MAX_COLLECTIVES]
    matching, groups = program.collectives, result.workload.groups
    return Stragglers(
        ranks=tuple(
            Straggler(rank, int(last_at[rank]), int(cost[rank]), int(own[rank]), excess.of(rank))
            for rank in involved
        ),
        meetings=tuple(
            Meeting(
                group=groups[int(matching.group[one])].name,
                kind=CommKind(int(matching.kind[one])).label,
                ordinal=int(matching.ordinal[one]),
                last_rank=int(ranks[last[one]]),
                arrival_ps=int(result.arrivals_ps[one]),
                waits_ps=dict(
                    zip(
                        ranks[offsets[one] : offsets[one + 1]].tolist(),
                        waits_ps[offsets[one] : offsets[one + 1]].tolist(),
                        strict=True,
                    )
                ),
            )
            for one in worst.tolist()
            if is_late[one]
        ),
    )


class _Excesses:
    """Time by name on the stretches of last members, beyond the median of the others."""

    def __init__(self, result: Result, is_late: Any, last_ranks: Any) -> None:
        self.result = result
        self.names: dict[tuple[str, bool], int] = {}
        self.found: dict[int, dict[int, list[int]]] = {}
        """By rank, by number of name: excess and own time, ps."""
        ids = {rank: self._name_ids(graph) for rank, graph in result.workload.graphs.items()}
        group_of = result.program.collectives.group
        for group in np.unique(group_of[is_late]).tolist():
            late = np.flatnonzero(is_late & (group_of == group))
            self._add_group(group, late, last_ranks[late], ids)

    def of(self, rank: int) -> tuple[Excess, ...]:
        """The names of most excess of a rank."""
        names = list(self.names)
        found = [(excess, own, names[number]) for number, (excess, own) in self.found.get(rank, {}).items()]
        found = sorted((entry for entry in found if entry[0] > 0), key=lambda entry: (-entry[0], entry[2]))
        return tuple(Excess(*name, excess, own) for excess, own, name in found[:MAX_NODES])

    def _name_ids(self, graph: ExecutionGraph) -> Ints:
        """int64[n]: numbers of (name, host or device), the same on all ranks."""
        table = np.array(
            [
                [self.names.setdefault((name, is_host), len(self.names)) for is_host in (False, True)]
                for name in graph.names
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        return np.asarray(table[graph.name_ids, graph.is_cpu.astype(np.int64)])

    def _add_group(self, group: int, late: Ints, last_ranks: Ints, ids: Mapping[int, Ints]) -> None:
        """Compare the stretches before the collectives `late` of one process group."""
        keys, times, owners = [], [], []
        width = len(self.names)
        members = [rank for rank in self.result.workload.groups[group].ranks if rank in ids]
        for rank in members:
            key, time_ps = self._stretches(rank, group, late, ids[rank], width)
            keys.append(key)
            times.append(time_ps)
            owners.append(np.full(len(key), rank, dtype=np.int64))
        key, time_ps, owner = (np.concatenate(columns) for columns in (keys, times, owners))
        order = np.lexsort((time_ps, key))
        key, time_ps, owner = key[order], time_ps[order], owner[order]
        is_own = owner == last_ranks[key // width]
        own_ps = dict(zip(key[is_own].tolist(), time_ps[is_own].tolist(), strict=True))
        key, time_ps = key[~is_own], time_ps[~is_own]
        # Members that have none of a name count as 0, before the others in ascending order.
        others = len(members) - 1
        firsts = np.searchsorted(key, list(own_ps))
        present = np.searchsorted(key, list(own_ps), side="right") - firsts
        low, high = ((others - 1) // 2, others // 2)
        absent = others - present
        padded = np.append(time_ps, 0)

        def ranked(place: int) -> Ints:
            index = np.where(place >= absent, firsts + place - absent, len(time_ps))
            return np.asarray(padded[index])

        medians = (ranked(low) + ranked(high)) // 2
        for (one, own), median in zip(own_ps.items(), medians.tolist(), strict=True):
            meeting, name = divmod(one, width)
            entry = self.found.setdefault(int(last_ranks[meeting]), {}).setdefault(name, [0, 0])
            entry[0] += own - median
            entry[1] += own

    def _stretches(self, rank: int, group: int, late: Ints, ids: Ints, width: int) -> tuple[Ints, Ints]:
        """Sums of node times before the collectives `late`: key (which of them * width + name), and ps."""
        result, program = self.result, self.result.program
        rows = result.rows(rank)
        instance = program.collectives.instance[rank]
        own = np.flatnonzero((instance >= 0) & (program.collectives.group[instance] == group))
        own = own[np.argsort(program.collectives.ordinal[instance[own]])]
        starts_ps, ends_ps = result.starts_ps[rows], result.ends_ps[rows]
        arrivals = np.maximum.accumulate(starts_ps[own])
        # A node belongs to the first collective that the rank reached after the node began.
        meeting = np.searchsorted(arrivals, starts_ps, side="right")
        place = np.full(len(own), -1, dtype=np.int64)
        _, at_own, at_late = np.intersect1d(instance[own], late, return_indices=True)
        place[at_own] = at_late
        chosen = (meeting < len(own)) & (ends_ps >= 0)
        chosen[own] = False
        chosen[chosen] &= place[meeting[chosen]] >= 0
        meeting = meeting[chosen]
        until_ps = np.minimum(ends_ps[chosen], arrivals[meeting])
        worked_ps = np.maximum(0, until_ps - starts_ps[chosen] - result.waits_ps[rows][chosen])
        key, inverse = np.unique(place[meeting] * width + ids[chosen], return_inverse=True)
        sums = np.bincount(inverse.reshape(-1), weights=worked_ps, minlength=len(key)).astype(np.int64)
        return key, sums
