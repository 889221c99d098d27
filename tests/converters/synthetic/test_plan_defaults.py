"""One set of defaults for plans: the command line's are the Python interface's."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from click.testing import CliRunner

from chakrasim.converters.synthetic.transformer import Plan, generate_inference, generate_training, load_model
from chakrasim.converters.synthetic.transformer.inference import Request
from chakrasim.replay.cli.main import main
from chakrasim.replay.cli.options.transformer import Transformer
from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.units import PS_PER_NS

MACHINE = "hgx-h100"
PLANS = {
    "alone": ((), Plan()),
    "tensor": (("--tp", "4"), Plan(tensor=4)),
    "tensor without sequence": (
        ("--tp", "4", "--no-sequence-parallel"),
        Plan(tensor=4, sequence_parallel=False),
    ),
    "pipeline": (("--pp", "2", "--tp", "2"), Plan(pipeline=2, tensor=2)),
    "data": (("--dp", "4", "--micro-batch", "2"), Plan(data=4, micro_batch=2)),
    "all": (
        ("--tp", "2", "--pp", "2", "--dp", "2", "--cp", "2"),
        Plan(tensor=2, pipeline=2, data=2, context=2),
    ),
    "sharded": (("--dp", "8", "--sharding", "zero3"), Plan(data=8, sharding="zero3")),
}


def predicted_ns(*options: str) -> float:
    command = ["predict", "--model", "llama3-8b", "--machine", MACHINE, "--json", *options]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return float(json.loads(done.stdout)["step_time_ns"])


@pytest.mark.parametrize("name", PLANS)
def test_a_training_step_takes_the_same_from_python_and_from_the_command_line(name: str) -> None:
    options, plan = PLANS[name]
    result = simulate(generate_training(load_model("llama3-8b"), plan), load_machine(MACHINE))
    assert result.step_time_ps == round(predicted_ns(*options) * PS_PER_NS)


@pytest.mark.parametrize("tensor", [1, 4])
def test_inference_takes_the_same_from_python_and_from_the_command_line(tensor: int) -> None:
    workload = generate_inference(load_model("llama3-8b"), Plan(tensor=tensor), Request(prompt=256, decode=4))
    result = simulate(workload, load_machine(MACHINE))
    options = ("--tp", str(tensor), "--prompt", "256", "--decode", "4")
    assert result.step_time_ps == round(predicted_ns(*options) * PS_PER_NS)


def test_every_field_of_a_plan_has_the_default_of_its_option() -> None:
    given = main.commands["predict"].make_context("predict", ["--model", "llama3-8b"]).params
    _, plan = Transformer("llama3-8b", given).read()
    assert {f.name: getattr(plan, f.name) for f in fields(Plan)} == {
        f.name: getattr(Plan(), f.name) for f in fields(Plan)
    }


def test_a_pipeline_has_four_passes_a_stage_and_training_cuts_the_sequence_over_tensor_ranks() -> None:
    plan = Plan(tensor=2, pipeline=4, data=3, micro_batch=5)
    # 4 passes for each of 4 stages, of 5 sequences on each of 3 data ranks.
    assert plan.completed(is_training=True).global_batch == 16 * 5 * 3
    assert plan.completed(is_training=True).sequence_parallel is True
    assert plan.completed(is_training=False).sequence_parallel is False
    assert Plan().completed(is_training=True).sequence_parallel is False
