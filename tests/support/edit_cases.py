"""Small graphs to edit, and what the tests of edits read off them."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload
from chakrasim.traces.edits.parts.columns import COLUMNS
from chakrasim.traces.view import to_networkx

US = 1_000_000


def edges(graph: ExecutionGraph) -> set[str]:
    """Every edge as `parent>child`, by name."""
    return {
        f"{graph.name(int(parent))}>{graph.name(row)}"
        for row in range(len(graph))
        for parent in graph.parents_of(row)
    }


def durations_us(graph: ExecutionGraph) -> dict[str, float]:
    """Durations by name, in order of rows."""
    return {graph.name(row): graph.durations_ps[row] / US for row in range(len(graph))}


def lanes(graph: ExecutionGraph) -> dict[str, str]:
    """Lanes by name."""
    return {graph.name(row): graph.lane_name(row) for row in range(len(graph))}


def rows(graph: ExecutionGraph, *names: str) -> np.ndarray:
    """bool[n]: nodes of these names."""
    return np.array([graph.name(row) in names for row in range(len(graph))])


def reachable(graph: ExecutionGraph) -> set[tuple[int, int]]:
    """Pairs of ids of which the second comes after the first."""
    view = to_networkx(graph)
    return {
        (int(graph.ids[row]), int(graph.ids[other])) for row in view for other in nx.descendants(view, row)
    }


def columns(graph: ExecutionGraph) -> list[bytes]:
    """Everything that a graph's arrays hold."""
    names = (*COLUMNS, "parents", "parent_offsets", "parent_is_control")
    return [getattr(graph, name).tobytes() for name in names]


@st.composite
def graphs(draw: st.DrawFn, maximum: int = 10, *, hosts: bool = False) -> ExecutionGraph:
    """A graph of compute nodes n0, n1, … on few lanes, of which some wait for earlier ones.

    Durations are powers of two: no two chains of nodes take equally long. Ids need not ascend along edges.
    With `hosts`, most are of the host and on one thread.
    """
    count = draw(st.integers(1, maximum))
    order = list(range(count)) if hosts and draw(st.booleans()) else draw(st.permutations(range(count)))
    builder = GraphBuilder(0)
    for row in range(count):
        builder.add(
            NodeKind.COMP,
            f"n{row}",
            duration_ps=2**row,
            is_cpu=hosts and draw(st.sampled_from([True, True, False])),
            lane=draw(st.sampled_from(["s", "s", "s", "t", None] if hosts else ["s", "t", None, ""])),
        )
    for place in range(1, count):
        # Mostly the node before, so that there are chains.
        backs = st.lists(st.sampled_from([1, 1, 1, 2, 3, 5]), min_size=hosts, max_size=2, unique=True)
        for back in draw(backs):
            if back <= place:
                builder.add_edge(order[place - back], order[place])
    return builder.build()


def ranks(count: int, group: str | None = None, **groups: list[int]) -> Workload:
    """Ranks that each compute, all-reduce 100 bytes, all-gather 120, and compute again."""
    made = []
    for rank in range(count):
        builder = GraphBuilder(rank)
        first = builder.add(NodeKind.COMP, "forward", duration_ps=5 * US)
        reduced = builder.add(
            NodeKind.COLL,
            "reduce_grads",
            duration_ps=US,
            start_ps=5 * US,
            comm_kind=CommKind.ALL_REDUCE,
            comm_bytes=100,
            group=group,
            after=[first],
        )
        gathered = builder.add(
            NodeKind.COLL,
            "gather_weights",
            duration_ps=US,
            start_ps=6 * US,
            comm_kind=CommKind.ALL_GATHER,
            comm_bytes=120,
            group=group,
            after=[reduced],
        )
        builder.add(NodeKind.COMP, "optimizer", duration_ps=2 * US, after=[gathered])
        made.append(builder.build())
    return Workload.from_graphs(made, name="job", groups=groups)
