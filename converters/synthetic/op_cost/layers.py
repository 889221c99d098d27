"""Layers of networks as kernels: floating-point operations and bytes, forward and of both gradients.

A multiply and an add are two operations. A product of [m, k] by [k, n] has 2 m k n, and so has each of its
two gradients; a convolution is one with m = batch * height * width of the result, k = input channels * window
and n = output channels (Chetlur et al., cuDNN: Efficient primitives for deep learning, 2014). Bytes are those
of each tensor read or written once, in the layer's data type; gradients of weights are written in their own.
Kernels of op kind `elementwise` are bound by memory: their bytes are what counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from chakrasim.converters.synthetic.op_cost.work import BYTES, Work
from chakrasim.traces.errors import UnknownName
from chakrasim.traces.names.op_kinds import ATTENTION, ELEMENTWISE, MATMUL

DTYPES = ("fp32", "tf32", "bf16", "fp16")
"""Data types of layers; narrower ones would need kernels that scale them."""
INDEX_BYTES = 8
"""Bytes of an index, as PyTorch keeps them."""


@dataclass(frozen=True)
class Layer:
    """A layer's kernels. What is None has no kernel: a residual's sum has none backward."""

    name: str
    op_kind: str
    dtype: str
    forward: Work | None
    backward: Work | None
    """Gradient of the input, and where `weights` is None that of parameters with it."""
    weights: Work | None = None
    """Gradient of the weights, where a kernel of its own makes it."""
    parameters: int = 0
    saves: int = 0
    """Bytes kept from the forward kernel until the layer's last backward."""


@dataclass(frozen=True)
class Formats:
    """Data types of a step."""

    dtype: str = "fp32"
    """Data type of activations and products."""
    gradient_dtype: str = "fp32"
    """Data type of the gradients of parameters."""

    def __post_init__(self) -> None:
        for dtype in (self.dtype, self.gradient_dtype):
            if dtype not in DTYPES:
                raise UnknownName("data type", dtype, DTYPES)

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return int(BYTES[self.dtype])

    @property
    def gradient_width(self) -> int:
        """Bytes of a parameter's gradient."""
        return int(BYTES[self.gradient_dtype])


def linear(
    name: str,
    rows: int,
    inputs: int,
    outputs: int,
    formats: Formats,
    *,
    has_bias: bool = True,
    is_first: bool = False,
    keeps: bool = True,
) -> Layer:
    """Activations [rows, inputs] by weights [inputs, outputs]. What is first needs no gradient of its input.
    The input is kept for the gradient of the weights, but where another layer keeps it: without `keeps`."""
    return _product(
        name,
        formats,
        ops=2 * rows * inputs * outputs,
        reads=rows * inputs,
        writes=rows * outputs,
        weights=inputs * outputs,
        biases=outputs if has_bias else 0,
        is_first=is_first,
        keeps=keeps,
    )


def convolution(
    name: str,
    source: tuple[int, int, int, int],
    channels: int,
    window: int,
    formats: Formats,
    *,
    stride: int = 1,
    padding: int | None = None,
    has_bias: bool = False,
    is_first: bool = False,
    keeps: bool = True,
) -> tuple[Layer, tuple[int, int, int, int]]:
    """A square window over [batch, channels, height, width], and the shape that comes out.

    The padding keeps the size at stride 1 where it isn't given. `is_first` and `keeps` as in `linear`.
    """
    batch, inputs, height, width = source
    pad = (window - 1) // 2 if padding is None else padding
    result = (batch, channels, windows(height, window, stride, pad), windows(width, window, stride, pad))
    layer = _product(
        name,
        formats,
        ops=2 * prod(result) * inputs * window * window,
        reads=prod(source),
        writes=prod(result),
        weights=channels * inputs * window * window,
        biases=channels if has_bias else 0,
        is_first=is_first,
        keeps=keeps,
    )
    return layer, result


def windows(size: int, window: int, stride: int, padding: int) -> int:
    """Number of windows that fit along an edge.

    >>> windows(224, 7, 2, 3)
    112
    """
    return (size + 2 * padding - window) // stride + 1


def attention(name: str, batch: int, heads: int, tokens: int, head_size: int, formats: Formats) -> Layer:
    """Scores, softmax and weighted sum of all pairs of tokens as one fused kernel.

    Two products forward, five backward, where the scores are computed again (Dao, FlashAttention-2, 2023).
    Queries, keys, values and the result are read or written, and kept; backward so are their gradients.
    """
    product = 2 * batch * heads * tokens * tokens * head_size
    tensor = batch * heads * tokens * head_size * formats.width
    return Layer(
        name,
        ATTENTION,
        formats.dtype,
        Work(2 * product, 4 * tensor),
        Work(5 * product, 8 * tensor),
        saves=4 * tensor,
    )


def elementwise(
    name: str,
    elements: int,
    formats: Formats,
    *,
    moves: float,
    moves_back: float,
    ops: int = 1,
    ops_back: int = 1,
    parameters: int = 0,
    saves: float = 0,
) -> Layer:
    """A kernel that reads and writes tensors of so many elements `moves` times in all, `moves_back` times
    backward, and keeps `saves` of them. Where moves are 0 there is no kernel."""

    def work(times: float, ops_each: int) -> Work | None:
        return Work(elements * ops_each, round(elements * times * formats.width)) if times else None

    return Layer(
        name,
        ELEMENTWISE,
        formats.dtype,
        work(moves, ops),
        work(moves_back, ops_back),
        parameters=parameters,
        saves=round(elements * saves * formats.width),
    )


def _product(
    name: str,
    formats: Formats,
    *,
    ops: int,
    reads: int,
    writes: int,
    weights: int,
    biases: int,
    is_first: bool,
    keeps: bool,
) -> Layer:
    width = formats.width
    kept = weights + biases
    gradient = Work(ops, (reads + writes) * width + kept * formats.gradient_width)
    return Layer(
        name,
        MATMUL,
        formats.dtype,
        forward=Work(ops, (reads + kept + writes) * width),
        backward=None if is_first else Work(ops, (writes + weights + reads) * width),
        weights=gradient,
        parameters=kept,
        saves=reads * width if keeps else 0,
    )
