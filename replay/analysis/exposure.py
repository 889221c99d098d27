"""Exposed communication: what a rank's compute doesn't hide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.results.intervals import covered_ps
from chakrasim.replay.results.result import compute_and_host
from chakrasim.traces.graph import CommKind, NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result


@dataclass(frozen=True)
class Exposed:
    """Exposed time of one kind of communication over one group."""

    kind: str
    """`CommKind.label`, "send", "receive", or "not understood"."""
    group: str
    """Name of the process group, empty for messages."""
    exposed_ps: int
    """Time in it while no compute ran. Two kinds that run at once both count."""


def exposed_by_kind(result: Result, rank: int) -> list[Exposed]:
    """A rank's exposed communication by kind and group, longest first; what is fully hidden is left out."""
    graph, rows = result.workload.graphs[rank], result.rows(rank)
    starts_ps, ends_ps = result.starts_ps[rows], result.ends_ps[rows]
    has_ended = ends_ps >= 0
    is_compute = compute_and_host(graph)[0] & has_ended
    compute_ps = covered_ps(starts_ps[is_compute], ends_ps[is_compute])
    group_index = result.workload.group_index(rank)
    columns = np.stack([graph.kinds, graph.comm_kinds, group_index])
    # A message has no kind of collective, whatever its attributes say.
    columns[1:, graph.kinds != NodeKind.COLL] = -1
    chosen = graph.is_communication & has_ended
    found = []
    for key in np.unique(columns[:, chosen], axis=1).T:
        either = is_compute | (chosen & (columns == key[:, None]).all(axis=0))
        exposed_ps = covered_ps(starts_ps[either], ends_ps[either]) - compute_ps
        if exposed_ps:
            node_kind, comm_kind, group = key.tolist()
            name = result.workload.groups[group].name if group >= 0 else ""
            found.append(Exposed(_label(node_kind, comm_kind), name, exposed_ps))
    return sorted(found, key=lambda entry: -entry.exposed_ps)


def exposed_waiting_ps(result: Result, rank: int) -> int:
    """Time that a rank waits for others, see `Result.waits_ps`, while no compute runs."""
    rows = result.rows(rank)
    starts_ps, ends_ps, waits_ps = result.starts_ps[rows], result.ends_ps[rows], result.waits_ps[rows]
    is_compute = compute_and_host(result.workload.graphs[rank])[0] & (ends_ps >= 0)
    compute = starts_ps[is_compute], ends_ps[is_compute]
    waits = waits_ps > 0
    waiting = starts_ps[waits], starts_ps[waits] + waits_ps[waits]
    both = (np.concatenate(pair) for pair in zip(compute, waiting, strict=True))
    return covered_ps(*both) - covered_ps(*compute)


def _label(node_kind: int, comm_kind: int) -> str:
    if node_kind != NodeKind.COLL:
        return NodeKind(node_kind).label
    return CommKind(comm_kind).label if comm_kind >= 0 else "not understood"
