"""Mixtures of experts: what the host waits for, what small batches read, and who joins tokens again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chakrasim.converters.synthetic.transformer import (
    Experts,
    Model,
    Plan,
    Request,
    generate_inference,
    generate_training,
)
from chakrasim.converters.synthetic.transformer.plan.rules import check_plan
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind

DENSE = Model("dense", "made up", 2, 256, 8, 4, 32, 1024, True, 1024, False, 256)
SPARSE = replace(DENSE, experts=Experts(8, 2, 256))


def rows_named(graph: ExecutionGraph, end: str) -> list[int]:
    return [row for row in range(len(graph)) if graph.name(row).endswith(end)]


def ancestors(graph: ExecutionGraph, row: int) -> set[int]:
    found: set[int] = set()
    left = [row]
    while left:
        for parent in graph.parents_of(left.pop()):
            if int(parent) not in found:
                found.add(int(parent))
                left.append(int(parent))
    return found


def test_the_host_waits_for_counts_of_tokens_unless_tokens_are_dropped() -> None:
    def launches(drop_tokens: bool) -> tuple[ExecutionGraph, list[int]]:
        plan = Plan(drop_tokens=drop_tokens)
        graph = generate_training(SPARSE, plan).graphs[0]
        return graph, rows_named(graph, "launch")

    graph, waiting = launches(False)
    sorts = rows_named(graph, "moe.permute")
    # each of the two layers is launched in two parts in the forward pass, the second after the sort
    assert len(waiting) == len(launches(True)[1]) + 2
    after_sort = [row for row in waiting if any(int(parent) in sorts for parent in graph.parents_of(row))]
    assert len(after_sort) == 2
    # what the host does later stands behind it
    assert set(waiting[: waiting.index(after_sort[0])]) <= ancestors(graph, after_sort[0])
    fixed, _ = launches(True)
    assert not any(ancestors(fixed, row) & set(rows_named(fixed, "moe.permute")) for row in launches(True)[1])


def test_equal_numbers_of_tokens_take_one_kernel_for_all_experts() -> None:
    def launched(drop_tokens: bool) -> int:
        graph = generate_training(SPARSE, Plan(drop_tokens=drop_tokens)).graphs[0]
        return int(graph.ops[rows_named(graph, "launch")].sum())

    # 2 layers of 2 matrices, in three products each; 8 experts or one
    assert launched(False) - launched(True) == 2 * 2 * 3 * (8 - 1)


def test_waiting_for_counts_costs_time_where_the_host_is_slow() -> None:
    machine = load_machine("hgx-h100")
    dropless, fixed = (
        simulate(generate_training(SPARSE, Plan(drop_tokens=drop)), machine, compute="roofline").step_time_ps
        for drop in (False, True)
    )
    assert dropless is not None
    assert fixed is not None
    assert dropless > fixed


def test_only_sparse_models_drop_tokens() -> None:
    with pytest.raises(
        ConfigError, match="the model has no experts that could drop tokens; drop-tokens false"
    ):
        check_plan(DENSE, Plan(drop_tokens=True))


@pytest.mark.parametrize(("batch", "met"), [(1, 8 * (1 - (7 / 8) ** 2)), (64, 8.0)])
def test_decoding_reads_the_experts_that_tokens_meet(batch: int, met: float) -> None:
    plan = Plan(global_batch=batch, micro_batch=batch)
    graph = generate_inference(SPARSE, plan, Request(0, 1, 10)).graphs[0]
    row = rows_named(graph, "layer0.moe.up")[0]
    rows = 2 * batch
    weights = met * 256 * 2 * 256
    assert graph.tensor_bytes[row] == pytest.approx(2 * (rows * 256 + weights + rows * 512), rel=1e-6)


@pytest.mark.parametrize("tokens", [1, 7, 8])
def test_tensor_ranks_route_any_number_of_tokens(tokens: int) -> None:
    plan = Plan(tensor=4, expert=4)
    graph = generate_inference(SPARSE, plan, Request(tokens, 1)).graphs[0]
    row = rows_named(graph, "layer0.moe.router")[0]
    assert graph.ops[row] == 2 * -(-tokens // 4) * 256 * 8


def test_tokens_that_tensor_ranks_share_out_are_joined_again() -> None:
    graph = generate_training(SPARSE, Plan(tensor=2, expert=2, sequence_parallel=False)).graphs[0]
    joined = [row for row in range(len(graph)) if graph.name(row).startswith("layer1.moe.")]
    gathers = [
        row for row in joined if graph.kinds[row] == NodeKind.COLL and graph.group_name(row) == "tensor"
    ]
    # forward behind the experts, backward before the router: each rank's half of 256 tokens of 256 numbers
    assert [graph.name(row) for row in gathers] == ["layer1.moe.join", "layer1.moe.cut.backward"]
    assert set(graph.comm_kinds[gathers].tolist()) == {CommKind.ALL_GATHER}
    assert set(graph.comm_bytes[gathers].tolist()) == {128 * 256 * 2}
    cut = generate_training(SPARSE, Plan(tensor=2, expert=2, sequence_parallel=True)).graphs[0]
    assert not rows_named(cut, "moe.join")
    assert np.array_equal(np.unique(cut.comm_kinds[rows_named(cut, "moe.dispatch")]), [CommKind.ALL_TO_ALL])
