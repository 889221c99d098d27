"""Published runs of PyTorch's own parallelism, of Llama 3's makers, and of MaxText on TPUs."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

from published_models import hugging_face, mpt, preset
from published_setup import Row, Run, Unstated, count, fitting_micro_batch, number, text, value

from chakrasim.converters.synthetic.transformer.plan.plan import Plan

FOUNDRY_MACHINES = {
    "a100_40gb": "dgx-a100-40gb",
    "a100_80gb": "foundry-a100",
    "h100_80gb": "foundry-h100",
}
SHARDINGS = {"full_shard": "zero3", "shard_grad_op": "zero2", "no_shard": "none"}


def llm_foundry(row: Row) -> list[Run]:
    """MPT models under FSDP with mixed precision PURE (gradients in bf16), flash attention, layers recomputed
    where activation checkpointing is on (mosaicml/llm-foundry, scripts/train/benchmarking/README.md).

    Its MFU, (6 N + 12 l d s) tokens/s over the peak, agrees with the stated tokens/s, which give the step.
    """
    gpu = text(row, "GPU")
    if gpu not in FOUNDRY_MACHINES:
        raise Unstated(f"no machine for the GPU {gpu!r}")
    strategy = text(row, "Sharding Strategy")
    if strategy not in SHARDINGS:
        raise Unstated(f"unknown sharding strategy {strategy!r}")
    gpus, sequence = count(row, "# GPUs"), count(row, "SeqLen (T)")
    model = mpt(text(row, "Model"), sequence, number(row, "setup", "NumParams", 0) or None)
    batch = count(row, "GlobalBatchSize")
    plan = Plan(
        data=gpus,
        global_batch=batch,
        micro_batch=fitting_micro_batch(batch // gpus, count(row, "MicroBatchSize")),
        sequence=sequence,
        sharding=SHARDINGS[strategy] if gpus > 1 else "none",
        dtype="fp8" if "fp8" in text(row, "Precision") else "bf16",
        gradient_dtype="bf16",
        recompute="full" if text(row, "Activation Checkpointing") == "true" else "none",
        is_fused=False,
    )
    step_s = batch * sequence / (gpus * number(row, "metrics", "tokens_per_s_per_gpu"))
    family = f"llm-foundry-{gpu.replace('_', '-')}"
    return [Run(row["id"], family, model, plan, FOUNDRY_MACHINES[gpu], step_s)]


TORCHTITAN_MODELS = {"8b": "llama3-8b", "70b": "llama3-70b", "405b": "llama3-405b"}
TORCHTITAN_RESULTS = (
    ("tokens_per_s_per_gpu", "", False),
    ("vanilla_tps", "vanilla", False),
    ("async_tp_tps", "async TP", True),
)
"""Metrics, what to call them where a row has several, and whether they are with asynchronous tensor
parallelism in any case."""


def torchtitan(row: Row) -> list[Run]:
    """Llama 3.1 under FSDP2, tensor parallelism with sequence parallelism, pipeline and context parallelism
    (pytorch/torchtitan, benchmarks/*.md).

    A micro-batch is the local batch; a pipeline cuts it into as many as it has stages, runs 1F1B, and leaves
    parameters gathered after the forward pass. The tables' rows are named by their techniques, which the
    setup doesn't repeat everywhere: the id's last part is that name. Rows in 4D are all compiled, in float8,
    with asynchronous tensor parallelism (table 6 of the 2024 results). Selective checkpointing recomputes
    every other layer.
    """
    size = next((size for size in TORCHTITAN_MODELS if text(row, "model").endswith(f"-{size}")), None)
    if size is None:
        raise Unstated(f"no model for {text(row, 'model')!r}")
    model = preset(TORCHTITAN_MODELS[size])
    gpus, tensor, pipeline = count(row, "gpus"), count(row, "tp", 1), count(row, "pp", 1)
    context = count(row, "cp", 1)
    data = count(row, "fsdp", gpus // (tensor * pipeline * context))
    if data * tensor * pipeline * context != gpus:
        raise Unstated(f"{gpus} GPUs aren't the product of the parallel sizes")
    local = count(row, "lbs")
    batch, sequence = count(row, "gbs", local * data), count(row, "seq", 8192)
    techniques = f"{row['id'].rsplit('.', 1)[-1]} {text(row, 'opts')} {text(row, 'techniques')}".lower()
    is_fp8 = "fp8" in techniques or "float8" in techniques or text(row, "fp8") == "true" or pipeline > 1
    hardware = f"{text(row, 'hardware')} {text(row, 'gpu')}"
    plan = Plan(
        tensor=tensor,
        context=context,
        data=data,
        pipeline=pipeline,
        global_batch=batch,
        micro_batch=fitting_micro_batch(batch // data, max(1, local // pipeline)),
        sequence=sequence,
        sequence_parallel=tensor > 1,
        sharding="none" if data * context == 1 else "zero2" if pipeline > 1 else "zero3",
        dtype="fp8" if is_fp8 else "bf16",
        recompute={"selective": "alternate"}.get(ac := text(row, "ac", "selective"), ac),
        is_fused="compile" in techniques or pipeline > 1,
    )
    runs = []
    for metric, what, is_async in TORCHTITAN_RESULTS:
        rate = (row.get("metrics") or {}).get(metric)
        if rate is None:
            continue
        overlaps = is_async or "async" in techniques.replace(what, "") or pipeline > 1
        used = replace(plan, overlap_tensor="full" if overlaps and metric != "vanilla_tps" else "none")
        name = f"{row['id']} [{what}]" if what else row["id"]
        machine = "hgx-h200" if "h200" in hardware else "hgx-h100-96gb"
        runs.append(Run(name, "torchtitan", model, used, machine, batch * sequence / (gpus * float(rate))))
    if not runs:
        raise Unstated("no tokens/s are stated")
    return runs


def llama3(row: Row) -> list[Run]:
    """Llama 3 405B (Grattafiori et al. 2024, section 3.3.2 and table 4): FSDP that shards states and
    gradients but leaves parameters gathered, an interleaved pipeline, no recomputation.

    Utilisation is that of Chowdhery et al. 2022, which counts (6 N + 12 l d s) operations a token, without a
    causal mask. 126 layers are 128 less one in the first and one in the last stage: 8 chunks of a layer in
    each of 16 stages.
    """
    model = preset("llama3-405b")
    if not text(row, "model").endswith("405b"):
        raise Unstated(f"no model for {text(row, 'model')!r}")
    gpus, sequence = count(row, "gpus"), count(row, "seq")
    tensor, context, pipeline = count(row, "tp"), count(row, "cp", 1), count(row, "pp")
    data = gpus // (tensor * context * pipeline)
    stated = text(row, "tokens_per_batch")
    tokens = int(float(stated.removesuffix("m")) * 2**20) if re.fullmatch(r"[\d.]+m", stated) else 0
    batch = tokens // sequence or count(row, "batch_per_dp") * data
    parameters = 405.85e9
    operations = 6 * parameters + 12 * model.layers * model.heads * model.head_size * sequence
    step_s = batch * sequence * operations / (gpus * number(row, "metrics", "tflops_per_gpu") * 1e12)
    plan = Plan(
        tensor=tensor,
        context=context,
        data=data,
        pipeline=pipeline,
        virtual_stages=8 if batch // data % pipeline == 0 else 1,
        global_batch=batch,
        sequence=sequence,
        sequence_parallel=tensor > 1,
        sharding="zero2" if data * context > 1 else "none",
        dtype=text(row, "precision", "bf16"),
    )
    return [Run(row["id"], "llama3", model, plan, "hgx-h100", step_s)]


MAXTEXT = {
    ("llama2-7b", 4096): (12, 1),
    ("llama2-70b", 4096): (4, 1),
    ("llama3.1-8b", 8192): (4, 1),
    ("llama3.1-70b", 8192): (5, 1),
    ("mixtral-8x7b", 4096): (12, 1),
    ("mixtral-8x22b", 4096): (8, 4),
}
"""Sequences a chip and expert-parallel chips by model and sequence length: AI-Hypercomputer/maxtext,
benchmarks/maxtext_trillium_model_configs.py. All else is FSDP."""


def maxtext(row: Row) -> list[Run]:
    """MaxText on TPU pods, compiled whole. Its table names chip, model, chips and sequence; batch and
    sharding are those of the recipe of that name. Of a layer's activations, inputs, queries, keys and values
    are kept in the host's memory at most, so that nearly all is computed again."""
    words = re.fullmatch(r"(v\w+) (\S+) (\d+)(?:\(([\dx]+)\))?\s*sl(\d+)", text(row, "config"))
    if words is None:
        raise Unstated(f"can't read the configuration {text(row, 'config')!r}")
    chip, name, cores, torus, length = words.groups()
    chips = prod(int(side) for side in torus.split("x")) if torus else int(cores)
    sequence = int(length)
    if (name, sequence) not in MAXTEXT:
        raise Unstated(f"batch and sharding of {name} at {sequence} tokens aren't stated")
    batch, expert = MAXTEXT[name, sequence]
    model = preset(name.replace("llama3.1", "llama3"))
    plan = Plan(
        data=chips,
        expert=expert,
        global_batch=batch * chips,
        micro_batch=batch,
        sequence=sequence,
        sharding="zero3",
        dtype=text(row, "precision", "bf16"),
        recompute="full",
        has_host=False,
    )
    step_s = batch * sequence / number(row, "metrics", "tokens_per_s_per_chip")
    return [Run(row["id"], "maxtext", model, plan, f"tpu-{chip}", step_s)]


NEUSIGHT_MACHINES = {
    "AMD_Instinct_MI100": "mi100",
    "AMD_Instinct_MI210": "mi210",
    "AMD_Instinct_MI250": "mi250",
    "NVIDIA_A100-PCIE-40GB": "a100-pcie-40gb",
    "NVIDIA_A100_80GB_PCIe": "a100-pcie-80gb",
    "NVIDIA_A100-SXM4-40GB": "neusight-a100",
    "NVIDIA_H100_80GB_HBM3": "neusight-h100",
    "NVIDIA_L4": "l4",
    "Tesla_P100-PCIE-16GB": "p100-pcie",
    "Tesla_P4": "p4",
    "Tesla_T4": "t4",
    "Tesla_V100-PCIE-32GB": "v100-pcie",
}


def neusight(row: Row) -> list[Run]:
    """A forward and a backward pass of Hugging Face's transformers with eager attention in fp32 without TF32,
    and no step of an optimizer (Lee et al., NeuSight, 2025).

    `dp4` shares the batch out among 4 GPUs; `tp4` cuts layers; `pp4_1` runs 4 stages with 1 micro-batch, one
    after another.
    """
    gpu = str(value(row, "setup", "gpu"))
    if gpu not in NEUSIGHT_MACHINES:
        raise Unstated(f"no machine for the GPU {gpu!r}")
    model = hugging_face(text(row, "model"))
    split = re.fullmatch(r"none|(dp|tp|pp)(\d+)(?:_(\d+))?", text(row, "parallel", "none"))
    if split is None:
        raise Unstated(f"can't read the parallelism {text(row, 'parallel')!r}")
    ways = int(split[2] or 1)
    kind, batch = split[1], count(row, "batch")
    data = ways if kind == "dp" else 1
    plan = Plan(
        tensor=ways if kind == "tp" else 1,
        sequence_parallel=False,
        pipeline=ways if kind == "pp" else 1,
        data=data,
        schedule="gpipe" if kind == "pp" else "1f1b",
        global_batch=batch,
        micro_batch=batch // data // int(split[3] or 1),
        sequence=count(row, "seq"),
        dtype="fp32",
        flash_attention=False,
        bucket_MB=25,
        overlap_pipeline=False,
        is_fused=False,
        has_optimizer=False,
    )
    step_s = number(row, "metrics", "e2e_ms") / 1e3
    return [Run(row["id"], "neusight", model, plan, NEUSIGHT_MACHINES[gpu], step_s)]
