"""The tutorial page: its commands run, and print what its tables, its text and its pictures say."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import orjson
import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main

DOCS = Path(__file__).parents[3] / "docs"
EXERCISES = {"1-1": {"ring": "Exercise 1"}, "3-1": {"baseline": "analytical", "themis": "themis"}}
"""Our labels to the names of the original's runs, where they differ by more than spelling."""


def load_script() -> ModuleType:
    """`docs/make_tutorial.py`, which isn't part of the package."""
    spec = importlib.util.spec_from_file_location("make_tutorial", DOCS / "make_tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


make_tutorial = load_script()
PAGE = make_tutorial.PAGE.read_text()


@dataclass(frozen=True)
class Run:
    """A shell block of the page and what it printed."""

    heading: str
    """The exercise's number or the first word of the section's heading."""
    example: make_tutorial.Example
    printed: str
    picture: str | None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Run]:
    """Everything on the page, run once."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        found = []
        for section in PAGE.split("\n## ")[1:]:
            heading = section.split(maxsplit=1)[0].rstrip(":")
            for example in make_tutorial.read_examples(section):
                printed = make_tutorial.run_script(example.script)
                name = example.picture
                picture = make_tutorial.draw(name, example.rows(printed)) if name else None
                found.append(Run(heading, example, printed, picture))
        return found
    finally:
        os.chdir(before)


def test_every_block_is_run(runs: list[Run]) -> None:
    assert len(runs) == PAGE.count("```bash\n")
    assert len([run for run in runs if run.example.table]) == PAGE.count("| finish | compute |")


def test_the_tables_say_what_the_commands_print(runs: list[Run]) -> None:
    for run in runs:
        if run.example.table:
            lines = run.printed.splitlines()[-len(run.example.table) :]
            assert [" ".join(cells[1:4]) for cells in run.example.table] == [line.strip() for line in lines]


def test_a_row_stands_for_the_run_that_names_it(runs: list[Run]) -> None:
    for run in runs:
        places = [run.example.script.find(cells[0]) for cells in run.example.table]
        assert -1 not in places
        assert places == sorted(places)


def test_the_text_blocks_say_what_the_commands_print(runs: list[Run]) -> None:
    for run in runs:
        printed = [line.strip() for line in run.printed.splitlines()]
        assert [line for line in run.example.shown if line.strip() not in printed] == []


def test_the_bus_bandwidth_follows_from_the_time(runs: list[Run]) -> None:
    (run,) = (run for run in runs if run.heading == "1-3")
    for size_mib, finish_us, _, _, stated in run.example.table:
        bandwidth_GBps = make_tutorial.bus_bandwidth_GBps(int(size_mib), float(finish_us), ranks=8)
        assert stated == f"{bandwidth_GBps:.1f}"


def test_the_text_says_how_much_communication_is_hidden(runs: list[Run], folder: Path) -> None:
    for machine, scale in (("dgx2", 0.41), ("tpu", 1.0)):
        files = [f"--astra-network={folder / machine}.json", f"--astra-system={folder / machine}.txt"]
        command = ["replay", str(folder / "vgg16.txt"), *files, f"--compute-scale={scale}", "--json"]
        rank = orjson.loads(CliRunner().invoke(main, command).stdout)["ranks"][0]
        hidden_ns = rank["communication_ns"] - rank["exposed_communication_ns"]
        for time_ns in (rank["communication_ns"], hidden_ns):
            assert f"{time_ns / 1e6:.2f} ms" in PAGE


def test_the_machine_file_has_the_block_that_the_page_shows(runs: list[Run], folder: Path) -> None:
    shown = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert shown in (folder / "tpu.yaml").read_text()


def test_the_pictures_are_those_that_the_page_gives(runs: list[Run]) -> None:
    pictures = {run.example.picture: run.picture for run in runs if run.picture}
    assert pictures.keys() == {path.name for path in DOCS.glob("tutorial-*.svg")}
    stale = [name for name, picture in pictures.items() if (DOCS / name).read_text() != picture]
    assert not stale, "run python docs/make_tutorial.py"


def test_the_numbers_are_those_of_the_original(runs: list[Run], shared: Path) -> None:
    results = orjson.loads((shared / "tutorial/expected.json").read_bytes())["results"]
    compared = 0
    for exercise in ("1-1", "1-2", "1-3", "2-1", "3-1"):
        run = next(run for run in runs if run.heading == exercise and run.example.table)
        known = {entry["name"]: entry for entry in results[f"result_{exercise}"]}
        spelled = {name.lower().removesuffix("-vgg16"): name for name in known}
        for label, row in run.example.rows(run.printed).items():
            name = EXERCISES.get(exercise, {}).get(label) or spelled[label.replace("-", "")]
            entry = known[name]
            assert row == (entry["total_us"], entry["compute_us"], entry["exposed_comm_us"])
            compared += 1
    assert compared == sum(len(results[f"result_{e}"]) for e in ("1-1", "1-2", "1-3", "2-1", "3-1"))
