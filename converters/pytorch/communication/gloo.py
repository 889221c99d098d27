"""gloo's jobs: the operator that issued each, its process group, and where the issuer waited for it.

gloo runs collectives on worker threads of its own, two for each process group, and posts sends and
receives on the caller's thread. The profiler writes each as an annotation (`gloo:all_reduce`) that spans
the communication itself. It records neither the group nor the wait.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import combinations
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.communication.comm_sources import facts_of_operator, tensors
from chakrasim.converters.pytorch.communication.enclosing_ops import EnclosingOps
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.converters.pytorch.communication.operator_signatures import signature_of
from chakrasim.converters.pytorch.device.device_ops import DeviceOps
from chakrasim.converters.pytorch.device.synchronisation import DeviceWait
from chakrasim.converters.pytorch.host.segments import GAP, HostSegments
from chakrasim.converters.pytorch.read.kineto import Annotation, Recording
from chakrasim.converters.pytorch.read.spellings import kind_of_operation

_THREADS_A_GROUP = 2
_LONG_GAP_NS = 50_000
"""An idle stretch at least this long in which an asynchronous job ends is taken to be a wait for it.

An estimate, and it matters: on six recordings with gloo, 10 instead of 50 us changes a replay with a host
twice as fast by up to 2 %; 200 us misses waits of pipeline stages, and changes it by up to 19 %.
"""
_LATE_NS = 200_000
"""A job's annotation may end this much after the thread that waits for it goes on.

An estimate: with 40 or 800 us nothing changes on six recordings with gloo.
"""


def find_jobs(recording: Recording) -> tuple[list[Annotation], list[int]]:
    """gloo's jobs in the order of their issue, and the host row of the operator that issued each."""
    host = recording.host
    jobs = [a for a in recording.annotations if a.name.startswith("gloo:")]
    if not jobs:
        return [], []
    operators = [
        row for row in sorted(host.arguments) if recording.names[host.name_id[row]].startswith("c10d::")
    ]
    by_id = sorted((int(host.function_id[row]), row) for row in operators)
    ids = [number for number, _ in by_id]
    by_start = sorted((int(host.start_ns[row]), row) for row in operators)
    starts = [start for start, _ in by_start]

    def issuer(job: Annotation) -> int:
        number = job.arguments.get("Record function id", -1)
        if isinstance(number, int) and number > 0 and ids and ids[0] >= 0:
            at = bisect_left(ids, number) - 1
            return by_id[at][1] if at >= 0 else -1
        at = bisect_right(starts, job.start_ns) - 1
        return by_start[at][1] if at >= 0 else -1

    launches = [issuer(job) for job in jobs]
    order = sorted(
        range(len(jobs)),
        key=lambda k: (
            int(host.start_ns[launches[k]]) if launches[k] >= 0 else jobs[k].start_ns,
            jobs[k].start_ns,
        ),
    )
    return [jobs[k] for k in order], [launches[k] for k in order]


def worker_threads(jobs: list[Annotation]) -> set[int]:
    """Threads that run gloo's collectives; what operators they run is part of the collective."""
    return {job.thread for job in jobs if job.name not in ("gloo:send", "gloo:recv")}


class JobGroups:
    """Process groups of gloo's jobs, inferred where nothing names them.

    A group's size shows in all-gathers, reduce-scatters and lists of tensors. All jobs of a worker thread
    are of one group, and worker threads are created two by two in the order of the groups. If that leaves
    several ways to give groups to threads, the first is taken and `is_certain` is False.
    """

    def __init__(
        self, recording: Recording, jobs: list[Annotation], launches: list[int], groups: Groups
    ) -> None:
        self.groups = groups
        self.is_certain = True
        declared = [(n, r) for n, r in groups.configured.items() if groups.rank in r]
        sizes: dict[int, int] = {}
        for job, launch in zip(jobs, launches, strict=True):
            if launch >= 0 and job.name not in ("gloo:send", "gloo:recv"):
                name = recording.names[recording.host.name_id[launch]]
                size = _group_size(name, recording.host.arguments[launch])
                if size > 0:
                    sizes[job.thread] = size
        names = _named_groups(recording, jobs, launches, groups)
        self.by_thread: dict[int, tuple[str, tuple[int, ...]]] = {}
        if len(declared) < 2:
            return
        threads = sorted(worker_threads(jobs), key=lambda t: _number(recording.threads[t][1]))
        pairs = _pairs(threads, [_number(recording.threads[t][1]) for t in threads])
        fitting = (
            [
                choice
                for choice in combinations(declared, len(pairs))
                if all(
                    sizes.get(thread, len(ranks)) == len(ranks) and names.get(thread, name) == name
                    for pair, (name, ranks) in zip(pairs, choice, strict=True)
                    for thread in pair
                )
            ]
            if len(declared) <= 16
            else []
        )
        self.is_certain = len(fitting) == 1
        if fitting:
            for pair, group in zip(pairs, fitting[0], strict=True):
                for thread in pair:
                    self.by_thread[thread] = group
        self.by_thread |= {thread: (name, groups.configured[name]) for thread, name in names.items()}

    def of(self, job: Annotation) -> tuple[str | None, tuple[int, ...]]:
        """Name (None for the world) and ranks of a job's group."""
        if job.thread in self.by_thread:
            return self.groups.known(*self.by_thread[job.thread])
        if any(self.groups.rank in r and r != self.groups.world for r in self.groups.configured.values()):
            self.groups.doubts["gloo messages name no process group; taken as the whole world's"] += 1
        return None, self.groups.world


def _named_groups(
    recording: Recording, jobs: list[Annotation], launches: list[int], groups: Groups
) -> dict[int, str]:
    """By worker thread: the group that a functional collective of its jobs names."""
    if not any("_functional" in name for name in recording.names):
        return {}
    around = EnclosingOps(recording)
    found: dict[int, str] = {}
    for job, launch in zip(jobs, launches, strict=True):
        if job.name in ("gloo:send", "gloo:recv"):
            continue
        for source in around.of(launch):
            name = facts_of_operator(source.name, source.arguments).group_name
            if name in groups.configured and groups.rank in groups.configured[name]:
                found[job.thread] = name
    return found


def _group_size(operator: str, arguments: dict[str, Any]) -> int:
    """The number of ranks that an operator's arguments show, -1 if they don't."""
    signature = signature_of(operator)
    dims = arguments.get("Input Dims")
    if signature is None or not isinstance(dims, list) or signature.output < 0 or len(dims) < 2:
        return -1
    sides = [dims[signature.input], dims[signature.output]]
    if operator == "c10d::alltoall_":
        lists = [len(side) for side in sides if side and isinstance(side[0], list)]
        return lists[0] if lists else -1
    for side in sides:  # a list of lists has one tensor a rank; host traces record it, Kineto doesn't
        if side and isinstance(side[0], list) and side[0] and isinstance(side[0][0], list):
            return len(side[0])
    if operator not in ("c10d::_allgather_base_", "c10d::_reduce_scatter_base_"):
        return -1
    first, second = (tensors(arguments, p)[0] for p in (signature.input, signature.output))
    large, small = max(first, second), min(first, second)
    return large // small if small > 0 and large % small == 0 else -1


def _number(thread: object) -> int:
    try:
        return int(str(thread))
    except ValueError:
        return 0


def _pairs(threads: list[int], numbers: list[int]) -> list[tuple[int, ...]]:
    """Worker threads by group: neighbours two by two; of an odd number one stands alone."""
    count = len(threads)
    if count % _THREADS_A_GROUP == 0:
        return [(threads[k], threads[k + 1]) for k in range(0, count, 2)]
    alone = min(
        range(0, count, 2),
        key=lambda a: sum(
            numbers[k + 1] - numbers[k] for k in [*range(0, a, 2), *range(a + 1, count - 1, 2)]
        ),
    )
    pairs: list[tuple[int, ...]] = [(threads[k], threads[k + 1]) for k in range(0, alone, 2)]
    pairs.append((threads[alone],))
    return pairs + [(threads[k], threads[k + 1]) for k in range(alone + 1, count - 1, 2)]


def job_waits(
    recording: Recording, device_ops: DeviceOps, segments: HostSegments
) -> tuple[list[DeviceWait], int]:
    """Waits of issuing threads for gloo's jobs, and the number of blocking jobs without a wait.

    A wait is an idle stretch of the issuer (nothing open, or an operator's time between its inner ones, or
    an operator that waits by name) in which the job ends. After a blocking operator it is the first such
    stretch; for an asynchronous one it has to be long.
    """
    if not device_ops.jobs:
        return [], 0
    host = recording.host
    waits: list[DeviceWait] = []
    missed = 0
    idle = _idle(recording, segments)
    for job in range(device_ops.device_count, len(device_ops)):
        launch = int(device_ops.launch[job])
        if launch < 0:
            continue
        thread = int(host.thread[launch])
        low, high = segments.bounds(thread)
        end = int(device_ops.end_ns[job])
        blocks = _blocks(recording, launch)
        issued = int(host.end_ns[launch])
        at = low + int(np.searchsorted(segments.end_ns[low:high], end, side="left"))
        if at >= high:
            continue
        if not idle[at] or segments.end_ns[at] <= issued:
            # the annotation ended a little after the thread had gone on
            back = at
            while back > low and segments.end_ns[back - 1] > max(end - _LATE_NS, issued):
                back -= 1
                length = segments.end_ns[back] - segments.start_ns[back]
                if idle[back] and length >= _LONG_GAP_NS and segments.end_ns[back] < end:
                    break
            else:
                missed += blocks
                continue
            at = back
            device_ops.end_ns[job] = end = int(segments.end_ns[at])
        begin = max(int(segments.start_ns[at]), issued)
        is_named = segments.event[at] != GAP and segments.is_leaf[segments.event[at]]
        is_long = segments.end_ns[at] - segments.start_ns[at] >= _LONG_GAP_NS
        if begin < end and (blocks or is_long or is_named):
            waits.append(DeviceWait(thread, begin, end, (job,)))
        elif blocks and begin < end:
            missed += 1
    return waits, missed


def _idle(recording: Recording, segments: HostSegments) -> list[bool]:
    waits_by_name = [
        "wait_tensor" in name or name.endswith(("::wait", "::barrier")) for name in recording.names
    ]
    return [
        event == GAP or not segments.is_leaf[event] or waits_by_name[recording.host.name_id[event]]
        for event in segments.event.tolist()
    ]


def _blocks(recording: Recording, launch: int) -> bool:
    """Tell operators after which the issuer waits: their `asyncOp` argument, next to last, is false."""
    name = recording.names[recording.host.name_id[launch]]
    inputs = recording.host.arguments[launch].get("Concrete Inputs")
    if isinstance(inputs, list) and len(inputs) >= 2 and kind_of_operation(name) is not None:
        return str(inputs[-2]) == "False"
    return False
