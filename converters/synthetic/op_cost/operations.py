"""The operations of a transformer's parts on one rank: floating-point operations, bytes and what is kept.

A multiply and an add are two operations. A matrix product of [m, k] by [k, n] has 2 m k n, and so has each of
its two gradients. A fused attention (Dao, FlashAttention-2, 2023) skips what the causal mask hides, half of
4 s^2 a d a sequence, and its backward pass has five products for the two of the forward; one that isn't fused
computes all. Elementwise kernels are bound by memory: what counts is their bytes, each tensor read or written
once. What the forward pass keeps for the backward is that of Korthikanti et al., Reducing activation
recomputation in large transformer models (2022), section 4: with all options off, 34 s b h + 5 a s^2 b bytes
a layer in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from chakrasim.converters.synthetic.op_cost.work import BYTES, Work
from chakrasim.traces.graph import CommKind
from chakrasim.traces.names.op_kinds import ATTENTION, ELEMENTWISE, MATMUL

BLOCK_SCALED = ("mxfp8",)
"""Narrow data types whose scales belong to blocks, with none for the whole tensor."""


@dataclass(frozen=True)
class Operation:
    """One operation of the forward pass, with its gradients."""

    name: str
    kind: str
    dtype: str
    forward: Work
    backward: Work
    """Gradient of its inputs."""
    weights: Work | None = None
    """Gradient of its weights, where a kernel of its own makes it."""
    parameters: int = 0
    is_expert: bool = False
    """Its parameters belong to experts, which are spread over ranks otherwise than the rest."""
    saves: int = 0
    """Bytes kept until the backward pass is through."""
    is_core: bool = False
    """Selective recomputation does it again."""
    kernels: int = 1
    """Number of kernels that the host launches for it, forward or backward."""
    stops_host: bool = False
    """In the forward pass the host waits for its result before it issues what follows."""


@dataclass(frozen=True)
class Exchange:
    """Communication between ranks of a group, in the middle of the operations."""

    name: str
    group: str
    forward: tuple[CommKind, int] | None
    """Kind and bytes, as `ExecutionGraph.comm_bytes` counts them; None if there is nothing to do."""
    backward: tuple[CommKind, int] | None
    regathers: tuple[CommKind, int] | None = None
    """Collective that the backward pass repeats, for the gradient of the weights that follow."""


@dataclass(frozen=True)
class Ring:
    """Blocks of keys and values passed around the ranks of a context, while attention computes on others'."""

    name: str
    steps: int
    size_bytes: int
    """Bytes of a block."""


Step = Operation | Exchange | Ring


def matmul(
    name: str,
    m: int,
    k: int,
    n: int,
    dtype: str,
    *,
    saves: int,
    gradient_bytes: float = 4.0,
    matrices: int = 1,
    is_batched: bool = False,
    is_expert: bool = False,
    has_bias: bool = False,
) -> Operation:
    """A product of activations [m, k] with weights [k, n], or of `matrices` such with m rows in all, each in
    a kernel of its own if they aren't `is_batched`. Of these, the ones that no row meets aren't read: of m
    rows spread evenly over n matrices, n (1 - (1 - 1/n)^m) are met on average.

    Operands are read in the data type, results written in at least 16 bits; the gradient of the weights is
    added to what is there.
    """
    width, result = BYTES[dtype], max(BYTES[dtype], 2.0)
    weights = matrices * k * n
    met = weights * (1 - (1 - 1 / matrices) ** m)
    forward = Work(2 * m * k * n, round((m * k + met) * width + m * n * result))
    backward = Work(2 * m * k * n, round((m * n + met) * width + m * k * result))
    gradient = Work(2 * m * k * n, round((m * k + m * n) * width + 2 * met * gradient_bytes))
    return Operation(
        name,
        MATMUL,
        dtype,
        forward,
        backward,
        gradient,
        parameters=weights + (matrices * n if has_bias else 0),
        is_expert=is_expert,
        saves=saves,
        kernels=1 if is_batched else max(1, round(met / (k * n))),
    )


def product(name: str, batch: int, m: int, k: int, n: int, dtype: str, *, saves: int) -> Operation:
    """`batch` products of two activations [m, k] and [k, n], both of which get a gradient."""
    width = BYTES[dtype]
    ops = 2 * batch * m * k * n
    size = round(batch * (m * k + k * n + m * n) * width)
    return Operation(name, MATMUL, dtype, Work(ops, size), Work(2 * ops, 2 * size), saves=saves, is_core=True)


def elementwise(
    name: str,
    elements: int,
    dtype: str,
    *,
    moves: float,
    moves_back: float,
    saves: int = 0,
    parameters: int = 0,
    ops: int = 1,
    is_core: bool = False,
    kernels: int = 1,
    stops_host: bool = False,
) -> Operation:
    """Kernels that read and write tensors of so many elements `moves` times in all, and `moves_back` times in
    the backward pass, with `ops` operations an element.
    """
    width = BYTES[dtype]
    return Operation(
        name,
        ELEMENTWISE,
        dtype,
        Work(elements * ops, round(elements * moves * width)),
        Work(elements * ops, round(elements * moves_back * width)),
        parameters=parameters,
        saves=saves,
        is_core=is_core,
        kernels=kernels,
        stops_host=stops_host,
    )


def fused_attention(
    name: str,
    batch: int,
    tokens: int,
    keys: int,
    met_keys: float,
    heads: int,
    kv_heads: int,
    key_size: int,
    value_size: int,
    dtype: str,
    *,
    saves: int,
    parameters: int = 0,
    is_shared: bool = False,
) -> Operation:
    """Attention of `tokens` queries of `batch` sequences of `keys` keys, of which each query meets `met_keys`
    on average. Values that are `is_shared` are a part of the keys, and not read once more."""
    width = BYTES[dtype]
    forward = round(2 * tokens * met_keys * heads * (key_size + value_size))
    backward = round(2 * tokens * met_keys * heads * (3 * key_size + 2 * value_size))
    read = batch * keys * kv_heads * (key_size + (0 if is_shared else value_size))
    moved = tokens * heads * (key_size + value_size) + read
    return Operation(
        name,
        ATTENTION,
        dtype,
        Work(forward, round(moved * width)),
        Work(backward, round(2 * moved * width)),
        parameters=parameters,
        saves=saves,
        is_core=True,
    )


def cast(operation: Operation, rows: int, columns: int, results: int) -> Operation:
    """The kernels that narrow a matrix product's operand [rows, columns] to fewer bits, and in the backward
    pass the gradient of its result [rows, results].

    Each is written in two layouts, since two products take it along different dimensions. Where a tensor has
    one scale, not one for each block, its largest value is looked for before (Micikevicius et al., FP8
    formats for deep learning, 2022; Open Compute Project, Microscaling formats, 2023).
    """
    reads = 1 if operation.dtype in BLOCK_SCALED else 2
    moved = 2 * reads + 2 * BYTES[operation.dtype]
    return Operation(
        f"{operation.name}.cast",
        ELEMENTWISE,
        "bf16",
        Work(rows * columns, round(rows * columns * moved)),
        Work(rows * results, round(rows * results * moved)),
        kernels=reads * operation.kernels,
    )
