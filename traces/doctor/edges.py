"""Dependencies that can't be met: on nodes that aren't there, on oneself, and in circles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import networkx
import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.doctor.draft import Change, Draft
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.order import find_cycle

THREAD_ROOTS = ("[pytorch|profiler|execution_trace|thread]", "[pytorch|profiler|execution_graph|thread]")
"""Names of the nodes that PyTorch's observer hangs below the one process root."""


def drop_dangling(draft: Draft) -> Iterator[Change]:
    """Dependencies on nodes that aren't in the file are dropped: nothing can ever meet them."""
    known = {node.id for node in draft.nodes}
    first = min(known, default=0)
    dangling: list[tuple[Any, bool, int]] = []
    for node in draft.nodes:
        for is_control, field in ((False, node.data_deps), (True, node.ctrl_deps)):
            missing = [parent for parent in field if parent not in known]
            if missing:
                dangling += [(node, is_control, parent) for parent in missing]
                field[:] = [parent for parent in field if parent in known]
    roots = {parent for node, is_control, parent in dangling if is_control and node.name in THREAD_ROOTS}
    children = Counter(parent for _, _, parent in dangling)
    for node, is_control, parent in dangling:
        why = "the parent is not in the file"
        if parent < first:
            why = f"the parent is not in the file, which begins with node {first}"
        if parent in roots:
            count = children[parent]
            why = f"the converter deleted node {parent}, the process root, from under its {count} children"
        before = f"waits for node {parent} ({'control' if is_control else 'data'})"
        yield Change("dangling", node.id, node.name, before, "doesn't", why)


def drop_own(draft: Draft) -> Iterator[Change]:
    """Dependencies of nodes on themselves are dropped."""
    for node in draft.nodes:
        for is_control, field in ((False, node.data_deps), (True, node.ctrl_deps)):
            if node.id in field:
                field[:] = [parent for parent in field if parent != node.id]
                what = "control" if is_control else "data"
                yield Change(
                    "itself", node.id, node.name, f"waits for itself ({what})", "doesn't", "none can"
                )


def cut_cycles(draft: Draft) -> Iterator[Change]:
    """Cycles are opened at their control dependencies on later nodes, then at any control dependency.

    A control dependency states who called whom, which a data dependency the other way contradicts. A cycle of
    data alone stays and is told. O(n + m).
    """
    for only_later, why in (
        (True, "its caller has a later id and depends on it"),
        (False, "its caller depends on it"),
    ):
        graph = draft.graph()
        if not find_cycle(graph):
            return
        nodes = draft.nodes_by_row()
        child_of = np.repeat(np.arange(len(graph)), np.diff(graph.parent_offsets))
        circle = _circles(graph, child_of)
        in_circle = (circle[child_of] >= 0) & (circle[child_of] == circle[graph.parents])
        cut = graph.parent_is_control & in_circle
        if only_later:
            cut &= graph.parents > child_of
        for child, parent in zip(child_of[cut].tolist(), graph.parents[cut].tolist(), strict=True):
            node, parent_id = nodes[child], int(graph.ids[parent])
            node.ctrl_deps[:] = [p for p in node.ctrl_deps if p != parent_id]
            before = f"waits for node {parent_id} (control), in a circle"
            yield Change("cycle", node.id, node.name, before, "doesn't", why)
    graph = draft.graph()
    cycle = find_cycle(graph)
    if cycle:
        row = cycle[0]
        listed = " → ".join(str(graph.ids[r]) for r in cycle[:6]) + (" → …" if len(cycle) > 6 else "")
        why = "the cycle is of data dependencies alone: which of them is wrong, the trace doesn't say"
        yield Change("cycle", int(graph.ids[row]), graph.name(row), f"waits in a circle: {listed}", None, why)


def _circles(graph: ExecutionGraph, child_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: the strongly connected component that a row lies in, -1 where it is in no cycle."""
    edges = zip(graph.parents.tolist(), child_of.tolist(), strict=True)
    circle = np.full(len(graph), -1, dtype=np.int64)
    for number, rows in enumerate(networkx.strongly_connected_components(networkx.DiGraph(edges))):
        if len(rows) > 1:
            circle[list(rows)] = number
    return circle
