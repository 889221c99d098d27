"""PyTorch profiler traces to a workload. Read this first: files → recordings → graphs → workload.

1. `sniff`, `jsonfile`, `kineto`: find the ranks' files and read them as columns.
2. `host`: flatten each thread's nested operators and calls into pieces that tile its time.
3. `device`, `synchronisation`, `gloo`: link works to launches, order streams, find who waits for whom.
4. `communication`, `groups`, `names`: what each collective, send and receive is.
5. `assemble`: nodes and edges.
6. `clocks`: ranks that began to record later begin later.

Every edge is a cause; no node is tied to its recorded start. Where a work started later than its causes
explain, the rest stands before it as a node of its own (launch latency, stream latency), so a replay with
recorded durations takes as long as the recording did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chakrasim.converters.pytorch.assemble import assemble
from chakrasim.converters.pytorch.clocks import align_starts
from chakrasim.converters.pytorch.groups import Groups
from chakrasim.converters.pytorch.kineto import Recording
from chakrasim.converters.pytorch.kineto_reader import read_recording
from chakrasim.converters.pytorch.sniff import candidates, is_host_trace, is_profiler_file
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


def convert_pytorch(path: Path, *, partial: bool = False, progress: Progress | None = None) -> Workload:
    """Convert a profiler trace, or a folder with one for each rank.

    Host execution traces in the folder are skipped. Ranks come from the traces' own `distributedInfo`,
    else from a number in the file name. Ranks between those of a folder may be missing only with
    `partial`; that there are more ranks than were recorded is noted. Raises TraceError for what can't be
    converted.
    """
    path = Path(path)
    notes: list[str] = []
    files = _profiler_files(path, notes) if path.is_dir() else [path]
    report = progress or (lambda done, total, name: None)
    origins: dict[int, int] = {}
    ranks = _ranks_by_name(files) if len(files) > 1 else {}
    graphs: dict[int, ExecutionGraph] = {}
    sources: dict[int, str] = {}
    recordings: dict[int, Recording] = {}
    for done, file in enumerate(files):
        report(done, len(files), file.name)
        recording = read_recording(file)
        rank = _rank(file, recording, ranks, is_alone=len(files) == 1)
        if rank in sources:
            raise TraceError(
                f"{file}: says it is rank {rank}, and so does {sources[rank]}; "
                "keep one trace of each rank in the folder"
            )
        sources[rank] = str(file)
        recordings[rank] = recording
        origins[rank] = recording.origin_ns
    if not partial:
        _require_no_hole(path, sources)
    world_size = _world_size(recordings)
    trace_ranks = sorted(recordings)
    is_one_clock = max(origins.values()) - min(origins.values()) <= _SAME_CLOCK_NS
    for rank in trace_ranks:
        recording = recordings.pop(rank)
        groups = Groups(rank, world_size, recording.distributed)
        origin = min(origins.values()) if is_one_clock else origins[rank]
        metadata = _metadata(recording, rank, world_size, trace_ranks)
        graphs[rank], rank_notes = assemble(recording, groups, origin, metadata)
        notes += [f"rank {rank}: {note}" for note in rank_notes]
    report(len(files), len(files), "")
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


def _profiler_files(folder: Path, notes: list[str]) -> list[Path]:
    files, skipped = [], []
    for file in candidates(folder):
        if is_profiler_file(file):
            files.append(file)
        elif is_host_trace(file):
            skipped.append(file.name)
    if skipped:
        notes.append(f"skipped {len(skipped)} host execution traces ({skipped[0]} …)")
    if not files:
        raise TraceError(f"{folder}: holds no PyTorch profiler trace (*.json or *.json.gz)")
    return files


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


def _metadata(recording: Recording, rank: int, world_size: int, trace_ranks: list[int]) -> dict[str, Any]:
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
    if recording.steps:
        metadata["profiler_steps"] = [step.name for step in recording.steps]
        metadata["profiler_step_ps"] = [(s.end_ns - s.start_ns) * PS_PER_NS for s in recording.steps]
    return metadata
