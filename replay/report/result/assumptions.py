"""What a replay takes for granted where ranks of a job have no trace: one line for each thing, with counts.

What is said here is what `engine/program.py` and `costs.py` do: a collective waits for those members that
have a trace, a send to a rank without one lands as if it were awaited, a receive from one ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.report.console import listed_ranks
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.matching import match_collectives
from chakrasim.traces.units import format_bytes, format_time

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload


def assumptions(workload: Workload) -> tuple[str, ...]:
    """Sentences for people; none for a workload that has all its ranks. O(nodes log nodes)."""
    missing = workload.missing_ranks
    if not missing:
        return ()
    first = (
        f"{len(missing):,} of {workload.world_size:,} ranks have no trace ({listed_ranks(missing)}): they "
        "are not replayed, and the step time is that of the others"
    )
    return (first, *_collectives(workload), *_messages(workload), *_unknown(workload))


def _collectives(workload: Workload) -> Iterator[str]:
    matching = match_collectives(workload)
    sizes = np.array([len(group.ranks) for group in workload.groups])[matching.group]
    lacks = matching.present < sizes
    if lacks.any():
        groups = len(np.unique(matching.group[lacks]))
        yield (
            f"{int(lacks.sum()):,} collectives in {groups:,} process groups have members without a trace: "
            "those are taken to arrive together with the last member that has one"
        )
    alone = lacks & (matching.present == 1)
    if not alone.any():
        return
    waited_ps = 0
    for rank, graph in workload.graphs.items():
        instance = matching.instance[rank]
        waited_ps += int(graph.durations_ps[(instance >= 0) & alone[instance]].sum())
    yield (
        f"in {int(alone.sum()):,} of them only one member has a trace, so nobody waits; their recorded time "
        f"({format_time(waited_ps)} in all), which --network measured takes, holds what was waited then"
    )
    uneven = (CommKind.ALL_TO_ALL, CommKind.GATHER, CommKind.SCATTER, CommKind.ALL_GATHER)
    unsure = int((lacks & np.isin(matching.kind, uneven)).sum())
    if unsure:
        yield (
            f"{unsure:,} all-to-alls, all-gathers, gathers and scatters may have other sizes on ranks that "
            "lack a trace: the largest size of the others is taken"
        )


def _messages(workload: Workload) -> Iterator[str]:
    sends = receives = size = untimed = 0
    recorded_ps = 0
    for graph in workload.graphs.values():
        is_away = ~np.isin(graph.peers, list(workload.graphs))
        is_send = is_away & (graph.kinds == NodeKind.SEND)
        is_receive = is_away & (graph.kinds == NodeKind.RECV)
        sends += int(is_send.sum())
        size += int(np.maximum(graph.comm_bytes[is_send], 0).sum())
        receives += int(is_receive.sum())
        recorded_ps += int(graph.durations_ps[is_receive].sum())
        untimed += int((graph.durations_ps[is_receive] <= 0).sum())
    if sends:
        yield (
            f"{sends:,} sends ({format_bytes(size)}) go to ranks without a trace: those are taken to be "
            "ready for them at once"
        )
    if receives:
        line = (
            f"{receives:,} receives are from ranks without a trace: when those send isn't known, so each "
            f"takes its recorded duration ({format_time(recorded_ps)} in all, waiting included)"
        )
        if untimed:
            line += f"; {untimed:,} have none and take the time of the message on the network"
        yield line


def _unknown(workload: Workload) -> Iterator[str]:
    opaque = outside = 0
    opaque_ps = 0
    for rank, graph in workload.graphs.items():
        is_opaque = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds < 0)
        opaque += int(is_opaque.sum())
        opaque_ps += int(graph.durations_ps[is_opaque].sum())
        is_understood = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0)
        outside += int((is_understood & (workload.group_index(rank) < 0)).sum())
    if opaque:
        yield (
            f"{opaque:,} collectives have no known kind, size or process group: they take their recorded "
            f"duration ({format_time(opaque_ps)} in all) and wait for nobody"
        )
    if outside:
        yield f"{outside:,} collectives are of process groups whose members aren't known"
