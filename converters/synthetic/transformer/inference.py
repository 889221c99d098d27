"""Inference of a transformer as Chakra graphs: the prompts at once, then one token after the other.

Every micro-batch of prompts passes the stages (prefill); then each of its steps decodes one token a sequence,
whose embedding the first stage needs before the next step can begin. Keys and values of all tokens so far
stay in a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from chakrasim.converters.synthetic.graph_writer.template import Assembly, Tables, Template
from chakrasim.converters.synthetic.transformer.layers.chunk import Chunk
from chakrasim.converters.synthetic.transformer.layers.shape import Shape
from chakrasim.converters.synthetic.transformer.layers.stages import (
    parameter_bytes,
    rank_parameters,
    stage_chunks,
)
from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.passes.passes import forward_pass
from chakrasim.converters.synthetic.transformer.passes.writer import NEXT_STAGE, PREVIOUS_STAGE
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.converters.synthetic.transformer.plan.ranks import spread
from chakrasim.converters.synthetic.transformer.plan.rules import BrokenRule, check_plan, shown
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, Ints, NodeKind
from chakrasim.traces.workload import Workload

PREFILL, DECODE = range(2)
PASS_NAMES = ("prefill", "decode")
_TOKEN_BYTES = 8
"""Size of a generated token's id, sent from the last stage to the first."""
_TOKEN_TAGS = 1 << 50


@dataclass(frozen=True)
class Request:
    """Lengths of a request's prompt, cache and answer."""

    prompt: int
    """Tokens of each prompt; 0 leaves the prefill out."""
    decode: int
    """Tokens decoded for each sequence."""
    cached: int = 0
    """Tokens of each sequence that are in the cache already."""


def generate_inference(model: Model, plan: Plan, request: Request, *, all_ranks: bool = False) -> Workload:
    """Prefill and decode of a plan's global batch. O(nodes of the ranks that differ).

    What a plan says of gradients, recomputation and the optimizer doesn't matter. Raises ConfigError for a
    plan that doesn't fit the model or can't be used in inference.
    """
    if request.prompt < 0 or request.decode < 0 or request.cached < 0:
        raise ConfigError("prompt, decode and cached tokens can't be negative")
    if request.prompt and request.cached:
        raise ConfigError("tokens are cached already, or a prompt is read; expected one of the two")
    if request.prompt + request.decode == 0:
        raise ConfigError("neither a prompt nor tokens to decode; expected one of them")
    for name, unused in (("context", 1), ("virtual_stages", 1), ("sharding", "none")):
        if getattr(plan, name) != unused:
            said = f"inference has no {shown(name)} {getattr(plan, name)}"
            raise BrokenRule(f"{model.name}: {said}", name, unused)
    if plan.sequence_parallel and request.decode:
        raise ConfigError("a single token can't be cut along the sequence; expected no sequence parallelism")
    plan = plan.completed(is_training=False)
    plan = replace(plan, sequence=request.cached + request.prompt + request.decode, schedule="gpipe")
    check_plan(model, plan)
    model = replace(model, has_dropout=False)

    return spread(model, plan, partial(_stage_graph, model, plan, request), all_ranks=all_ranks)


def cache_bytes(model: Model, plan: Plan, layers: int, tokens: int) -> int:
    """Keys and values of so many tokens of all of a data rank's sequences, on one rank with so many layers.

    Latent attention keeps them compressed, on every tensor rank.
    """
    shape = Shape(model, plan, 1, 1, 1)
    sequences = plan.global_batch // plan.data
    if model.latent:
        elements = model.latent.kv_rank + model.latent.rope_size
    else:
        elements = 2 * shape.kv_heads * model.head_size
    return shape.size(sequences * tokens * layers * elements)


def _stage_graph(
    model: Model, plan: Plan, request: Request, stage: int, loads: Sequence[float]
) -> tuple[ExecutionGraph, Ints]:
    tables = Tables()
    assembly = Assembly(tables)
    batch, micro_batches = plan.micro_batch, plan.micro_batches
    last = Shape(model, plan, batch, batch, 0, is_causal=False)
    chunks: list[Chunk] = []
    if request.prompt:
        shape = Shape(model, plan, batch, batch * request.prompt, request.prompt)
        chunks = stage_chunks(shape, stage, loads, head_shape=last)
        template = _pass(chunks[0], tables, 0, PREFILL, is_last=not request.decode)
        for micro_batch in range(micro_batches):
            assembly.place(template, micro_batch)
    for step in range(request.decode):
        shape = replace(last, keys=request.cached + request.prompt + step + 1)
        chunks = stage_chunks(shape, stage, loads, head_shape=last)
        number = step + (1 if request.prompt else 0)
        template = _pass(chunks[0], tables, number, DECODE, is_last=step == request.decode - 1)
        for micro_batch in range(micro_batches):
            assembly.place(template, micro_batch)
    layers = sum(unit.layer >= 0 for unit in chunks[0].units)
    parameters = sum(rank_parameters(chunks)) * parameter_bytes(plan)
    tokens = request.cached + request.prompt + request.decode
    metadata = {
        "source": "chakrasim generate inference",
        "model": model.name,
        "world_size": plan.ranks,
        "memory": {
            "parameters": round(parameters),
            "kv_cache": cache_bytes(model, plan, layers, tokens),
        },
        "attribute_names": {"pass": list(PASS_NAMES)},
    }
    return assembly.build(0, {}, metadata)


def _pass(chunk: Chunk, tables: Tables, number: int, kind: int, *, is_last: bool) -> Template:
    """A micro-batch through a stage. After the first pass, the first stage waits for the last one's token."""
    plan = chunk.plan
    spacing = 2 * plan.pipeline * plan.micro_batches
    chunk = replace(chunk, tag=chunk.tag + number * spacing, receive_tag=chunk.receive_tag + number * spacing)
    template = forward_pass(chunk, tables, is_first=False, keeps=False, kind=kind)
    if plan.pipeline == 1:
        return template
    token_bytes = _TOKEN_BYTES * plan.micro_batch
    tag = _TOKEN_TAGS + number * plan.micro_batches
    if chunk.stage == 0 and number:
        row = template.add(
            NodeKind.RECV,
            "token.receive",
            lane="",
            comm_bytes=token_bytes,
            peer=PREVIOUS_STAGE,
            tag=tag - plan.micro_batches,
            after=(),
            in_line=False,
        )
        template.edges += [(entry, row) for entry in template.entries]
    if chunk.stage == plan.pipeline - 1 and not is_last:
        template.add(
            NodeKind.SEND,
            "token.send",
            lane="pipeline",
            comm_bytes=token_bytes,
            peer=NEXT_STAGE,
            tag=tag,
            after=template.tail,
            in_line=False,
        )
    return template
