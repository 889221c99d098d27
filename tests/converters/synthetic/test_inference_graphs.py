"""Inference: prompts at once, then one token after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chakrasim.converters.synthetic.transformer import (
    Experts,
    LatentAttention,
    Model,
    Plan,
    Request,
    generate_inference,
)
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.graph import ExecutionGraph

MODEL = Model("m", "made up", 8, 256, 8, 4, 32, 1024, True, 1024, False, 256)
LATENT = replace(MODEL, kv_heads=8, latent=LatentAttention(64, 32, 16, 32))
SPARSE = replace(MODEL, experts=Experts(8, 2, 256))


def operations(graph: ExecutionGraph, name: str, number: int) -> int:
    """Of all nodes whose name ends so, in one pass (0 prefill, 1 decode)."""
    passes = np.array([graph.attributes(row)["pass"] for row in range(len(graph))])
    named = np.array([graph.name(row).endswith(name) for row in range(len(graph))])
    return int(graph.ops[named & (passes == number)].sum())


def test_operations_of_prefill_and_decode_by_hand() -> None:
    graph = generate_inference(MODEL, Plan(global_batch=2, micro_batch=2), Request(100, 3)).graphs[0]
    # 8 layers, 2 sequences: 100 tokens each at first, then one token three times
    qkv = 2 * 256 * (8 + 2 * 4) * 32
    assert operations(graph, "attn.qkv", 0) == 8 * 2 * 100 * qkv
    assert operations(graph, "attn.qkv", 1) == 8 * 2 * 3 * qkv
    # a query meets half of the prompt on average, and a decoded token all tokens before it and itself
    each = 2 * 8 * (32 + 32)
    assert operations(graph, "attn.core", 0) == 8 * 2 * 100 * 50 * each
    assert operations(graph, "attn.core", 1) == 8 * 2 * (101 + 102 + 103) * each
    # only the last token of each sequence meets the output layer
    assert operations(graph, "head.logits", 0) == 2 * 2 * 256 * 1024
    assert operations(graph, "head.logits", 1) == 3 * 2 * 2 * 256 * 1024


def test_decoding_reads_the_cache() -> None:
    def core_bytes(cached: int, model: Model = MODEL) -> int:
        graph = generate_inference(model, Plan(global_batch=4, micro_batch=4), Request(0, 1, cached)).graphs[
            0
        ]
        row = graph.names.index("layer0.attn.core")
        return int(graph.tensor_bytes[graph.name_ids == row][0])

    # 4 sequences of 1,000 more keys and values of 4 heads of 32 numbers in 16 bits
    assert core_bytes(1999) - core_bytes(999) == 4 * 1000 * 2 * 4 * 32 * 2
    # compressed ones are shared by all heads: 32 numbers, which are the values, and 16 of positions
    assert core_bytes(1999, LATENT) - core_bytes(999, LATENT) == 4 * 1000 * (32 + 16) * 2


@pytest.mark.parametrize("model", [MODEL, LATENT, SPARSE])
@pytest.mark.parametrize(
    "plan",
    [
        Plan(tensor=4, global_batch=8, micro_batch=8),
        Plan(pipeline=4, global_batch=8, micro_batch=2),
        Plan(tensor=2, data=2, pipeline=2, global_batch=16, micro_batch=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("request_", [Request(64, 0), Request(64, 4), Request(0, 4, 64)], ids=str)
def test_one_of_each_kind_takes_as_long_as_all(model: Model, plan: Plan, request_: Request) -> None:
    if model.experts:
        plan = replace(plan, expert=plan.data * plan.tensor)
    few = generate_inference(model, plan, request_)
    every = generate_inference(model, plan, request_, all_ranks=True)
    assert sum(few.stands_for.values()) == len(every.graphs)
    assert check_workload(few) == check_workload(every) == []
    machine = load_machine("hgx-h100")
    one, all_ = (simulate(workload, machine, compute="roofline") for workload in (few, every))
    assert one.deadlock is None
    assert one.step_time_ps == all_.step_time_ps


def test_a_token_waits_for_the_one_before() -> None:
    machine = load_machine("hgx-h100")
    plan = Plan(pipeline=4, global_batch=1, has_host=False)  # whose launches run ahead

    def time(decode: int) -> int:
        found = simulate(generate_inference(MODEL, plan, Request(0, decode, 64)), machine, compute="roofline")
        assert found.step_time_ps is not None
        return found.step_time_ps

    # stages can't overlap one sequence's tokens
    assert time(8) > 7.5 * time(1)


def test_more_sequences_cost_less_each() -> None:
    machine = load_machine("hgx-h100")

    def time(batch: int) -> int:
        plan = Plan(global_batch=batch, micro_batch=batch, has_host=False)
        found = simulate(generate_inference(MODEL, plan, Request(0, 4, 512)), machine, compute="roofline")
        assert found.step_time_ps is not None
        return found.step_time_ps

    assert time(1) < time(64) < 64 * time(1) / 4
