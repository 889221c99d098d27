"""Every published training step of the file of measurements, as the simulator would be asked for it.

Families are told apart by what a row's setup and metrics hold, never by which row it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
from published_bridge import megatron_bridge
from published_megatron import megatron_a100, megatron_h100, sequence_parallel, vtrain
from published_setup import Row, Run, Unpredicted, Unstated, text
from published_torch import llama3, llm_foundry, maxtext, neusight, torchtitan

from chakrasim.converters.synthetic.transformer.plan.rules import check_plan
from chakrasim.traces.errors import ConfigError

__all__ = ["Run", "Unpredicted", "read_row", "runs"]

CATEGORIES = ("e2e-training", "e2e-training-4gpu", "single-gpu")

FAMILIES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], Callable[[Row], list[Run]]], ...] = (
    ("megatron-bridge", ("#-GPUs", "MBS"), (), megatron_bridge),
    ("llm-foundry", ("# GPUs", "Sharding Strategy"), (), llm_foundry),
    ("neusight", ("mode", "parallel"), ("e2e_ms",), neusight),
    ("maxtext", ("config",), ("tokens_per_s_per_chip",), maxtext),
    ("megatron-a100", ("model_parallel",), ("tflops_per_gpu",), megatron_a100),
    ("sequence-parallel", ("interleave",), (), sequence_parallel),
    ("llama3", ("batch_per_dp",), ("tflops_per_gpu",), llama3),
    ("torchtitan", ("lbs",), (), torchtitan),
    ("vtrain", ("micro_batch", "framework"), ("iter_ms",), vtrain),
    ("megatron-h100", ("tp", "pp", "vocab"), ("tflops_per_gpu",), megatron_h100),
)
"""Name, keys of the setup and of the metrics that tell it from others, and what reads it. The first that fits
is taken."""


def runs(path: Path) -> tuple[list[Run], list[Unpredicted]]:
    """Training steps in a file of measurements, and rows that none is made of. O(rows).

    Inference is left out. Raises OSError or ValueError for a file that isn't one of measurements.
    """
    found: list[Run] = []
    missing: list[Unpredicted] = []
    for row in orjson.loads(path.read_bytes())["entries"]:
        if row.get("category") not in CATEGORIES or text(row, "mode", "train") != "train":
            continue
        result = read_row(row)
        if isinstance(result, Unpredicted):
            missing.append(result)
        else:
            found += result
    return found, missing


def read_row(row: Row) -> list[Run] | Unpredicted:
    """The runs of a row, or why there are none."""
    setup, metrics = row.get("setup") or {}, row.get("metrics") or {}
    for family, keys, results, read in FAMILIES:
        if all(key in setup for key in keys) and all(key in metrics for key in results):
            try:
                measured = read(row)
                for run in measured:
                    check_plan(run.model, run.plan)
            except Unstated as reason:
                return Unpredicted(row["id"], family, str(reason))
            except ConfigError as error:
                return Unpredicted(row["id"], family, f"the plan isn't one that is generated: {error}")
            return [replace(run, step_s=float(run.step_s)) for run in measured]
    return Unpredicted(row["id"], "unknown", "what was run isn't stated in a form that is known")
