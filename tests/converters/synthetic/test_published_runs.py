"""Published training steps as models, plans and machines. The rows here are made up."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/published_runs.py`, which finds its neighbours as a script would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("published_runs")


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("accuracy")


def row(setup: dict[str, Any], metrics: dict[str, Any], name: str = "made.up") -> dict[str, Any]:
    return {"id": name, "category": "e2e-training", "setup": setup, "metrics": metrics}


def only(published: ModuleType, setup: dict[str, Any], metrics: dict[str, Any], name: str = "made.up") -> Any:
    runs = published.read_row(row(setup, metrics, name))
    assert isinstance(runs, list), runs
    assert len(runs) == 1
    return runs[0]


def bridge(**changes: Any) -> dict[str, Any]:
    setup = {"#-GPUs": 32.0, "Precision": "MXFP8", "GBS": 64.0, "MBS": 2.0, "Sequence Length": 4096.0}
    setup |= {"FSDP": 0.0, "TP": 2.0, "PP": 4.0, "CP": 1.0, "VP": 5.0, "EP": "n/a", "model": "LLAMA3_70B"}
    setup |= {"system": "DGX-GB300", "container": "26.02 NeMo Container", "phase": "Pre-Training Performance"}
    return setup | changes


def test_model_parallelism_is_tensor_parallelism_within_a_server_and_a_pipeline_beyond(
    published: ModuleType,
) -> None:
    setup = {"layers": 32, "hidden": 8192, "heads": 64, "seq": 2048, "vocab": 51200, "gpus": 64}
    run = only(published, setup | {"model_parallel": 16, "global_batch": 64}, {"tflops_per_gpu": 150})
    assert (run.plan.tensor, run.plan.pipeline, run.plan.data) == (8, 2, 4)
    # 16 layers a stage in chunks of 4, and 16 sequences a replica in micro-batches of 2.
    assert (run.plan.virtual_stages, run.plan.micro_batch, run.plan.recompute) == (4, 2, "full")
    # 96 B s l h^2 (1 + s / 6h + V / 16lh), recomputation included
    operations = 96 * 64 * 2048 * 32 * 8192**2 * (1 + 2048 / (6 * 8192) + 51200 / (16 * 32 * 8192))
    assert run.step_s == pytest.approx(operations / (64 * 150e12), rel=1e-12)


def test_a_row_with_two_results_gives_two_runs(published: ModuleType) -> None:
    setup = {"hidden": 4096, "layers": 24, "heads": 32, "seq": 2048, "tp": 8, "pp": 4, "dp": 1}
    setup |= {"global_batch": 16, "micro_batch": 1, "interleave": 3}
    metrics = {"iter_s_full_recompute": 4.0, "iter_s_seqpar_selective": 3.0}
    full, selective = published.read_row(row(setup, metrics))
    assert (full.step_s, full.plan.recompute, full.plan.sequence_parallel) == (4.0, "full", False)
    assert (selective.step_s, selective.plan.recompute) == (3.0, "selective")
    assert selective.plan.sequence_parallel
    assert full.plan.virtual_stages == selective.plan.virtual_stages == 3
    assert full.row != selective.row


def test_tokens_per_second_and_gpu_give_the_step(published: ModuleType) -> None:
    run = only(published, bridge(), {"tokens_per_s_per_gpu": 4096.0})
    assert run.step_s == pytest.approx(64 * 4096 / (32 * 4096), rel=1e-12)
    assert (run.family, run.machine, run.model.name) == (
        "megatron-bridge-gb300",
        "gb300-nvl72",
        "llama3-70b",
    )
    expected = Plan(
        tensor=2,
        data=4,
        pipeline=4,
        virtual_stages=5,
        global_batch=64,
        micro_batch=2,
        sequence=4096,
        sequence_parallel=True,
        sharding="zero1",
        dtype="mxfp8",
        gradient_dtype="bf16",
        overlap_tensor="full",
        node_ranks=64,
    )
    assert run.plan == expected


def test_figures_in_parentheses_are_a_second_run_with_its_own_plan(published: ModuleType) -> None:
    setup = bridge(PP="4 (8)", VP="5 (n/a)", Precision="FP8-CS (FP8-MX)")
    setup["VP"] = "5 (1)"
    first, second = published.read_row(row(setup, {"tokens_per_s_per_gpu": "8192 (4096[^note])"}))
    assert (first.plan.pipeline, first.plan.virtual_stages, first.plan.dtype) == (4, 5, "fp8")
    assert (second.plan.pipeline, second.plan.virtual_stages, second.plan.dtype) == (8, 1, "mxfp8")
    assert second.step_s == 2 * first.step_s


def test_fsdp_shards_parameters_and_lora_freezes_them(published: ModuleType) -> None:
    metrics = {"tokens_per_s_per_gpu": 1000.0}
    sharded = only(published, bridge(FSDP=32.0, TP=1.0, PP=1.0, VP="n/a"), metrics)
    assert (sharded.plan.sharding, sharded.plan.data, sharded.plan.frozen) == ("zero3", 32, False)
    lora = only(published, bridge(phase="LoRA Performance"), metrics)
    assert (lora.plan.sharding, lora.plan.frozen) == ("none", True)


@pytest.mark.parametrize(
    ("model", "reason"),
    [("Nemotron_3_Nano", "Mamba"), ("DeepSeekV4 Flash", "sparse attention"), ("Unheard_Of", "unheard_of")],
)
def test_a_model_that_is_not_generated_is_not_predicted(
    published: ModuleType, model: str, reason: str
) -> None:
    missing = published.read_row(row(bridge(model=model), {"tokens_per_s_per_gpu": 1.0}))
    assert isinstance(missing, published.Unpredicted)
    assert reason in missing.reason


def test_missing_keys_are_reasons_not_errors(published: ModuleType) -> None:
    setup = bridge()
    del setup["GBS"]
    assert published.read_row(row(setup, {"tokens_per_s_per_gpu": 1.0})).reason == "GBS isn't stated"
    assert published.read_row(row(bridge(), {})).reason == "tokens_per_s_per_gpu isn't stated"
    assert published.read_row({"id": "bare", "category": "e2e-training"}).family == "unknown"
    uneven = published.read_row(row(bridge(GBS=63.0), {"tokens_per_s_per_gpu": 1.0}))
    assert "isn't a multiple" in uneven.reason


def test_an_mpt_model_has_exactly_the_parameters_that_its_row_states(published: ModuleType) -> None:
    setup = {"Model": "350m", "SeqLen (T)": 2048.0, "# GPUs": 8.0, "GPU": "a100_80gb", "MicroBatchSize": 4.0}
    setup |= {"GlobalBatchSize": 64.0, "Precision": "amp_bf16", "Sharding Strategy": "SHARD_GRAD_OP"}
    setup |= {"Activation Checkpointing": "True"}
    # V d + s d + L (12 d^2 + 9 d) + 2 d (2 L + 1) with d = 1024, L = 24, s = 2048, V = 50,368
    setup["NumParams"] = 52416 * 1024 + 24 * (12 * 1024**2 + 9 * 1024) + 2 * 1024 * 49
    run = only(published, setup, {"tokens_per_s_per_gpu": 16384.0})
    assert (run.plan.sharding, run.plan.recompute, run.plan.data) == ("zero2", "full", 8)
    assert run.step_s == 1.0
    setup["NumParams"] *= 1.01
    assert "parameters" in published.read_row(row(setup, {"tokens_per_s_per_gpu": 1.0})).reason


def test_one_server_of_megatron_deepspeed_does_not_recompute_and_many_do(published: ModuleType) -> None:
    setup = {"hidden": 2048, "layers": 12, "heads": 16, "seq": 1024, "tp": 2, "dp": 2, "pp": 2}
    setup |= {"global_batch": 8, "micro_batch": 2, "framework": "Megatron-DeepSpeed"}
    one = only(published, setup | {"gpus": 8}, {"iter_ms": 250.0})
    many = only(published, setup | {"gpus": 16, "dp": 4}, {"iter_ms": 250.0})
    assert (one.family, one.plan.recompute, one.step_s) == ("vtrain-single", "none", 0.25)
    assert (many.family, many.plan.recompute, many.plan.data) == ("vtrain-multi", "full", 4)
    # padded to a multiple of 128 for each of 2 tensor ranks
    assert (one.model.vocabulary, many.model.vocabulary) == (50257, 50432)


def test_techniques_come_from_the_name_of_the_row_where_the_setup_is_silent(published: ModuleType) -> None:
    setup = {"hardware": "H100 96GB", "model": "Llama3.1-8B", "gpus": 16, "fsdp": 8, "tp": 2, "lbs": 2}
    setup |= {"seq": 8192, "ac": "full"}
    metrics = {"tokens_per_s_per_gpu": 1024}
    plain = only(published, setup, metrics, "x.FSDP")
    better = only(published, setup, metrics, "x.FSDP+compile+fp8+asyncTP")
    assert (plain.plan.dtype, plain.plan.overlap_tensor) == ("bf16", "none")
    assert (better.plan.dtype, better.plan.overlap_tensor) == ("fp8", "full")
    assert plain.step_s == 16 * 8192 / (16 * 1024)
    both = published.read_row(row(setup, {"vanilla_tps": 10, "async_tp_tps": 20}, "x.bf16"))
    assert [(run.plan.overlap_tensor, run.step_s) for run in both] == [("none", 819.2), ("full", 409.6)]


@pytest.mark.parametrize(
    ("parallel", "sizes", "micro_batches"),
    [("none", (1, 1, 1), 1), ("dp4", (1, 4, 1), 1), ("tp4", (4, 1, 1), 1), ("pp4_2", (1, 1, 4), 2)],
)
def test_parallelism_of_four_gpus(
    published: ModuleType, parallel: str, sizes: tuple[int, int, int], micro_batches: int
) -> None:
    setup = {"gpu": "NVIDIA_H100_80GB_HBM3", "model": "gpt2_large", "mode": "train", "seq": 1024, "batch": 8}
    run = only(published, setup | {"parallel": parallel}, {"e2e_ms": 500.0})
    plan = run.plan
    assert (plan.tensor, plan.data, plan.pipeline) == sizes
    assert (plan.micro_batches, plan.dtype, run.step_s) == (micro_batches, "fp32", 0.5)
    assert not plan.flash_attention


def test_chips_of_a_torus_are_counted_by_its_sides(published: ModuleType) -> None:
    setup = {"config": "v5p Mixtral-8x7B 64(4x4x2) SL4096", "precision": "bf16"}
    run = only(published, setup, {"tokens_per_s_per_chip": 4096})
    assert (run.machine, run.plan.data, run.plan.has_host) == ("tpu-v5p", 32, False)
    assert run.step_s == run.plan.micro_batch


def test_inference_is_left_out_and_other_categories_too(published: ModuleType, tmp_path: Path) -> None:
    setup = {"gpu": "Tesla_T4", "model": "bert_large", "seq": 512, "batch": 8, "parallel": "none"}
    rows = [
        row(setup | {"mode": "train"}, {"e2e_ms": 1.0}, "a"),
        row(setup | {"mode": "inf"}, {"e2e_ms": 1.0}, "b"),
        row(setup | {"mode": "train"}, {"e2e_ms": 1.0}, "c") | {"category": "collective"},
    ]
    path = tmp_path / "measured.json"
    path.write_bytes(orjson.dumps({"entries": rows}))
    found, missing = published.runs(path)
    assert [run.row for run in found] == ["a"]
    assert missing == []


def test_every_open_row_is_a_run_or_has_a_reason(published: ModuleType, shared: Path) -> None:
    path = shared / "published/measured.json"
    found, missing = published.runs(path)
    rows = [
        entry["id"]
        for entry in orjson.loads(path.read_bytes())["entries"]
        if entry["category"] in published.CATEGORIES and entry["setup"].get("mode") != "inf"
    ]
    predicted = {run.row.split(" [")[0] for run in found}
    assert predicted | {one.row for one in missing} == set(rows)
    assert not predicted & {one.row for one in missing}
    assert all(run.step_s > 0 and run.plan.ranks >= 1 for run in found)
    unknown = [one for one in missing if one.family == "unknown" or "isn't stated" in one.reason]
    assert unknown == []


def test_the_same_setup_is_predicted_once_and_a_refusal_is_a_reason(
    published: ModuleType, accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> Machine:
        loaded.append(name)
        return load_machine("dgx-a100" if name == "vtrain-a100" else name)

    monkeypatch.setattr(accuracy, "machine_of", load)
    setup = {"hidden": 1024, "layers": 2, "heads": 16, "seq": 128, "tp": 1, "dp": 2, "pp": 1, "gpus": 2}
    setup |= {"global_batch": 4, "micro_batch": 2, "framework": "Megatron-DeepSpeed"}
    run = only(published, setup, {"iter_ms": 100.0})
    strange = published.Run("s", "f", run.model, run.plan, "abacus", 1.0)
    predictions, refused = accuracy.predict([run, run, strange])
    assert loaded == ["vtrain-a100", "abacus"]
    assert predictions[0].predicted_s == predictions[1].predicted_s > 0
    assert predictions[0].error_percent == 100 * (predictions[0].predicted_s / 0.1 - 1)
    assert len(refused) == 1
    assert "abacus" in refused[0].reason
    figures = accuracy.summary(predictions)
    assert figures["rows"] == 2
    assert figures["bias_percent"] == figures["worst_error_percent"] == predictions[0].error_percent
