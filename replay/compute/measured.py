"""Recorded durations.

A node without a recorded duration takes no time, except a memory node whose bytes are known: see `memory_ps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute.interface import ComputeCost
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.units import PS_PER_S, whole_ps

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine


@dataclass(frozen=True)
class Measured:
    """Every node takes as long as was recorded."""

    machine: Machine
    summary: ClassVar[str] = "as long as recorded"
    uses_recorded: ClassVar[bool] = True
    device_only: ClassVar[bool] = False

    @classmethod
    def from_machine(cls, machine: Machine) -> Measured:
        """Take what the machine states of its memory, for memory nodes without a recording."""
        return cls(machine)

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Recorded durations. Raises ConfigError for a memory node that neither trace nor machine times."""
        durations_ps = graph.durations_ps.copy()
        by_bytes = memory_by_bytes(graph)
        if by_bytes.any():
            if self.machine.remote_memory is None and self.machine.accelerator is None:
                node = graph.ids[by_bytes.argmax()]
                raise ConfigError(
                    f"rank {graph.rank} node {node} is a memory node without a recorded duration, and "
                    f"machine {self.machine.name!r} ({self.machine.source}) states no memory that could say "
                    "how long it takes"
                )
            durations_ps[by_bytes] = memory_ps(graph.tensor_bytes[by_bytes], self.machine)
        absent = (graph.kinds == NodeKind.COMP) & (durations_ps == 0)
        countable = int((absent & ((graph.ops > 0) | (graph.tensor_bytes > 0))).sum())
        notes = {}
        if countable:
            notes[
                "compute nodes without a recorded duration take no time; the roofline model would cost them "
                "by their operations and bytes"
            ] = countable
        return ComputeCost(durations_ps, notes)


def memory_by_bytes(graph: ExecutionGraph) -> NDArray[np.bool_]:
    """bool[n]: memory nodes that have bytes but no recorded duration. One with a recorded start took 0."""
    is_memory = np.isin(graph.kinds, (NodeKind.MEM_LOAD, NodeKind.MEM_STORE))
    is_unrecorded = (graph.durations_ps == 0) & (graph.starts_ps < 0)
    chosen: NDArray[np.bool_] = is_memory & is_unrecorded & (graph.tensor_bytes > 0)
    return chosen


def memory_ps(sizes_bytes: Ints, machine: Machine) -> Ints:
    """Time to move bytes: latency and bandwidth of the machine's remote memory, or without one its memory's
    bandwidth."""
    remote = machine.remote_memory
    if remote is not None:
        latency_ps, bandwidth_Bps = remote.latency_ps, remote.bandwidth_Bps
    else:
        assert machine.accelerator is not None, "the caller looked"
        latency_ps, bandwidth_Bps = 0, machine.accelerator.memory_Bps
    return latency_ps + whole_ps(
        sizes_bytes * (PS_PER_S / bandwidth_Bps),
        lambda at: f"an access to {sizes_bytes[at]:,} bytes of memory on machine {machine.name!r}",
    )
