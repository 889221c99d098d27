"""The exercises of ASTRA-sim's tutorial at ASPLOS 2023, and eight more of its runs, from its own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from conftest import shared_folder

from chakrasim.replay.cli.main import main

RUNS_FILE = shared_folder() / "tutorial/more/cases.json"
MIB_SCALES = [1 << power for power in range(11)]
ARGUMENTS = {"num-passes", "compute-scale", "comm-scale", "injection-scale"}
Times = tuple[float, float, float]


def replay(network: Path, system: Path, workload: Path, **scales: float) -> Times:
    """Total, compute and exposed communication of every rank, in us."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in scales.items()]
    files = ["--astra-network", str(network), "--astra-system", str(system)]
    result = CliRunner().invoke(main, ["replay", str(workload), *files, *given, "--json"])
    assert result.exit_code == 0, result.stderr
    keys = ("finish_ns", "compute_ns", "exposed_communication_ns")
    times = {tuple(rank[key] / 1000 for key in keys) for rank in orjson.loads(result.stdout)["ranks"]}
    (found,) = times
    return found  # type: ignore[return-value]


def expected(shared: Path, exercise: str) -> dict[str, Times]:
    """What the original's binaries gave, by the name of the run."""
    results = orjson.loads((shared / "tutorial/expected.json").read_bytes())["results"][f"result_{exercise}"]
    return {run["name"]: (run["total_us"], run["compute_us"], run["exposed_comm_us"]) for run in results}


def inputs(shared: Path, exercise: int) -> tuple[Path, Path, Path]:
    """Folders of networks, systems and workloads."""
    folder = shared / f"tutorial/exercise_{exercise}/inputs"
    return folder / "network", folder / "system", folder / "workload"


def more() -> dict[str, dict[str, Any]]:
    """The further runs by name."""
    cases = orjson.loads(RUNS_FILE.read_bytes())["cases"] if RUNS_FILE.exists() else []
    return {case["name"]: case for case in cases}


def test_exercise_1_1_a_ring(shared: Path) -> None:
    network, system, workload = inputs(shared, 1)
    found = replay(network / "ring.json", system / "ring.txt", workload / "all_reduce.txt")
    assert found == expected(shared, "1-1")["Exercise 1"]


@pytest.mark.parametrize("topology", ["Ring", "Switch", "FullyConnected"])
def test_exercise_1_2_topologies(shared: Path, topology: str) -> None:
    network, system, workload = inputs(shared, 1)
    name = topology.lower()
    found = replay(network / f"{name}.json", system / f"{name}.txt", workload / "all_reduce.txt")
    assert found == expected(shared, "1-2")[topology]


@pytest.mark.parametrize("scale", MIB_SCALES)
def test_exercise_1_3_sizes(shared: Path, scale: int) -> None:
    network, system, workload = inputs(shared, 1)
    found = replay(
        network / "ring.json", system / "ring.txt", workload / "all_reduce.txt", comm_scale=float(scale)
    )
    assert found == expected(shared, "1-3")[str(scale)]


@pytest.mark.parametrize(("name", "compute_scale"), [("dgx2", 0.41), ("tpu", 1.0)])
def test_exercise_2_1_a_model_on_two_machines(shared: Path, name: str, compute_scale: float) -> None:
    network, system, workload = inputs(shared, 2)
    found = replay(
        network / f"{name}.json", system / f"{name}.txt", workload / "vgg16.txt", compute_scale=compute_scale
    )
    assert found == expected(shared, "2-1")[f"{name.upper()}-VGG16"]


@pytest.mark.parametrize(("name", "result"), [("baseline", "analytical"), ("themis", "themis")])
def test_exercise_3_1_themis(shared: Path, name: str, result: str) -> None:
    network, system, workload = inputs(shared, 3)
    found = replay(
        network / "3d_switch.json",
        system / f"3d_switch_{name}.txt",
        workload / "all_reduce.txt",
        comm_scale=1024.0,
    )
    assert found == expected(shared, "3-1")[result]


@pytest.mark.parametrize("name", list(more()) or ["*"])
def test_further_runs(shared: Path, name: str) -> None:
    _ = shared / "tutorial/more/cases.json"
    case = more()[name]
    assert set(case["args"]) <= ARGUMENTS
    files = (shared / f"tutorial/more/{case[key]}" for key in ("network", "system", "workload"))
    found = replay(*files, **{key.replace("-", "_"): value for key, value in case["args"].items()})
    result = case["result"]
    assert found == (result["total_us"], result["compute_us"], result["exposed_us"])


def test_what_was_converted_and_imported_takes_as_long(shared: Path, tmp_path: Path) -> None:
    folder = shared / "tutorial/more/transformer_ring16_group4"
    machine = tmp_path / "machine.yaml"
    files = [f"--astra-network={folder / 'network.json'}", f"--astra-system={folder / 'system.txt'}"]
    for command in (
        ["machines", "import", *files, "--transformer-group=4", "-o", str(machine)],
        ["convert", str(folder / "workload.txt"), "--dimensions=16", "--num-passes=2", "-o", str(tmp_path)],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.stderr
    given = ["--machine", str(machine), "--network", "analytical", "--json"]
    result = CliRunner().invoke(main, ["replay", str(tmp_path / "workload"), *given])
    assert result.exit_code == 0, result.stderr
    total_us = more()["transformer_ring16_group4"]["result"]["total_us"]
    assert orjson.loads(result.stdout)["step_time_ns"] == total_us * 1000
