"""How fast PyTorch profiler traces are converted: `python benchmarks/conversion.py [TRACE …]`.

Events a second of processor time and bytes of peak memory an event, over what importing takes, beside parsing
the same text by orjson and doing nothing with it. Each trace is measured in processes of its own, after its
loops were compiled. Every run must find the events and nodes that the others found, and both ways of reading
must give equal columns. The second table is of `chakrasim convert`, from the command line to the written
graphs. By default the largest traces under `$CHAKRASIM_SHARED/real_traces`, else `../shared/real_traces`, and
one of a million events that is made here.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.read.kineto_reader import read_recording
from chakrasim.converters.pytorch.read.scan_driver import scan_file
from chakrasim.replay.report.console import new_table, people_console, print_table

SHARED = Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TRACES = (
    "hta_large_v100_rank1of2/device.1.json.gz",
    "hta_dlrm_a100_rank3of8/device.3.json.gz",
    "kineto_tb_resnet50_2021/resnet50_nw0.json.gz",
)
COMMAND = Path(sys.executable).with_name("chakrasim")
MADE_STEPS = 100_000
MIN_STEPS = 3_000
"""So many make every compiled loop run."""
EVENTS_A_STEP = 10
TIMES = 5


EVENT = """  {
    "ph": "X", "cat": "%s", "name": "%s", "pid": %d, "tid": 7,
    "ts": %d, "dur": %d,
    "args": {
      %s
    }
  }"""


def made_trace(path: Path, steps: int) -> None:
    """A trace in Kineto's own form: steps of four operators that launch two kernels, some a collective."""
    written = []
    told = '"External id": %d, "Input Dims": [[1024, 100], [100, 64]], "Input type": ["float", "float"]'
    reduction = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    for step in range(steps):
        for k in range(4):
            number, start = 4 * step + k + 1, 10**15 + 200 * step + 40 * k
            is_collective = k == 3 and step % 10 == 0
            name = "c10d::allreduce_" if is_collective else f"aten::operator_{k}"
            written.append(EVENT % ("cpu_op", name, 7, start, 30, told % number))
            call = f'"cbid": 211, "correlation": {number}'
            written.append(EVENT % ("cuda_runtime", "cudaLaunchKernel", 7, start + 5, 10, call))
            if k % 2:
                work = f'"device": 0, "stream": 7, "correlation": {number}'
                name = reduction if is_collective else "gemm_kernel"
                written.append(EVENT % ("kernel", name, 0, start + 20, 30, work))
    assert len(written) == steps * EVENTS_A_STEP
    info = '"distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 2}'
    text = f'{{\n  "schemaVersion": 1, {info},\n  "traceEvents": [\n' + ",\n".join(written) + "\n  ]\n}\n"
    path.write_bytes(gzip.compress(text.encode(), 6))


def shortest_s(task: Callable[[], Any]) -> float:
    """The shortest processor time of several runs."""
    best = float("inf")
    for _ in range(TIMES):
        begun = time.process_time()
        task()
        best = min(best, time.process_time() - begun)
    return best


def unpack(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def parse_alone(path: Path) -> int:
    """The number of events, by orjson from the whole text, as fast as it goes."""
    gc.disable()
    document = orjson.loads(unpack(path))
    count = len(document["traceEvents"] if isinstance(document, dict) else document)
    del document
    gc.enable()
    return count


def load_compiled() -> None:
    """Bring in what importing brings in, and what compiled loops take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.json.gz"
        made_trace(path, MIN_STEPS)
        read_recording(path, is_scanned=True)
        convert_pytorch(path)


def measure(what: str, path: Path) -> dict[str, Any]:
    """In a process of its own: time, peak memory over what is there before, and what came out."""
    load_compiled()
    tasks: dict[str, Callable[[], Any]] = {
        "parse": lambda: parse_alone(path),
        "read": lambda: read_recording(path, is_scanned=True),
        "convert": lambda: convert_pytorch(path),
    }
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    result = tasks[what]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    found = result
    if what == "read":
        found = len(result.host) + len(result.device)
        check_columns(path, result)
    elif what == "convert":
        found = sum(len(graph) for graph in result.graphs.values())
    del result
    return {"seconds": shortest_s(tasks[what]), "peak_bytes": peak, "found": found}


def check_columns(path: Path, scanned: Any) -> None:
    """Both ways of reading give the same host and device columns; the scanner didn't leave it to objects."""
    from chakrasim.converters.pytorch.read.event_columns import EventColumns

    if scan_file(path, EventColumns(str(path), lambda name: False)) is None:
        sys.exit(f"{path}: isn't scanned")
    parsed = read_recording(path, is_scanned=False)
    for part in ("host", "device"):
        one, other = vars(getattr(scanned, part)), vars(getattr(parsed, part))
        for name, column in one.items():
            if isinstance(column, np.ndarray) and not np.array_equal(column, other[name]):
                sys.exit(f"{path}: {part}.{name} differs between scanning and parsing")


def in_a_process(what: str, path: Path) -> dict[str, Any]:
    """`measure`, where no other run has left memory behind."""
    command = [sys.executable, __file__, "--one", what, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def whole_process(path: Path) -> tuple[float, int]:
    """`chakrasim convert`, graphs written and self-check done: the shortest time and the most memory."""
    best_s, peak_bytes = float("inf"), 0
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as folder:
            command = [COMMAND, "convert", "--partial", str(path), "-o", f"{folder}/graphs"]
            begun = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            best_s = min(best_s, time.perf_counter() - begun)
            if status:
                sys.exit(f"{path}: can't be converted")
            peak_bytes = max(peak_bytes, usage.ru_maxrss * 1024)
    return best_s, peak_bytes


@click.command(help=__doc__)
@click.argument("traces", nargs=-1, type=click.Path(path_type=Path))
@click.option("--one", hidden=True)
def main(traces: tuple[Path, ...], one: str | None) -> None:
    """Measure, check and print."""
    if one == "make":
        made_trace(traces[0], MADE_STEPS)
        return
    if one is not None:
        click.echo(json.dumps(measure(one, traces[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = list(traces or (p for t in TRACES if (p := SHARED / "real_traces" / t).exists()))
        if not traces:
            paths.append(Path(folder) / "made.json.gz")
            # A process's peak memory counts from its parent's: it is made in one of its own.
            subprocess.run([sys.executable, __file__, "--one", "make", str(paths[-1])], check=True)
        columns = (
            "events",
            "nodes",
            "s",
            "M events/s",
            "bytes/event",
            "orjson s",
            "ratio",
            "orjson bytes/event",
        )
        table = new_table("Converting: processor time", ("trace",), columns)
        processes = new_table(
            "`chakrasim convert` on two cores",
            ("trace",),
            ("events", "s", "M events/s", "peak MB", "bytes/event"),
        )
        for path in paths:
            parse, read, convert = (in_a_process(what, path) for what in ("parse", "read", "convert"))
            process_s, process_bytes = whole_process(path)
            events, nodes = parse["found"], convert["found"]
            if not events >= read["found"] > 0 or nodes < read["found"]:
                sys.exit(f"{path}: {events} events, {read['found']} read, {nodes} nodes")
            if path.name == "made.json.gz" and not events == read["found"] == MADE_STEPS * EVENTS_A_STEP:
                sys.exit(f"{events} events and {read['found']} read, made {MADE_STEPS * EVENTS_A_STEP}")
            table.add_row(
                path.name,
                f"{events:,}",
                f"{nodes:,}",
                f"{convert['seconds']:.2f}",
                f"{events / convert['seconds'] / 1e6:.2f}",
                f"{convert['peak_bytes'] / events:,.0f}",
                f"{parse['seconds']:.2f}",
                f"{convert['seconds'] / parse['seconds']:.2f}",
                f"{parse['peak_bytes'] / events:,.0f}",
            )
            processes.add_row(
                path.name,
                f"{events:,}",
                f"{process_s:.2f}",
                f"{events / process_s / 1e6:.2f}",
                f"{process_bytes / 1e6:,.0f}",
                f"{process_bytes / events:,.0f}",
            )
        print_table(people_console(), table)
        print_table(people_console(), processes)


if __name__ == "__main__":
    main()
