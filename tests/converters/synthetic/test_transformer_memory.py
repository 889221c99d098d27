"""Memory of a rank: by the formulas of the papers, and next to their figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chakrasim.converters.synthetic.transformer.inference import Request, generate_inference
from chakrasim.converters.synthetic.transformer.model.counts import parameters
from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.model.presets import load_model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.converters.synthetic.transformer.training import generate_training
from chakrasim.replay.analysis.memory import RankMemory, memory_of_ranks
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate

MODEL = Model("m", "made up", 8, 256, 8, 4, 32, 1024, True, 1024, False, 256)
UNFUSED = Plan(sequence_parallel=False, flash_attention=False, dtype="fp16")
GIB = 2**30


def memory(model: Model, plan: Plan) -> tuple[RankMemory, ...]:
    workload = generate_training(model, plan)
    result = simulate(workload, load_machine("dgx-a100"), compute="roofline", network="analytical")
    return memory_of_ranks(result)


def most_activations(model: Model, plan: Plan) -> int:
    return max(rank.activation_bytes for rank in memory(model, plan))


@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3"])
def test_held_memory_is_that_of_zero(sharding: str) -> None:
    # 16-bit parameters, 32-bit gradients, and Adam's 12 bytes a parameter, each part over 4 ranks from its
    # stage on (Rajbhandari 2020, section 5)
    (rank,) = memory(MODEL, Plan(data=4, global_batch=4, sharding=sharding))
    count = parameters(MODEL).total
    level = ["none", "zero1", "zero2", "zero3"].index(sharding)
    assert rank.held == {
        "parameters": 2 * count // (4 if level > 2 else 1),
        "gradients": 4 * count // (4 if level > 1 else 1),
        "optimizer": 12 * count // (4 if level > 0 else 1),
    }


def test_activations_of_a_layer_are_those_of_the_paper() -> None:
    # Korthikanti 2022, section 4.1: s b h (34 + 5 a s / h) bytes; tensor parallelism leaves 10 of the 34 on
    # every rank, sequence parallelism none, selective recomputation takes away what has a s / h in it.
    model = replace(load_model("megatron-22b"), layers=4)
    one_less = replace(model, layers=3)
    sbh = 2048 * 2 * 6144
    scores = 5 * 64 * 2048 / 6144

    def of_a_layer(**fields: object) -> float:
        plan = replace(UNFUSED, global_batch=2, micro_batch=2, **fields)  # type: ignore[arg-type]
        return (most_activations(model, plan) - most_activations(one_less, plan)) / sbh

    assert of_a_layer() == pytest.approx(34 + scores)
    assert of_a_layer(tensor=8) == pytest.approx(10 + 24 / 8 + scores / 8)
    assert of_a_layer(tensor=8, sequence_parallel=True) == pytest.approx((34 + scores) / 8)
    assert of_a_layer(tensor=8, sequence_parallel=True, recompute="selective") == pytest.approx(34 / 8)
    assert of_a_layer(tensor=8, recompute="full") == pytest.approx(2)
    # where a rank's part of the wide layer is as wide as the model, its input isn't one that was gathered
    assert of_a_layer(tensor=4, sequence_parallel=True) == pytest.approx((34 + scores) / 4)


def test_a_stage_keeps_as_many_micro_batches_as_the_schedule_says() -> None:
    plan = replace(UNFUSED, pipeline=4, global_batch=16)
    by_stage = [rank.activation_bytes for rank in memory(MODEL, plan)]
    one = memory(MODEL, replace(plan, global_batch=1))
    inner = [rank.activation_bytes for rank in one][1:3]
    assert by_stage[1:3] == [3 * inner[0], 2 * inner[1]]
    every = memory(MODEL, replace(plan, schedule="gpipe"))
    assert every[1].activation_bytes == 16 * inner[0]


def test_gathered_and_recomputed_memory_is_told_from_what_is_kept() -> None:
    plan = Plan(data=4, global_batch=4, sharding="zero3", recompute="full")
    (rank,) = memory(MODEL, plan)
    # the inputs of 8 layers in 16 bits, and the output layer's: its norm's input and own, and 32-bit logits
    assert rank.activation_bytes == 256 * (8 * 2 * 256 + 2 * 2 * 256 + 4 * 1024)
    assert rank.allocated_bytes > rank.activation_bytes
    assert rank.peak_bytes == sum(rank.held.values()) + rank.allocated_bytes


def test_a_cache_grows_with_heads_layers_and_tokens() -> None:
    plan = Plan(tensor=2, global_batch=4, micro_batch=4)
    workload = generate_inference(MODEL, plan, Request(prompt=100, decode=28))
    # keys and values: 2 of 4 heads of 32 numbers of 16 bits, 8 layers, 128 tokens, 4 sequences
    assert workload.graphs[0].metadata["memory"]["kv_cache"] == 2 * 2 * 32 * 2 * 8 * 128 * 4
    deepseek = load_model("deepseek-v3")
    workload = generate_inference(deepseek, Plan(global_batch=1), Request(prompt=0, decode=1, cached=1023))
    assert workload.graphs[0].metadata["memory"]["kv_cache"] == (512 + 64) * 2 * 61 * 1024


PLANS = {
    "megatron-22B": ("megatron-22b", {"tensor": 8, "global_batch": 4, "micro_batch": 4}),
    "gpt3-175B": ("megatron-175b", {"tensor": 8, "pipeline": 8, "virtual_stages": 3, "global_batch": 64}),
    "turing-530B": ("megatron-530b", {"tensor": 8, "pipeline": 35, "virtual_stages": 3, "global_batch": 70}),
    "megatron-1T": ("megatron-1t", {"tensor": 8, "pipeline": 64, "global_batch": 128}),
}
"""Those of Korthikanti 2022, table 3, with fewer micro-batches: a stage holds no more at once."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_activations_are_within_a_tenth_of_the_published_ones(name: str, shared: Path) -> None:
    entries = json.loads((shared / "published/measured.json").read_text())["entries"]
    rows = [e["metrics"] for e in entries if e["category"] == "memory" and e["setup"].get("model") == name]
    preset, fields = PLANS[name]
    plan = replace(UNFUSED, **fields)
    model = load_model(preset)
    none = most_activations(model, plan)
    both = {"sequence_parallel": True, "recompute": "selective"}
    ours = {
        "seq_par": {"sequence_parallel": True},
        "selective": {"recompute": "selective"},
        "seq_par_selective": both,
        "full": {"recompute": "full"},
    }
    checked = 0
    for row in rows:
        if "activations_GiB_none" in row:
            assert none / GIB == pytest.approx(row["activations_GiB_none"], rel=0.1)
            least = most_activations(model, replace(plan, **both))  # type: ignore[arg-type]
            assert least / GIB == pytest.approx(row["activations_GiB_seq_selective"], rel=0.1)
            checked += 1
        for what, percent in row.get("pct_of_no_recompute", {}).items():
            size = most_activations(model, replace(plan, **ours[what]))  # type: ignore[arg-type]
            assert 100 * size / none == pytest.approx(percent, rel=0.1), what
            checked += 1
    assert checked
