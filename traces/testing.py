"""Small graphs from one line of text, for tests and for trying things out."""

from __future__ import annotations

import re

from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_US

_NODE = re.compile(r"(?P<name>\w+)(?::(?P<duration>\d+(?:\.\d+)?))?(?:@(?P<lane>\w*))?$")


def graph(text: str, rank: int = 0) -> ExecutionGraph:
    """Compute nodes from chains like `"a:10 -> b:5@stream7, a -> c:7"`; durations are in microseconds.

    >>> graph("a:10 -> b:5, a -> c:7")
    <ExecutionGraph rank 0: 3 nodes, 2 edges>
    """
    builder = GraphBuilder(rank)
    rows: dict[str, int] = {}
    for chain in text.split(","):
        previous: int | None = None
        for word in chain.split("->"):
            match = _NODE.match(word.strip())
            if match is None:
                raise ValueError(f"{word.strip()!r} is not name, name:microseconds or name:microseconds@lane")
            name = match["name"]
            if name not in rows:
                rows[name] = builder.add(
                    NodeKind.COMP,
                    name,
                    duration_ps=round(float(match["duration"] or 0) * PS_PER_US),
                    lane=match["lane"],
                )
            if previous is not None:
                builder.add_edge(previous, rows[name])
            previous = rows[name]
    return builder.build()
