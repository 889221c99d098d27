"""PyTorch profiler traces to a workload. Read this first: files → recordings → graphs → workload.

1. `read`: find the ranks' files and read them as columns; `host_traces`: add what a host execution trace of
   the same run knows.
2. `host`: flatten each thread's nested operators and calls into segments that tile its time.
3. `device`: link device operations to launches, order streams, find waits.
4. `communication`: what each collective, send and receive is.
5. `graph`: nodes and edges, and ranks that began to record later begin later.

Every edge is a cause; no node is tied to its recorded start. Where an operation started later than its causes
explain, the rest stands before it as a node of its own (launch latency, stream latency), so a replay with
recorded durations takes as long as the recording did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chakrasim.converters.pytorch.communication.custom_kernels import load_kernel_table
from chakrasim.converters.pytorch.communication.groups import Groups, declarations
from chakrasim.converters.pytorch.graph.assemble import assemble
from chakrasim.converters.pytorch.graph.nodes import thread_names
from chakrasim.converters.pytorch.graph.rank_clocks import align_starts
from chakrasim.converters.pytorch.host_traces.host_trace import read_host_trace
from chakrasim.converters.pytorch.host_traces.host_trace_graph import convert_host_traces
from chakrasim.converters.pytorch.host_traces.host_trace_link import Link, enrich, link_host_trace
from chakrasim.converters.pytorch.read.kineto import Recording
from chakrasim.converters.pytorch.read.kineto_reader import read_all
from chakrasim.converters.pytorch.read.sniff import candidates, is_host_trace, is_profiler_file
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.units import PS_PER_NS
from chakrasim.traces.workload import Workload

Progress = Callable[[int, int, str], None]
"""Called with files done, files in all, and the file at hand."""

_RANK_IN_NAME = (
    re.compile(r"rank[^0-9a-z]{0,2}(\d{1,7})", re.IGNORECASE),
    re.compile(r"(?:^|[._-]|device|worker|trace|gpu)(\d{1,7})(?:\.pt)?(?:\.trace)?\.json", re.I),
)
_SAME_CLOCK_NS = 3_600 * 1_000_000_000


def convert_pytorch(
    path: Path,
    *,
    partial: bool = False,
    progress: Progress | None = None,
    communication_table: Path | None = None,
) -> Workload:
    """Convert a profiler trace, or a folder with one for each rank.

    Host execution traces in the folder, one a rank, are linked (`host_trace_link`). Ranks come from the
    traces' own `distributedInfo`, else from a number in the file name. Of a folder, ranks may be missing
    only with `partial`; that there are more ranks than were recorded is noted. `communication_table` names a
    file of further communication kernels (`custom_kernels`). Raises TraceError for what can't be converted,
    ConfigError for a table that can't be read.
    """
    path = Path(path)
    kernels = load_kernel_table(communication_table)
    notes: list[str] = []
    files, host_files = _find_files(path)
    if not files:
        return convert_host_traces(host_files, path.name.split(".")[0], partial=partial)
    report = progress or (lambda done, total, name: None)
    origins: dict[int, int] = {}
    ranks = _ranks_by_name(files) if len(files) > 1 else {}
    graphs: dict[int, ExecutionGraph] = {}
    sources: dict[int, str] = {}
    recordings: dict[int, Recording] = {}
    declared: dict[int, list[Mapping[str, Any]]] = {}
    links: dict[int, Link] = {}
    for file, recording in zip(files, read_all(files, kernels.describes, report), strict=True):
        rank = _rank(file, recording, ranks, is_alone=len(files) == 1)
        if rank in sources:
            raise TraceError(
                f"{file}: says it is rank {rank}, and so does {sources[rank]}; "
                "keep one trace of each rank in the folder"
            )
        sources[rank] = str(file)
        if rank in host_files:
            declared[rank], links[rank] = _add_host_trace(recording, host_files[rank])
        recordings[rank] = recording
        origins[rank] = recording.origin_ns
    if not partial:
        _require_no_hole(path, sources)
    world_size = _world_size(recordings)
    trace_ranks = sorted(recordings)
    is_one_clock = max(origins.values()) - min(origins.values()) <= _SAME_CLOCK_NS
    for rank in trace_ranks:
        recording = recordings.pop(rank)
        groups = Groups(rank, world_size, recording.distributed, declared.get(rank, ()))
        origin = min(origins.values()) if is_one_clock else origins[rank]
        metadata = _metadata(recording, rank, world_size, trace_ranks, origin)
        graphs[rank], rank_notes = assemble(recording, groups, origin, metadata, kernels=kernels)
        notes += [f"rank {rank}: {note}" for note in rank_notes]
    report(len(files), len(files), "")
    notes += _link_notes(links)
    missing = world_size - len(graphs)
    if missing:
        notes.insert(0, f"{missing} of {world_size} ranks have no trace")
    workload = Workload.from_graphs(
        graphs,
        name=path.name.split(".")[0],
        sources=sources,
        notes=notes,
        world_size=world_size,
        partial=missing > 0,
    )
    return align_starts(workload, is_one_clock=is_one_clock)


def _find_files(path: Path) -> tuple[list[Path], dict[int, Path]]:
    """Profiler traces of a folder, or the one file, and host traces by rank."""
    files, hosts = [], []
    for file in candidates(path) if path.is_dir() else [path]:
        if is_host_trace(file):
            hosts.append(file)
        elif not path.is_dir() or is_profiler_file(file):
            files.append(file)
    if not files and not hosts:
        raise TraceError(f"{path}: holds no PyTorch profiler trace (*.json or *.json.gz)")
    by_rank = {rank: file for file, rank in _ranks_by_name(hosts).items()}
    if len(hosts) == 1 and not by_rank:
        by_rank = {_ranks_by_name(files).get(files[0], 0) if files else 0: hosts[0]}
    elif len(by_rank) < len(hosts) and not files:
        raise TraceError(f"{path}: host traces have to be named by rank, like host.0.json, host.1.json")
    return files, by_rank


def _add_host_trace(recording: Recording, file: Path) -> tuple[list[Mapping[str, Any]], Link]:
    """Put into a recording what the rank's host trace knows. Returns the groups that it declares, too."""
    trace = read_host_trace(file)
    link = link_host_trace(recording, trace)
    enrich(recording, trace, link)
    groups: list[Mapping[str, Any]] = []
    for text in trace.group_declarations():
        groups += declarations(text)
    return groups, link


def _link_notes(links: Mapping[int, Link]) -> list[str]:
    if not links:
        return []
    by = " and ".join(sorted({link.by for link in links.values()}))
    worst = min(links, key=lambda rank: links[rank].share)
    linked, operators = (sum(getattr(k, c) for k in links.values()) for c in ("count", "operators"))
    return [
        f"{linked:,} of {operators:,} operators are linked with the host traces of {len(links)} ranks, by "
        f"{by}; names agree for {100 * links[worst].share:.1f} % at least (rank {worst})"
    ]


def _require_no_hole(path: Path, sources: dict[int, str]) -> None:
    missing = sorted(set(range(max(sources))) - set(sources))
    if len(sources) > 1 and missing:
        listed = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        raise TraceError(
            f"{path}: no trace of rank {listed}, but of rank {max(sources)} "
            f"({Path(sources[max(sources)]).name}); to go on without, use --partial"
        )


def _ranks_by_name(files: list[Path]) -> dict[Path, int]:
    found = {}
    for file in files:
        match = next((m for p in _RANK_IN_NAME if (m := p.search(file.name))), None)
        if match:
            found[file] = int(match.group(1))
    return found


def _rank(file: Path, recording: Recording, by_name: dict[Path, int], *, is_alone: bool) -> int:
    recorded = recording.distributed.get("rank")
    if isinstance(recorded, int) and recorded >= 0:
        return recorded
    if file in by_name:
        return by_name[file]
    if is_alone:
        return _ranks_by_name([file]).get(file, 0)
    raise TraceError(
        f"{file}: neither its distributedInfo nor its name tells the rank; "
        "name the files like trace.0.json, trace.1.json"
    )


def _world_size(recordings: dict[int, Recording]) -> int:
    sizes = {max(recordings) + 1}
    for recording in recordings.values():
        size = recording.distributed.get("world_size")
        if isinstance(size, int):
            sizes.add(size)
    return max(sizes)


def _metadata(
    recording: Recording, rank: int, world_size: int, trace_ranks: list[int], origin_ns: int
) -> dict[str, Any]:
    def span_ps(starts: Any, ends: Any) -> int:
        return int(ends.max() - starts.min()) * PS_PER_NS if len(starts) else 0

    host, device = recording.host, recording.device
    ends = [c.max() for c in (host.end_ns, device.end_ns) if len(c)]
    ends += [a.end_ns for a in recording.annotations if a.name.startswith("gloo:")]
    metadata: dict[str, Any] = {
        "rank": rank,
        "world_size": world_size,
        "trace_ranks": trace_ranks,
        "source": Path(recording.source).name,
        "device_span_ps": span_ps(device.start_ns, device.end_ns),
        "span_ps": int(max(ends) - recording.origin_ns) * PS_PER_NS,
    }
    first_ns, last_ns = recording.origin_ns, int(max(ends))
    steps = [step for step in recording.steps if step.start_ns < last_ns and step.end_ns > first_ns]
    if steps:
        metadata["profiler_steps"] = [step.name for step in steps]
        metadata["profiler_step_ps"] = [(step.end_ns - step.start_ns) * PS_PER_NS for step in steps]
        metadata["profiler_step_starts_ps"] = [(step.start_ns - origin_ns) * PS_PER_NS for step in steps]
    lanes = thread_names(recording)
    phases = [
        (phase.name, lanes[phase.thread], max(phase.start_ns, first_ns), min(phase.end_ns, last_ns))
        for phase in (*steps, *recording.phases)
        if phase.start_ns < last_ns and phase.end_ns > first_ns
    ]
    if phases:
        names, on_lanes, starts_ns, ends_ns = zip(*phases, strict=True)
        metadata["phase_names"] = list(names)
        metadata["phase_lanes"] = list(on_lanes)
        metadata["phase_starts_ps"] = [(time_ns - origin_ns) * PS_PER_NS for time_ns in starts_ns]
        metadata["phase_ends_ps"] = [(time_ns - origin_ns) * PS_PER_NS for time_ns in ends_ns]
    return metadata
