"""Notes for people: counts of what a conversion assumed or didn't understand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from chakrasim.converters.pytorch.communication.describe import Communication
from chakrasim.converters.pytorch.communication.gloo import JobGroups
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.converters.pytorch.device.device_ops import DeviceOps
from chakrasim.converters.pytorch.device.launch_gaps import AFTER_NOTHING, UNEXPLAINED_NS, LaunchGaps
from chakrasim.converters.pytorch.read.kineto import Recording
from chakrasim.converters.pytorch.read.spellings import may_communicate
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_NS, format_time


def communication_notes(communications: Mapping[int, Communication], groups: Groups) -> list[str]:
    """About kinds, sizes and groups."""
    notes = []
    problems = Counter(c.problem for c in communications.values() if c.problem)
    for problem, count in sorted(problems.items()):
        notes.append(
            f"{count} of {len(communications)} communications not understood: {problem}; "
            "they keep their recorded duration"
        )
    if groups.assumed_world:
        notes.append(f"{groups.assumed_world} collectives name no process group; taken as the whole world's")
    notes += [f"{count} {doubt}" for doubt, count in sorted(groups.doubts.items())]
    repairs = Counter(repair for c in communications.values() for repair in c.repairs)
    notes += [f"{count} communications: {repair}" for repair, count in sorted(repairs.items())]
    customs = Counter(
        CommKind(c.comm_kind).label for c in communications.values() if c.is_custom and c.comm_kind >= 0
    )
    notes += [
        f"{count} kernels of a library's own count as communication: {label}"
        for label, count in sorted(customs.items())
    ]
    return notes


def custom_kernel_notes(recording: Recording, communications: Mapping[int, Communication]) -> list[str]:
    """About kernels that sound like communication of a library's own."""
    custom = {i: name for i, name in enumerate(recording.names) if may_communicate(name)}
    rows = [
        row
        for row in np.flatnonzero(np.isin(recording.device.name_id, list(custom)))
        if row not in communications
    ]
    if not rows:
        return []
    example = custom[int(recording.device.name_id[rows[0]])]
    return [
        f"{len(rows)} device operations sound like communication, but not NCCL's or RCCL's "
        f"({example[:60]} …); they count as compute"
    ]


def device_notes(device_ops: DeviceOps, gaps: LaunchGaps, counts: Mapping[str, int]) -> list[str]:
    """About launches, starts and order on the device."""
    notes = []
    is_device = np.arange(len(device_ops)) < device_ops.device_count
    orphans = int(np.count_nonzero(is_device & (device_ops.launch < 0)))
    if orphans:
        notes.append(f"{orphans} of {device_ops.device_count} device operations have no recorded launch")
    has_cause = np.array(gaps.after, dtype=np.int64) != AFTER_NOTHING
    late = is_device & has_cause & (gaps.length_ns > UNEXPLAINED_NS)
    if late.any():
        total_ps = int(gaps.length_ns[late].sum()) * PS_PER_NS
        notes.append(
            f"{int(late.sum())} device operations start over 50 us later than anything recorded explains, "
            f"{format_time(total_ps)} in all"
        )
    if device_ops.partial_overlaps:
        notes.append(
            f"{device_ops.partial_overlaps} device operations overlap the one before on their stream; "
            "they start when it ends"
        )
    dropped = counts.get("contradicted event waits", 0)
    if dropped:
        notes.append(f"{dropped} event waits dropped: the work they seem to wait for ended later")
    return notes


def gloo_notes(device_ops: DeviceOps, job_groups: JobGroups, missed_waits: int) -> list[str]:
    """About gloo's jobs."""
    notes = []
    if missed_waits:
        notes.append(f"{missed_waits} blocking gloo operations end where no wait was recorded")
    if device_ops.jobs and not job_groups.is_certain:
        notes.append(
            "gloo records no process groups and the trace leaves several ways to assign them; "
            "the first that fits was taken"
        )
    orphans = int(np.count_nonzero(device_ops.launch[device_ops.device_count :] < 0))
    if orphans:
        jobs = len(device_ops.jobs)
        notes.append(f"{orphans} of {jobs} gloo jobs have no recorded operator that issued them")
    return notes
