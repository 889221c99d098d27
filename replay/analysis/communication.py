"""Communication added up by process group and kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.engine.kernel import PLAIN, SEND
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.shared.memoize import remembered
from chakrasim.traces.units import PS_PER_S

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result

NOT_UNDERSTOOD = "not understood"


@dataclass(frozen=True)
class CollectiveTimes:
    """All collectives of one kind in one process group, or all messages."""

    kind: str
    """`CommKind.label`; "send" for messages; "not understood"."""
    group: str
    """Name of the process group, empty for messages."""
    group_size: int
    count: int
    size_bytes: int
    """Sum over all of them of the bytes that one rank contributes."""
    time_ps: int
    """Sum of the times from the last arrival to the end."""
    waiting_ps: int
    """Sum over all members of the times from their arrival to the last one."""

    @property
    def bandwidth_Bps(self) -> float:
        """Algorithm bandwidth: bytes over time; 0 if there are no bytes or no time."""
        return self.size_bytes * PS_PER_S / self.time_ps if self.time_ps else 0.0


@remembered
def communication_times(result: Result) -> tuple[CollectiveTimes, ...]:
    """Collectives by (group, kind), then messages, then what wasn't understood; only what has ended."""
    return (*_collectives(result), *_messages(result), *_not_understood(result))


def _collectives(result: Result) -> list[CollectiveTimes]:
    program, workload = result.program, result.workload
    matching = program.collectives
    offsets, members = program.members()
    count = len(matching)
    if not count:
        return []
    ends_ps = result.ends_ps[members]
    has_ended = np.minimum.reduceat(ends_ps, offsets[:-1]) >= 0
    times_ps = np.maximum.reduceat(ends_ps, offsets[:-1]) - result.arrivals_ps
    waits_ps = np.add.reduceat(result.waits_ps[members], offsets[:-1])
    keys = matching.group.astype(np.int64) * len(CommKind) + matching.kind
    found = []
    for key in np.unique(keys[has_ended]).tolist():
        group, kind = divmod(key, len(CommKind))
        chosen = has_ended & (keys == key)
        found.append(
            CollectiveTimes(
                kind=CommKind(kind).label,
                group=workload.groups[group].name,
                group_size=len(workload.groups[group].ranks),
                count=int(chosen.sum()),
                size_bytes=int(np.maximum(matching.size_bytes[chosen], 0).sum()),
                time_ps=int(times_ps[chosen].sum()),
                waiting_ps=int(waits_ps[chosen].sum()),
            )
        )
    return found


def _messages(result: Result) -> list[CollectiveTimes]:
    program = result.program
    sends = np.flatnonzero((program.roles == SEND) & (result.ends_ps >= 0))
    if not len(sends):
        return []
    sizes = np.maximum(program.column("comm_bytes"), 0)
    times_ps = result.ends_ps[sends] - result.starts_ps[sends]
    is_receive = program.kinds == NodeKind.RECV
    waiting_ps = int(result.waits_ps[is_receive].sum())
    return [
        CollectiveTimes(
            kind=NodeKind.SEND.label,
            group="",
            group_size=2,
            count=len(sends),
            size_bytes=int(sizes[sends].sum()),
            time_ps=int(times_ps.sum()),
            waiting_ps=waiting_ps,
        )
    ]


def _not_understood(result: Result) -> list[CollectiveTimes]:
    program = result.program
    is_opaque = (program.kinds == NodeKind.COLL) & (program.roles == PLAIN) & (result.ends_ps >= 0)
    if not is_opaque.any():
        return []
    times_ps = result.ends_ps[is_opaque] - result.starts_ps[is_opaque]
    return [CollectiveTimes(NOT_UNDERSTOOD, "", 0, int(is_opaque.sum()), 0, int(times_ps.sum()), 0)]
