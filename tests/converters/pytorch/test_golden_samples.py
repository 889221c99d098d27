"""Every sample of the package has a summary on file, and its replay isn't pinned to the recorded starts."""

from __future__ import annotations

import pytest
from golden_summary import SAMPLES, sample_file, samples, summary

from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.edits.scale import Scales


@pytest.mark.parametrize("name", samples())
def test_a_sample_becomes_what_it_did(name: str) -> None:
    assert summary(SAMPLES / name) == sample_file(name).read_text()


@pytest.mark.parametrize("name", samples())
def test_a_sample_without_any_durations_happens_at_once(name: str) -> None:
    workload, machine = open_workload(str(SAMPLES / name), partial=True), load_machine("ethernet-10g")
    nothing = simulate(workload, machine, network="measured", scales=Scales(patterns=(("*", 0.0),)))
    assert nothing.step_time_ps == 0
    recorded = simulate(workload, machine, network="measured").step_time_ps
    assert recorded is not None
    assert recorded > 0
