"""The recipes of CONTRIBUTING.md: files and lines of the example package, and the contracts they inherit.

The classes of the page's Python blocks are defined here as they stand, so that pytest runs their contracts.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "example_plugin"
PAGE = (ROOT / "CONTRIBUTING.md").read_text()

sys.path.append(str(PLUGIN))  # for the imports of the page, without an installation
CONTRACTS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
for block in CONTRACTS:
    exec(block)


def test_the_page_has_a_contract_for_algorithms_networks_and_compute_models() -> None:
    assert len(CONTRACTS) == 3
    assert {"TestBackwardRing", "TestJitter", "TestNameTable"} <= globals().keys()


def test_every_part_of_the_example_package_has_a_recipe() -> None:
    named = re.findall(r"\]\((tests/\S+\.py)\)", PAGE)
    parts = {path.name for path in (PLUGIN / "chakrasim_example").glob("*.py")} - {"__init__.py"}
    assert {Path(name).name for name in named} == parts
    assert all((ROOT / name).is_file() for name in named)


def test_the_lines_of_the_page_are_those_of_the_package() -> None:
    package = (PLUGIN / "pyproject.toml").read_text()
    lines = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S)
    assert len(lines) == 5
    assert all(line in package for line in lines)
