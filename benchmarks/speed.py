"""How fast chakrasim is, and how time and memory grow: `python benchmarks/speed.py [astra_times.json]`.

Whole processes, from the command line to its last line, on the workloads that ASTRA-sim 2.2 was timed on,
with its times beside ours; on a training step of Llama 3 405B; the bundled sample; and the loop alone on
graphs that all differ. Then two curves: whole processes by ranks, and the loop by nodes.

Every result is checked: finish times against ASTRA-sim's, to the nanosecond, and counts of nodes and of the
events that the loop processed, so that work left out can't look like speed. ASTRA-sim's times are scaled by
how long the same loop of Python takes here and took there. The file of times defaults to
`$CHAKRASIM_SHARED/perf/astra_times.json`, else `../shared/perf/astra_times.json`; without it those rows are
left out. In the end the parts have their turn, each a program of its own: reading, converting, rank classes,
repetition and batches.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from chakrasim.replay.cli.progress import progress
from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import SEQUENCE, State
from chakrasim.replay.engine.program import Program, build_program
from chakrasim.replay.report.console import new_table, people_console, print_table
from chakrasim.traces.builder import GraphBuilder, graph_of_columns
from chakrasim.traces.graph import CommKind, ExecutionGraph, Ints, NodeKind
from chakrasim.traces.io import write_graph
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import read_workload

ASTRA_TIMES = (
    Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "perf"
    / "astra_times.json"
)
COMMAND = Path(sys.executable).with_name("chakrasim")
LLAMA = (
    "--model", "llama3-405b", "--tp", "8", "--pp", "16", "--virtual-stages", "8", "--sharding", "zero2",
    "--gradient-dtype", "fp32",
)  # fmt: skip
SEQUENCES_PER_REPLICA = 16
PARTS = ("ingestion", "conversion", "classes", "repetition", "batch")
CURVE_RANKS = (8, 64, 512, 4096, 32768, 131072)
CURVE_NODES = (10**3, 10**4, 10**5, 10**6, 10**7)


@dataclass(frozen=True)
class Measured:
    """One row of the report."""

    what: str
    ranks: int
    nodes: int
    seconds: float
    """The best of several."""
    peak_MB: float
    astra_s: float | None = None
    """Scaled to this machine."""


def whole_process(arguments: list[str], *, times: int = 3) -> tuple[float, float, bytes]:
    """The shortest time in seconds of a `chakrasim` command, its peak memory in MB and what it printed."""
    best, peak, output = float("inf"), 0.0, b""
    for _ in range(times):
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen([COMMAND, *arguments], stdout=out, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            best = min(best, time.perf_counter() - begun)
            out.seek(0)
            output = out.read()
        if status:
            sys.exit(f"chakrasim {' '.join(arguments)}: failed")
        peak = max(peak, usage.ru_maxrss / 1e3)
    return best, peak, output


def python_loop_s() -> float:
    """Seconds for 20 million turns of the loop that the reference machine was timed with: of a module, whose
    variables take Python longer than a function's."""
    turns = 2_000_000
    loop = compile(f"s = 0\nfor i in range({turns}):\n    s += i * i", "loop", "exec")
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        exec(loop, {})
        best = min(best, time.perf_counter() - begun)
    return best * 20_000_000 / turns


def astra_graph(name: str) -> ExecutionGraph:
    """A rank of a workload that ASTRA-sim was timed on, by the recipe in the file of times."""
    builder = GraphBuilder(0)

    def compute(ops: int, after: tuple[int, ...]) -> int:
        return builder.add(NodeKind.COMP, "compute", ops=ops, tensor_bytes=10**6, after=after)

    def all_reduce(mebibytes: int, after: tuple[int, ...]) -> int:
        kind = CommKind.ALL_REDUCE
        size = mebibytes * 2**20
        return builder.add(NodeKind.COLL, "all-reduce", comm_kind=kind, comm_bytes=size, after=after)

    if name.startswith("ar"):
        all_reduce(64, ())
        return builder.build()
    last: tuple[int, ...] = ()
    for _ in range(100_000 if name.startswith("chain") else 96):
        last = (compute(10**9, last),)
    for _ in range(0 if name.startswith("chain") else 96):
        last = (compute(2 * 10**9, last),)
        all_reduce(8, last)
    return builder.build()


def against_astra(entry: dict[str, Any], slower: float, folder: Path) -> Measured:
    """A whole process on a workload of the file of times; raises SystemExit if the result is another."""
    name, ranks = entry["id"], entry["ranks"]
    graph = astra_graph(name)
    first = folder / name / "w.0.et"
    first.parent.mkdir()
    write_graph(graph, first)
    for rank in range(1, ranks):
        first.with_name(f"w.{rank}.et").write_bytes(first.read_bytes())
    system, network = folder / f"{name}.json", folder / f"{name}.yml"
    system.write_text(json.dumps(entry["system"]))
    network.write_text(json.dumps(entry["network"]))
    machine = ["--astra-system", str(system), "--astra-network", str(network)]
    trace = str(first.parent / "w")
    document = json.loads(whole_process(["replay", trace, *machine, "--json"], times=1)[2])
    if document["step_time_ns"] != entry["finish_ns"] or document["nodes"] != ranks * len(graph):
        sys.exit(f"{name}: {document['step_time_ns']} ns, {document['nodes']} nodes; not ASTRA-sim's")
    seconds, peak, _ = whole_process(["replay", trace, *machine])
    return Measured(
        name, ranks, document["nodes"], seconds, peak, statistics.median(entry["wall_s"]) * slower
    )


def training_step(ranks: int, *, times: int) -> Measured:
    """Generating and replaying a step of Llama 3 405B, or for few ranks of fewer stages."""
    pipeline = min(16, max(1, ranks // 8))
    data = ranks // (8 * pipeline)
    batch = ["--global-batch", str(SEQUENCES_PER_REPLICA * data), "--dp", str(data)]
    plan = [word if word != "16" else str(pipeline) for word in LLAMA]
    if pipeline == 1:
        at = plan.index("--virtual-stages")
        plan = plan[:at] + plan[at + 2 :]
    if data == 1:
        at = plan.index("--sharding")
        plan = plan[:at] + plan[at + 2 :]
    arguments = ["replay", *plan, *batch]
    document = json.loads(whole_process([*arguments, "--json"], times=1)[2])
    stood_for = sum(rank["stands_for"] for rank in document["ranks"])
    if document["step_time_ns"] is None or stood_for != ranks:
        sys.exit(f"{ranks} ranks: {stood_for} accounted for, step time {document['step_time_ns']}")
    seconds, peak, _ = whole_process(arguments, times=times)
    return Measured(f"Llama 3 405B, {ranks:,} ranks", ranks, document["nodes"], seconds, peak)


def generation(ranks: int, folder: Path) -> Measured:
    """Writing the graphs of a step of Llama 3 405B, one of each kind of rank."""
    data = ranks // 128
    output = folder / f"generated{ranks}"
    arguments = ["generate", "transformer", *LLAMA, "--dp", str(data), "--global-batch", str(16 * data)]
    arguments += ["--one-of-each", "-o", str(output), "--force"]
    seconds, peak, _ = whole_process(arguments)
    nodes = len(read_workload(output, partial=True))
    if nodes < 50_000:
        sys.exit(f"{ranks} ranks: only {nodes} nodes were written")
    return Measured(f"generate Llama 3 405B, {ranks:,} ranks", ranks, nodes, seconds, peak)


def different_ranks(ranks: int, nodes: int, collectives: int) -> Workload:
    """Ranks whose nodes all take their own times, with all-reduces of all in between. O(ranks x nodes)."""
    every = nodes // collectives
    graphs = []
    rows = np.arange(nodes)
    is_collective = rows % every == every - 1
    for rank in range(ranks):
        random = np.random.default_rng(rank)
        columns = {
            "kinds": np.where(is_collective, NodeKind.COLL, NodeKind.COMP),
            "durations_ps": np.where(is_collective, 0, random.integers(10**5, 10**7, nodes)),
            "comm_kinds": np.where(is_collective, CommKind.ALL_REDUCE, -1),
            "comm_bytes": np.where(is_collective, 10**6, -1),
            "name_ids": np.where(is_collective, 1, 0),
        }
        graphs.append(
            graph_of_columns(
                rank, nodes, columns, children=rows[1:], parents=rows[:-1], names=("compute", "all-reduce")
            )
        )
    return Workload.from_graphs(graphs)


def loop(what: str, workload: Workload) -> Measured:
    """The compiled loop alone. Every node ends in an event of its own or in that of its collective."""
    program = build_program(workload)
    durations_ps = np.concatenate([graph.durations_ps for graph in workload.graphs.values()])
    run(_state(program, durations_ps), is_compiled=True)
    best = float("inf")
    for _ in range(3):
        state = _state(program, durations_ps)
        begun = time.perf_counter()
        _, ends_ps = run(state, is_compiled=True)
        best = min(best, time.perf_counter() - begun)
    alone = len(program) - int(np.diff(program.collectives.members[0]).sum())
    events = alone + len(program.collectives) + len(program.bases)
    if (ends_ps < 0).any() or int(state.counters[SEQUENCE]) != events:
        sys.exit(f"{what}: {int(state.counters[SEQUENCE]):,} events, expected {events:,}")
    size_MB = sum(column.nbytes for column in state) / 1e6
    return Measured(what, len(program.bases), len(program), best, size_MB)


def _state(program: Program, durations_ps: Ints) -> State:
    return program.state(durations_ps, np.full(len(program.collectives), 10**6))


def show(title: str, rows: list[Measured]) -> None:
    """A table. Nodes are those that graphs were made or read for: other ranks may share them."""
    table = new_table(
        title, ("what",), ("ranks", "nodes", "seconds", "peak MB", "M nodes/s", "ASTRA-sim s", "ratio")
    )
    for row in rows:
        astra = (
            ("", "") if row.astra_s is None else (f"{row.astra_s:.2f}", f"{row.astra_s / row.seconds:.1f}")
        )
        rate = f"{row.nodes / row.seconds / 1e6:.2f}"
        table.add_row(
            row.what,
            f"{row.ranks:,}",
            f"{row.nodes:,}",
            f"{row.seconds:.2f}",
            f"{row.peak_MB:,.0f}",
            rate,
            *astra,
        )
    print_table(people_console(), table)


@click.command(help=__doc__)
@click.argument("times", type=click.Path(dir_okay=False, path_type=Path), default=ASTRA_TIMES)
@click.option("--no-curves", is_flag=True, help="Leave the curves out.")
@click.option("--no-parts", is_flag=True, help="Leave the other programs out.")
def main(times: Path, no_curves: bool, no_parts: bool) -> None:
    """Measure, check and print."""
    here_s = python_loop_s()
    known = json.loads(times.read_text()) if times.exists() else {"runs": [], "python_loop_s": here_s}
    slower = here_s / known["python_loop_s"]
    rows: list[Measured] = []
    curve: list[Measured] = []
    # A child's peak memory counts from its parent's: other processes come before graphs are made here.
    with tempfile.TemporaryDirectory() as folder, progress("measuring") as report:
        steps = len(known["runs"]) + 4 + (0 if no_curves else len(CURVE_RANKS))
        help_s, help_MB, _ = whole_process(["--help"], times=5)
        rows.append(Measured("chakrasim --help", 0, 0, help_s, help_MB))
        sample = json.loads(whole_process(["replay", "--json"], times=1)[2])
        sample_s, sample_MB, _ = whole_process(["replay"], times=5)
        rows.append(Measured("bundled sample", sample["world_size"], sample["nodes"], sample_s, sample_MB))
        for entry in known["runs"]:
            report(len(rows) - 2, steps, entry["id"])
            rows.append(against_astra(entry, slower, Path(folder)))
        for ranks in (16384, 131072):
            report(len(rows) - 2, steps, f"{ranks:,} ranks")
            rows.append(training_step(ranks, times=3))
        report(len(rows) - 2, steps, "generation")
        rows.append(generation(16384, Path(folder)))
        for ranks in () if no_curves else CURVE_RANKS:
            report(len(rows) + len(curve) - 2, steps, f"{ranks:,} ranks")
            curve.append(training_step(ranks, times=1))
    click.echo(f"this machine takes {slower:.2f} times as long as the one on which ASTRA-sim was timed")
    show("Whole processes", rows)
    if not no_curves:
        show("By ranks: whole processes", curve)
    for part in () if no_parts else PARTS:
        click.echo(f"{part}.py")
        subprocess.run([sys.executable, Path(__file__).with_name(f"{part}.py")], check=True)
        click.echo()
    show("The loop alone", [loop("ranks all different", different_ranks(1024, 3000, 1000))])
    if not no_curves:
        jobs = {n: different_ranks(8, n // 8, max(1, n // 1000)) for n in CURVE_NODES}
        show("By nodes: the loop", [loop(f"{n:,} nodes", job) for n, job in jobs.items()])


if __name__ == "__main__":
    main()
