"""How fast Chakra files are read: `python benchmarks/ingestion.py`.

By way of protobuf's objects, by the compiled reader of bytes, and from the cache of columns, all in one
process after warming up. The files: a chain of compute nodes, a transformer's training step with all its
attributes, and 1,024 small files that are alike. All ways must give equal columns, the compiled reader must
be at least ten times as fast as protobuf's objects, and a node must take at most 100 bytes in columns.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.traces import GraphBuilder, NodeKind, io
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.reading.column_cache import VARIABLE
from chakrasim.traces.workload_files import read_workload
from chakrasim.traces.writing.encode import encode_graph

CHAIN_NODES = 100_000
ALIKE_RANKS = 1024
MIN_RATIO = 10
MAX_BYTES_A_NODE = 100
NEVER = 1 << 60


def chain() -> ExecutionGraph:
    """Compute nodes that wait for each other, each with a name of its own."""
    builder = GraphBuilder(0)
    for row in range(CHAIN_NODES):
        after = (row - 1,) if row else ()
        builder.add(NodeKind.COMP, f"c{row}", ops=10**9, tensor_bytes=10**6, after=after)
    return builder.build()


def training_step() -> ExecutionGraph:
    """The first rank of a step of Llama 3 70B."""
    plan = Plan(tensor=8, pipeline=4, virtual_stages=4, global_batch=32)
    return next(iter(generate_training(load_model("llama3-70b"), plan).graphs.values()))


def arrays_of(graph: ExecutionGraph) -> dict[str, np.ndarray]:
    """The graph's columns and edges."""
    values = {field.name: getattr(graph, field.name) for field in fields(graph)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def bytes_a_node(graph: ExecutionGraph) -> float:
    """Of columns and edges."""
    return sum(array.nbytes for array in arrays_of(graph).values()) / len(graph)


def timed(path: Path, min_bytes: int, times: int) -> tuple[float, ExecutionGraph]:
    """The shortest time in seconds of reading a file, compiled from so many bytes on, and the graph."""
    io.COMPILE_FROM_BYTES = io.WITH_NUMBA_FROM_BYTES = min_bytes
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        graph = io.read_graph(path)
        best = min(best, time.perf_counter() - begun)
    return best, graph


def compare(what: str, make: Callable[[], ExecutionGraph], folder: Path) -> None:
    """Print a file's line; raises SystemExit where something is slower or larger than it may be."""
    made = make()
    path = folder / "w.0.et"
    path.write_bytes(encode_graph(replace(made, rank=0)))
    os.environ[VARIABLE] = "off"
    timed(path, 0, 1)  # compiles
    plain_s, plain = timed(path, NEVER, 2)
    fast_s, fast = timed(path, 0, 5)
    os.environ[VARIABLE] = str(folder / "cache")
    timed(path, 0, 1)  # stores
    cached_s, cached = timed(path, 0, 5)
    for graph in (plain, fast, cached):
        assert len(graph) == len(made), f"{what}: {len(graph)} nodes, made {len(made)}"
        for name, array in arrays_of(graph).items():
            assert np.array_equal(array, arrays_of(plain)[name]), f"{what}: another {name}"
    n = len(made)
    print(
        f"{what}: {n:,} nodes, {path.stat().st_size / 1e6:.1f} MB, {bytes_a_node(fast):.0f} bytes a node; "
        f"protobuf {plain_s * 1e3:.0f} ms ({n / plain_s / 1e6:.2f} million nodes/s), compiled "
        f"{fast_s * 1e3:.1f} ms ({n / fast_s / 1e6:.1f}, {plain_s / fast_s:.0f} times as fast), cache "
        f"{cached_s * 1e3:.1f} ms"
    )
    if plain_s < MIN_RATIO * fast_s:
        sys.exit(f"{what}: the compiled reader isn't {MIN_RATIO} times as fast as protobuf's objects")
    if bytes_a_node(fast) > MAX_BYTES_A_NODE:
        sys.exit(f"{what}: a node takes over {MAX_BYTES_A_NODE} bytes")


def alike(folder: Path) -> None:
    """Print the line of many small files."""
    builder = GraphBuilder(0)
    builder.add(NodeKind.COLL, "all-reduce", comm_kind=0, comm_bytes=64 << 20)
    data = encode_graph(replace(builder.build(), metadata={}))
    for rank in range(ALIKE_RANKS):
        (folder / f"alike.{rank}.et").write_bytes(data)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        workload = read_workload(folder / "alike")
        best = min(best, time.perf_counter() - begun)
    assert len(workload) == ALIKE_RANKS, f"{len(workload)} nodes"
    print(f"{ALIKE_RANKS:,} files that are alike: {best * 1e3:.0f} ms")


def main() -> None:
    """Print a line for each file."""
    with tempfile.TemporaryDirectory() as folder:
        compare("chain", chain, Path(folder))
        compare("training step", training_step, Path(folder))
        alike(Path(folder))


if __name__ == "__main__":
    main()
