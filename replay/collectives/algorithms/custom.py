"""Algorithms that users bring: Chakra graphs, one a member, or MSCCL files."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from chakrasim.replay.collectives.execution.schedule import endpoint_ps, reduction_ps
from chakrasim.replay.collectives.execution.task_graph import RECEIVE, SEND, WAIT, Task
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.io import read_graph

Tasks = tuple[tuple[Task, ...], ...]


def custom_tasks(machine: Machine, path: str, kind: CommKind, n: int, size_bytes: int) -> Tasks:
    """Each member's tasks, by its place among the n in ascending order of rank.

    `path` is an MSCCL file (`.xml`) or the prefix of Chakra graphs `path.<place>.et`. Those state their own
    sizes, and the collective's doesn't matter. Raises ConfigError for what can't be carried out.
    """
    if path.endswith(".xml"):
        from chakrasim.replay.collectives.algorithms.msccl.read import msccl_tasks, read_msccl

        algorithm = read_msccl(Path(path))
        if algorithm.gpus != n:
            raise ConfigError(f"{path}: the algorithm is for {algorithm.gpus} ranks, the group has {n}")
        tasks = msccl_tasks(
            algorithm,
            kind,
            size_bytes,
            endpoint_ps=endpoint_ps(machine, is_subgroup=False),
            reduction_ps=lambda size: reduction_ps(machine, size),
        )
        if machine.scheduling is not None and machine.scheduling.rendezvous:
            # A message waits for its receive, which may stand behind the next send of the same thread block.
            tasks = [[replace(task, is_awaited=False) for task in own] for own in tasks]
        return tuple(tuple(own) for own in tasks)
    return tuple(_graph_tasks(path, place, n, machine.cycle_ps) for place in range(n))


@lru_cache(maxsize=4096)
def _graph_tasks(prefix: str, place: int, n: int, cycle_ps: int) -> tuple[Task, ...]:
    """All nodes that are free start at once, on no lane, and cost nothing beside the network."""
    path = Path(f"{prefix}.{place}.et")
    graph = read_graph(path, place)
    if graph.defects:
        defect = graph.defects[0]
        raise ConfigError(f"{path}: node {defect.node_id}: {defect.message}")
    return tuple(_task(path, graph, row, n, cycle_ps) for row in range(len(graph)))


def _task(path: Path, graph: ExecutionGraph, row: int, n: int, cycle_ps: int) -> Task:
    kind, needs = graph.kinds[row], tuple(graph.parents_of(row).tolist())
    if kind == NodeKind.COMP:
        duration_ps = int(graph.durations_ps[row])
        return Task(WAIT, needs, duration_ps=max(duration_ps - duration_ps % cycle_ps, cycle_ps))
    if kind not in (NodeKind.SEND, NodeKind.RECV):
        what = NodeKind(kind).label
        raise ConfigError(
            f"{path}: node {graph.ids[row]} is a {what}; an algorithm has sends, receives and compute only"
        )
    peer, size_bytes = int(graph.peers[row]), int(graph.comm_bytes[row])
    if not 0 <= peer < n or size_bytes < 0:
        raise ConfigError(
            f"{path}: node {graph.ids[row]} has peer {peer} and {size_bytes} bytes; "
            f"expected a peer in 0..{n - 1} and a comm_size"
        )
    tag = int(np.maximum(graph.tags[row], 0))
    return Task(SEND if kind == NodeKind.SEND else RECEIVE, needs, peer, size_bytes, tag)
