"""Every recorded trace has a summary on file: a change in what becomes of it is a diff for people to read."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from families import check_each, families
from golden_summary import GOLDEN, SHARED, golden_file, inputs, summary

pytestmark = pytest.mark.slow
NAMES = sorted(path.stem.replace("__", "/") for path in GOLDEN.glob("*.txt"))


FAMILIES = families(NAMES, r"[^/]+/[^/]+")


def check_a_trace_becomes_what_it_did(shared: Path, name: str) -> None:
    expected, found = golden_file(name).read_text(), summary(shared / name)
    diff = difflib.unified_diff(expected.splitlines(), found.splitlines(), "on file", "now", lineterm="")
    assert found == expected, f"{name}:\n" + "\n".join(diff)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trace_becomes_what_it_did(shared: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_a_trace_becomes_what_it_did(shared, name))


def test_every_trace_has_a_summary(shared: Path) -> None:
    assert set(inputs(shared)) <= set(NAMES)
    assert shared.resolve() == SHARED.resolve()
