"""Graph of a host execution trace without a profiler's: operations and bytes, durations to be modelled.

The operators that do work, of all threads in the order of their record-function ids, are the device's work
on one stream: that order is the one in which they were issued. A collective starts when the work issued
before it has ended, and runs beside what is issued after it; what waits for it by name, or touches its
memory, comes after it. No time was recorded: the roofline gives durations from operations and bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.communication.comm_sources import RECORD, facts_of_record, integer
from chakrasim.converters.pytorch.communication.describe import Communication, Source, describe
from chakrasim.converters.pytorch.communication.groups import Groups, declarations
from chakrasim.converters.pytorch.communication.operator_signatures import signature_of
from chakrasim.converters.pytorch.host_traces.host_trace import HostTrace, read_host_trace
from chakrasim.converters.pytorch.host_traces.host_trace_link import arguments_of
from chakrasim.converters.pytorch.host_traces.operator_cost import (
    Tensor,
    counts_too_few,
    is_attention,
    is_product,
    only_moves,
    operator_cost,
    prepares,
    tensors_of,
)
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

_ANNOTATION_SCOPE = 7
_NO_WORK = ("autograd::", "torch::", "c10d", "_c10d")
"""Beginnings of operators whose work others do, or no one."""
_MAX_CALLS = 6
"""Enclosing operators searched for one communication: a functional operator, c10d's, a record, and as many
wrappers."""
_CALLS_ONLY = re.compile(r"\w*Backward\d+$|detach_?$|Optimizer\.|#")
"""Names without a namespace that do no work themselves: Autograd's own nodes, views, annotations."""
_TRITON = "triton_"
"""Beginning of the names that torch.compile gives its kernels."""
_SHOWN = 3
"""Names in a note."""
COMPUTE, COMMUNICATION = "compute", "communication"
"""Lanes."""


def convert_host_traces(files: Mapping[int, Path], name: str, *, partial: bool = False) -> Workload:
    """Graphs of ranks of which there is only a host trace. O(nodes log nodes).

    Raises TraceError for a file that is no host trace.
    """
    traces = {rank: read_host_trace(file) for rank, file in sorted(files.items())}
    declared = {
        rank: [group for text in trace.group_declarations() for group in declarations(text)]
        for rank, trace in traces.items()
    }
    sizes = [integer(group.get("group_size")) for groups in declared.values() for group in groups]
    sizes += [size for trace in traces.values() for size in _recorded_sizes(trace)]
    (first, trace), *others = traces.items()
    if not others and first >= max(sizes, default=1):  # the number in its name is no rank
        traces, declared = {0: trace}, {0: declared[first]}
    world_size = max([max(traces) + 1, *sizes])
    missing = world_size - len(traces)
    if missing and len(traces) > 1 and not partial:
        raise TraceError(
            f"{name}: host traces of {len(traces)} of {world_size} ranks; to go on, use --partial"
        )
    graphs: dict[int, ExecutionGraph] = {}
    notes = [f"{missing} of {world_size} ranks have no trace"] if missing else []
    notes.append("host traces alone record no times: they are the roofline's, from operations and bytes")
    for rank, trace in traces.items():
        groups = Groups(rank, world_size, {}, declared[rank])
        graphs[rank], rank_notes = _graph(trace, groups, sorted(traces))
        notes += [f"rank {rank}: {note}" for note in rank_notes]
    return Workload.from_graphs(
        graphs,
        name=name,
        sources={rank: trace.source for rank, trace in traces.items()},
        notes=notes,
        world_size=world_size,
        partial=missing > 0,
    )


def _recorded_sizes(trace: HostTrace) -> Iterator[int]:
    for row, name in enumerate(trace.names):
        if name == RECORD:
            yield facts_of_record(arguments_of(trace, row)).group_size


def _graph(trace: HostTrace, groups: Groups, ranks: list[int]) -> tuple[ExecutionGraph, list[str]]:
    builder = GraphBuilder(
        groups.rank,
        metadata={
            "rank": groups.rank,
            "world_size": len(groups.world),
            "trace_ranks": ranks,
            "source": Path(trace.source).name,
            "host_trace_schema": trace.schema,
        },
    )
    callers = _Callers(trace)
    last_compute, last_of_group = -1, -1
    by_storage: dict[int, int] = {}  # the last collective that used some memory
    by_sequence: dict[str, int] = {}
    waited: list[int] = []
    problems = 0
    uses_device = any(not t.is_host for row in range(len(trace)) for t in _tensors(trace, row)[0])
    for row in np.argsort(trace.rf_id, kind="stable").tolist():
        if trace.names[row] == RECORD and (sequence := _waits_for(trace, row)) is not None:
            waited += [by_sequence[sequence]] if sequence in by_sequence else []
            continue
        if "wait_tensor" in trace.names[row]:
            inputs, _ = _tensors(trace, row)
            waited += [by_storage[t.storage] for t in inputs if t.storage in by_storage]
            continue
        inputs, outputs = _tensors(trace, row)
        storages = {t.storage for t in (*inputs, *outputs) if t.storage >= 0}
        touched = {by_storage[s] for s in storages if s in by_storage}
        if _is_collective(trace, row, callers):
            known = _describe(trace, row, callers, groups)
            problems += bool(known.problem)
            parents = {p for p in (last_compute, last_of_group) if p >= 0} | touched
            last_of_group = _add_collective(builder, trace, row, known, parents)
            by_storage.update(dict.fromkeys(storages, last_of_group))
            by_sequence[_sequence(trace, row)] = last_of_group
            if known.attrs.get("async") is False:
                waited.append(last_of_group)
        elif callers.works[row]:
            ops, size_bytes = callers.costs[row]
            on_host = uses_device and all(t.is_host for t in (*inputs, *outputs))
            parents = {p for p in (last_compute, *waited) if p >= 0} | touched
            last_compute = builder.add(
                NodeKind.COMP,
                trace.names[row],
                is_cpu=on_host,
                lane=COMPUTE,
                ops=ops,
                tensor_bytes=size_bytes,
                dtype=next((t.dtype for t in (*inputs, *outputs) if t.dtype), None),
                op_kind=_op_kind(trace.names[row]),
                after=sorted(parents),
                attrs={"rf_id": int(trace.rf_id[row])},
            )
            waited = []
            for storage in storages & by_storage.keys():
                del by_storage[storage]
    builder.groups.update(groups.used)
    notes = [f"{problems} communications aren't understood and take no time"] if problems else []
    if groups.assumed_world:
        notes.append(f"{groups.assumed_world} collectives name no process group; taken as the whole world's")
    if not uses_device:
        notes.append("all tensors are the host's: its operators are taken for the device's")
    if callers.unknown:
        notes.append(
            f"{callers.unknown.total():,} calls of extensions or compiled kernels take no time: what they "
            f"do, if anything, isn't recorded ({_most_common(callers.unknown)})"
        )
    if callers.too_few:
        notes.append(
            f"{callers.too_few.total():,} operators count too few operations: how long their sequences are "
            f"isn't recorded ({_most_common(callers.too_few)})"
        )
    builder.metadata["notes"] = notes
    return builder.build(), notes


def _op_kind(name: str) -> str:
    """The roofline's kind of an operator."""
    return "matmul" if is_product(name) else "attention" if is_attention(name) else "elementwise"


def _most_common(counts: Counter[str]) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(_SHOWN))
    more = len(counts) - _SHOWN
    return f"{listed} and {more:,} more names" if more > 0 else listed


class _Callers:
    """Call tree of the operators, and the cost of each beyond that of the operators it calls."""

    def __init__(self, trace: HostTrace) -> None:
        n = len(trace)
        at = np.searchsorted(trace.ids, trace.parents)
        at = np.minimum(at, n - 1)
        # the root calls itself
        self.parent = np.where((trace.ids[at] == trace.parents) & (at < np.arange(n)), at, -1)
        self.costs: list[tuple[int, int]] = [(0, 0)] * n
        self.works = [False] * n
        self.holds_communication = [False] * n
        """An operator inside it communicates."""
        self.unknown: Counter[str] = Counter()
        """Calls of what seems to do work that isn't recorded, by name."""
        self.too_few: Counter[str] = Counter()
        """Operators of which only a part of the operations is counted, by name."""
        # what operators inside it do
        multiplies, computes, works = [False] * n, [False] * n, [False] * n
        # ids grow from caller to callee
        for row in range(n - 1, -1, -1):
            name = trace.names[row]
            is_matrix = is_product(name) or is_attention(name)
            # factors are prepared by all kinds of operators, other operands only by copies and fills
            keeps_own = (is_matrix and not multiplies[row]) or not (computes[row] or only_moves(name))
            may_work = not works[row] or ("::" in name and keeps_own)
            if may_work and trace.scope[row] != _ANNOTATION_SCOPE:
                self._cost(trace, row)
            caller = int(self.parent[row])
            if caller < 0:
                continue
            works_itself = self.works[row]
            multiplies[caller] |= multiplies[row] or (is_matrix and works_itself)
            computes[caller] |= computes[row] or (works_itself and not prepares(name))
            works[caller] |= works[row] or works_itself
            communicates = name == RECORD or signature_of(name) is not None
            self.holds_communication[caller] |= self.holds_communication[row] or communicates

    def _cost(self, trace: HostTrace, row: int) -> None:
        name = trace.names[row]
        is_operator = "::" in name
        if name == RECORD or name.startswith(_NO_WORK) or (not is_operator and _CALLS_ONLY.match(name)):
            return
        inputs, outputs = _tensors(trace, row)
        if is_operator or name.startswith(_TRITON):
            cost = operator_cost(name, inputs, outputs, trace.inputs(row).values)
            if max(cost) >= 2**63:
                raise _unreadable(trace, row, "its tensors are too large to be meant")
            self.costs[row] = cost
            self.works[row] = cost != (0, 0)
            if self.works[row] and counts_too_few(name, inputs):
                self.too_few[name] += 1
        if is_operator or self.works[row] or self.holds_communication[row]:
            return
        if inputs or name.startswith(_TRITON):
            self.unknown[name] += 1


def _tensors(trace: HostTrace, row: int) -> tuple[list[Tensor], list[Tensor]]:
    inputs, outputs = trace.inputs(row), trace.outputs(row)
    try:
        return (
            tensors_of(inputs.values, inputs.shapes, inputs.types),
            tensors_of(outputs.values, outputs.shapes, outputs.types),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise _unreadable(trace, row, f"lists a tensor that can't be read ({error})") from None


def _unreadable(trace: HostTrace, row: int, problem: str) -> TraceError:
    return TraceError(f"{trace.source}: node {trace.ids[row]} ({trace.names[row]}): {problem}")


def _is_collective(trace: HostTrace, row: int, callers: _Callers) -> bool:
    """A record of a communication, or an operator for one inside which there is no other."""
    if callers.holds_communication[row]:
        return False
    return trace.names[row] == RECORD or signature_of(trace.names[row]) is not None


def _waits_for(trace: HostTrace, row: int) -> str | None:
    """The sequence number of the communication that a record says is waited for; None for other records."""
    values = trace.inputs(row).values
    return str(values[0]) if len(values) > 3 and values[3] == "wait" else None


def _sequence(trace: HostTrace, row: int) -> str:
    inputs = trace.inputs(row)
    first = 1 if inputs.types and "Tensor" in str(inputs.types[0]) else 0
    return str(inputs.values[first]) if len(inputs.values) > first else ""


def _describe(trace: HostTrace, row: int, callers: _Callers, groups: Groups) -> Communication:
    around: list[Source] = []
    caller = row
    while caller >= 0 and len(around) < _MAX_CALLS:
        name = trace.names[caller]
        if name == RECORD or signature_of(name) is not None:
            around.append(Source(name, arguments_of(trace, caller)))
        caller = int(callers.parent[caller])
    return describe("", {}, around[::-1], groups)


def _add_collective(
    builder: GraphBuilder, trace: HostTrace, row: int, known: Communication, parents: set[int]
) -> int:
    attrs: dict[str, Any] = {"rf_id": int(trace.rf_id[row]), **known.attrs}
    if known.problem:
        attrs["not_understood"] = known.problem
    name = trace.names[row]
    if name == RECORD:
        name = str(trace.attributes(row).get("collective_name") or next(_names_in(trace, row), RECORD))
    return builder.add(
        known.kind,
        name,
        lane=COMMUNICATION if known.kind == NodeKind.COLL else "",
        comm_kind=known.comm_kind,
        comm_bytes=known.comm_bytes,
        group=known.group,
        peer=known.peer,
        tag=known.tag,
        dtype=known.dtype,
        after=sorted(parents),
        attrs=attrs,
    )


def _names_in(trace: HostTrace, row: int) -> Iterator[str]:
    return (value for value in trace.inputs(row).values if isinstance(value, str) and value)
