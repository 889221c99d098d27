"""The steps of a transformer layer, of the embedding and of the output layer on one rank of a plan.

Tensor parallelism takes two all-reduces a layer and pass (Shoeybi et al., Megatron-LM, 2019). Sequence
parallelism makes each an all-gather and a reduce-scatter, and cuts what lies between along the sequence
(Korthikanti et al., Reducing activation recomputation in large transformer models, 2022).
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from chakrasim.converters.synthetic.op_cost.operations import Exchange, Operation, Step, elementwise, matmul
from chakrasim.converters.synthetic.op_cost.work import BYTES
from chakrasim.converters.synthetic.transformer.layers.attention import attention_steps
from chakrasim.converters.synthetic.transformer.layers.feed_forward import expert_steps, feed_forward_steps
from chakrasim.converters.synthetic.transformer.layers.shape import Shape, enter, norm
from chakrasim.traces.graph import CommKind


def layer_steps(shape: Shape, *, window: int, has_experts: bool, load: float = 1.0) -> list[Step]:
    """The forward pass of a layer. `window` is how many keys a query meets at most, 0 all of them; `load` is
    what the rank's experts get, relative to the mean."""
    feed_forward = expert_steps(shape, load) if has_experts else feed_forward_steps(shape)
    return [*attention_steps(shape, window=window), *feed_forward]


def embedding_steps(shape: Shape) -> list[Step]:
    """Token and position embeddings, cut over the tensor ranks by vocabulary."""
    model, plan = shape.model, shape.plan
    elements = shape.tokens * model.hidden
    rows = ceil(model.vocabulary / plan.tensor) + model.learned_positions
    steps: list[Step] = [
        elementwise(
            "embedding",
            elements,
            shape.dtype,
            moves=2,
            moves_back=3,
            ops=0,
            parameters=rows * model.hidden,
        )
    ]
    if plan.tensor > 1:
        size = shape.size(elements)
        steps.append(
            Exchange(
                "embedding.scatter",
                "tensor",
                (CommKind.REDUCE_SCATTER, size),
                (CommKind.ALL_GATHER, size // plan.tensor),
            )
            if plan.sequence_parallel
            else Exchange("embedding.reduce", "tensor", (CommKind.ALL_REDUCE, size), None)
        )
    if model.has_dropout:
        own = shape.own_tokens * model.hidden
        mask = 1 / shape.width
        # with full recomputation the mask is made again, from its seed
        kept = 0 if plan.recompute == "full" else own
        moves = 2 + mask
        steps.append(
            elementwise("embedding.dropout", own, shape.dtype, moves=moves, moves_back=moves, saves=kept)
        )
    return steps


def head_steps(shape: Shape, *, owns_matrix: bool, needs_loss: bool = True) -> list[Step]:
    """The last norm, the output layer and the loss, cut over the tensor ranks by vocabulary.

    `owns_matrix` is off where the output layer uses the embedding's matrix on the same rank. Without a loss,
    the next token of each sequence is chosen from what the tensor ranks gather.
    """
    model, plan = shape.model, shape.plan
    columns = ceil(model.vocabulary / plan.tensor)
    logits = matmul(
        "head.logits",
        shape.tokens,
        model.hidden,
        columns,
        shape.product_dtype,
        saves=shape.size(shape.own_tokens * model.hidden),
        gradient_bytes=BYTES[plan.gradient_dtype],
    )
    steps: list[Step] = [
        norm(shape, "head.norm"),
        *enter(shape, "head"),
        logits if owns_matrix else _without_parameters(logits),
    ]
    if needs_loss:
        elements = shape.tokens * columns
        steps.append(
            elementwise(
                "head.loss",
                elements,
                "fp32",
                moves=2.5 if plan.is_fused else 4,
                moves_back=1.5 if plan.is_fused else 4.5,
                ops=4,
                saves=4 * elements,
                kernels=1 if plan.is_fused else 3,
            )
        )
        if plan.tensor > 1:
            # maximum, sum of exponentials and the target's logit of each token
            steps.append(Exchange("head.reduce", "tensor", (CommKind.ALL_REDUCE, 12 * shape.tokens), None))
    else:
        if plan.tensor > 1:
            own = shape.size(shape.tokens * columns)
            steps.append(Exchange("head.gather", "tensor", (CommKind.ALL_GATHER, own), None))
        steps.append(
            elementwise("head.choose", shape.tokens * model.vocabulary, "fp32", moves=2, moves_back=0)
        )
    return steps


def _without_parameters(operation: Operation) -> Operation:
    return replace(operation, parameters=0)
