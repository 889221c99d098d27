"""Durations of all nodes of a workload by a compute model, before it is known which ranks do the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute.interface import ComputeCost, ComputeModel
from chakrasim.replay.plugins import COMPUTE
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.errors import PluginError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.names.patterns import matches

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.workload import Workload

_looked_at = attrgetter(
    *("ids", "kinds", "name_ids", "names", "durations_ps", "starts_ps", "ops", "tensor_bytes", "comm_kinds"),
    *(
        "comm_bytes",
        "tags",
        "lanes",
        "lane_names",
        "is_cpu",
        "dtype_ids",
        "dtypes",
        "op_kind_ids",
        "op_kinds",
    ),
    *("involved_dims", "priorities", "parent_offsets", "parents", "parent_is_control", "read_attributes"),
)
"""Parts of a graph that a model may look at. Ranks that share these objects are costed once."""


@dataclass(frozen=True, eq=False)
class Durations:
    """Durations of one graph's nodes, scaled. n nodes."""

    modelled_ps: Ints
    """int64[n]: by the compute model; of communication what was recorded, of markers 0."""
    recorded_ps: Ints
    """int64[n]"""
    notes: Mapping[str, int]
    """Assumptions of the model, each with the number of nodes that it touched."""


def compute_model(name: str, machine: Machine) -> ComputeModel:
    """The compute model of that name, set up for a machine. Raises UnknownName, ConfigError.

    >>> from chakrasim.replay.machine import load_machine
    >>> compute_model("rofline", load_machine("hgx-h100"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    chakrasim.traces.errors.UnknownName: no compute model 'rofline'; did you mean 'roofline'? ...
    """
    model: ComputeModel = COMPUTE.get(name).from_machine(machine)
    return model


def default_compute(workload: Workload, otherwise: str) -> str:
    """The compute model where the user names none: the roofline where no time was recorded."""
    graphs = workload.graphs.values()
    has_times = any((graph.durations_ps[~graph.is_communication] > 0).any() for graph in graphs)
    has_work = any((graph.ops > 0).any() for graph in graphs)
    return "roofline" if has_work and not has_times and otherwise == "measured" else otherwise


@dataclass(frozen=True, eq=False)
class NodeDurations:
    """Durations of all nodes of a workload. Ranks that share their columns share one `Durations`."""

    workload: Workload
    model: ComputeModel
    scales: Scales
    by_rank: Mapping[int, Durations]

    @classmethod
    def of(cls, workload: Workload, model: ComputeModel, scales: Scales) -> NodeDurations:
        """Ask the model for each distinct graph. O(nodes) of those."""
        known: dict[tuple[int, ...], Durations] = {}
        found = {}
        for rank, graph in workload.graphs.items():
            key = tuple(map(id, _looked_at(graph)))
            if key not in known:
                known[key] = _durations(graph, model, scales)
            found[rank] = known[key]
        return cls(workload, model, scales, found)

    def notes(self) -> Counter[str]:
        """Assumptions of the model over all ranks, each with the number of nodes that it touched."""
        distinct = {id(one): one for one in self.by_rank.values()}
        ranks = Counter(map(id, self.by_rank.values()))
        notes: Counter[str] = Counter()
        for key, one in distinct.items():
            notes.update({text: count * ranks[key] for text, count in one.notes.items()})
        return notes

    def idle_scales(self) -> list[str]:
        """Notes on scales that change nothing, since there is no such node."""
        if self.scales == Scales():
            return []
        graphs = self.workload.graphs.values()
        idle = [
            f"the scale of the {what} changes nothing: the trace has no compute or memory node there"
            for what, factor, is_cpu in (
                ("host", self.scales.cpu, True),
                ("device", self.scales.device, False),
            )
            if factor != 1.0
            and not any((_is_compute(graph) & (graph.is_cpu == is_cpu)).any() for graph in graphs)
        ]
        tables = {id(graph.names): graph.names for graph in graphs}
        names = {name for table in tables.values() for name in table}
        return idle + [
            f"the scale of {pattern!r} changes nothing: no node has such a name"
            for pattern, _ in self.scales.patterns
            if not any(matches(pattern, name) for name in names)
        ]


def _durations(graph: ExecutionGraph, model: ComputeModel, scales: Scales) -> Durations:
    cost = model.durations(graph)
    _check(cost, graph, model)
    recorded_ps = scales.apply(graph, graph.durations_ps)
    modelled_ps = scales.apply(graph, cost.durations_ps)
    modelled_ps = np.where(graph.is_communication, recorded_ps, modelled_ps)
    modelled_ps[graph.kinds <= NodeKind.METADATA] = 0
    return Durations(modelled_ps, recorded_ps, cost.notes)


def _check(cost: ComputeCost, graph: ExecutionGraph, model: ComputeModel) -> None:
    """Raise PluginError for durations that can't be."""
    column: Any = cost.durations_ps
    wrong = ""
    if not isinstance(column, np.ndarray) or column.dtype != np.int64 or column.shape != (len(graph),):
        shown = (
            f"{column.dtype}{list(column.shape)}" if isinstance(column, np.ndarray) else type(column).__name__
        )
        wrong = f"{shown} for {len(graph)} nodes; expected int64[{len(graph)}]"
    elif (column[~graph.is_communication] < 0).any():
        row = int(np.flatnonzero((column < 0) & ~graph.is_communication)[0])
        wrong = f"{column[row]:,} ps for node {graph.ids[row]} ({graph.name(row)!r}); expected 0 or more"
    if wrong:
        raise PluginError(f"the compute model {type(model).__name__} gave rank {graph.rank} {wrong}")


def _is_compute(graph: ExecutionGraph) -> NDArray[np.bool_]:
    return np.greater_equal(graph.kinds, NodeKind.MEM_LOAD) & np.less_equal(graph.kinds, NodeKind.COMP)
