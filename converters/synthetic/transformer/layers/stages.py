"""Chunks of layers of a pipeline stage, and the layers' steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from chakrasim.converters.synthetic.op_cost.operations import Step
from chakrasim.converters.synthetic.op_cost.work import BYTES
from chakrasim.converters.synthetic.transformer.layers.chunk import Chunk, Unit
from chakrasim.converters.synthetic.transformer.layers.layer import embedding_steps, head_steps, layer_steps
from chakrasim.converters.synthetic.transformer.layers.shape import Shape
from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan


def split_layers(layers: int, parts: int) -> list[range]:
    """Layers of each part, in order. Where they don't come out even, parts in the middle get one more: the
    first and the last have the embedding and the output layer."""
    each, more = divmod(layers, parts)
    counts = [each] * parts
    middle_first = sorted(range(parts), key=lambda part: (part in (0, parts - 1), part))
    for part in middle_first[:more]:
        counts[part] += 1
    ends = np.cumsum(counts).tolist()
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def stage_chunks(
    shape: Shape, stage: int, loads: Sequence[float], *, head_shape: Shape | None = None
) -> list[Chunk]:
    """The chunks of layers of a stage, as one rank of it has them. `loads` float[layers] is what its experts
    get, relative to the mean. `head_shape` is given where no loss is wanted, but the next token."""
    model, plan = shape.model, shape.plan
    parts = plan.pipeline * plan.virtual_stages
    layers = split_layers(model.layers, parts)
    boundary = shape.size(shape.own_tokens * model.hidden)
    message = shape.size(shape.tokens * model.hidden // plan.tensor)
    dense_data = plan.data * plan.context
    pool = dense_data * (plan.tensor if plan.expert_tensor == 1 else 1)
    micro_batches = plan.micro_batches
    chunks = []
    for index in range(plan.virtual_stages):
        part = index * plan.pipeline + stage
        units = [
            Unit(
                f"layer{layer}.",
                layer,
                _steps(shape, _window(model, layer), _has_experts(model, layer), loads[layer]),
                boundary,
            )
            for layer in layers[part]
        ]
        if part == 0:
            units.insert(0, Unit("", -1, tuple(embedding_steps(shape)), 0))
        if part == parts - 1:
            owns = not (model.has_tied_embeddings and parts == 1)
            steps = head_steps(head_shape or shape, owns_matrix=owns, needs_loss=head_shape is None)
            units.append(Unit("", -1, tuple(steps), 0))
        chunks.append(
            Chunk(
                plan=plan,
                stage=stage,
                units=tuple(units),
                receives=message if part else 0,
                sends=message if part < parts - 1 else 0,
                tag=part * 2 * micro_batches,
                receive_tag=(part - 1) * 2 * micro_batches,
                data_ranks=dense_data,
                expert_data_ranks=max(1, pool // plan.expert),
                parameter_bytes=parameter_bytes(plan),
                gradient_bytes=BYTES[plan.gradient_dtype],
            )
        )
    return chunks


@lru_cache(maxsize=256)
def _steps(shape: Shape, window: int, has_experts: bool, load: float) -> tuple[Step, ...]:
    return tuple(layer_steps(shape, window=window, has_experts=has_experts, load=load))


def _window(model: Model, layer: int) -> int:
    """Every other layer has it, from the first on."""
    return 0 if layer % 2 else model.window


def _has_experts(model: Model, layer: int) -> bool:
    return model.experts is not None and layer >= model.experts.dense_layers


def parameter_bytes(plan: Plan) -> float:
    """Bytes of a parameter in the forward and backward pass."""
    return 4.0 if plan.dtype in ("fp32", "tf32") else 2.0


def rank_parameters(chunks: Iterable[Chunk]) -> tuple[int, int]:
    """Parameters that a rank computes with: of experts, and others."""
    units = [unit for chunk in chunks for unit in chunk.units]
    return (
        sum(unit.parameters(of_experts=True) for unit in units),
        sum(unit.parameters(of_experts=False) for unit in units),
    )
