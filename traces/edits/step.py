"""Cutting one profiler step out of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.drop import drop_rows
from chakrasim.traces.edits.parts.columns import edges_of
from chakrasim.traces.edits.parts.meeting import require_whole
from chakrasim.traces.edits.parts.start import delay_start, is_start_delay
from chakrasim.traces.errors import ConfigError, TraceError, UnknownName
from chakrasim.traces.graph import CLOCK, NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

NAMES, LENGTHS, STARTS = "profiler_steps", "profiler_step_ps", "profiler_step_starts_ps"
"""Metadata of a graph: lists with one entry a profiler step."""
OF_WHOLE = ("span_ps", "device_span_ps")
"""Metadata that a part doesn't have."""


@dataclass(frozen=True)
class Window:
    """A step on one rank: recorded times from `start_ps` on and before `end_ps`."""

    name: str
    start_ps: int
    end_ps: int


def cut_step(workload: Workload, step: str) -> Workload:
    """The workload with the nodes of one profiler step only; see `is_in_window`.

    `step` is a step's name, or the number in it: "3" is `ProfilerStep#3`. Nodes wait for each other as they
    did, and no longer for anything outside the step. A host node that began before the step or ended after it
    is cut to its part. Where the ranks' clocks are known to each other (`clock_ps`), ranks whose step began
    later begin later; else all begin together. Raises TraceError for a trace without steps or start times,
    UnknownName for a step that isn't there, ConfigError if a collective or message lies in the step on some
    of its ranks only. O((n + m) lanes).
    """
    windows = {rank: _window(workload, rank, step) for rank in workload.ranks}
    gone = {rank: ~is_in_window(graph, windows[rank]) for rank, graph in workload.graphs.items()}
    require_whole(workload, gone, f"cutting out step {step!r}")
    delays_ps = _delays_ps(workload, windows)
    graphs = {}
    for rank, graph in workload.graphs.items():
        if gone[rank].all():
            raise ConfigError(f"{workload.name}: step {windows[rank].name!r} has no node on rank {rank}")
        cut = drop_rows(_clipped(graph, windows[rank]), gone[rank])
        cut = delay_start(cut, delays_ps[rank]) if delays_ps[rank] else cut
        graphs[rank] = replace(cut, metadata=_metadata(graph, windows[rank]))
    kept = sum(int((~rows).sum()) for rows in gone.values())
    name = next(iter(windows.values())).name
    note = f"cut out step {name!r}: {kept:,} of {len(workload):,} nodes on {len(graphs)} ranks"
    return replace(workload, graphs=graphs, others=None).with_notes([note])


def is_in_window(graph: ExecutionGraph, window: Window) -> NDArray[np.bool_]:
    """bool[n]: nodes of a step.

    Compute and memory nodes of the host by their recorded times: some of it lies in the step. What a host
    node launched, so all nodes of the device and all communication with a parent of the host on a lane, if
    the last such parent ended in the step, since that is when it was launched. Of those without, what was
    recorded to start in it. Latencies, nodes on no lane, where what waits for them is. O(n + m).
    """
    starts_ps, ends_ps = graph.starts_ps, graph.starts_ps + graph.durations_ps
    is_within = (starts_ps >= window.start_ps) & (starts_ps < window.end_ps)
    overlaps = is_within | ((starts_ps < window.start_ps) & (ends_ps > window.start_ps))
    overlaps &= starts_ps >= 0
    is_latency = (graph.lanes == NO_LANE) & ~graph.is_communication
    is_host = graph.is_cpu & ~graph.is_communication & ~is_latency
    children, parents, _ = edges_of(graph)
    launched_ps = np.full(len(graph), -1, dtype=np.int64)
    is_launch = is_host[parents] & ~is_host[children] & ~is_latency[children] & (starts_ps[parents] >= 0)
    np.maximum.at(launched_ps, children[is_launch], ends_ps[parents[is_launch]])
    was_launched = (launched_ps > window.start_ps) & (launched_ps <= window.end_ps)
    found = np.where(launched_ps >= 0, was_launched, np.where(is_host, overlaps, is_within))
    # A latency may stand before another one.
    for _ in range(2):
        waits = np.zeros(len(graph), dtype=np.bool_)
        waits[parents[found[children]]] = True
        found = np.where(is_latency, waits, found)
    return found & ~is_start_delay(graph)


def _clipped(graph: ExecutionGraph, window: Window) -> ExecutionGraph:
    """The graph whose host nodes have only those times that lie in the step."""
    is_timed = graph.is_cpu & (graph.starts_ps >= 0) & (graph.lanes != NO_LANE)
    is_timed &= (graph.kinds >= NodeKind.MEM_LOAD) & (graph.kinds <= NodeKind.COMP)
    ends_ps = np.minimum(graph.starts_ps + graph.durations_ps, window.end_ps)
    starts_ps = np.maximum(graph.starts_ps, window.start_ps)
    inside_ps = np.maximum(ends_ps - starts_ps, 0)
    return replace(
        graph,
        starts_ps=np.where(is_timed, starts_ps, graph.starts_ps),
        durations_ps=np.where(is_timed, inside_ps, graph.durations_ps),
    )


def _window(workload: Workload, rank: int, step: str) -> Window:
    metadata, source = workload.graphs[rank].metadata, workload.sources[rank]
    names, lengths, starts = (_entries(metadata.get(key)) for key in (NAMES, LENGTHS, STARTS))
    if not names:
        raise TraceError(f"{source}: rank {rank} records no profiler steps, so none can be cut out")
    if not len(names) == len(lengths) == len(starts):
        raise TraceError(
            f"{source}: rank {rank} doesn't say when its profiler steps begin ({STARTS}); convert the "
            "profiler trace anew"
        )
    wanted = [index for index, name in enumerate(names) if name == step or name.endswith(f"#{step}")]
    if not wanted:
        raise UnknownName(f"profiler step on rank {rank}", step, names)
    start_ps = int(starts[wanted[0]])
    return Window(str(names[wanted[0]]), start_ps, start_ps + int(lengths[wanted[0]]))


def _entries(value: object) -> Sequence[str]:
    return value if isinstance(value, list | tuple) else ()


def _delays_ps(workload: Workload, windows: dict[int, Window]) -> dict[int, int]:
    """Delay of each rank's step after the first one's."""
    clocks = {rank: graph.metadata.get(CLOCK) for rank, graph in workload.graphs.items()}
    begun = {rank: windows[rank].start_ps - clock for rank, clock in clocks.items() if isinstance(clock, int)}
    if len(begun) < len(windows):
        return dict.fromkeys(windows, 0)
    return {rank: at - min(begun.values()) for rank, at in begun.items()}


def _metadata(graph: ExecutionGraph, window: Window) -> dict[str, object]:
    own = {NAMES: [window.name], LENGTHS: [window.end_ps - window.start_ps], STARTS: [window.start_ps]}
    return {**{key: value for key, value in graph.metadata.items() if key not in OF_WHOLE}, **own}
