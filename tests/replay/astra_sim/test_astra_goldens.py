"""Configurations of ASTRA-sim end when the slow referee said, on every rank and to the nanosecond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astra_cases import replay
from astra_goldens import GOLDENS, case_of

RUNS: dict[str, list[int]] = json.loads(GOLDENS.read_text())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_when_the_referee_said(tmp_path: Path, name: str) -> None:
    kind, seed = name.split("-")
    case = case_of(kind, int(seed))
    result = replay(case, tmp_path)
    assert [result.times(rank).finish_ps // 1000 for rank in range(len(case["nodes"]))] == RUNS[name]
