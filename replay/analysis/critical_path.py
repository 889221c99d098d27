"""Critical path of the step: the chain of nodes from the start to the last end in which each began
when the one before it ended.

It is walked backwards from the node that ends last. A node began when its last parent ended or when its
lane came free. A collective counts from its last arrival, and the chain goes on at the member that
arrived last; a receive that waited for its message hands over to the send. The steps cover the step time
without a hole, so what they add up to by kind says what to shorten first; a shorter chain may then be
overtaken by another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.engine.kernel import COLLECTIVE, RECEIVE, SEND
from chakrasim.traces.errors import ChakrasimError
from chakrasim.traces.graph import NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.graph import Ints

START, PARENT, LANE = "start", "parent", "lane"


@dataclass(frozen=True)
class Step:
    """A node on the critical path, from `start_ps` (of a collective: its last arrival) to `end_ps`."""

    rank: int
    node_id: int
    name: str
    kind: str
    """`NodeKind.label`, with "host" before it for compute and memory nodes of the host."""
    start_ps: int
    end_ps: int
    after: str
    """Last thing that it waited for: "start" (of the replay), "parent" or "lane"."""


def critical_path(result: Result) -> tuple[Step, ...]:
    """The critical path, first step first. Raises ChakrasimError after a deadlock. O(nodes log nodes)."""
    if result.deadlock is not None:
        raise ChakrasimError("a replay that ended in a deadlock has no critical path")
    walk = _Walk(result)
    steps: list[Step] = []
    node: int | None = int(np.argmax(result.ends_ps)) if len(result.ends_ps) else None
    while node is not None:
        node, start_ps, end_ps = walk.cause(node)
        before, after = walk.before(node)
        rank, row = result.program.locate(node)
        graph = result.workload.graphs[rank]
        kind = NodeKind(graph.kinds[row]).label
        if graph.is_cpu[row] and not graph.is_communication[row]:
            kind = f"host {kind}"
        steps.append(Step(rank, int(graph.ids[row]), graph.name(row), kind, start_ps, end_ps, after))
        node = before
    return tuple(reversed(steps))


@dataclass(frozen=True)
class Part:
    """Steps of the critical path of one kind and name, added up."""

    kind: str
    name: str
    count: int
    time_ps: int


def parts(steps: tuple[Step, ...]) -> list[Part]:
    """Parts of the critical path, the longest first. Their times add up to the step time."""
    added: dict[tuple[str, str], list[int]] = {}
    for step in steps:
        added.setdefault((step.kind, step.name), []).append(step.end_ps - step.start_ps)
    found = [Part(kind, name, len(times), sum(times)) for (kind, name), times in added.items()]
    return sorted(found, key=lambda part: (-part.time_ps, part.kind, part.name))


class _Walk:
    """Finds what each node waited for."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.member_offsets, self.members = result.program.members()
        self.both_wait = result.has_recorded_rendezvous
        """True if senders wait for receivers, as those do for them."""
        self.by_end: dict[int, tuple[Ints, Ints]] = {}
        self.passed: set[int] = set()

    def cause(self, node: int) -> tuple[int, int, int]:
        """The node, perhaps of another rank, whose time ended this one; and from when to when."""
        result, partner = self.result, int(self.result.program.partners[node])
        role, end_ps = result.program.roles[node], int(result.ends_ps[node])
        self.passed.add(node)
        if role == COLLECTIVE:
            members = self.members[self.member_offsets[partner] : self.member_offsets[partner + 1]]
            last = int(members[np.argmax(result.starts_ps[members])])
            node = last if result.starts_ps[last] <= end_ps else node
        elif partner >= 0 and role in (SEND, RECEIVE) and self.both_wait:
            if result.starts_ps[node] < result.starts_ps[partner] <= end_ps:
                node = partner
        elif role == RECEIVE and end_ps > result.starts_ps[node]:
            node = partner
        return node, int(result.starts_ps[node]), end_ps

    def before(self, node: int) -> tuple[int | None, str]:
        """A node of the same rank that ended when this one started, and why this one waited for it."""
        result, program = self.result, self.result.program
        self.passed.add(node)
        start_ps = int(result.starts_ps[node])
        if start_ps == 0:
            return None, START
        rank, row = program.locate(node)
        nodes, ends_ps = self._by_end(rank)
        first, last = np.searchsorted(ends_ps, [start_ps, start_ps + 1])
        ended = [n for n in nodes[first:last].tolist() if n not in self.passed]
        parents = set((result.workload.graphs[rank].parents_of(row) + program.bases[rank]).tolist())
        for candidate in ended:
            if candidate in parents:
                return candidate, PARENT
        for candidate in ended:
            if program.lanes[candidate] == program.lanes[node] >= 0:
                return candidate, LANE
        # Nodes without duration, all at one instant, were passed in another order than they ran in. What
        # brought the rank to this instant lasted until now.
        return next((n for n in ended if result.starts_ps[n] < start_ps), None), PARENT

    def _by_end(self, rank: int) -> tuple[Ints, Ints]:
        """A rank's nodes in the order of their ends, and the ends."""
        if rank not in self.by_end:
            rows = self.result.rows(rank)
            order = np.argsort(self.result.ends_ps[rows], kind="stable") + rows.start
            self.by_end[rank] = order, self.result.ends_ps[order]
        return self.by_end[rank]
