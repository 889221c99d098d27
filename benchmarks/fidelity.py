"""How far replays of unchanged traces are from their recordings: `python benchmarks/fidelity.py FOLDER`.

Every profiler trace below the folder is converted and replayed by itself, and every folder with several ranks
as one job as well. Nothing is scheduled by recorded starts, so an error of 0 says that the dependencies found
explain the recording.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.read.sniff import is_profiler_file
from chakrasim.replay.analysis.fidelity import Fidelity, compare, has_recording, replay_as_recorded
from chakrasim.replay.report.console import new_table, people_console, print_table
from chakrasim.traces.check import raise_problems
from chakrasim.traces.errors import TraceError
from chakrasim.traces.units import format_time


def traces(folder: Path) -> Iterator[Path]:
    """Profiler traces below a folder, and after those of one folder the folder itself if it has several."""
    for inner in sorted({file.parent for file in folder.rglob("*.json*")}):
        files = [file for file in sorted(inner.glob("*.json*")) if is_profiler_file(file)]
        yield from files
        if len(files) > 1:
            yield inner


def percent_of(part_ps: int, rank: Fidelity) -> str:
    """A time as a share of a rank's recorded span."""
    return f"{100 * part_ps / max(rank.span.recorded_ps, 1):.3f} %"


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Print a line for each rank of each trace, and what they come to."""
    table = new_table(
        "Replay of the unchanged trace beside its recording",
        ("trace", "rank"),
        (
            "nodes",
            "recorded",
            "replayed",
            "error",
            "starts off by\n(median)",
            "(95 %)",
            "busy streams\noff by",
            "convert",
        ),
    )
    errors: list[float] = []
    starts: list[float] = []
    streams: list[float] = []
    refused: list[str] = []
    for path in traces(folder):
        name = str(path.relative_to(folder)) + ("/" if path.is_dir() else "")
        begun = time.perf_counter()
        try:
            workload = convert_pytorch(path, partial=True)
            raise_problems(workload)
        except TraceError as error:
            refused.append(str(error))
            continue
        took = f"{time.perf_counter() - begun:.2f} s"
        if not has_recording(workload):
            refused.append(f"{name}: no recorded times")
            continue
        for rank in compare(replay_as_recorded(workload)):
            busy = max((stream.error_percent for stream in rank.streams), key=abs, default=0.0)
            errors.append(abs(rank.span.error_percent))
            starts.append(100 * rank.median_ps / max(rank.span.recorded_ps, 1))
            streams.append(abs(busy))
            table.add_row(
                name,
                str(rank.rank),
                f"{len(workload.graphs[rank.rank]):,}",
                format_time(rank.span.recorded_ps),
                format_time(rank.span.replayed_ps),
                f"{rank.span.error_percent:+.3f} %",
                percent_of(rank.median_ps, rank),
                percent_of(rank.p95_ps, rank),
                f"{busy:+.3f} %",
                took,
            )
    console = people_console()
    print_table(console, table)
    for line in refused:
        console.print(line, soft_wrap=True)
    if not errors:
        sys.exit(f"{folder}: no profiler traces")
    console.print(
        f"{len(errors)} ranks: span error {median(errors):.3f} % (median), {max(errors):.3f} % (worst); "
        f"median start error {max(starts):.3f} % of the span (worst); busy time of a stream "
        f"{max(streams):.3f} % (worst)",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
