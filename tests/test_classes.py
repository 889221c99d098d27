"""Ranks that do the same are replayed once, and nothing comes out different for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_cases import random_job, random_machine

from chakrasim.replay.machine import Machine
from chakrasim.replay.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import Workload
from chakrasim.traces.edits.scale import Scales


def compared(workload: Workload, machine: Machine, **options: Any) -> Result:
    """The result with classes, which is to the bit that without."""
    options = {"compute": "measured", **options}
    result, every = (simulate(workload, machine, classes=on, **options) for on in (True, False))
    assert every.classes.is_whole
    np.testing.assert_array_equal(result.starts_ps, every.starts_ps)
    np.testing.assert_array_equal(result.ends_ps, every.ends_ps)
    found, expected = result.to_json(), every.to_json()
    found.pop("symmetry", None), expected.pop("symmetry", None)
    assert found == expected
    return result


@pytest.mark.parametrize("seed", range(150))
def test_random_jobs_come_out_the_same(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    job = random_job(random)
    workload = job.workload()
    machine = random_machine(random, workload.world_size, tmp_path)
    network = str(random.choice(["analytical", "analytical", "measured", "recorded"]))
    scales = Scales(patterns=(("comp", 1.5),)) if random.random() < 0.2 else Scales()
    compared(workload, machine, network=network, scales=scales)
