"""The roofline model: a kernel is bound by arithmetic or by memory, whichever takes longer.

    time = launch overhead + max(operations / (peak of the data type * e), bytes / (memory bandwidth * m))

(S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009.) It holds for compute nodes of the device
with known operations or bytes; those that state neither keep their recorded duration. Memory nodes are costed
as in the measured model.

The shares e and m are 1, and the time a lower bound, but for a machine that states an efficiency: there e
depends on the kind of the operation, its data type and its operations, m on the bytes
(`replay/machine/efficiency.py`). An `elementwise` kernel has e = 1: memory bounds it. A kernel of no kind,
or one that isn't known, counts as `matmul` if it does at least `PRODUCT_OPS_PER_BYTE` operations a byte, else
as `elementwise`.

Nodes of the host keep their recorded duration. One of op kind `launch` without a recording takes the
machine's time to launch one operator for each of its `ops`.

Peaks are by data type. A node without one, or with one for which the machine has no peak, gets the first
peak that the machine file lists, and that data type's efficiency. The model knows nothing of caches, nor of
shapes but by their size.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute.interface import ComputeCost
from chakrasim.replay.compute.measured import Measured
from chakrasim.replay.machine.efficiency import Efficiency
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.names.op_kinds import ATTENTION, ELEMENTWISE, KERNELS, LAUNCH, MATMUL
from chakrasim.traces.units import PS_PER_S, whole_ps

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Accelerator, Machine

PRODUCT_OPS_PER_BYTE = 10
"""Norms, softmax and optimizer steps do less than this for each byte that they move; matrix products that
arithmetic bounds do more."""


@dataclass(frozen=True)
class Roofline:
    """Device compute by its operations and bytes, launches by their number, everything else as recorded."""

    machine: Machine
    accelerator: Accelerator
    summary: ClassVar[str] = "from operations and bytes"
    uses_recorded: ClassVar[bool] = False
    device_only: ClassVar[bool] = True

    @classmethod
    def from_machine(cls, machine: Machine) -> Roofline:
        """Take the machine's accelerator. Raises ConfigError for a machine that states none."""
        if machine.accelerator is None:
            raise ConfigError(
                f"{machine.name}: the machine states no accelerator, whose peak and memory bandwidth the "
                "roofline model needs; expected one, or the compute model measured"
            )
        return cls(machine, machine.accelerator)

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """O(n). Raises TraceError for a node that would take longer than any trace can."""
        accelerator = self.accelerator
        durations_ps = Measured(self.machine).durations(graph).durations_ps
        notes: Counter[str] = Counter()
        is_kernel = (graph.kinds == NodeKind.COMP) & ~graph.is_cpu
        known = is_kernel & ((graph.ops >= 0) | (graph.tensor_bytes >= 0))
        # Data type id -1, none stated, looks at the last entry.
        dtypes = [*_costed_as(graph, accelerator), next(iter(accelerator.peak_flops))]
        peaks = np.array([accelerator.peak_flops[dtype] for dtype in dtypes])
        rows = np.flatnonzero(known)
        arithmetic_s = np.maximum(graph.ops[rows], 0) / peaks[graph.dtype_ids[rows]]
        memory_s = np.maximum(graph.tensor_bytes[rows], 0) / accelerator.memory_Bps
        if accelerator.efficiency is not None:
            op_kinds = _op_kinds(graph, rows, notes)
            arithmetic_s /= _arithmetic_shares(graph, rows, op_kinds, dtypes, accelerator.efficiency)
            memory_s /= accelerator.efficiency.memory.at(graph.tensor_bytes[rows].astype(np.float64))
        bound_ps = _whole_ps(np.maximum(arithmetic_s, memory_s) * PS_PER_S, graph, rows)
        durations_ps[rows] = accelerator.launch_overhead_ps + bound_ps
        _launch(graph, accelerator, durations_ps, notes)
        _note_what_is_missing(graph, accelerator, is_kernel, known, notes)
        return ComputeCost(durations_ps, notes)


def _costed_as(graph: ExecutionGraph, accelerator: Accelerator) -> list[str]:
    """For each of the graph's data types the one whose peak counts."""
    first = next(iter(accelerator.peak_flops))
    return [dtype if dtype in accelerator.peak_flops else first for dtype in graph.dtypes]


def _op_kinds(graph: ExecutionGraph, rows: Ints, notes: Counter[str]) -> NDArray[np.int8]:
    """int8[k]: index in `KERNELS` of each row, guessed where it states none that is known."""
    by_id = [KERNELS.index(kind) if kind in KERNELS else -1 for kind in graph.op_kinds]
    ids = graph.op_kind_ids[rows]
    found = np.array([*by_id, -1], dtype=np.int8)[ids]
    is_unknown = found < 0
    ops, size_bytes = graph.ops[rows[is_unknown]], np.maximum(graph.tensor_bytes[rows[is_unknown]], 0)
    # In floats, which don't overflow.
    is_product = (ops > 0) & (ops >= size_bytes * float(PRODUCT_OPS_PER_BYTE))
    found[is_unknown] = np.where(is_product, KERNELS.index(MATMUL), KERNELS.index(ELEMENTWISE))
    for number in np.unique(ids[is_unknown]).tolist():
        stated = "no op kind" if number < 0 else f"the op kind {graph.op_kinds[number]!r}, which isn't known,"
        notes[
            f"device nodes that state {stated} count as matrix products from {PRODUCT_OPS_PER_BYTE} "
            "operations a byte on, below that as bound by memory"
        ] += int((ids == number).sum())
    return found


def _arithmetic_shares(
    graph: ExecutionGraph, rows: Ints, op_kinds: NDArray[np.int8], dtypes: list[str], efficiency: Efficiency
) -> NDArray[np.float64]:
    """float64[k]: the share of its peak that each row reaches."""
    shares = np.ones(len(rows))
    ops = graph.ops[rows].astype(np.float64)
    dtype_ids = graph.dtype_ids[rows] % len(dtypes)
    for kind in (MATMUL, ATTENTION):
        is_kind = op_kinds == KERNELS.index(kind)
        for index in np.unique(dtype_ids[is_kind]).tolist():
            chosen = is_kind & (dtype_ids == index)
            shares[chosen] = efficiency.arithmetic(kind, dtypes[index]).at(ops[chosen])
    return shares


def _launch(graph: ExecutionGraph, accelerator: Accelerator, durations_ps: Ints, notes: Counter[str]) -> None:
    """Put in the durations of host nodes that launch operators and have no recording."""
    if LAUNCH not in graph.op_kinds:
        return
    is_launch = (graph.kinds == NodeKind.COMP) & graph.is_cpu & (graph.ops > 0)
    is_launch &= graph.op_kind_ids == graph.op_kinds.index(LAUNCH)
    is_launch &= (graph.durations_ps == 0) & (graph.starts_ps < 0)
    rows = np.flatnonzero(is_launch)
    each_ps = accelerator.efficiency.host_launch_ps if accelerator.efficiency is not None else 0
    durations_ps[rows] = _whole_ps(graph.ops[rows] * np.float64(each_ps), graph, rows)
    if len(rows) and not each_ps:
        notes[
            f"host nodes that launch operators take no time: {accelerator.name} states no host_launch_us"
        ] = len(rows)


def _whole_ps(times_ps: NDArray[np.float64], graph: ExecutionGraph, rows: Ints) -> Ints:
    return whole_ps(times_ps, lambda at: graph.title(int(rows[at])))


def _note_what_is_missing(
    graph: ExecutionGraph,
    accelerator: Accelerator,
    is_kernel: NDArray[np.bool_],
    known: NDArray[np.bool_],
    notes: Counter[str],
) -> None:
    first = next(iter(accelerator.peak_flops))
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
