"""The steps of a layer's feed-forward network or of its experts on one rank.

Tensor parallelism cuts a feed-forward network by width (Shoeybi et al., Megatron-LM, 2019). Experts are
reached by an all-to-all there and one back (Lepikhin et al., GShard, 2020).
"""

from __future__ import annotations

from math import ceil

from chakrasim.converters.synthetic.op_cost.operations import Exchange, Operation, Step, elementwise, matmul
from chakrasim.converters.synthetic.op_cost.work import BYTES
from chakrasim.converters.synthetic.transformer.layers.shape import (
    Shape,
    activation,
    enter,
    leave,
    linear,
    norm,
    residual,
)
from chakrasim.converters.synthetic.transformer.model.model import Experts
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.traces.graph import CommKind


def feed_forward_steps(shape: Shape) -> list[Step]:
    """Steps from the norm before the network to the residual's sum after it."""
    parts = _feed_forward(shape, "mlp", shape.model.ffn, has_biases=shape.model.has_biases)
    return [norm(shape, "mlp.norm"), *parts, residual(shape, "mlp.residual")]


def _feed_forward(shape: Shape, name: str, width: int, *, has_biases: bool) -> list[Step]:
    """Two layers of weights with the activation between them, cut by width over the tensor ranks."""
    model = shape.model
    own = width // shape.plan.tensor
    up = own * (2 if model.is_gated else 1)
    return [
        *enter(shape, name),
        *linear(shape, f"{name}.up", model.hidden, up, has_biases, is_gathered=True),
        activation(shape, f"{name}.act", shape.tokens * own),
        *linear(shape, f"{name}.down", own, model.hidden, has_biases),
        *leave(shape, name),
    ]


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
    part = (CommKind.ALL_GATHER, shape.size(tokens * model.hidden))
    is_cut_here = plan.tensor > 1 and not plan.sequence_parallel
    there = _dispatch(shape, experts, tokens, load)
    steps: list[Step] = [norm(shape, "moe.norm")]
    if is_cut_here:
        steps.append(Exchange("moe.cut", "tensor", None, part))
    steps += _routing(shape, experts, tokens)
    steps += there
    steps += _own_experts(shape, experts, load)
    steps += [Exchange(_WAY_BACK[one.name], one.group, one.backward, one.forward) for one in reversed(there)]
    steps.append(_unpermute(shape, tokens * experts.top_k * model.hidden, experts.top_k))
    if is_cut_here:
        steps.append(Exchange("moe.join", "tensor", part, None))
    if experts.shared_ffn:
        steps += _feed_forward(shape, "moe.shared", experts.shared_ffn, has_biases=False)
    return [*steps, residual(shape, "moe.residual")]


def _routing(shape: Shape, experts: Experts, tokens: int) -> list[Step]:
    """The router, its choice of experts, and the sorting of tokens by expert before their exchange."""
    model, plan = shape.model, shape.plan
    return [
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


_WAY_BACK = {"moe.dispatch": "moe.combine", "moe.gather": "moe.scatter"}
"""Name of each exchange's counterpart after the experts."""


def _dispatch(shape: Shape, experts: Experts, tokens: int, load: float) -> list[Exchange]:
    """Exchanges that bring tokens to their experts' ranks; the way back mirrors them."""
    hidden, plan = shape.model.hidden, shape.plan
    exchanges = []
    if plan.expert > 1:
        sent = shape.size(round(tokens * _copies(plan, experts.top_k) * hidden))
        exchange = (CommKind.ALL_TO_ALL, round(sent * max(1.0, load)))
        exchanges.append(Exchange("moe.dispatch", "expert", exchange, exchange))
    if plan.expert_tensor > 1:
        shard = round(shape.size(tokens * experts.top_k * hidden) * load)
        gather = (CommKind.ALL_GATHER, shard)
        scatter = (CommKind.REDUCE_SCATTER, shard * plan.expert_tensor)
        exchanges.append(Exchange("moe.gather", "expert-tensor", gather, scatter))
    return exchanges


def _copies(plan: Plan, top_k: int) -> float:
    """Copies of a token in an all-to-all: one for each expert, or for each node or rank that has one of its
    experts. That many of n are met on average if experts are drawn evenly: n (1 - (1 - 1/n)^k)."""
    if not plan.node_ranks:
        return top_k
    nodes = -(-plan.expert // plan.node_ranks)
    places = nodes if nodes > 1 else plan.expert
    return float(places * (1 - (1 - 1 / places) ** top_k))


def _own_experts(shape: Shape, experts: Experts, load: float) -> list[Step]:
    """The rank's experts, or its parts of them, for the tokens that were sent to them."""
    model, plan = shape.model, shape.plan
    rows = max(1, round(shape.tokens / plan.tensor * experts.top_k * plan.expert_tensor * load))
    width = experts.ffn // plan.expert_tensor
    up = width * (2 if model.is_gated else 1)
    local = experts.count // plan.expert
    return [
        *linear(shape, "moe.up", model.hidden, up, model.has_biases, rows=rows, matrices=local),
        activation(shape, "moe.act", rows * width),
        *linear(shape, "moe.down", width, model.hidden, model.has_biases, rows=rows, matrices=local),
    ]


def _unpermute(shape: Shape, elements: int, top_k: int) -> Operation:
    """The sum of each token's `top_k` results, back in the order of tokens."""
    return elementwise(
        "moe.unpermute",
        elements,
        shape.dtype,
        moves=3 + 1 / top_k,
        moves_back=3 + 1 / top_k,
        kernels=4,
        saves=shape.size(elements),
    )
