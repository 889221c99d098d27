"""A trace format: CSV with a line for each operation, `rank,name,start_us,duration_us,stream`.

Operations of a stream run one after another in order of their starts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from chakrasim.converters.interface import ConvertContext, Option, TraceFormat, files_by_rank
from chakrasim.traces import GraphBuilder, NodeKind, Workload
from chakrasim.traces.errors import TraceError

COLUMNS = ["rank", "name", "start_us", "duration_us", "stream"]
PS_PER_US = 1_000_000


def sniff(head: bytes, path: Path) -> bool:
    """Tell a file by its header."""
    return head.startswith(",".join(COLUMNS).encode())


def convert(path: Path, context: ConvertContext) -> Workload:
    """Convert a file, or a folder with one a rank."""
    builders: dict[int, GraphBuilder] = {}
    shortest_us = context.options.get("shortest-us", 0.0)
    for file in files_by_rank(path, CSV, partial=context.partial).values():
        with file.open(newline="") as lines:
            add_operations(file, csv.DictReader(lines), builders, shortest_us)
    if not builders:
        raise TraceError(f"{path}: no operations")
    return Workload.from_graphs(
        {rank: builder.build() for rank, builder in sorted(builders.items())}, name=path.name.split(".")[0]
    )


def add_operations(
    file: Path, lines: Iterable[dict[str, str]], builders: dict[int, GraphBuilder], shortest_us: float
) -> None:
    """Add a file's operations to the graphs of their ranks."""
    operations = []
    for number, line in enumerate(lines, 2):
        try:
            times = float(line["start_us"]), float(line["duration_us"])
            operations.append((int(line["rank"]), *times, line["stream"], line["name"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{file}: line {number} isn't {','.join(COLUMNS)} ({error})") from None
    last: dict[tuple[int, str], int] = {}
    for rank, start_us, duration_us, stream, name in sorted(operations):
        if duration_us < shortest_us:
            continue
        builder = builders.setdefault(rank, GraphBuilder(rank))
        before = last.get((rank, stream))
        last[rank, stream] = builder.add(
            NodeKind.COMP,
            name,
            lane=stream,
            start_ps=round(start_us * PS_PER_US),
            duration_ps=round(duration_us * PS_PER_US),
            after=[] if before is None else [before],
        )


CSV = TraceFormat(
    name="csv",
    suffixes=(".csv",),
    summary="CSV timelines",
    sniff=sniff,
    convert=convert,
    options=(Option("shortest-us", "Leave out operations shorter than this.", float),),
)
