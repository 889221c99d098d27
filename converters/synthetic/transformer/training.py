"""A training step of a transformer as Chakra graphs.

Every rank of a pipeline stage does the same as the others of its tensor and data dimension.
`generate_training` makes one graph for each that differs, and lets it stand for the others: that is exact,
since a collective's members all come at once, and messages go between equal places of stages. `all_ranks`
makes graphs of every rank, which share columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

from chakrasim.converters.synthetic.graph_writer.template import Assembly, Tables, Template, collective
from chakrasim.converters.synthetic.op_cost.operations import Operation
from chakrasim.converters.synthetic.op_cost.optimizers import Held, held_bytes
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.converters.synthetic.transformer.layers.chunk import Chunk
from chakrasim.converters.synthetic.transformer.layers.shape import Shape
from chakrasim.converters.synthetic.transformer.layers.stages import (
    parameter_bytes,
    rank_parameters,
    stage_chunks,
)
from chakrasim.converters.synthetic.transformer.model.counts import step_operations
from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.passes.passes import (
    backward_pass,
    forward_pass,
    reduce_pass,
    weights_pass,
)
from chakrasim.converters.synthetic.transformer.passes.writer import PassWriter
from chakrasim.converters.synthetic.transformer.plan.plan import SHARDINGS, Plan
from chakrasim.converters.synthetic.transformer.plan.ranks import spread
from chakrasim.converters.synthetic.transformer.plan.rules import check_plan
from chakrasim.converters.synthetic.transformer.plan.schedule import (
    BACKWARD,
    FORWARD,
    OPTIMIZER,
    PASS_NAMES,
    passes,
)
from chakrasim.traces.graph import CommKind, ExecutionGraph, Ints
from chakrasim.traces.names.op_kinds import ELEMENTWISE
from chakrasim.traces.workload import Workload


def generate_training(model: Model, plan: Plan, *, all_ranks: bool = False) -> Workload:
    """A training step. O(nodes of the ranks that differ), and with `all_ranks` O(nodes of all).

    Raises ConfigError for a plan that doesn't fit the model.
    """
    plan = plan.completed(is_training=True)
    check_plan(model, plan)
    return spread(model, plan, partial(_stage_graph, model, plan), all_ranks=all_ranks)


def _stage_graph(model: Model, plan: Plan, stage: int, loads: Sequence[float]) -> tuple[ExecutionGraph, Ints]:
    tables = Tables()
    sequence = plan.sequence or model.sequence
    tokens = plan.micro_batch * sequence // plan.context
    chunks = stage_chunks(Shape(model, plan, plan.micro_batch, tokens, sequence), stage, loads)
    assembly = Assembly(tables)
    splits = plan.schedule == "zero-bubble"
    templates: dict[tuple[int, int, bool], Template] = {}
    last = plan.micro_batches - 1
    for one in passes(plan.schedule, stage, plan.pipeline, plan.micro_batches, plan.virtual_stages):
        is_end = one.micro_batch == (0 if one.kind == FORWARD else last)
        key = one.kind, one.chunk, is_end
        if key not in templates:
            chunk = chunks[one.chunk]
            if one.kind == FORWARD:
                templates[key] = forward_pass(chunk, tables, is_first=is_end)
            elif one.kind == BACKWARD:
                templates[key] = backward_pass(chunk, tables, is_last=is_end, splits=splits)
            else:
                templates[key] = weights_pass(chunk, tables, is_last=is_end)
        assembly.place(templates[key], one.micro_batch)
    held = _held_bytes(chunks)
    reduced = reduce_pass(chunks, tables)
    if len(reduced):
        assembly.place(reduced)
    if plan.has_optimizer and not plan.frozen:
        assembly.place(_optimizer(model, chunks, tables), waits_for_loose=True)
    metadata = {
        "source": "chakrasim generate transformer",
        "model": model.name,
        "world_size": plan.ranks,
        "memory": held,
        "step": {
            "tokens": plan.global_batch * sequence,
            "model_operations": step_operations(model, plan.global_batch, sequence, is_frozen=plan.frozen),
            "dtype": plan.dtype,
        },
        "attribute_names": {"pass": list(PASS_NAMES)},
    }
    return assembly.build(0, {}, metadata)


def _held_bytes(chunks: Sequence[Chunk]) -> dict[str, int]:
    """Bytes that a rank holds throughout a step: parameters, gradients and the optimizer's states.

    Adam keeps two moments and, where parameters are in 16 bits, a copy of them, each in 32 bits. Stage 1
    shards the optimizer's states, 2 also gradients, 3 parameters, too (Rajbhandari et al., ZeRO, 2020).
    """
    first = chunks[0]
    plan = first.plan
    level = SHARDINGS.index(plan.sharding)
    states = 8 if parameter_bytes(plan) == 4 else 12
    each = Held(first.parameter_bytes, first.gradient_bytes, states)
    if plan.frozen:
        each = Held(first.parameter_bytes, 0, 0)
    experts, dense = rank_parameters(chunks)
    shards = [
        Held(*(ranks if level >= stage else 1 for stage in (3, 2, 1)))
        for ranks in (first.data_ranks, first.expert_data_ranks)
    ]
    return held_bytes(each, (dense, shards[0]), (experts, shards[1]))


def _optimizer(model: Model, chunks: Sequence[Chunk], tables: Tables) -> Template:
    """The gradients' norm over all ranks, the step of Adam on what the rank keeps states of, and where
    nothing hides it the all-gather of sharded parameters.

    A parameter's step reads its gradient and three states, and writes the states and the parameter.
    """
    first = chunks[0]
    plan = first.plan
    writer = PassWriter(first, tables, OPTIMIZER)
    template = writer.template
    ties = model.has_tied_embeddings and plan.pipeline > 1 and first.stage in (0, plan.pipeline - 1)
    if ties:
        rows = ceil(model.vocabulary / plan.tensor)
        size = ceil(rows * model.hidden * first.gradient_bytes)
        collective(template, "embedding.tie", (CommKind.ALL_REDUCE, size), "embedding")
    experts, dense = rank_parameters(chunks)
    is_sharded = plan.sharding != "none"
    own = ceil(dense / (first.data_ranks if is_sharded else 1)) + ceil(
        experts / (first.expert_data_ranks if is_sharded else 1)
    )
    norm = Operation("optimizer.norm", ELEMENTWISE, "fp32", Work(2 * own, 4 * own), Work(0, 0))
    writer.compute(norm.name, norm, norm.forward)
    if is_sharded or plan.ranks > plan.data * plan.context or experts:
        collective(template, "optimizer.norm.reduce", (CommKind.ALL_REDUCE, 4), "world")
    states = 4 * (2 if first.parameter_bytes == 4 else 3)
    moved = round(own * (first.gradient_bytes + 2 * states + first.parameter_bytes))
    # Without a fused optimizer, every function of its formula passes over all of it.
    moved = moved if plan.is_fused else moved * 5 // 2
    step = Operation("optimizer.step", ELEMENTWISE, "fp32", Work(12 * own, moved), Work(0, 0))
    writer.compute(step.name, step, step.forward)
    if plan.sharding in ("zero1", "zero2") and not plan.overlap_gradients:
        for chunk in chunks:
            for unit in chunk.units:
                template.also += writer.gather(unit, "gather", early=False)
    return template
