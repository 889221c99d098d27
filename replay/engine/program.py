"""From a workload to the columns that the kernel runs on.

All ranks' nodes stand one after the other, in order of rank; the node in row `i` of a rank is number
`bases[rank] + i`. After them comes one `begin` node a rank, the parent of the nodes that have none: the
begins end at time 0 in order of rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.kernel import COLLECTIVE, PLAIN, RECEIVE, SEND, State
from chakrasim.traces.graph import DEFAULT_LANE, ExecutionGraph, Ints, NodeKind, Rows
from chakrasim.traces.matching import (
    CollectiveMatching,
    MessageMatching,
    match_collectives,
    match_messages,
)
from chakrasim.traces.shared.pickling import FieldsOnly
from chakrasim.traces.workload import Workload

DEFAULT_LANES = ("cpu", "compute", "comm")
"""Lanes of nodes that name none, after a rank's named lanes."""


@dataclass(frozen=True, eq=False)
class Matched:
    """What the nodes of a workload meet in. R ranks, C collectives.

    Of ranks that do the same, a program can have one: it then stands for others, and so do
    its collectives.
    """

    collectives: CollectiveMatching
    messages: MessageMatching
    expected: Rows
    """int32[C]: nodes that have to arrive."""
    sizes: Rows
    """int32[C]: members of the group that are in the workload."""
    collective_weights: Ints
    """int64[C]: how many collectives of the workload each one stands for."""
    rank_weights: Ints
    """int64[R]: how many ranks each one stands for."""

    @classmethod
    def of(cls, workload: Workload) -> Matched:
        """Everything, standing for itself."""
        collectives = match_collectives(workload)
        graphs = workload.graphs
        present = [sum(rank in graphs for rank in group.ranks) for group in workload.groups]
        sizes = np.array(present, dtype=np.int32)[collectives.group]
        ones = (np.ones(count, dtype=np.int64) for count in (len(collectives), len(graphs)))
        return cls(collectives, match_messages(workload), sizes, sizes, *ones)


@dataclass(frozen=True, eq=False)
class Meetings:
    """Collectives and messages split into waiting and transfer, see `recorded_rendezvous.py`.

    M of them, collectives first, in place of the program's own. N nodes.
    """

    roles: NDArray[np.int8]
    """int8[N]"""
    partners: Ints
    """int64[N]"""
    durations_ps: Ints
    """int64[N]: of members of recorded meetings their transfer, of all others as before."""
    costs_ps: Ints
    """int64[M]: OWN_PS where the members have times of their own."""
    offsets: Ints
    """int64[M + 1]"""
    members: Rows
    expected: Rows
    """int32[M]"""


@dataclass(frozen=True, eq=False)
class Program(FieldsOnly):
    """A workload laid out for the kernel. N nodes without the begins, R ranks, C collectives, L lanes."""

    workload: Workload
    bases: dict[int, int]
    """Number of each rank's first node."""
    ranks: Rows
    """int32[N]: the rank of each node."""
    kinds: NDArray[np.int8]
    """int8[N]: `NodeKind` numbers."""
    is_cpu: NDArray[np.bool_]
    lanes: Rows
    """int32[N]: index in `lane_names` and `lane_ranks`, -1 for none."""
    lane_names: tuple[str, ...]
    lane_ranks: Rows
    roles: NDArray[np.int8]
    """int8[N]: what ends a node, see `kernel.State`."""
    partners: Ints
    """int64[N]: its collective, or the other end of its message; -1 for none."""
    child_offsets: Ints
    """int64[N + R + 1]"""
    children: Rows
    parent_counts: Rows
    """int32[N + R]"""
    matched: Matched

    @property
    def collectives(self) -> CollectiveMatching:
        """Which nodes meet in collectives."""
        return self.matched.collectives

    @property
    def messages(self) -> MessageMatching:
        """Which sends meet which receives."""
        return self.matched.messages

    @property
    def expected(self) -> Rows:
        """int32[C]: nodes that have to arrive."""
        return self.matched.expected

    def count(self, chosen: NDArray[np.bool_]) -> int:
        """How many nodes of the workload those of bool[N] stand for."""
        weights = np.repeat(self.matched.rank_weights, [len(g) for g in self.workload.graphs.values()])
        return int(weights[chosen].sum())

    def column(self, name: str) -> Ints:
        """int64[N]: one column of all ranks' graphs."""
        graphs = self.workload.graphs.values()
        return np.concatenate([getattr(graph, name) for graph in graphs]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.ranks)

    def default_lane(self, name: str) -> Rows:
        """int32[N]: for each node the index of that one of its rank's `DEFAULT_LANES`."""
        own = np.array([lane == name for lane in self.lane_names])
        # A rank's default lanes come after those of the same name that the trace has.
        last = np.zeros(int(self.lane_ranks.max(initial=0)) + 1, dtype=np.int32)
        last[self.lane_ranks[own]] = np.flatnonzero(own)
        return last[self.ranks]

    def rows(self, rank: int) -> slice:
        """Where a rank's nodes lie in columns of length N."""
        return slice(self.bases[rank], self.bases[rank] + len(self.workload.graphs[rank]))

    def locate(self, node: int) -> tuple[int, int]:
        """Rank and row of a node."""
        rank = int(self.ranks[node])
        return rank, node - self.bases[rank]

    def members(self) -> tuple[Ints, Rows]:
        """Offsets [C + 1] and nodes of each collective, in order of rank."""
        offsets, ranks, rows = self.collectives.members
        base_by_rank = np.zeros(max(self.bases, default=-1) + 1, dtype=np.int64)
        base_by_rank[list(self.bases)] = list(self.bases.values())
        return offsets, (base_by_rank[ranks] + rows).astype(np.int32)

    def state(
        self,
        durations_ps: Ints,
        costs_ps: Ints,
        roles: NDArray[np.int8] | None = None,
        lanes: Rows | None = None,
        meetings: Meetings | None = None,
    ) -> State:
        """Fresh state for one run. `durations_ps` int64[N], `costs_ps` int64[C], as in `kernel.State`.

        `roles` and `lanes` take the place of the program's own where a machine has other ideas; `meetings`,
        where they were recorded, that of collectives and messages, durations, costs and roles.
        """
        own_roles = self.roles if roles is None else roles
        partners, expected = self.partners, self.expected
        member_offsets, members = self.members() if meetings is None else (meetings.offsets, meetings.members)
        if meetings is not None:
            own_roles, partners, expected = meetings.roles, meetings.partners, meetings.expected
            durations_ps, costs_ps = meetings.durations_ps, meetings.costs_ps
        own_lanes = self.lanes if lanes is None else lanes
        n, begins = len(self), len(self.bases)
        lanes = np.concatenate([own_lanes, np.full(begins, -1, dtype=np.int32)])
        used = lanes[lanes >= 0]
        ready_offsets = np.zeros(len(self.lane_names) + 1, dtype=np.int64)
        np.cumsum(np.bincount(used, minlength=len(self.lane_names)), out=ready_offsets[1:])
        durations = np.concatenate([durations_ps, np.zeros(begins, dtype=np.int64)])
        questions = int((durations < 0).sum()) + 1
        # What has started and not ended holds a lane or is on none. The begins come first.
        most_events = len(self.lane_names) + int((lanes < 0).sum()) + 1
        return State(
            child_offsets=self.child_offsets,
            children=self.children,
            parents_left=self.parent_counts.copy(),
            lanes=lanes,
            roles=np.concatenate([own_roles, np.full(begins, PLAIN, dtype=np.int8)]),
            partners=np.concatenate([partners, np.full(begins, -1, dtype=np.int64)]),
            durations_ps=durations,
            member_offsets=member_offsets,
            members=members,
            arrivals_left=expected.copy(),
            costs_ps=costs_ps.astype(np.int64),
            ready_offsets=ready_offsets,
            ready=np.zeros(len(used) + 1, dtype=np.int32),
            ready_counts=np.zeros(len(self.lane_names), dtype=np.int32),
            lane_is_busy=np.zeros(len(self.lane_names), dtype=np.int8),
            touched=np.zeros(len(self.lane_names) + 1, dtype=np.int32),
            starting=np.zeros(most_events, dtype=np.int64),
            asked_events=np.zeros(questions, dtype=np.int64),
            asked_sequences=np.zeros(questions, dtype=np.int64),
            queue_ps=np.zeros(most_events, dtype=np.int64),
            queue_sequences=np.arange(most_events, dtype=np.int64),
            queue_events=np.arange(n, n + most_events, dtype=np.int64),
            counters=np.array([begins, 0, 0, 0, begins, begins], dtype=np.int64),
            starts_ps=np.full(n + begins, -1, dtype=np.int64),
            ends_ps=np.full(n + begins, -1, dtype=np.int64),
        )


def lower(workload: Workload, matched: Matched | None = None) -> Program:
    """Lay a checked workload out for the kernel. O(nodes + edges), but for the matching's sort.

    By default everything stands for itself.
    """
    matched = matched or Matched.of(workload)
    graphs = workload.graphs
    sizes = [len(graph) for graph in graphs.values()]
    bases = dict(zip(graphs, (np.cumsum(sizes) - sizes).tolist(), strict=True))
    n = sum(sizes)
    child_counts, children, parent_counts, lanes = [], [], [], []
    root_counts, roots = [], []
    lane_names: list[str] = []
    lane_ranks: list[int] = []
    for rank, graph in graphs.items():
        offsets, rows = graph.children()
        own_parents = np.diff(graph.parent_offsets)
        own_roots = np.flatnonzero(own_parents == 0) + bases[rank]
        child_counts.append(np.diff(offsets))
        children.append((rows + bases[rank]).astype(np.int32))
        parent_counts.append(np.maximum(own_parents, 1).astype(np.int32))
        root_counts.append(len(own_roots))
        roots.append(own_roots.astype(np.int32))
        own_lanes = lanes_of(graph)
        lanes.append(np.where(own_lanes < 0, -1, own_lanes + len(lane_names)).astype(np.int32))
        names = (*graph.lane_names, *DEFAULT_LANES)
        lane_names += names
        lane_ranks += [rank] * len(names)
    child_offsets = np.zeros(n + len(graphs) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([*child_counts, root_counts]), out=child_offsets[1:])
    ranks = np.repeat(np.array(list(graphs), dtype=np.int32), sizes)
    kinds = _joined([graph.kinds for graph in graphs.values()])
    roles, partners = _partners(workload, bases, kinds, matched.collectives, matched.messages)
    return Program(
        workload=workload,
        bases=bases,
        ranks=ranks,
        kinds=kinds,
        is_cpu=_joined([graph.is_cpu for graph in graphs.values()]),
        lanes=_joined(lanes),
        lane_names=tuple(lane_names),
        lane_ranks=np.array(lane_ranks, dtype=np.int32),
        roles=roles,
        partners=partners,
        child_offsets=child_offsets,
        children=_joined([*children, *roots]),
        parent_counts=np.concatenate([*parent_counts, np.ones(len(graphs), dtype=np.int32)]),
        matched=matched,
    )


@dataclass(frozen=True, eq=False)
class WholeProgram:
    """The program of all of a workload's ranks, laid out when it is first needed."""

    workload: Workload

    @cached_property
    def program(self) -> Program:
        """O(nodes + edges) the first time."""
        return lower(self.workload)

    def __getstate__(self) -> dict[str, Any]:
        return {"workload": self.workload}  # the program follows from it


def lanes_of(graph: ExecutionGraph) -> Rows:
    """int32[n]: index in the graph's lane names followed by `DEFAULT_LANES`; -1 for none.

    Nodes without a lane of their own: compute on the device takes `compute`; compute and memory on the host
    take `cpu`; collectives, sends and the device's memory nodes take `comm`; a receive waits without
    holding anything. Metadata and invalid nodes are markers and take nothing at all.
    """
    kinds, is_cpu = graph.kinds, graph.is_cpu
    cpu, compute, comm = (len(graph.lane_names) + i for i in range(3))
    is_memory = (kinds == NodeKind.MEM_LOAD) | (kinds == NodeKind.MEM_STORE)
    default = np.full(len(graph), -1, dtype=np.int32)
    default[(kinds == NodeKind.COLL) | (kinds == NodeKind.SEND) | is_memory] = comm
    default[kinds == NodeKind.COMP] = compute
    default[is_cpu & (is_memory | (kinds == NodeKind.COMP))] = cpu
    lanes = np.where(graph.lanes == DEFAULT_LANE, default, np.maximum(graph.lanes, -1))
    return np.where(is_marker(kinds), -1, lanes).astype(np.int32)


def is_marker(kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """bool[n]: nodes that take neither time nor a lane."""
    return np.less_equal(kinds, NodeKind.METADATA)


def _partners(
    workload: Workload,
    bases: dict[int, int],
    kinds: NDArray[np.int8],
    collectives: CollectiveMatching,
    messages: MessageMatching,
) -> tuple[NDArray[np.int8], Ints]:
    """Roles int8[N] and partners int64[N]; see `kernel.State`."""
    partners = _joined([collectives.instance[rank] for rank in workload.graphs]).astype(np.int64)
    roles = np.full(len(kinds), PLAIN, dtype=np.int8)
    roles[partners >= 0] = COLLECTIVE
    roles[kinds == NodeKind.SEND] = SEND
    roles[kinds == NodeKind.RECV] = RECEIVE
    base_by_rank = np.zeros(max(bases) + 1, dtype=np.int64)
    base_by_rank[list(bases)] = list(bases.values())
    sends = base_by_rank[messages.send_rank] + messages.send_row
    receives = base_by_rank[messages.recv_rank] + messages.recv_row
    partners[sends] = receives
    partners[receives] = sends
    # A receive from a rank that isn't in the workload ends by itself; from one that is, it waits for ever.
    for rank, row in messages.lone_recvs:
        if int(workload.graphs[rank].peers[row]) not in workload.graphs:
            roles[bases[rank] + row] = PLAIN
    return roles, partners


def _joined(columns: list[Any]) -> Any:
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int32)
