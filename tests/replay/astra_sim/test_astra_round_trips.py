"""ASTRA-sim's configurations by another way: their machine through a machine file, and the command line.

Both must meet the finishes that stand on file for the library.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from astra_cases import imported, replay_on, workload_of
from astra_goldens import GOLDENS, case_of
from click.testing import CliRunner
from families import check_each, families

from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.files.read import read_machine
from chakrasim.replay.machine.files.write import machine_yaml
from chakrasim.traces.workload_files import save_workload

RUNS: dict[str, list[int]] = json.loads(GOLDENS.read_text())
SHARE = 3
"""Every so many of the runs: each takes two replays here, and the library alone plays all of them."""
FAMILIES = families(list(RUNS)[::SHARE], r"[a-z]+")
BACKENDS = {"unaware": "congestion-unaware", "aware": "congestion-aware"}


def golden_case(name: str) -> dict[str, Any]:
    kind, seed = name.split("-")
    return case_of(kind, int(seed))


def check_through_a_machine_file(name: str, folder: Path) -> None:
    case = golden_case(name)
    found = imported(case, folder)
    path = folder / "machine.yaml"
    path.write_text(machine_yaml(found.machine), encoding="utf-8")
    back = read_machine(path)
    assert replace(back, name=found.machine.name) == found.machine
    result = replay_on(back, case, replay_only=found.replay_only)
    assert [result.times(rank).finish_ps // 1000 for rank in result.workload.ranks] == RUNS[name]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_imported_machine_is_the_same_after_a_machine_file(tmp_path: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_through_a_machine_file(name, tmp_path))


def check_through_the_command_line(name: str, folder: Path) -> None:
    case = golden_case(name)
    found = imported(case, folder)
    graphs = folder / name
    save_workload(workload_of(case["nodes"], case["groups"]), graphs, "t")
    given = [f"--astra-system={folder / 'system.json'}", f"--astra-network={folder / 'network.yml'}"]
    given += [f"--astra-groups={folder / 'groups.json'}"] if case["groups"] else []
    given += [f"--astra-remote-memory={folder / 'remote.json'}"] if "memory" in case else []
    given += [f"--num-queues-per-dim={case['queues']}", f"--rendezvous-protocol={case['rendezvous']}"]
    # a network that is asked for by name is played, whatever the system file says of recorded times
    given += [] if found.replay_only else [f"--astra-backend={BACKENDS[case['backend']]}"]
    ended = CliRunner().invoke(main, ["replay", str(graphs / "t"), "--json", *given])
    assert ended.exit_code == 0, ended.stderr
    assert [rank["finish_ns"] for rank in orjson.loads(ended.stdout)["ranks"]] == RUNS[name]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command_line_meets_the_finishes_on_file(tmp_path: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_through_the_command_line(name, tmp_path))
