"""The self-check: how far a replay of the unchanged trace is from its recording.

A trace is replayed with recorded durations and the recorded network. Recorded starts take no part in that:
nothing is scheduled by them. So where the replay starts everything when the recording did, its dependencies
explain the recording, and what it says of another machine can be believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.results.intervals import covered_ps
from chakrasim.traces.graph import EDITED, ExecutionGraph, Ints

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.workload import Workload

WORST_NODES = 5
DOUBTFUL_PERCENT = 10.0
"""A span that is further off than this makes every what-if on the trace doubtful."""


@dataclass(frozen=True)
class Compared:
    """A recorded length of time and the replay's."""

    name: str
    recorded_ps: int
    replayed_ps: int
    count: int = 1
    """Number of stretches of this name that were added up."""

    @property
    def error_percent(self) -> float:
        """Error of the replayed time, in per cent of the recorded one."""
        difference_ps = self.replayed_ps - self.recorded_ps
        return 100 * difference_ps / self.recorded_ps if self.recorded_ps else 0.0


@dataclass(frozen=True)
class Misplaced:
    """A node that started at another time than it was recorded."""

    node_id: int
    name: str
    lane: str
    recorded_ps: int
    """Its start after the rank's first one."""
    error_ps: int
    """Replayed start minus recorded start."""


@dataclass(frozen=True)
class Fidelity:
    """One rank's recording beside the replay."""

    rank: int
    over: str
    """Whose nodes' starts are compared: "device" or, where the trace has none, "host"."""
    span: Compared
    """From the first start to the last end of the rank."""
    median_ps: int
    """Median absolute error of all starts."""
    p95_ps: int
    """Nineteen of twenty starts are no further off."""
    streams: tuple[Compared, ...]
    """By lane of the device (of the host where there is none): time in which something ran."""
    phases: tuple[Compared, ...]
    """Profiler steps and user annotations, those of one name added up, in the order of their first."""
    worst: tuple[Misplaced, ...]
    """The nodes that are furthest off, if any is, the worst first."""


def has_recording(workload: Workload) -> bool:
    """True if every rank has nodes with a recorded start and duration, and none was edited."""
    graphs = workload.graphs.values()
    return all(bool(is_recorded(graph).any()) and not graph.metadata.get(EDITED) for graph in graphs)


def is_recorded(graph: ExecutionGraph) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool[n]: nodes of a lane with a recorded start and duration."""
    return (graph.starts_ps >= 0) & (graph.durations_ps > 0) & (graph.lanes >= 0)


def replay_as_recorded(workload: Workload) -> Result:
    """The replay that the self-check looks at: everything as recorded, on no machine in particular."""
    from chakrasim.replay.machine.load import DEFAULT_MACHINE, load_machine
    from chakrasim.replay.network import RECORDED_NETWORK
    from chakrasim.replay.simulate import simulate

    return simulate(workload, load_machine(DEFAULT_MACHINE), compute="measured", network=RECORDED_NETWORK)


def compare(result: Result) -> tuple[Fidelity, ...]:
    """Each finished rank's recording beside a result of `replay_as_recorded`. O(n log n)."""
    return tuple(
        _compare(rank, graph, result.starts_ps[result.rows(rank)], result.ends_ps[result.rows(rank)])
        for rank, graph in result.workload.graphs.items()
        if result.has_finished(rank) and is_recorded(graph).any()
    )


def is_doubtful(found: tuple[Fidelity, ...]) -> bool:
    """True if some rank's span is too far off for what-ifs."""
    return any(abs(rank.span.error_percent) > DOUBTFUL_PERCENT for rank in found)


def doubt(found: tuple[Fidelity, ...]) -> str:
    """Warning about a what-if on a trace whose replay `is_doubtful`."""
    worst = max(found, key=lambda rank: abs(rank.span.error_percent))
    return (
        f"the replay of the unchanged trace is {worst.span.error_percent:+.1f} % off on rank {worst.rank}: "
        "what follows from it for other machines, or other work, is at least as uncertain"
    )


def _compare(rank: int, graph: ExecutionGraph, starts_ps: Ints, ends_ps: Ints) -> Fidelity:
    recorded = is_recorded(graph)
    begun_ps, ended_ps = graph.starts_ps, graph.starts_ps + graph.durations_ps
    origin_ps, replay_origin_ps = int(begun_ps[recorded].min()), int(starts_ps[recorded].min())
    span = Compared(
        "span",
        int(ended_ps[recorded].max()) - origin_ps,
        int(ends_ps[recorded].max()) - replay_origin_ps,
    )
    on_device = recorded & ~graph.is_cpu
    chosen = on_device if on_device.any() else recorded
    rows = np.flatnonzero(chosen)
    errors_ps = (starts_ps[rows] - replay_origin_ps) - (begun_ps[rows] - origin_ps)
    sizes_ps = np.abs(errors_ps)
    order = np.argsort(-sizes_ps, kind="stable")[:WORST_NODES].tolist()
    return Fidelity(
        rank=rank,
        over="device" if on_device.any() else "host",
        span=span,
        median_ps=int(np.median(sizes_ps)),
        p95_ps=int(np.percentile(sizes_ps, 95)),
        streams=tuple(_busy(graph, rows, begun_ps, ended_ps, starts_ps, ends_ps)),
        phases=tuple(_phases(graph, np.flatnonzero(recorded), begun_ps, ended_ps, starts_ps, ends_ps)),
        worst=tuple(
            Misplaced(
                int(graph.ids[rows[k]]),
                graph.name(rows[k]),
                graph.lane_name(rows[k]),
                int(begun_ps[rows[k]]) - origin_ps,
                int(errors_ps[k]),
            )
            for k in order
            if sizes_ps[k] > 0
        ),
    )


def _busy(
    graph: ExecutionGraph, rows: Ints, begun_ps: Ints, ended_ps: Ints, starts_ps: Ints, ends_ps: Ints
) -> list[Compared]:
    found = []
    for lane in np.unique(graph.lanes[rows]).tolist():
        own = rows[graph.lanes[rows] == lane]
        found.append(
            Compared(
                graph.lane_names[lane],
                covered_ps(begun_ps[own], ended_ps[own]),
                covered_ps(starts_ps[own], ends_ps[own]),
                len(own),
            )
        )
    return found


def _phases(
    graph: ExecutionGraph, rows: Ints, begun_ps: Ints, ended_ps: Ints, starts_ps: Ints, ends_ps: Ints
) -> list[Compared]:
    """A phase lasts from the start of its first node to the end of its last, on its own thread."""
    phases: Mapping[str, list[object]] = {
        key: list(graph.metadata.get(f"phase_{key}") or ())
        for key in ("names", "lanes", "starts_ps", "ends_ps")
    }
    by_lane: dict[str, Ints] = {}
    added: dict[str, list[int]] = {}
    for name, lane, begin, end in zip(*phases.values(), strict=False):
        if lane not in by_lane:
            number = graph.lane_names.index(str(lane)) if lane in graph.lane_names else -1
            own = rows[graph.lanes[rows] == number]
            by_lane[str(lane)] = own[np.argsort(begun_ps[own], kind="stable")]
        own = by_lane[str(lane)]
        first, last = np.searchsorted(begun_ps[own], [begin, end])
        inside = own[first:last]
        if not len(inside):
            continue
        entry = added.setdefault(str(name), [0, 0, 0])
        entry[0] += int(ended_ps[inside].max() - begun_ps[inside].min())
        entry[1] += int(ends_ps[inside].max() - starts_ps[inside].min())
        entry[2] += 1
    return [Compared(name, *entry) for name, entry in added.items()]
