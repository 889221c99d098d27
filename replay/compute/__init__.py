"""Compute models: how long each compute and memory node takes, worked out on whole columns before the loop.

A model is a function of a graph and a machine; `COMPUTE` names them. A new one is a file here and an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from chakrasim.traces.errors import UnknownName

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.graph import ExecutionGraph, Ints
    from chakrasim.traces.workload import Workload

__all__ = ["COMPUTE", "ComputeCost", "ComputeModel", "compute_model", "default_compute"]


@dataclass(frozen=True, eq=False)
class ComputeCost:
    """What a compute model says about one graph."""

    durations_ps: Ints
    """int64[n], not negative. Only those of compute and memory nodes are used."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was assumed, for people, each with the number of nodes that it touched."""


ComputeModel = Callable[["ExecutionGraph", "Machine"], ComputeCost]

COMPUTE = {"measured": "chakrasim.replay.compute.measured", "roofline": "chakrasim.replay.compute.roofline"}
"""Compute models by name: the module, loaded when used, that has a function of that name."""


def compute_model(name: str) -> ComputeModel:
    """The compute model called `name`. Raises UnknownName.

    >>> compute_model("rofline")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    chakrasim.traces.errors.UnknownName: no compute model 'rofline'; did you mean 'roofline'? ...
    """
    try:
        module = import_module(COMPUTE[name])
    except KeyError:
        raise UnknownName("compute model", name, COMPUTE) from None
    model: ComputeModel = getattr(module, name)
    return model


def default_compute(workload: Workload, otherwise: str) -> str:
    """Which compute model is used where the user names none: the roofline where no time was recorded."""
    graphs = workload.graphs.values()
    has_times = any((graph.durations_ps[~graph.is_communication] > 0).any() for graph in graphs)
    has_work = any((graph.ops > 0).any() for graph in graphs)
    return "roofline" if has_work and not has_times and otherwise == "measured" else otherwise
