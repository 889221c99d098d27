"""Differences between rank classes: for each class the first one to the class most like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chakrasim.replay.symmetry.classes import Exchanges, Memberships, RankClasses
from chakrasim.replay.symmetry.fingerprint import MODELLED, OWN_ROOT, Shape, differences
from chakrasim.traces.graph import CLOCK, CommKind, ExecutionGraph, Ints, NodeKind, Rows
from chakrasim.traces.units import format_bytes, format_time

MAX_COMPARED = 64
"""So many earlier classes are looked at for the one whose graph is most alike."""


@dataclass(frozen=True)
class Apart:
    """Two classes, by number, and why ranks of the one don't do what those of the other do."""

    number: int
    nearest: int
    because: str


def apart(classes: RankClasses, at_most: int | None = None) -> list[Apart]:
    """For each class but the first, the earlier class that it was kept apart from last.

    Of those that the graphs alone kept apart, it is the one with the fewest nodes that differ. Only the first
    `at_most` classes are looked at, if that is given. O(classes^2 * rounds + rounds * memberships), and 64
    comparisons of graphs a class.
    """
    kinds, count = classes.kinds, len(classes) if at_most is None else min(len(classes), at_most)
    if kinds is None:
        return []
    places = np.unique(classes.index, return_index=True)[1].tolist()
    stages = [stage[places].tolist() for stage in classes.stages]
    meetings = [_Meetings(classes, stage) for stage in classes.stages]
    found = []
    for number in range(1, count):
        together = [
            next((n for n, stage in enumerate(stages) if stage[number] != stage[other]), len(stages))
            for other in range(number)
        ]
        last = max(together)
        nearest = together.index(last)
        if last > 0:
            because = meetings[last - 1].difference(places[number], places[nearest])
        else:
            shapes = [kinds.shapes[int(kinds.number[place])] for place in places[: number + 1]]
            compared = range(min(number, MAX_COMPARED))
            nearest = min(compared, key=lambda n, of=shapes: _distance(of[n], of[-1]))  # type: ignore[misc]
            because = _by_graph(shapes[-1], shapes[nearest])
        found.append(Apart(number, nearest, because))
    return found


def _distance(one: Shape, other: Shape) -> tuple[int, int]:
    """Distance between two graphs: difference in node counts, then number of different nodes."""
    if len(one.graph) != len(other.graph):
        return abs(len(one.graph) - len(other.graph)), 0
    differ = np.zeros(len(one.graph), dtype=np.bool_)
    columns = ("kinds", "durations_ps", "comm_bytes", "ops", "tensor_bytes", "lanes", "groups", "roots")
    has_durations = one.durations is not None and other.durations is not None
    for name in (*columns, *(MODELLED if has_durations else ())):
        differ |= one.column(name) != other.column(name)
    return 0, int(differ.sum())


def _by_graph(one: Shape, other: Shape) -> str:
    """The first node in which two graphs differ, and how."""
    a, b = one.graph, other.graph
    found = list(differences(one, other))
    column, row = min(found, key=lambda at: at[1] if at[1] >= 0 else len(a))
    theirs = f"rank {b.rank}"
    if column == "nodes":
        return f"it has {len(a):,} nodes, {theirs} {len(b):,}{_parting(a, b)}"
    if column == CLOCK:
        return (
            f"its clock is {format_time(one.clock_ps)} ahead, that of {theirs} {format_time(other.clock_ps)}"
        )
    if row < 0:
        return f"its nodes have other {column.replace('_', ' ')} than those of {theirs}"
    node = _node(a, row)
    if column in _SHOWN:
        verb, show = _SHOWN[column]
        values = [column_[row] for column_ in (one.column(column), other.column(column))]
        mine, their = (show(int(value)) for value in values)
        if mine == their:
            mine, their = (f"{int(value):,}{' ps' if column.endswith('_ps') else ''}" for value in values)
        return f"{node} {verb} {mine}, on {theirs} {their}"
    if column == "lanes":
        lanes = (graph.lane_name(row) or "default" for graph in (a, b))
        return f"{node} is on lane {next(lanes)!r}, on {theirs} on {next(lanes)!r}"
    if column == "groups":
        return f"{node} is of another of its groups ({a.group_name(row) or 'world'!r}) than on {theirs}"
    if column == "roots":
        holder = "it" if one.roots[row] == OWN_ROOT else theirs
        return f"{holder} is the root of {node}"
    if column in ("parents", "parent_offsets"):
        return f"{node} waits for other nodes than on {theirs}"
    return f"{node} has another {column.replace('_', ' ')} than on {theirs}"


def _parting(a: ExecutionGraph, b: ExecutionGraph) -> str:
    """The first node of graphs of different length that has another name, if there is one."""
    least = min(len(a), len(b))
    names = (np.array(graph.names, dtype=object)[graph.name_ids[:least]] for graph in (a, b))
    unlike = np.flatnonzero(next(names) != next(names))
    return f"; the first that isn't alike is {_node(a, int(unlike[0]))}" if len(unlike) else ""


def _kind(value: int) -> str:
    return f"a {NodeKind(value).label}"


def _collective(value: int) -> str:
    return CommKind(value).label if value >= 0 else "no collective"


_SHOWN: dict[str, tuple[str, Callable[[int], str]]] = {
    "durations_ps": ("takes", format_time),
    "modelled_ps": ("takes", format_time),
    "recorded_ps": ("takes", format_time),
    "starts_ps": ("was recorded at", format_time),
    "comm_bytes": ("carries", format_bytes),
    "tensor_bytes": ("moves", format_bytes),
    "ops": ("has", lambda value: f"{value:,} operations"),
    "kinds": ("is", _kind),
    "comm_kinds": ("is", _collective),
}


def _node(graph: ExecutionGraph, row: int) -> str:
    return f"node {graph.ids[row]} ({graph.name(row)!r})"


class _Meetings:
    """Collectives and peers of ranks, by the classes of one refinement stage."""

    def __init__(self, classes: RankClasses, stage: Rows) -> None:
        self.classes, self.stage = classes, stage

    @cached_property
    def memberships(self) -> tuple[Memberships, Ints]:
        """Members of each group, and the groups' colours."""
        memberships = self.classes.memberships
        assert memberships is not None, "classes that were refined"
        return memberships, memberships.colours(self.stage)

    @cached_property
    def exchanges(self) -> tuple[Exchanges, Ints]:
        """Ends of messages, and their colours."""
        exchanges = self.classes.exchanges
        assert exchanges is not None, "classes that were refined"
        return exchanges, exchanges.colours(self.stage)

    def difference(self, own: int, other: int) -> str:
        """The first difference of ranks at these places, whose graphs are the same."""
        return self._by_groups(own, other) or self._by_messages(own, other)

    def _by_groups(self, own: int, other: int) -> str:
        memberships, colours = self.memberships
        workload = self.classes.workload
        ranks = workload.ranks
        mine, their = (np.flatnonzero(memberships.ranks == place) for place in (own, other))
        for a, b in zip(mine.tolist(), their.tolist(), strict=True):
            if colours[a] == colours[b]:
                continue
            group, theirs = (workload.groups[int(memberships.groups[m])] for m in (a, b))
            beside = f"{theirs.name!r} of rank {ranks[other]}"
            if (
                memberships.places[int(memberships.groups[a])]
                != memberships.places[int(memberships.groups[b])]
            ):
                return f"its group {group.name!r} lies otherwise on the machine than {beside}"
            members, their_members = self._members(a), self._members(b)
            only = [rank for key, rank in members.items() if key not in their_members]
            if only:
                return f"in its group {group.name!r} it meets rank {only[0]}, which has no like in {beside}"
            lacks = next(rank for key, rank in their_members.items() if key not in members)
            return f"in its group {group.name!r} there is none like rank {lacks} in {beside}"
        return ""

    def _members(self, membership: int) -> dict[tuple[int, int], int]:
        """Example rank of each (class, group index) among a group's members."""
        memberships, ranks = self.memberships[0], self.classes.workload.ranks
        found: dict[tuple[int, int], int] = {}
        for m in np.flatnonzero(memberships.groups == memberships.groups[membership]).tolist():
            place = int(memberships.ranks[m])
            found.setdefault((int(self.stage[place]), int(memberships.numbers[m])), ranks[place])
        return found

    def _by_messages(self, own: int, other: int) -> str:
        exchanges, colours = self.exchanges
        graphs, ranks = self.classes.workload.graphs, self.classes.workload.ranks
        mine, their = (np.flatnonzero(exchanges.ranks == place) for place in (own, other))
        at = int(np.argmax(colours[mine] != colours[their]))
        a, b = int(mine[at]), int(their[at])
        graph, row = graphs[ranks[own]], int(exchanges.rows[a])
        peer, their_peer = int(graph.peers[row]), int(graphs[ranks[other]].peers[exchanges.rows[b]])
        way = "to" if graph.kinds[row] == NodeKind.SEND else "from"
        what = f"{_node(graph, row)} is a message {way} rank {peer}"
        that = f"that of rank {ranks[other]} {way} rank {their_peer}"
        if exchanges.costs_ps[a] != exchanges.costs_ps[b]:
            times = (format_time(int(exchanges.costs_ps[m])) for m in (a, b))
            return f"{what} and takes {next(times)}, {that} {next(times)}"
        if (exchanges.peers[a] < 0) != (exchanges.peers[b] < 0):
            return f"{what}, {that}: rank {peer if exchanges.peers[a] < 0 else their_peer} has no trace"
        if self.stage[exchanges.peers[a]] != self.stage[exchanges.peers[b]]:
            return f"{what}, which isn't like rank {their_peer}, with which rank {ranks[other]} exchanges it"
        return f"{what}, which meets another node there than {that}"
