"""The roofline model: a kernel is bound by arithmetic or by memory, whichever takes longer.

    time = launch overhead + max(operations / peak of the data type, bytes / memory bandwidth)

(S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009.) It holds for compute nodes of the device
with known operations or bytes. Others keep their recorded duration: nodes of the host, since the machine file
says nothing about hosts, and nodes that state neither. Memory nodes are costed as in the measured model.

Peaks are by data type. A node without one, or with one for which the machine has no peak, gets the first
peak that the machine file lists. The model knows nothing of caches, of occupancy, or of shapes too small to
fill the device; it is a lower bound on time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.compute import ComputeCost
from chakrasim.replay.compute.measured import measured
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_S

if TYPE_CHECKING:
    from chakrasim.replay.machine import Machine


def roofline(graph: ExecutionGraph, machine: Machine) -> ComputeCost:
    """Device compute by its operations and bytes, everything else as recorded.

    Raises ConfigError for a machine that states no accelerator.
    """
    accelerator = machine.accelerator
    if accelerator is None:
        raise ConfigError(
            f"{machine.name}: the machine states no accelerator, whose peak and memory bandwidth the "
            "roofline model needs; expected one, or the compute model measured"
        )
    durations_ps = measured(graph, machine).durations_ps
    is_kernel = (graph.kinds == NodeKind.COMP) & ~graph.is_cpu
    known = is_kernel & ((graph.ops >= 0) | (graph.tensor_bytes >= 0))
    first = next(iter(accelerator.peak_flops))
    peaks = np.array(
        [accelerator.peak_flops.get(d, accelerator.peak_flops[first]) for d in graph.dtypes]
        # Data type id -1, none stated, looks at the last entry.
        + [accelerator.peak_flops[first]]
    )
    rows = np.flatnonzero(known)
    arithmetic_s = np.maximum(graph.ops[rows], 0) / peaks[graph.dtype_ids[rows]]
    memory_s = np.maximum(graph.tensor_bytes[rows], 0) / accelerator.memory_Bps
    bound_ps = (np.maximum(arithmetic_s, memory_s) * PS_PER_S).astype(np.int64)
    durations_ps[rows] = accelerator.launch_overhead_ps + bound_ps
    notes: dict[str, int] = {}
    if unknown := int((is_kernel & ~known).sum()):
        notes["device nodes that state neither operations nor bytes keep their recorded duration"] = unknown
    has_ops = known & (graph.ops > 0)
    if untyped := int((has_ops & (graph.dtype_ids < 0)).sum()):
        notes[f"device nodes that state no data type are costed at the {first} peak"] = untyped
    for index, dtype in enumerate(graph.dtypes):
        count = int((has_ops & (graph.dtype_ids == index)).sum())
        if dtype not in accelerator.peak_flops and count:
            notes[
                f"device nodes that compute in {dtype}, for which {accelerator.name} states no peak, are "
                f"costed at its {first} peak"
            ] = count
    return ComputeCost(durations_ps, notes)
