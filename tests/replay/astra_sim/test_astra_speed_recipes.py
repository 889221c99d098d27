"""Large configurations whose times ASTRA-sim 2.2 needs seconds to minutes for: the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner
from conftest import shared_folder

from chakrasim.replay.cli.main import main
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.io import write_graph

RUNS_FILE = shared_folder() / "perf/astra_times.json"
RUNS = {run["id"]: run for run in orjson.loads(RUNS_FILE.read_bytes())["runs"]} if RUNS_FILE.exists() else {}
MIB = 2**20
GIGA = 10**9


def write_workload(name: str, folder: Path, ranks: int) -> None:
    """The graphs of a run, by its recipe, into `folder/t.<rank>.et`."""
    builder = GraphBuilder(0)

    def compute(ops: int, after: list[int]) -> list[int]:
        return [builder.add(NodeKind.COMP, "compute", ops=ops, tensor_bytes=10**6, after=after)]

    def all_reduce(size_bytes: int, after: list[int]) -> None:
        kind = CommKind.ALL_REDUCE
        builder.add(NodeKind.COLL, "all-reduce", comm_kind=kind, comm_bytes=size_bytes, after=after)

    last: list[int] = []
    if name.startswith("ar_"):
        all_reduce(64 * MIB, last)
    elif name.startswith("layers_"):
        for _ in range(96):
            last = compute(GIGA, last)
        for _ in range(96):
            last = compute(2 * GIGA, last)
            all_reduce(8 * MIB, last)
    else:
        for _ in range(100_000):
            last = compute(GIGA, last)
    first = folder / "t.0.et"
    write_graph(builder.build(), first)
    for rank in range(1, ranks):
        (folder / f"t.{rank}.et").write_bytes(first.read_bytes())


@pytest.mark.parametrize("name", list(RUNS) or ["*"])
def test_a_large_run_ends_when_it_does_there(shared: Path, tmp_path: Path, name: str) -> None:
    _ = shared / "perf/astra_times.json"
    run: dict[str, Any] = RUNS[name]
    write_workload(name, tmp_path, run["ranks"])
    (tmp_path / "system.json").write_bytes(orjson.dumps(run["system"]))
    (tmp_path / "network.yml").write_text(yaml.safe_dump(run["network"]))
    files = [f"--astra-system={tmp_path / 'system.json'}", f"--astra-network={tmp_path / 'network.yml'}"]
    result = CliRunner().invoke(main, ["replay", str(tmp_path / "t"), *files, "--json"])
    assert result.exit_code == 0, result.stderr
    ranks = orjson.loads(result.stdout)["ranks"]
    assert {rank["finish_ns"] for rank in ranks} == {run["finish_ns"]}
    assert len(ranks) == run["ranks"]
