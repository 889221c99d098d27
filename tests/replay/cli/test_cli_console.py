"""The command line on any console, into a pipe that closes, and as `python -m chakrasim`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import chakrasim

MODULE = (sys.executable, "-m", "chakrasim")
COMMANDS = (
    ("--help",),
    ("machines", "list"),
    ("machines", "show", "hgx-h100"),
    ("generate", "models"),
    ("inspect", "sample:ddp_transformer"),
    ("replay", "sample:ddp_transformer", "--machine", "hgx-h100", "--machine", "dgx-a100"),
    ("replay", "sample:ddp_transformer", "--critical-path"),
)


def run(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([*MODULE, *arguments], capture_output=True, env=environment, check=False)


def test_the_module_runs_the_command_line_and_knows_its_version() -> None:
    said = run("--version").stdout.decode()
    assert said.startswith(f"chakrasim {chakrasim.__version__}\nPython 3.")
    assert "numpy " in said
    assert "numba " in said
    assert "protobuf " in said


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_console_without_a_character_shows_a_question_mark(command: tuple[str, ...], encoding: str) -> None:
    ended = run(*command, encoding=encoding)
    assert (ended.returncode, ended.stderr.decode(encoding)) == (0, "")
    assert ended.stdout.decode(encoding)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_who_has_seen_enough_ends_the_command_quietly(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run([*MODULE, *command], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode in (1, 141)  # click's own code where it notices first
