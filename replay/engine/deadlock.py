"""Why a replay couldn't go on: who waits, for what, and who never came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chakrasim.replay.engine.kernel import COLLECTIVE, RECEIVE, SEND
from chakrasim.replay.engine.program import Program
from chakrasim.traces.graph import CommKind, Ints, NodeKind

MAX_WAITS = 64
"""Waiting nodes that are described; a job of thousands of ranks can have one each."""


@dataclass(frozen=True)
class Blocked:
    """A node that waits for ever."""

    rank: int
    node_id: int
    name: str
    kind: str
    """Kind of the node: "collective", "receive", "compute", ..."""
    because: str
    """Reason for waiting, as a phrase."""
    group: str | None = None
    """A collective's process group."""
    missing_ranks: tuple[int, ...] = ()
    """Ranks that never came to a collective, or the rank that never sent."""

    def __str__(self) -> str:
        return f"rank {self.rank} node {self.node_id} ({self.name!r}, {self.kind}) waits for {self.because}"

    def to_json(self) -> dict[str, Any]:
        """The entry in the JSON document."""
        return {
            "rank": self.rank,
            "node": self.node_id,
            "name": self.name,
            "kind": self.kind,
            "group": self.group,
            "waits_for": self.because,
            "missing_ranks": list(self.missing_ranks),
        }


@dataclass(frozen=True)
class Deadlock:
    """The nodes that started and wait for other ranks, and one chain of who blocks whom."""

    unfinished_ranks: tuple[int, ...]
    unfinished_nodes: int
    waiting: tuple[Blocked, ...]
    """At most `MAX_WAITS`, in order of rank."""
    chain: tuple[Blocked, ...]
    """Each waits for the next. It ends where something is missing, or with a node that it has passed."""

    @property
    def is_circle(self) -> bool:
        """True if the chain comes back to a node that it has passed."""
        return len(self.chain) > 1 and self.chain[-1] in self.chain[:-1]

    def __str__(self) -> str:
        lines = [
            f"deadlock: {self.unfinished_nodes:,} nodes on {len(self.unfinished_ranks):,} ranks never ran"
        ]
        lines += [f"  {blocked}" for blocked in self.waiting[:8]]
        if len(self.waiting) > 8:
            lines.append(f"  … and {len(self.waiting) - 8} more")
        lines.append("  one chain of waiting" + (", a circle:" if self.is_circle else ":"))
        lines += [f"    {blocked}" for blocked in self.chain]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The `deadlock` object of the JSON document."""
        return {
            "unfinished_ranks": list(self.unfinished_ranks),
            "unfinished_nodes": self.unfinished_nodes,
            "waiting": [blocked.to_json() for blocked in self.waiting],
            "chain": [blocked.to_json() for blocked in self.chain],
            "is_circle": self.is_circle,
        }


def find_deadlock(program: Program, starts_ps: Ints, ends_ps: Ints) -> Deadlock | None:
    """Describe what never ended; None if everything did. O(nodes) and short chains."""
    unfinished = np.flatnonzero(ends_ps < 0)
    if not len(unfinished):
        return None
    inquiry = _Inquiry(program, starts_ps, ends_ps)
    # What has started without ending waits for another rank; there is always one such node.
    waiting = unfinished[starts_ps[unfinished] >= 0]
    return Deadlock(
        unfinished_ranks=tuple(np.unique(program.ranks[unfinished]).tolist()),
        unfinished_nodes=len(unfinished),
        waiting=tuple(inquiry.ask(int(node))[0] for node in waiting[:MAX_WAITS]),
        chain=inquiry.chain(int(waiting[0])),
    )


class _Inquiry:
    """Finds out why nodes didn't end."""

    def __init__(self, program: Program, starts_ps: Ints, ends_ps: Ints) -> None:
        self.program = program
        self.starts_ps, self.ends_ps = starts_ps, ends_ps
        self.member_offsets, self.members = program.members()
        held = np.flatnonzero((starts_ps >= 0) & (ends_ps < 0) & (program.lanes >= 0))
        self.holder_by_lane = dict(zip(program.lanes[held].tolist(), held.tolist(), strict=True))

    def chain(self, node: int) -> tuple[Blocked, ...]:
        links: list[Blocked] = []
        seen: set[int] = set()
        cause: int | None = node
        while cause is not None:
            blocked, after = self.ask(cause)
            links.append(blocked)
            if cause in seen:
                break
            seen.add(cause)
            cause = after
        return tuple(links)

    def ask(self, node: int) -> tuple[Blocked, int | None]:
        """Why a node didn't end, and the node that it waits for, if there is one."""
        rank, row = self.program.locate(node)
        graph = self.program.workload.graphs[rank]
        if self.starts_ps[node] < 0:
            for parent in graph.parents_of(row).tolist():
                if self.ends_ps[self.program.bases[rank] + parent] < 0:
                    return self._blocked(node, f"its parent, node {graph.ids[parent]}"), (
                        self.program.bases[rank] + parent
                    )
            holder = self.holder_by_lane[int(self.program.lanes[node])]
            lane = self.program.lane_names[self.program.lanes[node]]
            own = self.program.locate(holder)[1]
            return self._blocked(node, f"lane {lane!r}, which node {graph.ids[own]} holds"), holder
        if self.program.roles[node] == COLLECTIVE:
            return self._collective(node)
        if self.program.roles[node] == SEND:
            return self._send(node)
        assert self.program.roles[node] == RECEIVE, "only communication waits for ever"
        return self._receive(node)

    def _collective(self, node: int) -> tuple[Blocked, int | None]:
        program, workload = self.program, self.program.workload
        instance = int(program.partners[node])
        members = self.members[self.member_offsets[instance] : self.member_offsets[instance + 1]]
        by_rank = dict(zip(program.ranks[members].tolist(), members.tolist(), strict=True))
        group = workload.groups[program.collectives.group[instance]]
        present = [rank for rank in group.ranks if rank in workload.graphs]
        missing = tuple(r for r in present if r not in by_rank or self.starts_ps[by_rank[r]] < 0)
        lacking = [rank for rank in missing if rank not in by_rank]
        label = CommKind(program.collectives.kind[instance]).label
        if not missing:
            because = (
                f"messages of its own {label}, which all members have begun: its chunks and those of other "
                "collectives wait for each other in the queues (more active_chunks, or priority: fifo, may "
                "help), or its algorithm doesn't end"
            )
            return self._blocked(node, because, group=group.name), None
        because = f"{_listed(missing)} in {label} {program.collectives.ordinal[instance]} of {group.name!r}"
        if lacking:
            because += f"; {_listed(tuple(lacking))} never issue it"
        blocked = self._blocked(node, because, group=group.name, missing=missing)
        return blocked, None if lacking else by_rank[missing[0]]

    def _send(self, node: int) -> tuple[Blocked, int | None]:
        rank, row = self.program.locate(node)
        peer = int(self.program.workload.graphs[rank].peers[row])
        receive = int(self.program.partners[node])
        if receive < 0:
            return self._blocked(node, f"a receive on rank {peer} that doesn't exist", missing=(peer,)), None
        other, other_row = self.program.locate(receive)
        receive_id = self.program.workload.graphs[other].ids[other_row]
        cause = receive if self.starts_ps[receive] < 0 else None
        return self._blocked(node, f"its receive, rank {peer} node {receive_id}", missing=(peer,)), cause

    def _receive(self, node: int) -> tuple[Blocked, int | None]:
        rank, row = self.program.locate(node)
        peer = int(self.program.workload.graphs[rank].peers[row])
        send = int(self.program.partners[node])
        if send < 0:
            return self._blocked(node, f"a send from rank {peer} that doesn't exist", missing=(peer,)), None
        send_rank, send_row = self.program.locate(send)
        send_id = self.program.workload.graphs[send_rank].ids[send_row]
        return self._blocked(node, f"its send, rank {peer} node {send_id}", missing=(peer,)), send

    def _blocked(
        self, node: int, because: str, group: str | None = None, missing: tuple[int, ...] = ()
    ) -> Blocked:
        rank, row = self.program.locate(node)
        graph = self.program.workload.graphs[rank]
        kind = NodeKind(self.program.kinds[node]).label
        return Blocked(rank, int(graph.ids[row]), graph.name(row), kind, because, group, missing)


def _listed(ranks: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"
