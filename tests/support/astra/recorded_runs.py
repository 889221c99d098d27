"""Runs of ASTRA-sim's own binaries, from the larger test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import shared_folder

from chakrasim.replay.astra_sim.conformance import read_cases

_FOLDER = shared_folder() / "oracle"
CASES: dict[str, dict[str, Any]] = (
    {case["id"]: case for case in read_cases(_FOLDER)} if (_FOLDER / "cases.json").exists() else {}
)
NAMES = list(CASES) or ["*"]
"""For parametrised tests; where nothing is recorded, a name for which `recorded_run` skips."""


def recorded_run(shared: Path, name: str) -> tuple[dict[str, Any], Path]:
    """A run by name, and the folder below which its files lie; skips the test where one is missing."""
    listed = shared / "oracle/cases.json"
    workload = CASES[name]["workload"]
    for file in workload["files"]:
        _ = shared / f"oracle/{workload['dir']}/{file}"
    return CASES[name], listed.parent
