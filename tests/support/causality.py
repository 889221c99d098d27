"""Replays of one recorded rank with durations that a test gives, and what they must take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.order import program_order
from chakrasim.traces.workload import Workload


def graph_of(workload: Workload) -> ExecutionGraph:
    """The graph of the only rank."""
    (graph,) = workload.graphs.values()
    return graph


def replay(workload: Workload, scales: Scales | None = None) -> Result:
    """Replay with recorded durations, of communication too."""
    return simulate(workload, load_machine("ethernet-10g"), network="measured", scales=scales or Scales())


def with_durations(workload: Workload, durations_ps: np.ndarray) -> Workload:
    """The workload with other durations."""
    graph = graph_of(workload)
    return replace(workload, graphs={graph.rank: replace(graph, durations_ps=durations_ps)})


def longest_path_ps(graph: ExecutionGraph, durations_ps: np.ndarray) -> int:
    """The longest chain of dependencies; lanes add nothing, since the order on each is a dependency too."""
    ends = [0] * len(graph)
    for row in np.argsort(program_order(graph)).tolist():
        begin = max((ends[parent] for parent in graph.parents_of(row).tolist()), default=0)
        ends[row] = begin + int(durations_ps[row])
    return max(ends)
