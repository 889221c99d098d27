"""Compiled functions that are kept on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chakrasim.traces.shared import jit

pytestmark = pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")

CALLER = """
import helper
from chakrasim.traces.shared import jit

number = jit.compiled(helper.number)

def doubled():
    return 2 * number()

print(jit.compiled(doubled, calls=(helper,))())
"""


@pytest.mark.slow
def test_a_change_of_what_is_called_is_seen(tmp_path: Path) -> None:
    caller, helper = tmp_path / "caller.py", tmp_path / "helper.py"
    caller.write_text(CALLER)

    def run(number: int) -> str:
        helper.write_text(f"def number():\n    return {number}\n")
        done = subprocess.run(
            [sys.executable, caller], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run(7) == "14"
    assert run(7) == "14"
    assert run(1234) == "2468"
