"""The steps of a layer's attention on one rank.

Tensor parallelism cuts it by heads (Shoeybi et al., Megatron-LM, 2019). A context is cut along the sequence,
and keys and values travel around its ring (Liu et al., Ring attention, 2023).
"""

from __future__ import annotations

from dataclasses import replace

from chakrasim.converters.synthetic.op_cost.operations import (
    Operation,
    Ring,
    Step,
    elementwise,
    fused_attention,
    product,
)
from chakrasim.converters.synthetic.transformer.layers.shape import (
    Shape,
    enter,
    leave,
    linear,
    norm,
    residual,
)
from chakrasim.converters.synthetic.transformer.model.model import LatentAttention


def attention_steps(shape: Shape, *, window: int = 0) -> list[Step]:
    """From the norm before to the sum after. With a `window`, queries meet only so many keys."""
    latent = shape.model.latent
    if window:
        shape = replace(shape, window=min(shape.keys, window))
    return _latent(shape, latent) if latent else _attention(shape)


def _attention(shape: Shape) -> list[Step]:
    model, plan = shape.model, shape.plan
    heads, kv_heads, size = model.heads // plan.tensor, shape.kv_heads, model.head_size
    queries, keys = shape.tokens * heads * size, shape.tokens * kv_heads * size
    steps: list[Step] = [
        norm(shape, "attn.norm"),
        *enter(shape, "attn"),
        *linear(
            shape,
            "attn.qkv",
            model.hidden,
            (heads + 2 * kv_heads) * size,
            model.has_biases or model.has_qkv_bias,
            is_gathered=True,
        ),
    ]
    if model.has_qk_norm:
        steps.append(
            elementwise(
                "attn.qk_norm",
                queries + keys,
                shape.dtype,
                moves=2,
                moves_back=3,
                ops=5,
                saves=shape.size(queries + keys),
                parameters=2 * size,
            )
        )
    if not model.learned_positions:
        steps.append(_rotary(shape, queries + keys))
    steps += _core(shape, heads, kv_heads, size, size)
    steps += [
        *linear(shape, "attn.proj", heads * size, model.hidden, model.has_biases),
        *leave(shape, "attn"),
        residual(shape, "attn.residual"),
    ]
    return steps


def _latent(shape: Shape, latent: LatentAttention) -> list[Step]:
    """Multi-head latent attention; compressed queries, keys and values are made on every tensor rank."""
    model, plan = shape.model, shape.plan
    heads = model.heads // plan.tensor
    key_size = model.head_size + latent.rope_size
    steps: list[Step] = [norm(shape, "attn.norm"), *enter(shape, "attn")]
    if latent.query_rank:
        steps += [
            *linear(shape, "attn.q_down", model.hidden, latent.query_rank, is_gathered=True),
            norm(shape, "attn.q_norm", shape.tokens, latent.query_rank),
            *linear(shape, "attn.q_up", latent.query_rank, heads * key_size),
        ]
    else:
        steps += linear(shape, "attn.q", model.hidden, heads * key_size, is_gathered=True)
    steps += [
        *linear(shape, "attn.kv_down", model.hidden, latent.kv_rank + latent.rope_size, is_gathered=True),
        norm(shape, "attn.kv_norm", shape.tokens, latent.kv_rank),
        *linear(shape, "attn.kv_up", latent.kv_rank, heads * (model.head_size + latent.value_size)),
        _rotary(shape, shape.tokens * heads * latent.rope_size),
        # Decoding takes keys and values in their compressed form, which all heads share; what expands them
        # is applied to queries and results instead, with as many operations (DeepSeek-V2, section 2.1.2).
        *(
            _core(shape, heads, heads, key_size, latent.value_size)
            if shape.is_causal
            else _core(shape, heads, 1, latent.kv_rank + latent.rope_size, latent.kv_rank)
        ),
        *linear(shape, "attn.proj", heads * latent.value_size, model.hidden),
        *leave(shape, "attn"),
        residual(shape, "attn.residual"),
    ]
    return steps


def _rotary(shape: Shape, elements: int) -> Operation:
    """Rotary positions: halves turned, multiplied and added, one after the other where nothing is fused."""
    is_fused = shape.plan.is_fused
    moves = 2 if is_fused else 10
    return elementwise(
        "attn.rotary",
        elements,
        shape.dtype,
        moves=moves,
        moves_back=moves,
        ops=3,
        kernels=1 if is_fused else 8,
    )


def _core(shape: Shape, heads: int, kv_heads: int, key_size: int, value_size: int) -> list[Step]:
    """Scores, softmax and the weighted sum of values."""
    tokens, keys, plan = shape.tokens, shape.keys, shape.plan
    saved = tokens * (heads * key_size + kv_heads * (key_size + value_size))
    steps: list[Step] = []
    if plan.context > 1:
        block = shape.size(tokens * kv_heads * (key_size + value_size))
        steps.append(Ring("attn.ring", plan.context - 1, block))
    if plan.flash_attention:
        steps.append(
            fused_attention(
                "attn.core",
                shape.batch,
                tokens,
                keys if shape.is_causal else shape.window or keys,
                shape.met_keys,
                heads,
                kv_heads,
                key_size,
                value_size,
                shape.dtype,
                saves=shape.size(saved),
                parameters=heads if shape.model.has_sinks else 0,
                is_shared=kv_heads == 1 and shape.model.latent is not None,
            )
        )
        return steps
    pairs = heads * tokens * keys
    batch = heads * shape.batch
    queries = tokens // shape.batch
    scores = product("attn.scores", batch, queries, key_size, keys, shape.dtype, saves=0)
    softmax = elementwise(
        "attn.softmax",
        pairs,
        shape.dtype,
        # scale and mask are apart where nothing is fused
        moves=2 if plan.is_fused else 6.5,
        moves_back=3 if plan.is_fused else 7,
        ops=5,
        saves=shape.size(pairs),
        kernels=1 if plan.is_fused else 3,
        parameters=heads if shape.model.has_sinks else 0,
        is_core=True,
    )
    steps += [_saving(scores, shape.size(saved - tokens * kv_heads * value_size)), softmax]
    if shape.model.has_dropout:  # the mask takes a byte an element
        mask = 1 / shape.width
        steps.append(
            elementwise(
                "attn.dropout",
                pairs,
                shape.dtype,
                moves=2 + mask,
                moves_back=2 + mask,
                saves=pairs + shape.size(pairs),
                is_core=True,
            )
        )
    values = product("attn.values", batch, queries, keys, value_size, shape.dtype, saves=0)
    return [*steps, _saving(values, shape.size(tokens * kv_heads * value_size))]


def _saving(operation: Operation, size_bytes: int) -> Operation:
    return replace(operation, saves=size_bytes)
