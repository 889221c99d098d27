"""Factors on durations.

The replay applies them to what it costs, so that they hold for the roofline too; `scale` writes them into the
recorded durations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.edits.parts.each import choose, counted, counts, mark_edited, with_graphs
from chakrasim.traces.edits.parts.start import is_start_delay
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.names.patterns import matches
from chakrasim.traces.units import whole_ps
from chakrasim.traces.workload import Workload


@dataclass(frozen=True)
class Scales:
    """Factors on durations: 0.5 halves the time.

    `cpu` and `device` hold for compute and memory nodes. `patterns` are pairs of a pattern and a factor and
    hold for nodes of any kind whose recorded duration is used, communication included; the last one that
    matches a node's name counts, and multiplies with the factors before. A pattern is matched without regard
    to case: with `*`, `?` or `[` it is a shell pattern for the whole name, otherwise a part of the name.

    >>> Scales(device=0.5, patterns=(("gemm", 2.0), ("*flash*", 0.25))).of_name("ampere_GEMM_tn")
    2.0
    """

    cpu: float = 1.0
    device: float = 1.0
    patterns: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for what, factor in (("cpu", self.cpu), ("device", self.device), *self.patterns):
            if not 0 <= factor < float("inf"):
                raise ConfigError(f"scale of {what!r} is {factor}; expected a factor of 0 or more")

    def of_name(self, name: str) -> float:
        """The factor that the patterns give a node of this name."""
        return next((f for pattern, f in reversed(self.patterns) if matches(pattern, name)), 1.0)

    def apply(self, graph: ExecutionGraph, durations_ps: Ints) -> Ints:
        """int64[n]: durations times their factors, rounded to the nearest ps."""
        if self.cpu == self.device == 1.0 and not self.patterns:
            return durations_ps
        factors = np.ones(len(graph), dtype=np.float64)
        is_compute = is_compute_or_memory(graph)
        factors[is_compute & graph.is_cpu] = self.cpu
        factors[is_compute & ~graph.is_cpu] = self.device
        if self.patterns:
            factor_by_name = np.array([self.of_name(name) for name in graph.names])
            factors *= factor_by_name[graph.name_ids]
        scaled = whole_ps(np.rint(durations_ps * factors), lambda row: f"scaled, {graph.title(row)}")
        return np.where(factors == 1.0, durations_ps, scaled)


def is_compute_or_memory(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: compute, memory load and memory store nodes, but not a rank's later start."""
    is_work = np.isin(graph.kinds, (NodeKind.MEM_LOAD, NodeKind.MEM_STORE, NodeKind.COMP))
    return is_work & ~is_start_delay(graph)


def scale(workload: Workload, scales: Scales) -> Workload:
    """The workload with recorded durations times their factors, those of communication included.

    Raises ConfigError for a factor that no node is for. O(n).
    """
    notes = []
    for what, factor, of_cpu in (("host", scales.cpu, True), ("device", scales.device, False)):
        if factor != 1.0:
            rows = {
                rank: int((is_compute_or_memory(graph) & (graph.is_cpu == of_cpu)).sum())
                for rank, graph in workload.graphs.items()
            }
            if not any(rows.values()):
                raise ConfigError(f"{workload.name}: no compute or memory node of the {what} to scale")
            notes.append(f"scaled {counted(rows)} of the {what} by {factor:g}")
    for pattern, factor in scales.patterns:
        matching = counted(counts(choose(workload, pattern, "node")))
        notes.append(f"scaled {matching} that match {pattern!r} by {factor:g}")

    if not notes:
        return workload

    def edit(rank: int, graph: ExecutionGraph) -> ExecutionGraph:
        return replace(graph, durations_ps=scales.apply(graph, graph.durations_ps), records=None)

    scaled = with_graphs(workload, edit).with_notes(notes)
    # what of a scaled duration was waiting can't be told any more
    is_told = all(
        np.array_equal(
            graph.durations_ps[graph.is_communication], before.durations_ps[before.is_communication]
        )
        for graph, before in zip(scaled.graphs.values(), workload.graphs.values(), strict=True)
    )
    return mark_edited(scaled, keeps_clock=is_told)
