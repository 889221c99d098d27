"""README's examples hold what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_python_example_passes_a_strict_type_check(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    example = next(block for block in blocks if block.startswith("from chakrasim"))
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "chakrasim").symlink_to(ROOT)  # under the package's name, however it is installed
    (sources / "example.py").write_text(example)
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
