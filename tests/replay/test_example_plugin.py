"""A package that adds one part of every kind, installed and used from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "example_plugin"
US = 1_000

TIMELINE = """rank,name,start_us,duration_us,stream
0,gemm,0,10,compute
0,softmax,10,4,compute
1,gemm,0,10,compute
1,softmax,10,4,compute
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example package is installed beside chakrasim."""
    folder = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(copy)], check=True)  # building writes into the source
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(folder), str(copy)], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def chakrasim(environment: dict[str, str], *arguments: str) -> dict:  # type: ignore[type-arg]
    command = [sys.executable, "-m", "chakrasim.replay.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_plugins_lists_the_parts_and_the_package_they_come_from(installed: dict[str, str]) -> None:
    listed = json.dumps(chakrasim(installed, "plugins"))
    for name in ("name-table", "jitter", "backward-ring", "csv", "desk"):
        assert f'"{name}"' in listed
    assert "chakrasim-example 1.0" in listed


def test_all_five_parts_replay_a_trace(installed: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "timeline.csv"
    trace.write_text(TIMELINE)
    options = ("--machine", "desk", "--compute", "name-table", "--network", "jitter")
    result = chakrasim(installed, "replay", str(trace), *options)
    # The table has 12.5 us for gemm, and nothing for softmax, which keeps its 4.
    assert result["step_time_ns"] == 16.5 * US
    assert result["network"] == "jitter"


def test_the_algorithm_costs_what_the_ring_does(installed: dict[str, str], tmp_path: Path) -> None:
    graphs = str(tmp_path / "graphs")
    arguments = ("--kind", "all-reduce", "--size", "1MiB", "--ranks", "8", "-o", graphs)
    chakrasim(installed, "generate", "collective", *arguments)
    # 14 steps of 131,072 bytes at 10 GB/s, each after 500 ns.
    whole = chakrasim(installed, "replay", graphs, "--machine", "desk")
    assert whole["step_time_ns"] == pytest.approx(14 * (131_072 / 10 + 500))


def test_rank_classes_change_nothing_of_any_part(installed: dict[str, str], tmp_path: Path) -> None:
    graphs = str(tmp_path / "graphs")
    arguments = ("--seed", "4", "--ranks", "8", "--operations", "60", "-o", graphs)
    chakrasim(installed, "generate", "random", *arguments)
    options = ("--machine", "desk", "--compute", "name-table")
    for network in ("analytical", "jitter"):
        with_classes, without = (
            chakrasim(installed, "replay", graphs, *options, "--network", network, *more)
            for more in ((), ("--no-classes",))
        )
        assert with_classes == without


def test_without_the_package_its_names_are_unknown() -> None:
    command = [sys.executable, "-m", "chakrasim.replay.cli", "machines", "show", "desk"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no machine 'desk'" in done.stderr
