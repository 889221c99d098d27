"""Machines in the user's own folder, and parameters of models in machine files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chakrasim.replay.cli.main import main
from chakrasim.replay.machine import load as loading
from chakrasim.replay.machine import load_machine
from chakrasim.traces.errors import ConfigError

DESK = """name: desk
source: made up
network:
  - {name: desk, topology: ring, size: any, bandwidth_GBps: 10, latency_ns: 500, source: made up}
collectives: {default: ring}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(loading, "user_folder", lambda: tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_machine_of_the_users_own_is_found_by_the_name_of_its_file(folder: Path) -> None:
    (folder / "desk.yaml").write_text(DESK)
    assert load_machine("desk").dimensions[0].latency_ps == 500_000
    assert "desk" in [
        machine["name"] for machine in json.loads(run("machines", "list", "--json").stdout)["machines"]
    ]


def test_a_name_that_the_catalogue_has_too_is_refused_with_both_places(folder: Path) -> None:
    (folder / "hgx-h100.yaml").write_text(DESK)
    with pytest.raises(ConfigError, match=r"'hgx-h100' is there already; rename .*hgx-h100\.yaml"):
        load_machine("hgx-h100")


def test_a_broken_file_hides_no_other_machine(folder: Path) -> None:
    (folder / "broken.yaml").write_text("name: [")
    done = run("machines", "list", "--json")
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["machines"]) > 10
    assert "broken.yaml" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{congestion-aware: {packet_bytes: 1}}", "has options for congestion-aware, which takes none"),
        ("{roofline: {}}", "has options for roofline, which takes none"),
        ("{rofline: {}}", "unknown key 'rofline'; did you mean 'roofline'"),
        ("[1]", "options"),
    ],
)
def test_options_of_models_that_take_none_are_refused(tmp_path: Path, options: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(DESK + f"options: {options}\n")
    with pytest.raises(ConfigError, match=message):
        load_machine(str(path))


@pytest.mark.parametrize("option", ["--network", "--compute", "--machine"])
def test_an_empty_name_is_refused(option: str) -> None:
    done = run("replay", "sample:ddp_transformer", option, "")
    assert done.exit_code == 2
    assert "error" in done.stderr
