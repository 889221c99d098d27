"""Sizes of one rank's part of a micro-batch, and the steps that several parts of a model consist of."""

from __future__ import annotations

from dataclasses import dataclass

from chakrasim.converters.synthetic.op_cost.operations import (
    Exchange,
    Operation,
    Step,
    cast,
    elementwise,
    matmul,
)
from chakrasim.converters.synthetic.op_cost.work import BYTES
from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.traces.graph import CommKind

NARROW = ("fp8", "mxfp8", "nvfp4")
"""Data types of matrix products only; all else stays in bf16."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one rank's part of a micro-batch."""

    model: Model
    plan: Plan
    batch: int
    """Sequences."""
    tokens: int
    """Tokens of all sequences in the rank's part of the context."""
    keys: int
    """Tokens of a whole sequence, and what is cached of it: keys that a query may meet."""
    is_causal: bool = True
    """Half of the keys is hidden from the average query; not so when one token is decoded."""
    window: int = 0
    """Keys that a query meets at most; 0 is all."""

    @property
    def dtype(self) -> str:
        """Data type of activations."""
        return (
            "bf16" if self.plan.dtype in NARROW else "fp32" if self.plan.dtype == "tf32" else self.plan.dtype
        )

    @property
    def product_dtype(self) -> str:
        """Data type of matrix products that aren't narrowed."""
        return "tf32" if self.plan.dtype == "tf32" else self.dtype

    @property
    def width(self) -> float:
        """Bytes of an element of an activation."""
        return BYTES[self.dtype]

    @property
    def own_tokens(self) -> int:
        """Tokens between the tensor-parallel parts."""
        return self.tokens // self.plan.tensor if self.plan.sequence_parallel else self.tokens

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values on this rank; where there are fewer than ranks, ranks share one."""
        return max(1, self.model.kv_heads // self.plan.tensor)

    @property
    def met_keys(self) -> float:
        """Keys that a query meets on average; a causal mask leaves the first `window` queries only half."""
        window = self.window or self.keys
        return window - (window * window / self.keys / 2 if self.is_causal else 0)

    def size(self, elements: int) -> int:
        """Bytes of so many elements."""
        return round(elements * self.width)


def linear(
    shape: Shape,
    name: str,
    inputs: int,
    outputs: int,
    has_bias: bool = False,
    *,
    is_gathered: bool = False,
    is_kept: bool = True,
    rows: int | None = None,
    matrices: int = 1,
) -> list[Step]:
    """A layer of weights, preceded by narrowing its input where its data type is narrow; with `rows` and
    `matrices`, those of experts. An input that `is_gathered` along the sequence is gathered again for the
    backward pass: the rank keeps its own part. One that another layer takes, too, `is_kept` by that."""
    plan = shape.plan
    is_expert = rows is not None
    if rows is None:
        rows = shape.tokens
    kept = (shape.own_tokens if is_gathered else rows) * inputs if is_kept else 0
    operation = matmul(
        name,
        rows,
        inputs,
        outputs,
        plan.dtype,
        saves=round(kept * BYTES[plan.dtype]),
        gradient_bytes=BYTES[plan.gradient_dtype],
        matrices=matrices,
        is_batched=plan.drop_tokens,
        is_expert=is_expert,
        has_bias=has_bias,
    )
    return [cast(operation, rows, inputs, outputs), operation] if plan.dtype in NARROW else [operation]


def norm(shape: Shape, name: str, tokens: int | None = None, width: int | None = None) -> Operation:
    """A normalisation, of the rank's own tokens over the hidden size if nothing else is said."""
    width = width or shape.model.hidden
    elements = (shape.own_tokens if tokens is None else tokens) * width
    model = shape.model
    # PyTorch's LayerNorm is one kernel; RMSNorm by hand casts, squares, averages, scales twice and casts back
    is_one = shape.plan.is_fused or model.has_layer_norm
    return elementwise(
        name,
        elements,
        shape.dtype,
        moves=2 if is_one else 18,
        moves_back=3 if is_one else 30,
        ops=5,
        saves=shape.size(elements),
        parameters=width * (2 if model.has_layer_norm else 1),
        kernels=1 if is_one else 7,
    )


def activation(shape: Shape, name: str, elements: int) -> Operation:
    """The function between the matrices of a feed-forward network; a gated one multiplies two halves."""
    read = 2 if shape.model.is_gated else 1
    splits = shape.model.is_gated and not shape.plan.is_fused  # the function, then the product of the halves
    return elementwise(
        name,
        elements,
        shape.dtype,
        moves=read + 1 + (2 if splits else 0),
        moves_back=2 * read + 1 + (3 if splits else 0),
        ops=8,
        saves=shape.size(read * elements),
        kernels=2 if splits else 1,
    )


def residual(shape: Shape, name: str) -> Operation:
    """Bias, dropout and the sum with what passed by, in one kernel."""
    elements = shape.own_tokens * shape.model.hidden
    if not shape.model.has_dropout:
        return elementwise(name, elements, shape.dtype, moves=3, moves_back=2)
    mask = 1 / shape.width
    apart = 0 if shape.plan.is_fused else 2  # dropout, then the sum
    return elementwise(
        name,
        elements,
        shape.dtype,
        moves=3 + mask + apart,
        moves_back=3 + mask,
        ops=3,
        saves=elements,
        kernels=2 if apart else 1,
    )


def enter(shape: Shape, part: str) -> list[Step]:
    """Before a tensor-parallel part: f of Megatron-LM, or with sequence parallelism g-bar's counterpart."""
    plan, size = shape.plan, shape.size(shape.tokens * shape.model.hidden)
    if plan.tensor == 1:
        return []
    if not plan.sequence_parallel:
        return [Exchange(f"{part}.enter", "tensor", None, (CommKind.ALL_REDUCE, size))]
    gather = (CommKind.ALL_GATHER, size // plan.tensor)
    return [Exchange(f"{part}.gather", "tensor", gather, (CommKind.REDUCE_SCATTER, size), regathers=gather)]


def leave(shape: Shape, part: str) -> list[Step]:
    """After a tensor-parallel part."""
    plan, size = shape.plan, shape.size(shape.tokens * shape.model.hidden)
    if plan.tensor == 1:
        return []
    if not plan.sequence_parallel:
        return [Exchange(f"{part}.reduce", "tensor", (CommKind.ALL_REDUCE, size), None)]
    return [
        Exchange(
            f"{part}.scatter",
            "tensor",
            (CommKind.REDUCE_SCATTER, size),
            (CommKind.ALL_GATHER, size // plan.tensor),
        )
    ]
