"""`machines import --json`: the machine, what the import noted, and the file written."""

from __future__ import annotations

import json
from pathlib import Path

from astra_sim_folders import NETWORK, SYSTEM
from click.testing import CliRunner

from chakrasim.replay.cli.main import main


def import_machine(folder: Path, *more: str) -> dict[str, object]:
    (folder / "network.yml").write_text(json.dumps(NETWORK))  # JSON is YAML
    (folder / "system.json").write_text(json.dumps(SYSTEM))
    files = [f"--astra-network={folder / 'network.yml'}", f"--astra-system={folder / 'system.json'}"]
    ended = CliRunner().invoke(main, ["machines", "import", *files, "--json", *more])
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_an_import_without_a_file_prints_the_machine_alone(tmp_path: Path) -> None:
    said = import_machine(tmp_path)
    assert said["file"] is None
    assert said["replay_only"] is False


def test_an_import_into_a_file_says_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    said = import_machine(tmp_path, "-o", str(path))
    assert said["file"] == str(path)
    ended = CliRunner().invoke(main, ["machines", "show", str(path), "--json"])
    shown = json.loads(ended.stdout)
    assert {key: said[key] for key in shown if key != "name"} == {
        key: value for key, value in shown.items() if key != "name"
    }
