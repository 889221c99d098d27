"""README's examples hold what they promise: they run, in the order they stand in."""

from __future__ import annotations

import html
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "traces" / "samples" / "ddp_transformer"
README = (ROOT / "README.md").read_text(encoding="utf-8")

NOT_HERE = ("host.0.json", "dir/et", "--astra-", "all_reduce_*.log")
"""Commands on files that only the reader has: host traces, ASTRA-sim's inputs, logs of measurements."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def python_example() -> str:
    return next(block for block in blocks("python") if block.startswith("from chakrasim"))


def commands() -> Iterator[list[str]]:
    """The words of each `chakrasim` command that can run on the bundled sample."""
    for line in "".join(blocks("bash")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["chakrasim"] and not any(name in line for name in NOT_HERE):
            yield words[1:]


def test_the_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "traces").mkdir()
    for path in SAMPLE.glob("kineto.*.json.gz"):
        shutil.copy(path, tmp_path / "traces")
    shutil.copy(SAMPLE / "kineto.0.json.gz", tmp_path / "my_trace.json.gz")
    monkeypatch.chdir(tmp_path)
    for words in commands():
        words, target = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        ended = CliRunner().invoke(main, words)
        assert ended.exit_code == 0, f"chakrasim {shlex.join(words)}\n{ended.output}"
        if target is not None:
            Path(target).write_text(ended.stdout, encoding="utf-8")
    exec(compile(python_example(), "README.md", "exec"), {})  # on the graphs that the commands made


def test_the_python_example_passes_a_strict_type_check(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "chakrasim").symlink_to(ROOT)  # under the package's name, however it is installed
    (sources / "example.py").write_text(python_example())
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        str(ROOT / "setup.cfg"),
        "example.py",
    ]
    ended = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_picture_shows_what_a_replay_prints_today() -> None:
    namespace = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))
    drawn = namespace["PICTURE"].read_text(encoding="utf-8")
    # What is printed, without the drawing around it, which is rich's and differs between its versions.
    assert texts(drawn) == texts(namespace["draw"]()), "draw it anew: python docs/make_picture.py"


def texts(svg: str) -> str:
    """The words of a picture, in order."""
    return " ".join(html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).split())
