"""One recording to one execution graph: the parts are found elsewhere, here they become nodes and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.communication import (
    Communication,
    Source,
    Surroundings,
    describe,
)
from chakrasim.converters.pytorch.delays import AFTER_LAUNCH, AFTER_NOTHING, Delays, find_delays
from chakrasim.converters.pytorch.device import Works, gather_works, launch_times
from chakrasim.converters.pytorch.gloo import JobGroups, find_jobs, job_waits, worker_threads
from chakrasim.converters.pytorch.groups import Groups
from chakrasim.converters.pytorch.handover import Handover, find_handovers
from chakrasim.converters.pytorch.host import (
    GAP,
    Pieces,
    cut,
    lay_out,
    piece_from,
    piece_that_ends,
    segment_numbers,
)
from chakrasim.converters.pytorch.kineto import COPY, KERNEL, Ints, Recording
from chakrasim.converters.pytorch.names import is_communication_kernel
from chakrasim.converters.pytorch.notes import (
    communication_notes,
    custom_kernel_notes,
    device_notes,
    gloo_notes,
)
from chakrasim.converters.pytorch.synchronisation import Synchronisation, Wait
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_NS


def assemble(
    recording: Recording, groups: Groups, origin_ns: int, metadata: dict[str, Any]
) -> tuple[ExecutionGraph, list[str]]:
    """Make the graph of one rank; the second result says what was assumed or not understood.

    `origin_ns` is the time from which node starts are counted; it may lie before this rank's own first event.
    """
    jobs, job_launches = find_jobs(recording)
    workers = worker_threads(jobs)
    is_used = ~np.isin(recording.host.thread, list(workers))
    works = gather_works(recording, jobs, job_launches)
    launched_ns = launch_times(works, recording.host)
    sync = Synchronisation(recording, works, launched_ns)
    for source, work in sync.stream_edges:
        works.parents[work].append(source)
    own_origin_ns = recording.origin_ns
    pieces = lay_out(recording.host, is_used, len(recording.threads), own_origin_ns)
    found, missed_waits = job_waits(recording, works, pieces)
    waits = sync.waits + found
    handovers = find_handovers(recording, pieces)
    pieces = cut(pieces, *_cuts(recording, works, launched_ns, [*waits, *handovers]))
    has_launch = works.launch >= 0
    launchers = np.full(len(works), -1, dtype=np.int64)
    launchers[has_launch] = piece_that_ends(
        pieces, recording.host, works.launch[has_launch], launched_ns[has_launch]
    )
    delays = find_delays(works, pieces, launchers, own_origin_ns)
    job_groups = JobGroups(recording, jobs, job_launches, groups)
    communications = dict(_communications(recording, works, groups, job_groups))
    writer = _Writer(recording, groups, origin_ns, metadata)
    writer.write(works, pieces, launchers, delays, waits, handovers, communications)
    notes = [
        *communication_notes(communications, groups),
        *custom_kernel_notes(recording, communications),
        *device_notes(works, delays, sync.counts),
        *gloo_notes(works, job_groups, missed_waits),
    ]
    writer.builder.metadata["notes"] = notes
    writer.builder.groups.update(groups.used)
    return writer.builder.build(), notes


def _cuts(
    recording: Recording, works: Works, launched_ns: Ints, waits: Sequence[Wait | Handover]
) -> tuple[Ints, Ints]:
    """Where host pieces have to end: threads and times."""
    rows = np.flatnonzero(works.launch >= 0)
    threads = [recording.host.thread[works.launch[rows]]]
    times = [launched_ns[rows]]
    for wait in waits:
        threads.append(np.array([wait.thread, wait.thread]))
        times.append(np.array([wait.begin_ns, wait.end_ns]))
    return np.concatenate(threads), np.concatenate(times)


def _communications(
    recording: Recording, works: Works, groups: Groups, job_groups: JobGroups
) -> Iterator[tuple[int, Communication]]:
    """What each communication kernel and gloo job did, by work."""
    host, device = recording.host, recording.device
    around = Surroundings(recording)
    for row, own in device.arguments.items():
        name = recording.names[device.name_id[row]]
        if is_communication_kernel(name) or "Collective name" in own:
            yield row, describe(name, own, around.of(int(works.launch[row])), groups)
    if works.jobs:
        launches = works.launch[works.device_count :].tolist()
        for job, (annotation, launch) in enumerate(
            zip(works.jobs, launches, strict=True), works.device_count
        ):
            sources = []
            if launch >= 0:
                name = recording.names[host.name_id[launch]]
                sources.append(Source(name, host.arguments[launch]))
            yield (
                job,
                describe(
                    annotation.name,
                    annotation.arguments,
                    sources,
                    groups,
                    group=job_groups.of(annotation),
                ),
            )


class _Writer:
    """Adds nodes in the order in which they were issued, so that parents mostly stand before children."""

    def __init__(
        self, recording: Recording, groups: Groups, origin_ns: int, metadata: dict[str, Any]
    ) -> None:
        self.recording = recording
        self.origin_ns = origin_ns
        self.builder = GraphBuilder(groups.rank, metadata=metadata)
        plain = Counter(str(thread) for _, thread in recording.threads)
        self.lanes = [
            f"thread {thread}" if plain[str(thread)] == 1 else f"thread {process}/{thread}"
            for process, thread in recording.threads
        ]

    def write(
        self,
        works: Works,
        pieces: Pieces,
        launchers: Ints,
        delays: Delays,
        waits: list[Wait],
        handovers: list[Handover],
        communications: dict[int, Communication],
    ) -> None:
        """Nodes first, with rows handed out in order; then the edges between them."""
        host_count, work_count = len(pieces), len(works)
        has_delay = delays.length_ns > 0
        delay_works = np.flatnonzero(has_delay)
        times = np.concatenate([pieces.start_ns, works.issued_ns[delay_works], works.issued_ns])
        classes = np.repeat([0, 1, 2], [host_count, len(delay_works), work_count])
        order = np.lexsort((np.arange(len(times)), classes, times))
        row_of = np.empty(len(times), dtype=np.int64)
        row_of[order] = np.arange(len(times))
        piece_rows = row_of[:host_count].tolist()
        delay_rows = dict(
            zip(
                delay_works.tolist(),
                row_of[host_count : host_count + len(delay_works)].tolist(),
                strict=True,
            )
        )
        work_rows = row_of[host_count + len(delay_works) :].tolist()
        waits_before, is_wait = _place_waits(pieces, waits, handovers)
        sources_before = _sources(pieces, handovers)
        segments = segment_numbers(pieces).tolist()
        for item in order.tolist():
            if item < host_count:
                after = [work_rows[w] for w in waits_before.get(item, ())]
                after += [piece_rows[source] for source in sources_before.get(item, ())]
                if item and pieces.thread[item] == pieces.thread[item - 1]:
                    after.append(piece_rows[item - 1])
                self._add_piece(pieces, item, segments[item], bool(is_wait[item]), after)
                continue
            is_delay = item < host_count + len(delay_works)
            work = int(delay_works[item - host_count]) if is_delay else item - host_count - len(delay_works)
            launcher = int(launchers[work])
            cause = delays.after[work]
            if is_delay:
                parent = [work_rows[cause]] if cause >= 0 else []
                if cause == AFTER_LAUNCH:
                    parent = [piece_rows[launcher]]
                self._add_delay(works, work, cause, int(delays.length_ns[work]), parent)
                continue
            after = [work_rows[p] for p in works.parents[work]]
            if launcher >= 0:
                after.append(piece_rows[launcher])
            if work in delay_rows:
                after.append(delay_rows[work])
            self._add_work(works, work, after, communications.get(work))

    def _add_piece(self, pieces: Pieces, item: int, segment: int, is_wait: bool, after: list[int]) -> None:
        event, start = int(pieces.event[item]), int(pieces.start_ns[item])
        length = 0 if is_wait else int(pieces.end_ns[item]) - start
        attrs: dict[str, Any] | None = None
        if event == GAP:
            name = "host wait" if is_wait else "host gap"
        else:
            host = self.recording.host
            name = self.recording.names[host.name_id[event]]
            if segment:
                attrs = {"segment": segment}
            elif host.function_id[event] >= 0:
                attrs = {"rf_id": int(host.function_id[event])}
        self.builder.add(
            NodeKind.COMP,
            name,
            duration_ps=length * PS_PER_NS,
            start_ps=(start - self.origin_ns) * PS_PER_NS,
            is_cpu=True,
            lane=self.lanes[int(pieces.thread[item])],
            after=after,
            attrs=attrs,
        )

    def _add_delay(self, works: Works, work: int, cause: int, length_ns: int, parents: list[int]) -> None:
        is_job = work >= works.device_count
        name = {AFTER_LAUNCH: "launch latency", AFTER_NOTHING: "unrecorded launch"}.get(
            cause, "stream latency"
        )
        self.builder.add(
            NodeKind.COMP,
            "worker latency" if is_job else name,
            duration_ps=length_ns * PS_PER_NS,
            start_ps=(int(works.start_ns[work]) - length_ns - self.origin_ns) * PS_PER_NS,
            is_cpu=cause == AFTER_LAUNCH or is_job,
            lane="",
            after=parents,
        )

    def _add_work(
        self, works: Works, work: int, after: list[int], communication: Communication | None
    ) -> None:
        recording = self.recording
        start = int(works.start_ns[work])
        common: dict[str, Any] = {
            "duration_ps": (int(works.end_ns[work]) - start) * PS_PER_NS,
            "start_ps": (start - self.origin_ns) * PS_PER_NS,
            "lane": works.lane[work],
            "after": after,
        }
        is_job = work >= works.device_count
        name = (
            works.jobs[work - works.device_count].name
            if is_job
            else recording.names[recording.device.name_id[work]]
        )
        if communication is not None:
            attrs = dict(communication.attrs)
            if communication.problem:
                attrs["not_understood"] = communication.problem
            self.builder.add(
                communication.kind,
                name,
                is_cpu=is_job,
                comm_kind=communication.comm_kind,
                comm_bytes=communication.comm_bytes,
                group=communication.group,
                peer=communication.peer,
                tag=communication.tag,
                dtype=communication.dtype,
                attrs=attrs,
                **common,
            )
            return
        size = int(recording.device.size_bytes[work])
        if recording.device.kind[work] == KERNEL:
            self.builder.add(NodeKind.COMP, name, **common)
        else:
            # what leaves the device is loaded from it; copies to it, on it, and memsets store there
            is_load = recording.device.kind[work] == COPY and "DtoH" in name
            kind = NodeKind.MEM_LOAD if is_load else NodeKind.MEM_STORE
            self.builder.add(kind, name, tensor_bytes=size, **common)


def _place_waits(
    pieces: Pieces, waits: list[Wait], handovers: list[Handover]
) -> tuple[dict[int, list[int]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Which works the pieces after a wait depend on, and which pieces are nothing but waiting."""
    is_wait = np.zeros(len(pieces), dtype=np.bool_)
    before: dict[int, list[int]] = {}
    both: list[Wait | Handover] = [*waits, *handovers]
    for wait in both:
        low, high = pieces.bounds(wait.thread)
        first = low + int(np.searchsorted(pieces.start_ns[low:high], wait.begin_ns))
        last = low + int(np.searchsorted(pieces.end_ns[low:high], wait.end_ns, side="right"))
        is_wait[first:last] = True
        resumed = piece_from(pieces, wait.thread, wait.end_ns)
        if resumed >= 0 and isinstance(wait, Wait):
            before.setdefault(resumed, []).extend(wait.works)
    return before, is_wait


def _sources(pieces: Pieces, handovers: list[Handover]) -> dict[int, list[int]]:
    """Which pieces of other threads the pieces after a hand-over depend on."""
    before: dict[int, list[int]] = {}
    for handover in handovers:
        low, high = pieces.bounds(handover.source)
        ended = pieces.end_ns[low:high]
        source = low + int(np.searchsorted(ended, handover.end_ns, side="right")) - 1
        resumed = piece_from(pieces, handover.thread, handover.end_ns)
        if source >= low and resumed >= 0:
            before.setdefault(resumed, []).append(source)
    return before
