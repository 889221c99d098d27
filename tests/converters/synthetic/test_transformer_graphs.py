"""Training steps of transformers: what the graphs hold, whatever the plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.synthetic.transformer.model.counts import parameters, step_operations
from chakrasim.converters.synthetic.transformer.model.model import Experts, LatentAttention, Model
from chakrasim.converters.synthetic.transformer.plan.plan import (
    OVERLAPS,
    RECOMPUTATIONS,
    SCHEDULES,
    SHARDINGS,
    Plan,
)
from chakrasim.converters.synthetic.transformer.training import generate_training
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.attributes import NodeAttributes
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

DENSE = Model("dense", "made up", 8, 256, 8, 4, 32, 1024, True, 1024, False, 256)
GPT = Model(
    "gpt", "made up", 8, 256, 8, 8, 32, 1024, False, 1024, True, 256,
    has_biases=True, has_layer_norm=True, learned_positions=256, has_dropout=True,
)  # fmt: skip
SPARSE = replace(DENSE, name="sparse", experts=Experts(8, 2, 256, 256, 1))
LATENT = replace(SPARSE, name="latent", kv_heads=8, latent=LatentAttention(64, 32, 16, 32))


def products(graph: ExecutionGraph) -> int:
    """Operations of matrix products and attention."""
    kinds = np.array([*graph.op_kinds, ""])[graph.op_kind_ids]
    return int(graph.ops[(kinds == "matmul") | (kinds == "attention")].sum())


def of_all_ranks(workload: Workload) -> int:
    return sum(products(graph) * workload.stands_for.get(rank, 1) for rank, graph in workload.graphs.items())


def collectives(graph: ExecutionGraph, group: str, kind: CommKind) -> list[int]:
    """Bytes of each."""
    is_one = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds == kind)
    rows = [row for row in np.flatnonzero(is_one) if graph.group_name(row) == group]
    return graph.comm_bytes[rows].tolist()


@pytest.mark.parametrize("model", [DENSE, GPT, SPARSE, LATENT], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        Plan(tensor=4),
        Plan(tensor=2, sequence_parallel=True, overlap_tensor="full"),
        Plan(pipeline=4),
        Plan(pipeline=2, virtual_stages=2),
        Plan(pipeline=4, schedule="zero-bubble"),
        Plan(pipeline=2, schedule="gpipe", tensor=2, data=2),
        Plan(data=4, sharding="zero3"),
        Plan(data=4, sharding="zero1"),
        Plan(context=2, flash_attention=True),
    ],
    ids=str,
)
def test_operations_dont_depend_on_the_plan(model: Model, plan: Plan) -> None:
    flash = plan.context > 1
    plan = replace(plan, global_batch=16, flash_attention=flash)
    one_rank = generate_training(model, Plan(global_batch=16, flash_attention=flash))
    workload = generate_training(model, plan)
    total = of_all_ranks(workload)
    if model.latent and plan.tensor > 1:
        # compressing queries, keys and values is done on every tensor rank: each more does it once more
        latent = model.latent
        narrow = latent.query_rank + latent.kv_rank + latent.rope_size
        again = 3 * 2 * 16 * model.sequence * model.hidden * narrow * model.layers
        total -= (plan.tensor - 1) * again
    assert total == of_all_ranks(one_rank)
    if not flash:
        assert total == step_operations(model, 16)


@pytest.mark.parametrize("recompute", RECOMPUTATIONS)
def test_recomputation_adds_what_the_formula_says(recompute: str) -> None:
    plan = Plan(global_batch=4, recompute=recompute, flash_attention=False)
    assert of_all_ranks(generate_training(GPT, plan)) == step_operations(GPT, 4, recompute=recompute)


def test_fused_attention_skips_what_the_mask_hides_and_has_five_products_backward() -> None:
    # B s^2 a d: two products of which half is hidden forward, five backward, in each layer
    core = 8 * 4 * 256 * 256 * 8 * 32
    fused, plain = (
        of_all_ranks(generate_training(DENSE, Plan(global_batch=4, flash_attention=flash)))
        for flash in (True, False)
    )
    assert plain - fused == (4 * 3 - 2 - 5) * core


@pytest.mark.parametrize("model", [DENSE, GPT, SPARSE, LATENT], ids=lambda m: m.name)
@pytest.mark.parametrize("plan", [Plan(), Plan(pipeline=4), Plan(data=2, sharding="zero3")], ids=str)
def test_ranks_hold_the_models_parameters(model: Model, plan: Plan) -> None:
    workload = generate_training(model, replace(plan, global_batch=8))
    held = sum(graph.metadata["memory"]["parameters"] for graph in workload.graphs.values()) // 2
    stages_tie = plan.pipeline > 1 and model.has_tied_embeddings
    expected = parameters(model).total + (model.vocabulary * model.hidden if stages_tie else 0)
    assert held * (plan.data if plan.sharding == "zero3" else 1) == expected


def test_tensor_parallel_collectives_are_those_of_megatron() -> None:
    # two all-reduces of s b h 16-bit numbers a layer and direction; one for the embedding, one for the output
    # layer's input, and a small one of 12 bytes a token for the loss
    graph = generate_training(DENSE, Plan(tensor=4, global_batch=2, sequence_parallel=False)).graphs[0]
    size = 256 * 256 * 2
    assert sorted(collectives(graph, "tensor", CommKind.ALL_REDUCE)) == sorted(
        [size] * 2 * (4 * 8 + 2) + [12 * 256] * 2
    )
    # with sequence parallelism each is a reduce-scatter and an all-gather, which takes a rank's part; the
    # backward pass gathers inputs once more for the gradients of weights: two a layer and the output layer's
    graph = generate_training(DENSE, Plan(tensor=4, global_batch=2, sequence_parallel=True)).graphs[0]
    assert collectives(graph, "tensor", CommKind.REDUCE_SCATTER) == [size] * 2 * (4 * 8 + 2)
    assert collectives(graph, "tensor", CommKind.ALL_GATHER) == [size // 4] * 2 * (4 * 8 + 2 + 2 * 8 + 1)


def test_gradients_of_keys_and_values_travel_with_them_around_the_context() -> None:
    # 128 of 256 tokens on each of 2 ranks, keys and values of 4 heads of 32 numbers of 16 bits; 8 layers
    graph = generate_training(DENSE, Plan(context=2)).graphs[0]
    block = 128 * 2 * 4 * 32 * 2
    sent = graph.comm_bytes[(graph.kinds == NodeKind.SEND)].tolist()
    assert sent == [block] * 8 + [2 * block] * 8


def test_a_bucket_of_gradients_is_full_at_so_many_million_bytes() -> None:
    # A layer: queries and output 256 x 256 each, keys and values 256 x 128 each, three matrices of
    # 256 x 1024, two norms of 256. In fp32 3.93 million bytes: over 3.9 MB, under 3.9 MiB.
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 1024 + 2 * 256
    head, embedding = 256 * 1024 + 256, 1024 * 256
    graph = generate_training(DENSE, Plan(data=2, bucket_MB=3.9)).graphs[0]
    reduced = collectives(graph, "data", CommKind.ALL_REDUCE)
    assert reduced == [4 * (head + layer), *[4 * layer] * 7, 4 * embedding]


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_gradients_and_parameters_travel_as_the_sharding_says(sharding: str, overlaps: bool) -> None:
    plan = Plan(data=4, global_batch=8, sharding=sharding, overlap_gradients=overlaps, bucket_MB=1)
    graph = generate_training(DENSE, plan).graphs[0]
    count = parameters(DENSE).total
    reduced = collectives(graph, "data", CommKind.ALL_REDUCE)
    scattered = collectives(graph, "data", CommKind.REDUCE_SCATTER)
    gathered = collectives(graph, "data", CommKind.ALL_GATHER)
    passes = 2
    assert sum(reduced) == (4 * count if sharding == "none" else 0)
    times = {"none": 0, "zero1": 1, "zero2": passes, "zero3": passes}[sharding]
    assert sum(scattered) == 4 * count * times
    # Each rank gives its quarter of the 16-bit parameters: once a step, or forward and backward of each pass.
    times = {"none": 0, "zero1": 1, "zero2": 1, "zero3": 2 * passes}[sharding]
    assert sum(gathered) == 2 * count // 4 * times


def test_experts_exchange_every_tokens_copies() -> None:
    plan = Plan(data=4, expert=4, global_batch=4)
    graph = generate_training(SPARSE, plan).graphs[0]
    # 256 tokens of 256 16-bit numbers, two experts each: there and back, forward and backward, in 7 layers
    assert collectives(graph, "expert", CommKind.ALL_TO_ALL) == [256 * 2 * 256 * 2] * 4 * 7


def test_uneven_loads_keep_their_sum_and_follow_the_seed() -> None:
    def ops(seed: int) -> list[int]:
        plan = Plan(data=4, expert=4, global_batch=4, imbalance=0.5, seed=seed)
        workload = generate_training(SPARSE, plan)
        assert len(workload.graphs) == 4  # every part of the experts does something else
        return [products(graph) for graph in workload.graphs.values()]

    even = products(generate_training(SPARSE, Plan(data=4, expert=4, global_batch=4)).graphs[0])
    assert ops(1) == ops(1) != ops(2)
    assert len(set(ops(1))) == 4
    assert sum(ops(1)) == pytest.approx(4 * even, rel=1e-4)  # whole tokens


def test_nodes_say_where_they_belong() -> None:
    graph = generate_training(DENSE, Plan(pipeline=2, global_batch=4)).graphs[1]
    row = graph.names.index("layer5.attn.qkv.weights")
    row = int(np.flatnonzero(graph.name_ids == row)[1])
    found = graph.attributes(row)
    assert {name: found[name] for name in ("micro_batch", "layer", "stage", "pass")} == {
        "micro_batch": 1,
        "layer": 5,
        "stage": 1,
        "pass": 1,
    }
    assert graph.op_kinds[graph.op_kind_ids[row]] == "matmul"
    assert graph.dtypes[graph.dtype_ids[row]] == "bf16"


plans = st.builds(
    Plan,
    tensor=st.sampled_from([1, 2, 4]),
    context=st.sampled_from([1, 1, 2]),
    data=st.sampled_from([1, 2, 4]),
    pipeline=st.sampled_from([1, 2, 4]),
    virtual_stages=st.sampled_from([1, 1, 2]),
    expert=st.sampled_from([1, 2, 4]),
    expert_tensor=st.sampled_from([1, 2]),
    order=st.sampled_from(["tensor-context-data-pipeline", "data-tensor-pipeline-context"]),
    global_batch=st.sampled_from([8, 16]),
    micro_batch=st.sampled_from([1, 2]),
    schedule=st.sampled_from(SCHEDULES),
    sequence_parallel=st.booleans(),
    sharding=st.sampled_from(SHARDINGS),
    prefetch=st.integers(0, 2),
    dtype=st.sampled_from(["bf16", "fp8", "fp32"]),
    recompute=st.sampled_from(RECOMPUTATIONS),
    flash_attention=st.booleans(),
    overlap_gradients=st.booleans(),
    bucket_MB=st.sampled_from([0.5, 100]),
    is_fused=st.booleans(),
    overlap_experts=st.booleans(),
    has_optimizer=st.booleans(),
    overlap_tensor=st.sampled_from(OVERLAPS),
    overlap_pipeline=st.booleans(),
    imbalance=st.sampled_from([0, 0, 0.3]),
    frozen=st.booleans(),
)


@given(model=st.sampled_from([DENSE, GPT, SPARSE, LATENT]), plan=plans)
@settings(max_examples=60)
def test_one_of_each_kind_takes_as_long_as_all(model: Model, plan: Plan) -> None:
    if model.experts is None:
        plan = replace(plan, expert=1, expert_tensor=1, imbalance=0)
    try:
        few = generate_training(model, plan)
    except ConfigError:
        return
    every = generate_training(model, plan, all_ranks=True)
    assert sum(few.stands_for.values()) == len(every.graphs) == plan.ranks
    assert not check_workload(few)
    assert not check_workload(every)
    machine = load_machine("dgx-a100")
    times = {
        simulate(workload, machine, compute="roofline", network="analytical").step_time_ps
        for workload in (few, every)
    }
    assert len(times) == 1
    assert None not in times
    for graph in few.graphs.values():
        attributes = graph.read_attributes
        assert isinstance(attributes, NodeAttributes)
        for suffix in ("", "_temporary"):
            allocated, freed = (
                np.maximum(attributes.columns[f"{name}{suffix}"], 0).sum() for name in ("allocates", "frees")
            )
            assert allocated == freed


@pytest.mark.parametrize(
    ("plan", "machine", "is_made"),
    [
        # groups of 6 neighbours lie on one host of 8, or on two
        (Plan(tensor=2, data=6, order="data-tensor-context-pipeline", global_batch=6), "hgx-h100", True),
        (Plan(data=12, expert=6, global_batch=12), "hgx-h100", True),
        (Plan(tensor=2, data=6, order="data-tensor-context-pipeline", global_batch=6), "gb200-nvl72", False),
        (Plan(tensor=2, data=6, global_batch=6), "hgx-h100", False),
        (Plan(tensor=2, data=8, expert=4, global_batch=8), "hgx-h100", False),
    ],
    ids=str,
)
def test_all_ranks_are_made_where_hosts_cut_their_groups_unevenly(
    plan: Plan, machine: str, is_made: bool
) -> None:
    model = replace(SPARSE, heads=12, kv_heads=12, experts=Experts(12, 2, 256)) if plan.expert > 1 else DENSE
    few, every = generate_training(model, plan), generate_training(model, plan, all_ranks=True)
    results = [simulate(job, load_machine(machine), compute="roofline") for job in (few, every)]
    assert (len(results[0].workload.graphs) == plan.ranks) == is_made
    assert results[0].step_time_ps == results[1].step_time_ps


def test_collectives_of_a_group_start_in_one_order_on_all_ranks() -> None:
    # Reductions in line and gathers beside it, which a ring's ranks would otherwise take in another order.
    plan = Plan(
        context=4,
        data=4,
        order="data-tensor-pipeline-context",
        global_batch=16,
        sharding="zero3",
        prefetch=2,
        overlap_gradients=False,
        has_host=False,
    )
    result = simulate(generate_training(replace(DENSE, layers=4), plan), load_machine("hgx-h100"))
    assert result.deadlock is None


def test_selective_recomputation_does_fused_attention_again() -> None:
    none, selective = (
        generate_training(DENSE, Plan(recompute=kind)).graphs[0] for kind in ("none", "selective")
    )
    core = [row for row in range(len(none)) if none.name(row).endswith(".attn.core")]
    assert products(selective) - products(none) == none.ops[core].sum()


def test_products_in_tf32_are_all_in_tf32() -> None:
    graph = generate_training(SPARSE, Plan(dtype="tf32")).graphs[0]
    kinds = np.array([*graph.op_kinds, ""])[graph.op_kind_ids]
    dtypes = np.array([*graph.dtypes, ""])[graph.dtype_ids]
    assert set(dtypes[kinds == "matmul"]) == {"tf32"}


def test_narrow_products_cast_their_operands_in_two_layouts() -> None:
    def cast_bytes(dtype: str) -> int:
        graph = generate_training(DENSE, Plan(dtype=dtype)).graphs[0]
        row = graph.names.index("layer0.mlp.up.cast")
        return int(graph.tensor_bytes[graph.name_ids == row][0])

    # of 256 x 256 numbers of 2 bytes; with one scale for all, a pass before looks for the largest
    assert cast_bytes("mxfp8") == 256 * 256 * (2 + 2 * 1)
    assert cast_bytes("fp8") == 256 * 256 * (2 + 2 + 2 * 1)


def test_gradients_that_nothing_hides_are_reduced_once_all_passes_are_through() -> None:
    # not stage after stage: a stage's reduction keeps nobody waiting but itself
    machine = load_machine("dgx-a100")
    order = "pipeline-tensor-context-data"  # stages side by side, whatever the data ranks
    plan = Plan(pipeline=4, data=8, order=order, global_batch=64, overlap_gradients=False)
    model = replace(DENSE, hidden=1024, ffn=4096, head_size=128)
    workload = generate_training(model, plan)
    result = simulate(workload, machine, compute="roofline")
    graph = workload.graphs[0]
    reduces = [row for row in range(len(graph)) if graph.name(row) == "reduce"]
    assert len(reduces) == 1
    rows = result.rows(0)
    last = graph.names.index("layer0.attn.qkv.weights")
    ends = result.ends_ps[rows][graph.name_ids == last]
    assert result.starts_ps[rows][reduces[0]] >= ends.max()
    alone = simulate(
        generate_training(model, replace(plan, data=1, global_batch=8)), machine, compute="roofline"
    )
    assert result.step_time_ps is not None
    assert alone.step_time_ps is not None
    costs = 0
    for rank, other in workload.graphs.items():
        row = next(row for row in range(len(other)) if other.name(row) == "reduce")
        at = result.rows(rank)
        costs = max(costs, result.ends_ps[at][row] - result.starts_ps[at][row])
    # but for the all-reduce of the gradients' norm over 32 ranks instead of 4
    assert result.step_time_ps - costs - alone.step_time_ps < 0.1 * costs


@pytest.mark.parametrize("sharding", ["zero2", "zero3"])
def test_zero_bubble_reduces_gradients_once(sharding: str) -> None:
    plan = Plan(data=4, global_batch=8, sharding=sharding)
    plain, split = (
        sum(collectives(generate_training(DENSE, one).graphs[0], "data", CommKind.REDUCE_SCATTER))
        for one in (plan, replace(plan, schedule="zero-bubble"))
    )
    assert plain == split


@pytest.mark.parametrize("overlaps", [True, False])
def test_sharded_gradients_are_whole_until_they_are_reduced(overlaps: bool) -> None:
    # a step of two layers: each layer's gradients lie whole on every rank, until others have their parts
    plan = Plan(data=4, global_batch=4, sharding="zero3", overlap_gradients=overlaps, recompute="full")
    graph = generate_training(replace(DENSE, layers=2), plan).graphs[0]
    attributes = graph.read_attributes
    assert isinstance(attributes, NodeAttributes)
    reduces = [
        row for row in range(len(graph)) if graph.name(row).endswith("reduce") and graph.comm_bytes[row] > 4
    ]
    freed = attributes.columns["frees_temporary"][reduces]
    assert freed.tolist() == graph.comm_bytes[reduces].tolist()
    assert freed.sum() == 4 * parameters(replace(DENSE, layers=2)).total
    assert len(reduces) == 4  # two layers, the embedding and the output layer


def test_gradients_are_cast_before_the_products_that_take_them() -> None:
    graph = generate_training(DENSE, Plan(dtype="fp8")).graphs[0]
    rows = [
        next(row for row in range(len(graph)) if graph.name(row) == f"layer0.mlp.up{part}")
        for part in (".cast.backward", ".backward", ".weights")
    ]
    assert rows == sorted(rows)


def test_gathers_of_the_backward_pass_run_beside_what_they_feed() -> None:
    def exposed_parents(overlap_tensor: str) -> set[int]:
        plan = Plan(tensor=2, sequence_parallel=True, overlap_tensor=overlap_tensor, has_host=False)
        graph = generate_training(DENSE, plan).graphs[0]
        row = next(r for r in range(len(graph)) if graph.name(r) == "layer0.mlp.down.backward")
        return {int(parent) for parent in graph.parents_of(row) if graph.kinds[parent] == NodeKind.COLL}

    # in line the product waits for the gather; beside it, both start together
    assert exposed_parents("none")
    assert not exposed_parents("full")
