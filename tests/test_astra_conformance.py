"""ASTRA-sim's answers from ASTRA-sim's files: every recorded run, by the library and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from conftest import shared_folder

from chakrasim.replay.astra_sim.conformance import EXACT, HANGS_THERE, check_case, read_cases
from chakrasim.replay.cli import main
from chakrasim.traces.errors import ConfigError

ORACLE = shared_folder() / "oracle"
CASES = {case["id"]: case for case in read_cases(ORACLE)} if ORACLE.is_dir() else {}
DOCS = Path(__file__).parent.parent / "docs/astra-sim.md"
MOST_LISTED = 10
BACKENDS = {"unaware": "congestion-unaware", "aware": "congestion-aware"}


def listed() -> set[str]:
    """The recorded runs that the documentation lists as differing on purpose."""
    return set(re.findall(r"`([A-H]\d\d_\w+)`", DOCS.read_text()))


def command_line(case: dict[str, Any], folder: Path) -> list[str]:
    """The replay of a case from its files, with ASTRA-sim's own options where it has such."""
    place = folder / case["workload"]["dir"]
    given = ["replay", str(place / case["workload"]["prefix"]), "--json", *case["cli"]]
    for option, name in (
        ("--astra-system", "system.json"),
        ("--astra-network", "network.yml"),
        ("--astra-remote-memory", "remote.json"),
        ("--astra-groups", "groups.json"),
    ):
        if (place / name).exists():
            given += [option, str(place / name)]
    return [*given, "--astra-backend", BACKENDS[case["backend"]]]


def test_the_recorded_runs_are_there(shared: Path) -> None:
    assert len(CASES) == 112


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_run_is_met_to_the_nanosecond(shared: Path, name: str) -> None:
    verdict = check_case(CASES[name], shared / "oracle")
    if name in listed():
        assert verdict.verdict == HANGS_THERE
        assert None not in verdict.finish_ns
    else:
        assert (verdict.verdict, verdict.detail) == (EXACT, "")


@pytest.mark.parametrize("name", CASES)
def test_it_is_met_through_the_command_line_too(shared: Path, name: str) -> None:
    case = CASES[name]
    result = CliRunner().invoke(main, command_line(case, shared / "oracle"))
    assert result.exit_code == 0, result.stderr
    ranks = orjson.loads(result.stdout)["ranks"]
    if name not in listed():
        assert [rank["finish_ns"] for rank in ranks] == case["observed"]["finish"]
        assert [rank["exposed_communication_ns"] for rank in ranks] == case["observed"]["exposed"]
        assert all(type(rank["finish_ns"]) is int for rank in ranks)


def test_few_runs_are_listed_and_each_is_one(shared: Path) -> None:
    assert len(listed()) <= MOST_LISTED
    assert listed() <= set(CASES)


def test_the_command_counts_what_is_exact(shared: Path) -> None:
    result = CliRunner().invoke(main, ["conformance", str(shared / "oracle")])
    assert result.exit_code == 0, result.output
    exact = len(CASES) - len(listed())
    assert result.stdout.splitlines()[-1] == f"{exact} of {len(CASES)} exact"


def test_a_run_that_differs_is_named_and_the_exit_code_says_so(shared: Path, tmp_path: Path) -> None:
    case = json.loads(json.dumps(CASES["A00_ar_1KB_ring4"]))
    case["observed"]["finish"][2] += 1
    (tmp_path / "cases.json").write_text(json.dumps({"cases": [case]}))
    (tmp_path / "cases").symlink_to(shared / "oracle/cases")
    result = CliRunner().invoke(main, ["conformance", str(tmp_path)])
    assert result.exit_code == 1
    assert "A00_ar_1KB_ring4: rank 2: finish 3094 ns, there 3095 ns" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 of 1 exact"


@pytest.mark.parametrize("text", ["{}", "[1]", "{", '{"cases": [{"id": "x"}]}'])
def test_a_folder_without_recorded_runs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cases.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cases\.json"):
        read_cases(tmp_path)
