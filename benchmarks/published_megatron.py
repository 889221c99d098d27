"""Published runs of Megatron-LM, and of Megatron-DeepSpeed."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from published_models import megatron_core_gpt, megatron_gpt
from published_setup import Row, Run, Unstated, count, fitting_micro_batch, number, text, value

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan

MEGATRON_2021 = Plan(
    sequence_parallel=False,
    dtype="fp16",
    gradient_dtype="fp16",
    flash_attention=False,
    overlap_gradients=False,
    overlap_pipeline=False,
)
"""Gradients are reduced after the last backward pass, and messages between stages are waited for."""

LAYERS_OF_A_CHUNK = 4
"""Where it isn't stated how far a schedule is interleaved: the fewest chunks of at most so many layers. The
175B of Korthikanti et al. 2022 has 12 layers a stage in 3 chunks."""


def chunks(layers: int, pipeline: int, micro_batches: int) -> int:
    """Virtual stages by `LAYERS_OF_A_CHUNK`; 1 where micro-batches can't be interleaved."""
    if pipeline == 1 or layers % pipeline or micro_batches % pipeline:
        return 1
    each = layers // pipeline
    return next(n for n in range(1, each + 1) if each % n == 0 and each // n <= LAYERS_OF_A_CHUNK)


def _gpt(row: Row, vocabulary: int) -> Model:
    return megatron_gpt(
        count(row, "layers"), count(row, "hidden"), count(row, "heads"), count(row, "seq", 2048), vocabulary
    )


def _factor(model: Model, vocabulary_part: int) -> float:
    """1 + s / 6h + V / (part l h) of the formulas for floating-point operations."""
    return (
        1
        + model.sequence / (6 * model.hidden)
        + model.vocabulary / (vocabulary_part * model.layers * model.hidden)
    )


def megatron_a100(row: Row) -> list[Run]:
    """Table 1 of Narayanan et al. 2021: "the interleaved pipeline schedule with the scatter/gather
    optimization enabled" (section 5.1), all activations recomputed, mixed precision.

    Its equation 3 counts the recomputation: F = 96 B s l h^2 (1 + s/6h + V/16lh). Tensor parallelism comes
    first, up to the 8 GPUs of a server. Micro-batches aren't stated; by its section 3.4 they should be as
    large as bubbles allow: 4 sequences without a pipeline, 2 in up to 4 stages, 1 in more.
    """
    model = _gpt(row, count(row, "vocab", 51200))
    parts, gpus, batch = count(row, "model_parallel"), count(row, "gpus"), count(row, "global_batch")
    tensor = min(8, parts)
    pipeline, data = parts // tensor, gpus // parts
    per_replica = batch // data
    micro = fitting_micro_batch(per_replica, 4 if pipeline == 1 else 2 if pipeline <= 4 else 1)
    plan = replace(
        MEGATRON_2021,
        tensor=tensor,
        pipeline=pipeline,
        data=data,
        global_batch=batch,
        micro_batch=micro,
        virtual_stages=chunks(model.layers, pipeline, per_replica // micro),
        recompute="full" if text(row, "recompute", "full") == "full" else "none",
    )
    operations = 96 * batch * model.sequence * model.layers * model.hidden**2 * _factor(model, 16)
    step_s = operations / (gpus * number(row, "metrics", "tflops_per_gpu") * 1e12)
    return [Run(row["id"], "megatron-a100", model, plan, "dgx-a100", step_s)]


def megatron_h100(row: Row) -> list[Run]:
    """Megatron-Core 0.8 in bf16 without recomputation: distributed optimizer, all communication overlapped
    (--overlap-grad-reduce, --overlap-param-gather, --tp-comm-overlap) and sequence parallelism.

    TFLOP/s are of the model, by Megatron-LM's count: 72 B s l h^2 (1 + s/6h + V/12lh). With a pipeline the
    micro-batch is 1; without, all 4 sequences of a replica fit at once.
    """
    layers, hidden = count(row, "layers"), count(row, "hidden")
    model = megatron_core_gpt(
        layers, hidden, count(row, "heads"), count(row, "seq"), count(row, "vocab", 131072)
    )
    gpus, tensor, pipeline = count(row, "gpus"), count(row, "tp"), count(row, "pp")
    data, batch = count(row, "dp", gpus // (tensor * pipeline)), count(row, "global_batch")
    overlapped = (row.get("setup") or {}).get("overlap") or []
    per_replica = batch // data
    micro = fitting_micro_batch(per_replica, 4 if pipeline == 1 else 1)
    plan = Plan(
        tensor=tensor,
        pipeline=pipeline,
        data=data,
        global_batch=batch,
        micro_batch=micro,
        virtual_stages=chunks(layers, pipeline, per_replica // micro),
        sequence_parallel=tensor > 1,
        sharding="zero1" if data > 1 else "none",
        overlap_gradients="dp" in overlapped,
        overlap_tensor="full" if "tp" in overlapped else "backward",
        overlap_pipeline="pp" in overlapped,
    )
    operations = 72 * batch * model.sequence * layers * hidden**2 * _factor(model, 12)
    step_s = operations / (gpus * number(row, "metrics", "tflops_per_gpu") * 1e12)
    return [Run(row["id"], "megatron-h100", model, plan, "hgx-h100", step_s)]


def sequence_parallel(row: Row) -> list[Run]:
    """Table 5 of Korthikanti et al. 2022: full recomputation, and sequence parallelism with selective
    recomputation, on the same ranks."""
    model = _gpt(row, vocabulary=count(row, "vocab", 51200))
    plan = replace(
        MEGATRON_2021,
        tensor=count(row, "tp"),
        pipeline=count(row, "pp"),
        data=count(row, "dp", 1),
        global_batch=count(row, "global_batch"),
        micro_batch=count(row, "micro_batch"),
        virtual_stages=count(row, "interleave", 1),
        overlap_tensor="backward",
        recompute="full",
    )
    selective = replace(plan, recompute="selective", sequence_parallel=plan.tensor > 1)
    results = (
        ("iter_s_full_recompute", "full recompute", plan),
        ("iter_s_seqpar_selective", "sequence parallel, selective recompute", selective),
    )
    runs = [
        Run(f"{row['id']} [{what}]", "sequence-parallel", model, used, "dgx-a100", float(step_s))
        for metric, what, used in results
        if (step_s := (row.get("metrics") or {}).get(metric)) is not None
    ]
    if not runs:
        raise Unstated("no time of a step is stated")
    return runs


def vtrain(row: Row) -> list[Run]:
    """Megatron-DeepSpeed in fp16 on servers of eight A100 (Bang et al., vTrain, 2024).

    On many servers all activations are recomputed: without, those of a model of 3.6B alone, at 8 sequences of
    2048 tokens, take 200 GB. On one server nothing is: a layer of width 2048 takes so little time for 4096
    tokens that four passes would reach 65 % of the GPU's peak, unfused attention and dropout included. Steps
    there grow with the data-parallel ranks by what an all-reduce of fp16 gradients takes alone, so nothing
    hides it and no state is sharded.

    The vocabulary has 50,257 tokens; Megatron pads it to multiples of 128 per tensor rank. The steps of one
    server are of a model without padding: the output layer takes four times as long on one tensor rank, whose
    width is odd, as on each of two. They are linear in layers and
    micro-batches to 0.2 %.
    """
    tensor, pipeline = count(row, "tp"), count(row, "pp")
    is_one_server = count(row, "gpus") <= 8
    vocabulary = 50257 if is_one_server else ceil(50257 / (128 * tensor)) * 128 * tensor
    model = _gpt(row, vocabulary)
    plan = replace(
        MEGATRON_2021,
        tensor=tensor,
        pipeline=pipeline,
        data=count(row, "dp", count(row, "gpus") // (tensor * pipeline)),
        global_batch=count(row, "global_batch"),
        micro_batch=count(row, "micro_batch"),
        recompute="none" if is_one_server else "full",
    )
    step_s = float(value(row, "metrics", "iter_ms")) / 1e3
    family = "vtrain-single" if is_one_server else "vtrain-multi"
    return [Run(row["id"], family, model, plan, "vtrain-a100", step_s)]
