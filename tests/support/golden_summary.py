"""A trace in a page of text: what became of it in a conversion and how far its replay is from the recording.

`python tests/support/golden_summary.py` writes the summaries of all files of the recorded traces anew; what
changed shows in the version control's diff.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from own_jobs import JOBS, write_job

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.replay.analysis.fidelity import compare, has_recording, replay_as_recorded
from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.report.trace.summary import describe_workload
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import NO_LANE, ExecutionGraph
from chakrasim.traces.units import format_time
from chakrasim.traces.workload import Workload

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).parents[3] / "shared"))
MAX_LANES = 12
FOLDERS = ("megatron_tp2_v100", "megatron_tp8_a100", "resnet50_ddp2_hostonly")
"""Those with several ranks."""


SAMPLES = Path(__file__).parents[2] / "traces" / "samples"


def sample_file(name: str) -> Path:
    """Where the summary of one of the package's own samples stands."""
    return GOLDEN / "samples" / (name.replace("/", "__") + ".txt")


def samples() -> list[str]:
    """Files of the package's own samples, profiler traces and graphs, by name."""
    return sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.glob("*/*.gz"))


def own_file(name: str) -> Path:
    """Where the summary of a job of `own_jobs` stands."""
    return GOLDEN / "own" / f"{name}.txt"


def inputs(shared: Path) -> list[str]:
    """Every file of the recorded traces, and every folder with several ranks, by name."""
    root = shared / "real_traces"
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.parent != root]
    folders = [p for name in FOLDERS if (p := root / name).is_dir()]
    own = [p for p in sorted((shared / "own_traces").glob("out_*")) if p.is_dir()]
    return [str(p.relative_to(shared)) for p in (*files, *folders, *own)]


def golden_file(name: str) -> Path:
    """Where the summary of an input stands."""
    return GOLDEN / (name.replace("/", "__") + ".txt")


def summary(path: Path) -> str:
    """The page of one file or folder."""
    return "\n".join(_lines(path)) + "\n"


def _lines(path: Path) -> Iterator[str]:
    try:
        if path.is_dir():  # one holds graphs as well, which somebody else made
            workload = convert_pytorch(path, partial=True)
        else:
            workload = open_workload(str(path), partial=True, check=False)
    except TraceError as error:
        yield f"refused: {str(error).replace(str(path), path.name)}"
        return
    yield f"ranks {len(workload.graphs)} of {workload.world_size}, nodes {len(workload):,}"
    document = describe_workload(workload, [])
    yield "kinds " + ", ".join(
        f"{kind} {count:,}" for kind, count in sorted(document["nodes_by_kind"].items())
    )
    yield "edges"
    edges: Counter[str] = Counter()
    for graph in workload.graphs.values():
        edges.update(_edges(graph))
    yield from (f"  {kind} {count:,}" for kind, count in sorted(edges.items()))
    yield "collectives of one rank"
    for entry in document["collectives"]:
        yield (
            f"  {entry['kind']} in {entry['group']!r} of {entry['group_size']}: {entry['count']:,}, "
            f"{entry['bytes']:,} bytes, recorded {format_time(1000 * entry['recorded_ns'])}"
        )
    yield f"messages {document['messages']['count']:,}, {document['messages']['bytes']:,} bytes"
    yield f"not understood {document['not_understood']:,}"
    yield from _self_check(workload)
    yield "notes"
    yield from (f"  {note.replace(str(path.parent), '…')}" for note in workload.notes)
    problems = check_workload(workload)
    yield f"problems {len(problems)}"
    yield from (f"  {str(problem).replace(str(path.parent), '…')[:160]}" for problem in problems[:3])


def _edges(graph: ExecutionGraph) -> Counter[str]:
    """Edges by what they join: nodes on a `thread`, a `stream`, and of a `delay`, which occupies nothing."""
    place = np.where(graph.lanes == NO_LANE, 2, np.where(graph.is_cpu, 0, 1))
    names = ("thread", "stream", "delay")
    child = np.repeat(np.arange(len(graph)), np.diff(graph.parent_offsets))
    parent = graph.parents
    same = (graph.lanes[parent] == graph.lanes[child]) & (graph.lanes[child] >= 0)
    keys = place[parent] * 6 + place[child] * 2 + same
    found: Counter[str] = Counter()
    for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
        begin, rest = divmod(int(key), 6)
        end, is_same = divmod(rest, 2)
        found[f"{names[begin]} -> {'same ' if is_same else ''}{names[end]}"] = int(count)
    return found


def _self_check(workload: Workload) -> Iterator[str]:
    if not has_recording(workload):
        yield "no recorded times"
        return
    for rank in compare(replay_as_recorded(workload)):
        span = rank.span
        yield (
            f"rank {rank.rank}: recorded {format_time(span.recorded_ps)}, replayed "
            f"{format_time(span.replayed_ps)} ({span.error_percent:+.2f} %)"
        )
        yield (
            f"  starts on the {rank.over} off by {100 * rank.median_ps / span.recorded_ps:.3f} % of it "
            f"(median), {100 * rank.p95_ps / span.recorded_ps:.3f} % (95 %)"
        )
        for stream in rank.streams[:MAX_LANES]:
            yield (
                f"  {stream.name}: {stream.count:,} nodes, busy {format_time(stream.recorded_ps)} "
                f"({stream.error_percent:+.2f} %)"
            )


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.txt") if SHARED.is_dir() else ():
        old.unlink()
    (GOLDEN / "samples").mkdir(exist_ok=True)
    for name in samples():
        sample_file(name).write_text(summary(SAMPLES / name))
    (GOLDEN / "own").mkdir(exist_ok=True)
    with TemporaryDirectory() as made:
        for name in JOBS:
            own_file(name).write_text(summary(write_job(name, Path(made))))
    for name in inputs(SHARED) if SHARED.is_dir() else ():
        golden_file(name).write_text(summary(SHARED / name))
