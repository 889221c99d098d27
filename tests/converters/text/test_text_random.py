"""Random text workloads of ASTRA-sim 1.0 take as long as in a small model of that version, to the nanosecond.

The model (`astra1_reference.py`) runs the training loops as programs and shares no code with the replay,
which runs them as graphs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from astra1_reference import Reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from text_cases import write_case

from chakrasim.converters.text import convert_text, read_text
from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.simulate import simulate
from chakrasim.traces.errors import ConfigError


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=150)
def test_loops_queues_and_themis(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = write_case(seed, folder)
        network, system, workload = (folder / file for file in ("network.json", "system.txt", "workload.txt"))
        expected = Reference(network, system, workload, *options.values()).run()  # type: ignore[arg-type]
        group = read_text(workload).group
        try:
            machine = read_astra_sim(network=network, system=system, transformer_group=group).machine
        except ConfigError:
            assume(False)  # Themis on a fully connected dimension that is split
            return
        graphs = convert_text(
            workload,
            sizes=[dimension.size or 1 for dimension in machine.dimensions],
            passes=int(options["num_passes"]),
            compute_scale=options["compute_scale"],
            communication_scale=options["comm_scale"],
        )
        result = simulate(graphs, machine)
    for times in result.ranks:
        assert times.finish_ps // 1000 == expected.total
        assert times.compute_ps // 1000 == expected.compute
        assert times.exposed_communication_ps // 1000 == expected.total - expected.compute
