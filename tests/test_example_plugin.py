"""A package of another author adds a part of each family: installed by pip, used from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package is installed in, which needs no network."""
    source = tmp_path_factory.mktemp("source") / "example_plugin"
    shutil.copytree(SOURCE, source)
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Timelines of four ranks, of which rank 2 differs in a name alone."""
    for rank in range(4):
        name = "slow" if rank == 2 else "quick"
        (tmp_path / f"step.{rank}.csv").write_text(f"name,us\n{name},1\nall-reduce,4000000\n")
    return tmp_path


def chakrasim(site: Path, *arguments: object) -> str:
    paths = os.pathsep.join([str(site), *filter(None, sys.path)])
    command = [sys.executable, "-m", "chakrasim.replay.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return done.stdout


def replayed(site: Path, traces: Path, *options: str) -> dict[str, Any]:
    arguments = ("replay", traces, "--machine", "desk", "--compute", "table", "--json", *options)
    found: dict[str, Any] = json.loads(chakrasim(site, *arguments))
    return found


def test_all_five_parts_work_together_with_rank_classes(site: Path, traces: Path) -> None:
    found = replayed(site, traces, "--network", "analytical")
    # Rank 2 takes 500 us by the table; then 6 steps of 1 MB at 10 GB/s and 1 us of latency.
    assert found["step_time_ns"] == 500_000 + 6 * (100_000 + 1_000)
    assert found == replayed(site, traces, "--network", "analytical", "--no-classes")


def test_a_network_that_is_not_symmetric_replays_every_rank(site: Path, traces: Path) -> None:
    found = replayed(site, traces, "--network", "jitter")
    assert 500_000 + 606_000 <= found["step_time_ns"] <= 500_000 + 606_000 * 1.1
    assert found == replayed(site, traces, "--network", "jitter", "--no-classes")


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chakrasim.replay.cli", "machines", "show", "desk"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no machine 'desk'" in done.stderr
