"""One workload on several machines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.replay.cli import main
from chakrasim.replay.machine import load_machine, machine_names
from chakrasim.replay.simulate import simulate, simulate_many
from chakrasim.traces.workload import Workload, load_workload

SMALL = """
name: small
source: made up
network:
  - {name: link, source: made up, topology: switch, size: 2, bandwidth_GBps: 1, latency_ns: 10}
collectives: {default: ring}
"""


def replay(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments])


def on(*machines: str) -> list[str]:
    return [word for machine in machines for word in ("--machine", machine)]


@pytest.fixture(scope="module")
def generated() -> Workload:
    # groups of 6 lie evenly on some machines' hosts only: there all ranks are made
    return generate_training(load_model("llama3-8b"), Plan(tensor=2, data=6, global_batch=6))


@pytest.mark.parametrize("compute", ["measured", "roofline"])
def test_results_are_those_of_single_replays(compute: str, generated: Workload) -> None:
    sample = Path(__file__).parents[1] / "traces" / "samples" / "ddp_transformer"
    machines = [load_machine(name) for name in machine_names()]
    for workload in (generated, load_workload(sample)):
        for machine, one in zip(machines, simulate_many(workload, machines, compute=compute), strict=True):
            alone = simulate(workload, machine, compute=compute)
            assert np.array_equal(one.starts_ps, alone.starts_ps)
            assert np.array_equal(one.ends_ps, alone.ends_ps)
            assert one.to_json() == alone.to_json()


def test_machines_stand_side_by_side() -> None:
    output = replay("--model", "llama3-8b", "--tp", "8", *on("dgx-a100", "hgx-h100")).output
    rows = [line.split() for line in output.splitlines() if line.startswith(("dgx-a100 ", "hgx-h100 "))]
    assert [row[0] for row in rows] == ["dgx-a100", "hgx-h100"]
    assert "1.00" in rows[1]
    assert "• dgx-a100: Compute fills" in output


def test_json_has_a_document_for_each() -> None:
    given = ["--model", "llama3-8b", "--tp", "8"]
    both = json.loads(replay(*given, *on("hgx-h100", "dgx-a100"), "--json").output)["machines"]
    for entry, machine in zip(both, ("hgx-h100", "dgx-a100"), strict=True):
        assert entry == json.loads(replay(*given, "--machine", machine, "--json").output)


def test_a_machine_that_is_too_small_leaves_the_others(tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(SMALL)
    result = replay(*on("dgx-a100", str(small)))
    assert result.exit_code == 0
    assert "small: machine 'small' has 2 ranks (2), the workload has 4" in result.output.replace("\n", " ")
    document = json.loads(replay(*on("dgx-a100", str(small)), "--json").output)
    assert document["machines"][0]["step_time_ns"] > 0
    assert document["machines"][1]["machine"] == "small"
    assert "has 2 ranks" in document["machines"][1]["error"]
    none = replay(*on(str(small), str(small)))
    assert none.exit_code == 2
    assert len(none.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "option", [["--timeline", "out.json"], ["--by", "layer"], ["--critical-path"]], ids=lambda o: o[0]
)
def test_what_shows_one_replay_takes_one_machine(option: list[str]) -> None:
    result = replay(*on("dgx-a100", "hgx-h100"), *option)
    assert result.exit_code == 2
    assert f"{option[0]} shows one replay; give one --machine" in result.output
