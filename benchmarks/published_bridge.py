"""Published runs of NVIDIA's Megatron-Bridge: its performance summary, and the recipes that it measured
(NVIDIA-NeMo/Megatron-Bridge, docs/performance-summary.md and scripts/performance/configs)."""

from __future__ import annotations

import re
from dataclasses import replace

from published_models import preset
from published_setup import Row, Run, Unstated, count, number, numbers, text

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan

MACHINES = {
    "dgx-h100": "hgx-h100",
    "dgx-h200": "hgx-h200",
    "dgx-b200": "hgx-b200",
    "dgx-b300": "dgx-b300",
    "dgx-gb200": "gb200-nvl72",
    "dgx-gb300": "gb300-nvl72",
}
"""In the catalogue, by the summary's names of systems."""

MODELS = {
    "llama38b": "llama3-8b",
    "llama370b": "llama3-70b",
    "llama318b": "llama3-8b",
    "llama3170b": "llama3-70b",
    "llama31405b": "llama3-405b",
    "llama270b": "llama2-70b",
    "deepseekv3": "deepseek-v3",
    "gptoss20b": "gpt-oss-20b",
    "gptoss120b": "gpt-oss-120b",
    "qwen330ba3b": "qwen3-30b-a3b",
    "qwen3235ba22b": "qwen3-235b-a22b",
    "mixtral8x7b": "mixtral-8x7b",
    "mixtral8x22b": "mixtral-8x22b",
}
"""By the summary's names, letters and digits of them alone."""

PRECISIONS = {
    "bf16": "bf16",
    "fp8": "fp8",
    "fp8-cs": "fp8",
    "fp8-sc": "fp8",
    "mxfp8": "mxfp8",
    "fp8-mx": "mxfp8",
    "nvfp4": "nvfp4",
}

FULL_GRAPH_FROM = (26, 6)
"""The release from which recipes of mixtures of experts in MXFP8 capture the whole step in a CUDA graph."""


def megatron_bridge(row: Row) -> list[Run]:
    """One result, or two where cells hold a second one in parentheses: of another quantisation, at times with
    another plan.

    Tokens/s give the time of a step. Common to the recipes: flash attention, a distributed optimizer or FSDP,
    gradients in bf16, sequence parallelism with any tensor parallelism, tokens forced to spread evenly over
    experts, and no recomputation but of small modules (parts of latent attention, activation functions).
    """
    name = text(row, "model")
    model = _model(name)
    machine = MACHINES.get(text(row, "system"))
    if machine is None:
        raise Unstated(f"no machine for the system {text(row, 'system')!r}")
    gpus, sequence = count(row, "#-GPUs"), count(row, "Sequence Length")
    rates = _rates(row)
    runs = []
    for index, (rate, dtype) in enumerate(zip(rates, _precisions(row, len(rates)), strict=True)):
        plan = _plan(row, index, gpus, sequence, dtype, model, name)
        step_s = plan.global_batch * sequence / (gpus * rate)
        which = f" [{dtype}, {'first' if index == 0 else 'second'} result]" if len(rates) > 1 else ""
        family = f"megatron-bridge-{text(row, 'system').removeprefix('dgx-')}"
        runs.append(Run(f"{row['id']}{which}", family, model, plan, machine, step_s))
    return runs


def _model(name: str) -> Model:
    known = re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)", "", name))
    if known.startswith("nemotron"):
        raise Unstated("Nemotron 3 and Nemotron-H mix state-space (Mamba) layers in, which aren't generated")
    if known.startswith("deepseekv4"):
        raise Unstated("DeepSeek-V4's sparse attention isn't generated")
    if known.startswith("qwen3next"):
        raise Unstated("Qwen3-Next's linear attention isn't generated")
    if known not in MODELS:
        raise Unstated(f"no model for {name!r}")
    model = preset(MODELS[known])
    if known == "deepseekv3" and "w/o mtp" not in name:
        # The module that predicts a second token has a layer of its own. Its second pass through the output
        # matrix, 2 % of the operations, is left out.
        return replace(model, name=f"{model.name}-mtp", layers=model.layers + 1)
    return model


def _rates(row: Row) -> list[float]:
    """Tokens/s and GPU. A second figure given for TFLOP/s alone scales the first."""
    rates = numbers(row, "metrics", "tokens_per_s_per_gpu")[:2]
    teraflops = numbers(row, "metrics", "model_tflops_per_gpu", 0.0)[:2]
    if len(rates) == 1 and len(teraflops) == 2 and teraflops[0] > 0:
        rates.append(rates[0] * teraflops[1] / teraflops[0])
    return rates


def _precisions(row: Row, results: int) -> list[str]:
    """Data types of the results. Where none is stated, all are FP8 with current scaling, and in parentheses
    that with finer scales (the summary's note on release 25.09): MXFP8 on Blackwell, blocks on H100."""
    stated = text(row, "Precision")
    is_h100 = text(row, "system").endswith("h100")
    words = re.findall(r"[a-z][a-z0-9-]*", stated) or ["fp8", "fp8-sc" if is_h100 else "fp8-mx"]
    unknown = [word for word in words if word not in PRECISIONS]
    if unknown:
        raise Unstated(f"unknown precision {stated!r}")
    dtypes = [PRECISIONS[word] for word in words]
    return (dtypes * results)[:results] if len(dtypes) == 1 else dtypes[:results]


def _plan(row: Row, index: int, gpus: int, sequence: int, dtype: str, model: Model, name: str) -> Plan:
    def cell(key: str, default: float = 1) -> int:
        figures = numbers(row, "setup", key, default)
        return max(1, round(figures[min(index, len(figures) - 1)]))

    tensor, pipeline, context = cell("TP"), cell("PP"), cell("CP")
    if gpus % (tensor * pipeline * context):
        raise Unstated(f"{gpus} GPUs aren't a multiple of TP {tensor} x PP {pipeline} x CP {context}")
    data = gpus // (tensor * pipeline * context)
    sharded = numbers(row, "setup", "FSDP", 0)
    is_fsdp = sharded[min(index, len(sharded) - 1)] > 0
    is_frozen = "lora" in text(row, "phase")
    is_h100 = text(row, "system").endswith("h100")
    is_one_graph = _is_one_graph(row, name, dtype)
    # EP is stated once even where a second plan has fewer ranks in a stage.
    expert = min(cell("EP"), tensor * context * data) if model.experts else 1
    sharding = "zero3" if is_fsdp else "none" if is_frozen or data * context == 1 else "zero1"
    return Plan(
        tensor=tensor,
        context=context,
        data=data,
        pipeline=pipeline,
        virtual_stages=cell("VP") if pipeline > 1 else 1,
        node_ranks=_node_ranks(row, model, expert),
        expert=expert,
        global_batch=count(row, "GBS"),
        micro_batch=cell("MBS"),
        sequence=sequence,
        sequence_parallel=tensor > 1,
        sharding=sharding,
        dtype=dtype,
        gradient_dtype="bf16",
        # The recipe for DeepSeek-V3 on H100 leaves gradients to the end.
        overlap_gradients=not (is_h100 and model.latent is not None),
        # The recipes overlap it for dense models, but not in NVFP4.
        overlap_tensor="full" if tensor > 1 and model.experts is None and dtype != "nvfp4" else "none",
        # Attention with sinks: the times of the releases before, and where no graph is captured, are those of
        # kernels that aren't fused. The summary speaks of a regression in cuDNN, but not of its reason.
        flash_attention=not model.has_sinks or is_one_graph,
        overlap_experts=_overlaps_experts(row, expert, cell("VP")),
        drop_tokens="tokendrop" in name,
        has_host=not is_one_graph,
        frozen=is_frozen,
    )


HOST_RANKS, RACK_RANKS = 8, 64
"""Ranks on one NVLink network: of a host, and of a rack of GB200 or GB300 as far as a group uses it."""


def _node_ranks(row: Row, model: Model, expert: int) -> int:
    """Recipes on racks and on B300 have HybridEP, and where experts of DeepSeek-V3 are on several hosts
    DeepEP: both send a token to each NVLink network once. Others send a copy for every expert."""
    system = text(row, "system")
    if "-gb" in system:
        return RACK_RANKS
    is_across = expert > HOST_RANKS and model.latent is not None
    return HOST_RANKS if system.endswith("b300") or is_across else 0


def _overlaps_experts(row: Row, expert: int, virtual_stages: int) -> bool:
    """Recipes overlap all-to-alls between hosts with the compute of another micro-batch, where the schedule
    is interleaved, as that needs."""
    return "-gb" not in text(row, "system") and expert > HOST_RANKS and virtual_stages > 1


def _is_one_graph(row: Row, name: str, dtype: str) -> bool:
    """The whole step is one CUDA graph, so that the host bounds nothing: recipes for Llama 3 8B on Blackwell,
    and since release 26.06 for experts in MXFP8, but of gpt-oss on B300."""
    system = text(row, "system")
    if system.endswith(("h100", "h200")):
        return False
    if "llama3_8b" in name:
        return True
    release = tuple(int(part) for part in re.findall(r"\d+", text(row, "container"))[:2])
    is_left_out = "oss" in name and system.endswith("-b300")
    return (
        release >= FULL_GRAPH_FROM
        and dtype == "mxfp8"
        and number(row, "setup", "EP", 0) > 1
        and not is_left_out
    )
