"""Timelines as CSV, one file a rank: a header `name,us`, then nodes one after the other."""

from __future__ import annotations

import csv
from pathlib import Path

from chakrasim.converters.interface import ConvertContext, TraceFormat, files_by_rank
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload

HEADER = "name,us"


def sniff(head: bytes, path: Path) -> bool:
    """Tell a timeline by its header."""
    return head.startswith(HEADER.encode())


def convert(path: Path, context: ConvertContext) -> Workload:
    """A row called `all-reduce` is a collective of that many bytes, every other row a computation."""
    graphs = []
    for rank, file in files_by_rank(path, CSV, partial=context.partial).items():
        builder, last = GraphBuilder(rank), []
        for row in csv.DictReader(file.read_text().splitlines()):
            name, number = row["name"], int(row["us"])
            if name == "all-reduce":
                last = [
                    builder.add(
                        NodeKind.COLL, name, comm_kind=CommKind.ALL_REDUCE, comm_bytes=number, after=last
                    )
                ]
            else:
                last = [builder.add(NodeKind.COMP, name, duration_ps=number * 10**6, after=last)]
        graphs.append(builder.build())
    return Workload.from_graphs(graphs, name=path.name)


CSV = TraceFormat("csv", (".csv",), "CSV timelines", sniff, convert)
