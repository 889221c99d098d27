"""Tokens a second and model FLOPs utilisation of a generated step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chakrasim.converters.synthetic.transformer import Model, Plan, generate_training
from chakrasim.replay.analysis.throughput import STEP, throughput
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces import Workload, load_workload, save_workload
from chakrasim.traces.attributes import metadata_object
from chakrasim.traces.edits.scale import Scales

MODEL = Model("m", "made up", 8, 256, 8, 4, 32, 1024, True, 1024, False, 256)


def test_utilisation_by_hand() -> None:
    plan = Plan(data=4, global_batch=8)
    result = simulate(generate_training(MODEL, plan), load_machine("dgx-a100"), compute="roofline")
    done = throughput(result)
    assert done is not None
    assert result.step_time_ps is not None
    seconds = result.step_time_ps / 1e12
    assert done.tokens_per_s == pytest.approx(8 * 256 / seconds)
    # a token meets 8 layers, each with attention of 2 x 8 + 2 x 4 heads of 32 and 3 matrices of 1,024, and
    # the output layer
    weights = 8 * (256 * 24 * 32 + 3 * 256 * 1024) + 256 * 1024
    pairs = 8 * 256 * 256 * 2
    needed = 3 * (2 * weights + 2 * pairs) * 8 * 256
    assert done.model_flops == pytest.approx(needed / seconds / 4)
    assert done.utilisation == pytest.approx(needed / seconds / 4 / 312e12)
    found = json_document(result)["throughput"]
    assert found["tokens_per_s_and_rank"] == pytest.approx(done.tokens_per_s / 4, abs=1e-3)


def test_recomputing_is_no_use() -> None:
    machine = load_machine("dgx-a100")
    plain, again = (
        simulate(generate_training(MODEL, replace(Plan(), recompute=how)), machine, compute="roofline")
        for how in ("none", "full")
    )
    assert (
        json_document(plain)["throughput"]["tokens_per_s"]
        > json_document(again)["throughput"]["tokens_per_s"]
    )


def test_machines_without_a_peak_have_no_utilisation() -> None:
    result = simulate(generate_training(MODEL, Plan()), load_machine("ethernet-10g"), compute="roofline")
    assert json_document(result)["throughput"]["model_flops_utilisation"] is None


def test_utilisation_is_a_share_or_nothing() -> None:
    # times scaled to nearly nothing would make it more than the whole
    result = simulate(
        generate_training(MODEL, Plan()),
        load_machine("dgx-a100"),
        compute="roofline",
        scales=Scales(device=1e-3, cpu=1e-3),
    )
    assert json_document(result)["throughput"]["model_flops_utilisation"] is None


def test_frozen_weights_need_no_gradients() -> None:
    machine = load_machine("dgx-a100")
    plain, frozen = (
        json_document(simulate(generate_training(MODEL, Plan(frozen=how)), machine, compute="roofline"))
        for how in (False, True)
    )
    operations = [
        found["throughput"]["model_TFLOPs_per_rank"] * found["step_time_ns"] for found in (plain, frozen)
    ]
    weights = 8 * (256 * 24 * 32 + 3 * 256 * 1024) + 256 * 1024
    assert operations[0] - operations[1] == pytest.approx(2 * weights * 256 * 1e-3, rel=1e-3)


def test_a_step_of_more_operations_than_64_bits_hold_survives_a_file(tmp_path: Path) -> None:
    workload = generate_training(MODEL, Plan())
    graph = workload.graphs[0]
    step = {**graph.metadata[STEP], "model_operations": 2**64 + 1}
    many = Workload.from_graphs([replace(graph, metadata={**graph.metadata, STEP: step})])
    save_workload(many, tmp_path)
    machine = load_machine("dgx-a100")
    written, read = (throughput(simulate(w, machine)) for w in (many, load_workload(tmp_path)))
    assert written == read
    assert metadata_object(load_workload(tmp_path).graphs[0], STEP) == step
