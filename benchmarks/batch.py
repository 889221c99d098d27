"""What a batch saves: `python benchmarks/batch.py`.

The whole catalogue, in one batch and in a replay for each machine, in the same process and in turns, best of
several. Three things are timed:

- `simulate_many` beside `simulate` for each, of one workload in memory, whose matching is remembered;
- the same where each replay begins with a workload that nobody has asked anything yet, as after reading it;
- `chakrasim replay` with all machines beside one process for each, from files.

The results must be the same, to the picosecond and in the JSON, and a batch must not be slower.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from chakrasim.replay.machine.load import load_machine, machine_names
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate, simulate_many
from chakrasim.traces.builder import graph_of_columns
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.io import write_graph
from chakrasim.traces.workload import Workload

RANKS, NODES = 8, 30_000
TIMES = 5
COMMAND = Path(sys.executable).with_name("chakrasim")

Made = TypeVar("Made")


def a_graph(rank: int) -> ExecutionGraph:
    """Nodes of two parents each on three lanes, every 50th an all-reduce of all ranks."""
    random = np.random.default_rng(rank)
    rows = np.arange(NODES)
    is_collective = rows % 50 == 49
    # An all-reduce follows the one before it, so that all ranks do them in one order.
    parents = np.maximum(rows[:, None] - random.integers(1, 40, (NODES, 2)), 0)
    parents[is_collective, 1] = np.maximum(rows[is_collective] - 50, 0)
    has_two = parents[:, 0] != parents[:, 1]
    children = np.concatenate([rows[1:], rows[1:][has_two[1:]]])
    after = np.concatenate([parents[1:, 0], parents[1:, 1][has_two[1:]]])
    columns = {
        "kinds": np.where(is_collective, NodeKind.COLL, NodeKind.COMP).astype(np.int8),
        "name_ids": is_collective.astype(np.int32),
        "durations_ps": np.where(is_collective, 0, random.integers(10**6, 10**8, NODES)),
        "lanes": (rows % 3).astype(np.int32),
        "comm_kinds": np.where(is_collective, CommKind.ALL_REDUCE, -1).astype(np.int8),
        "comm_bytes": np.where(is_collective, 2**20, -1),
    }
    return graph_of_columns(
        rank,
        NODES,
        columns,
        children=children,
        parents=after,
        names=["work", "all_reduce"],
        lane_names=["lane 0", "lane 1", "lane 2"],
    )


def in_turns(*ways: Callable[[], Made], times: int = TIMES) -> list[tuple[float, Made]]:
    """The shortest time in seconds of each way, and what it made."""
    best: list[tuple[float, Made]] = []
    for turn in range(times):
        for i, way in enumerate(ways):
            begun = time.perf_counter()
            made = way()
            seconds = time.perf_counter() - begun
            if turn == 0:
                best.append((seconds, made))
            elif seconds < best[i][0]:
                best[i] = seconds, made
    return best


def require_same(batch: list[Result], alone: list[Result]) -> None:
    """Exit unless the results are the same and complete."""
    for one, other in zip(batch, alone, strict=True):
        if not (
            np.array_equal(one.starts_ps, other.starts_ps)
            and np.array_equal(one.ends_ps, other.ends_ps)
            and json_document(one) == json_document(other)
        ):
            sys.exit(f"{one.machine.name}: a batch gives another result than a replay of its own")
        if one.deadlock is not None:
            sys.exit(f"{one.machine.name}: {one.deadlock}")


def document(*arguments: object) -> Any:
    """What `chakrasim replay --json` prints."""
    return json.loads(subprocess.check_output([COMMAND, "replay", *map(str, arguments), "--json"]))


def line(what: str, batch_s: float, alone_s: float) -> None:
    """Print both times and their ratio."""
    print(f"{what:<28} {batch_s:8.3f} s {alone_s:8.3f} s {alone_s / batch_s:6.2f} ×", flush=True)
    if alone_s < 0.95 * batch_s:
        sys.exit(f"{what}: a batch is slower than replays one by one")


def main() -> None:
    """Print a line for each way."""
    workload = Workload.from_graphs([a_graph(rank) for rank in range(RANKS)], name="batch")
    names = machine_names()
    machines = [load_machine(name) for name in names]
    simulate(workload, machines[0], compute="measured")  # compiles
    print(f"{len(workload):,} nodes, {len(names)} machines".ljust(28), "  in one   one by one   ratio")

    def unasked() -> Workload:
        graphs = {rank: replace(graph) for rank, graph in workload.graphs.items()}
        return replace(workload, graphs=graphs)

    (batch_s, batch), (alone_s, alone) = in_turns(
        lambda: simulate_many(workload, machines, compute="measured"),
        lambda: [simulate(workload, machine, compute="measured") for machine in machines],
    )
    require_same(batch, alone)
    line("in memory", batch_s, alone_s)
    (batch_s, batch), (alone_s, alone) = in_turns(
        lambda: simulate_many(unasked(), machines, compute="measured"),
        lambda: [simulate(unasked(), machine, compute="measured") for machine in machines],
    )
    require_same(batch, alone)
    line("not asked before", batch_s, alone_s)
    with tempfile.TemporaryDirectory() as folder:
        for rank, graph in workload.graphs.items():
            write_graph(graph, Path(folder) / f"batch.{rank}.et")
        document(folder, "--machine", names[0])  # fills the cache of columns
        options = [option for name in names for option in ("--machine", name)]
        (batch_s, together), (alone_s, apart) = in_turns(
            lambda: document(folder, *options)["machines"],
            lambda: [document(folder, "--machine", name) for name in names],
            times=2,
        )
        if together != apart:
            sys.exit("the command prints something else for a batch")
        line("command, from files", batch_s, alone_s)


if __name__ == "__main__":
    main()
