"""Communications of a recording: each communication kernel and gloo job matched with what describes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from chakrasim.converters.pytorch.communication.comm_sources import RECORD, Facts
from chakrasim.converters.pytorch.communication.custom_kernels import KernelTable, load_kernel_table
from chakrasim.converters.pytorch.communication.describe import (
    Communication,
    describe,
    facts_of,
    is_operation,
)
from chakrasim.converters.pytorch.communication.enclosing_ops import (
    EnclosingOps,
    Source,
    Span,
    comm_arguments,
)
from chakrasim.converters.pytorch.communication.gloo import JobGroups
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.converters.pytorch.device.device_ops import DeviceOps
from chakrasim.converters.pytorch.read.kineto import KERNEL, Recording
from chakrasim.traces.names.nccl_names import is_communication_kernel


def find_communications(
    recording: Recording,
    device_ops: DeviceOps,
    groups: Groups,
    job_groups: JobGroups,
    kernels: KernelTable | None = None,
) -> dict[int, Communication]:
    """Every communication, by its row in `device_ops`. O(n log n) in the number of sources and kernels.

    `kernels` tells a library's own communication kernels; without it the built-in table does.
    """
    around = EnclosingOps(recording)
    kernels = kernels or load_kernel_table()
    return {
        **dict(_of_kernels(recording, device_ops, groups, around, kernels)),
        **dict(_of_jobs(device_ops, groups, job_groups, around)),
    }


def _of_kernels(
    recording: Recording, device_ops: DeviceOps, groups: Groups, around: EnclosingOps, kernels: KernelTable
) -> Iterator[tuple[int, Communication]]:
    device, names = recording.device, recording.names
    if not len(device):
        return
    is_ours = np.array(
        [is_communication_kernel(name) or kernels.match(name) is not None for name in names], dtype=np.bool_
    )
    found = is_ours[device.name_id] & (device.kind == KERNEL)
    found[[row for row, own in device.arguments.items() if "Collective name" in own]] = True
    rows = np.flatnonzero(found)
    launches = device_ops.launch[rows].tolist()
    batches = find_batches(around, launches)
    known: dict[tuple[str, str, tuple[Source, ...]], Facts] = {}
    for row, launch, name_id in zip(rows.tolist(), launches, device.name_id[rows].tolist(), strict=True):
        name, own = names[name_id], device.arguments.get(row, {})
        sources = tuple(around.of(launch))
        # most kernels do what one before them did
        key = name, comm_arguments(own), sources
        facts = known.get(key) or known.setdefault(key, facts_of(name, own, sources))
        batch = batches.get(launch, ())
        yield row, describe(name, own, sources, groups, kernels=kernels, batch=batch, facts=facts)


def _of_jobs(
    device_ops: DeviceOps, groups: Groups, job_groups: JobGroups, around: EnclosingOps
) -> Iterator[tuple[int, Communication]]:
    for row, job in enumerate(device_ops.jobs, device_ops.device_count):
        sources = around.of(int(device_ops.launch[row]))
        yield row, describe(job.name, job.arguments, sources, groups, group=job_groups.of(job))


def find_batches(around: EnclosingOps, launches: Iterable[int]) -> dict[int, list[Facts]]:
    """By launch: what was issued between `ncclGroupStart` and `ncclGroupEnd`, and launched only there.

    `batch_isend_irecv` and coalesced collectives issue first and launch later, outside of every
    `record_param_comms`. Such a launch carries out what its thread issued since the one before without
    launching anything itself. The launch of a graph doesn't: what that does was issued when it was captured.
    """
    alone: dict[int, list[int]] = {}
    launched: set[tuple[int, int, int]] = set()
    host, names = around.recording.host, around.recording.names
    for launch in sorted({launch for launch in launches if launch >= 0}, key=lambda row: host.start_ns[row]):
        if "GraphLaunch" in names[host.name_id[launch]]:
            continue
        thread = int(host.thread[launch])
        records = [span for span in around.spans_around(launch) if _is_record(span)]
        launched |= {(thread, span.start_ns, span.end_ns) for span in records}
        if not records:
            alone.setdefault(thread, []).append(launch)
    batches: dict[int, list[Facts]] = {}
    for thread, outside in alone.items():
        pending = [
            span
            for span in around.spans.get(thread, [])
            if _is_record(span) and (thread, span.start_ns, span.end_ns) not in launched
        ]
        at = 0
        for launch in outside:
            begin = at
            while at < len(pending) and pending[at].end_ns <= host.start_ns[launch]:
                at += 1
            for span in pending[begin:at]:
                enclosing = [s.source for s in around.enclosing(thread, span.start_ns)]
                batches.setdefault(launch, []).append(facts_of("", {}, enclosing))
    return batches


def _is_record(span: Span) -> bool:
    return span.source.name == RECORD and is_operation(span.source.arguments)
