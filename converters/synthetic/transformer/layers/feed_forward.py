"""The steps of a layer's feed-forward network or of its experts on one rank.

Tensor parallelism cuts a feed-forward network by width (Shoeybi et al., Megatron-LM, 2019). Experts are
reached by an all-to-all there and one back (Lepikhin et al., GShard, 2020).
"""

from __future__ import annotations

from math import ceil

from chakrasim.converters.synthetic.op_cost.operations import BYTES, Exchange, Step, elementwise, matmul
from chakrasim.converters.synthetic.transformer.layers.shape import (
    Shape,
    activation,
    enter,
    leave,
    linear,
    norm,
    residual,
)
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.traces.graph import CommKind


def feed_forward_steps(shape: Shape) -> list[Step]:
    """From the norm before to the sum after."""
    model, plan = shape.model, shape.plan
    own = model.ffn // plan.tensor
    return [
        norm(shape, "mlp.norm"),
        *enter(shape, "mlp"),
        *linear(
            shape,
            "mlp.up",
            model.hidden,
            own * (2 if model.is_gated else 1),
            model.has_biases,
            is_gathered=True,
        ),
        activation(shape, "mlp.act", shape.tokens * own),
        *linear(shape, "mlp.down", own, model.hidden, model.has_biases),
        *leave(shape, "mlp"),
        residual(shape, "mlp.residual"),
    ]


def _copies(plan: Plan, top_k: int) -> float:
    """Of a token in an all-to-all: one for each expert, or for each node or rank that has one of its experts.
    That many of n are met on average if experts are drawn evenly: n (1 - (1 - 1/n)^k)."""
    if not plan.node_ranks:
        return top_k
    nodes = -(-plan.expert // plan.node_ranks)
    places = nodes if nodes > 1 else plan.expert
    return float(places * (1 - (1 - 1 / places) ** top_k))


def expert_steps(shape: Shape, load: float) -> list[Step]:
    """Routing, dispatch, the rank's experts, and the way back.

    The rank's own tokens go to `top_k` experts each: on average as many come as go. Of a shared expert every
    tensor rank has its part, as of an ordinary feed-forward network.
    """
    model, plan = shape.model, shape.plan
    experts = model.experts
    assert experts is not None, "the caller looked"
    # Without sequence parallelism every tensor rank has all tokens: it routes a part of them.
    tokens = ceil(shape.tokens / plan.tensor)
    part = shape.size(tokens * model.hidden)
    is_cut_here = plan.tensor > 1 and not plan.sequence_parallel
    sent = shape.size(round(tokens * _copies(plan, experts.top_k) * model.hidden))
    rows = max(1, round(shape.tokens / plan.tensor * experts.top_k * plan.expert_tensor * load))
    width = experts.ffn // plan.expert_tensor
    local = experts.count // plan.expert
    steps: list[Step] = [
        norm(shape, "moe.norm"),
        *([Exchange("moe.cut", "tensor", None, (CommKind.ALL_GATHER, part))] if is_cut_here else []),
        matmul(
            "moe.router",
            tokens,
            model.hidden,
            experts.count,
            shape.product_dtype,
            # shared experts keep the same input
            saves=0 if experts.shared_ffn else shape.size(tokens * model.hidden),
            gradient_bytes=BYTES[plan.gradient_dtype],
            has_bias=model.has_biases or experts.has_router_bias,
        ),
        # scores, their largest, normalisation, counts by expert and the balancing loss
        elementwise("moe.top_k", tokens * experts.count, "fp32", moves=3, moves_back=3, kernels=12),
        # what goes where is sorted before the exchange and after it
        elementwise(
            "moe.permute",
            tokens * experts.top_k * model.hidden,
            shape.dtype,
            moves=4,
            moves_back=4,
            ops=0,
            kernels=6,
            # how many tokens each expert gets, which sizes what follows
            stops_host=not plan.drop_tokens,
        ),
    ]
    if plan.expert > 1:
        exchange = (CommKind.ALL_TO_ALL, round(sent * max(1.0, load)))
        steps.append(Exchange("moe.dispatch", "expert", exchange, exchange))
    if plan.expert_tensor > 1:
        shard = round(shape.size(tokens * experts.top_k * model.hidden) * load)
        steps.append(
            Exchange(
                "moe.gather",
                "expert-tensor",
                (CommKind.ALL_GATHER, shard),
                (CommKind.REDUCE_SCATTER, shard * plan.expert_tensor),
            )
        )
    up = width * (2 if model.is_gated else 1)
    steps += [
        *linear(shape, "moe.up", model.hidden, up, model.has_biases, rows=rows, matrices=local),
        activation(shape, "moe.act", rows * width),
        *linear(shape, "moe.down", width, model.hidden, model.has_biases, rows=rows, matrices=local),
    ]
    if plan.expert_tensor > 1:
        steps.append(
            Exchange(
                "moe.scatter",
                "expert-tensor",
                (CommKind.REDUCE_SCATTER, shard * plan.expert_tensor),
                (CommKind.ALL_GATHER, shard),
            )
        )
    if plan.expert > 1:
        steps.append(Exchange("moe.combine", "expert", exchange, exchange))
    steps.append(
        elementwise(
            "moe.unpermute",
            tokens * experts.top_k * model.hidden,
            shape.dtype,
            moves=3 + 1 / experts.top_k,
            moves_back=3 + 1 / experts.top_k,
            kernels=4,
            saves=shape.size(tokens * experts.top_k * model.hidden),
        )
    )
    if is_cut_here:
        steps.append(Exchange("moe.join", "tensor", (CommKind.ALL_GATHER, part), None))
    if experts.shared_ffn:
        own = experts.shared_ffn // plan.tensor
        steps += [
            *enter(shape, "moe.shared"),
            *linear(
                shape,
                "moe.shared.up",
                model.hidden,
                own * (2 if model.is_gated else 1),
                is_gathered=True,
            ),
            activation(shape, "moe.shared.act", shape.tokens * own),
            *linear(shape, "moe.shared.down", own, model.hidden),
            *leave(shape, "moe.shared"),
        ]
    return [*steps, residual(shape, "moe.residual")]
