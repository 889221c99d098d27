"""Recorded durations, and factors to scale them by.

A node without a recorded duration takes no time, except a memory node whose bytes are known: see `memory_ps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute import ComputeCost
from chakrasim.traces.edit import is_start_delay
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.units import PS_PER_S

if TYPE_CHECKING:
    from chakrasim.replay.machine import Machine


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
        scaled = np.rint(durations_ps * factors).astype(np.int64)
        return np.where(factors == 1.0, durations_ps, scaled)


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of `Scales` means a name."""
    pattern, name = pattern.lower(), name.lower()
    is_shell_pattern = any(mark in pattern for mark in "*?[")
    return fnmatchcase(name, pattern) if is_shell_pattern else pattern in name


def measured(graph: ExecutionGraph, machine: Machine) -> ComputeCost:
    """Every node takes as long as was recorded."""
    durations_ps = graph.durations_ps.copy()
    by_bytes = memory_by_bytes(graph)
    if by_bytes.any():
        if machine.remote_memory is None and machine.accelerator is None:
            node = graph.ids[by_bytes.argmax()]
            raise ConfigError(
                f"rank {graph.rank} node {node} is a memory node without a recorded duration, and machine "
                f"{machine.name!r} ({machine.source}) states no memory that could say how long it takes"
            )
        durations_ps[by_bytes] = memory_ps(graph.tensor_bytes[by_bytes], machine)
    absent = (graph.kinds == NodeKind.COMP) & (durations_ps == 0)
    countable = int((absent & ((graph.ops > 0) | (graph.tensor_bytes > 0))).sum())
    notes = {}
    if countable:
        notes[
            "compute nodes without a recorded duration take no time; the roofline model would cost them by "
            "their operations and bytes"
        ] = countable
    return ComputeCost(durations_ps, notes)


def is_compute_or_memory(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: compute, memory load and memory store nodes, but not a rank's later start."""
    is_work = np.isin(graph.kinds, (NodeKind.MEM_LOAD, NodeKind.MEM_STORE, NodeKind.COMP))
    return is_work & ~is_start_delay(graph)


def memory_by_bytes(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: memory nodes that have bytes but no recorded duration."""
    is_memory = np.isin(graph.kinds, (NodeKind.MEM_LOAD, NodeKind.MEM_STORE))
    chosen: NDArray[np.bool_] = is_memory & (graph.durations_ps == 0) & (graph.tensor_bytes > 0)
    return chosen


def memory_ps(sizes_bytes: Ints, machine: Machine) -> Ints:
    """Time to move bytes: latency and bandwidth of the machine's remote memory, or without one its memory's
    bandwidth."""
    remote = machine.remote_memory
    if remote is not None:
        return remote.latency_ps + _transfer_ps(sizes_bytes, remote.bandwidth_Bps)
    assert machine.accelerator is not None, "the caller looked"
    return _transfer_ps(sizes_bytes, machine.accelerator.memory_Bps)


def _transfer_ps(sizes_bytes: Ints, bandwidth_Bps: float) -> Ints:
    return (sizes_bytes * (PS_PER_S / bandwidth_Bps)).astype(np.int64)
