"""Communication added up by process group and kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.engine.kernel import PLAIN, SEND
from chakrasim.traces.graph import CommKind, NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.results.result import CollectiveTimes, Result


def communication_times(result: Result) -> tuple[CollectiveTimes, ...]:
    """Collectives by (group, kind), then messages, then what wasn't understood; only what has ended."""
    return (*_collectives(result), *_messages(result), *_not_understood(result))


def _collectives(result: Result) -> list[CollectiveTimes]:
    from chakrasim.replay.results.result import CollectiveTimes

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
    from chakrasim.replay.network.traffic import endpoints
    from chakrasim.replay.results.result import CollectiveTimes

    program = result.program
    sends = np.flatnonzero((program.roles == SEND) & (result.ends_ps >= 0))
    if not len(sends):
        return []
    sizes = endpoints(program)[2]
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
    from chakrasim.replay.results.result import NOT_UNDERSTOOD, CollectiveTimes

    program = result.program
    is_opaque = (program.kinds == NodeKind.COLL) & (program.roles == PLAIN) & (result.ends_ps >= 0)
    if not is_opaque.any():
        return []
    times_ps = result.ends_ps[is_opaque] - result.starts_ps[is_opaque]
    return [CollectiveTimes(NOT_UNDERSTOOD, "", 0, int(is_opaque.sum()), 0, int(times_ps.sum()), 0)]
