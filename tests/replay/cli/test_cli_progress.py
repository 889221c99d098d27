"""The progress bar: on a terminal only, after a while only, on standard error only."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

PROGRAM = """
import sys
from chakrasim.replay.cli import progress
progress.DELAY_S = float(sys.argv[1])
with progress.progress("at work") as report:
    report(1, 2, "half way")
    sys.stdin.readline()
"""


def run_on_a_terminal(delay_s: float, until: bytes) -> bytes:
    """What the program writes to its terminal; it goes on working until it has written `until`."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(delay_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    seen = b""
    while until not in seen:
        seen += os.read(terminal, 1024)
    out, _ = process.communicate(b"\n")
    assert (process.returncode, out) == (0, b"")
    while True:
        try:
            seen += os.read(terminal, 1024)
        except OSError:  # Linux says so when the other end is closed and all is read.
            break
    os.close(terminal)
    return seen


def test_long_work_on_a_terminal_shows_how_far_it_is() -> None:
    assert b"half way" in run_on_a_terminal(0, until=b"half way")


def test_short_work_on_a_terminal_shows_nothing() -> None:
    assert run_on_a_terminal(3600, until=b"") == b""


def test_work_without_a_terminal_shows_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "0"], input=b"\n", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
