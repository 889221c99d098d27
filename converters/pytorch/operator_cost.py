"""What an ATen operator costs, from its shapes: floating-point operations and bytes touched.

A multiply and an add are two operations. Matrix products and convolutions count all of theirs; an attention's
backward pass has five matrix products for the two of its forward (Dao, FlashAttention-2, section 3.1);
everything else counts one operation for each element it writes. Bytes are those of all tensors read and
written, once each. Operators that only make other views of memory cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from chakrasim.converters.pytorch.names import dtype_of


@dataclass(frozen=True)
class Tensor:
    """A tensor that an operator read or wrote."""

    shape: tuple[int, ...]
    dtype: str
    """Our name of its data type, empty where it isn't known."""
    size_bytes: int
    storage: int = -1
    """Number of the memory it lies in, -1 where that wasn't recorded."""
    is_host: bool = False

    @property
    def elements(self) -> int:
        """How many it has."""
        return prod(self.shape)


# fmt: off
FREE = frozenset(
    {
        "alias", "as_strided", "broadcast_tensors", "chunk", "contiguous", "detach", "detach_",
        "diagonal", "empty", "empty_like", "empty_permuted", "empty_strided", "expand", "expand_as",
        "flatten", "is_nonzero", "is_same_size", "item", "lift_fresh", "movedim", "narrow", "numpy_T",
        "permute", "record_stream", "reshape", "resize_", "resize_as_", "resolve_conj", "result_type",
        "select", "set_", "size", "slice", "split", "split_with_sizes", "squeeze", "squeeze_", "stride",
        "t", "t_", "to", "transpose", "transpose_", "unbind", "unflatten", "unfold", "unsafe_chunk",
        "unsafe_split", "unsqueeze", "unsqueeze_", "view", "view_as", "_local_scalar_dense",
        "_reshape_alias", "_reshape_copy", "_to_copy", "_unsafe_view", "requires_grad_", "_conj",
        "_has_compatible_shallow_copy_type", "_version",
    }
)
# fmt: on
"""Operators that do no work on the device themselves."""

# fmt: off
_CONVOLUTIONS = frozenset(
    {
        "convolution", "_convolution", "cudnn_convolution", "miopen_convolution", "mkldnn_convolution",
        "conv1d", "conv2d", "conv3d", "thnn_conv2d", "_slow_conv2d_forward", "cudnn_convolution_relu",
        "miopen_depthwise_convolution", "_conv_depthwise2d",
    }
)
# fmt: on


def tensors_of(values: Sequence[Any], shapes: Sequence[Any], types: Sequence[Any]) -> list[Tensor]:
    """The tensors of a host trace's inputs or outputs, those in lists too, in their order."""
    return [
        tensor
        for value, shape, kind in zip(values, shapes, types, strict=False)
        for tensor in _tensors(value, shape, str(kind))
    ]


def _tensors(value: Any, shape: Any, kind: str) -> Iterator[Tensor]:
    if kind.startswith("GenericList[") and isinstance(value, list) and isinstance(shape, list):
        inner = _split_types(kind[len("GenericList[") : -1])
        for one in zip(value, shape, inner, strict=False):
            yield from _tensors(*one)
    elif (
        kind.startswith("Tensor(") and isinstance(value, list) and len(value) >= 6 and isinstance(shape, list)
    ):
        # tensor, storage, offset, elements, bytes of an element, device
        dtype = dtype_of(kind)
        yield Tensor(
            shape=tuple(int(n) for n in shape),
            dtype=dtype[0] if dtype else "",
            size_bytes=int(value[3]) * int(value[4]),
            storage=int(value[1]),
            is_host=str(value[5]).startswith("cpu"),
        )


def _split_types(text: str) -> list[str]:
    """Types of a list's elements; commas inside brackets don't part them."""
    parts, depth, begin = [], 0, 0
    for at, mark in enumerate(text):
        depth += (mark in "[(<") - (mark in "])>")
        if mark == "," and not depth:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]] if text else parts


def operator_cost(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], arguments: Sequence[Any] = ()
) -> tuple[int, int]:
    """Floating-point operations and bytes of an operator; (0, 0) for one that does no work.

    `arguments` are all of its arguments as recorded, for the few whose work depends on one.

    >>> half = lambda *shape: Tensor(shape, "fp16", 2 * prod(shape))
    >>> operator_cost("aten::mm", [half(4, 8), half(8, 16)], [half(4, 16)])
    (1024, 448)
    """
    stem = name.partition("::")[2] or name
    if stem in FREE or not (inputs or outputs):
        return 0, 0
    size_bytes = sum(tensor.size_bytes for tensor in (*inputs, *outputs))
    return _operations(stem, [t.shape for t in inputs], [t.shape for t in outputs], arguments), size_bytes


def _operations(
    stem: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], arguments: Sequence[Any]
) -> int:
    written = sum(prod(shape) for shape in outputs) or max((prod(shape) for shape in inputs), default=0)
    matrices = [shape for shape in inputs if len(shape) >= 2]
    plain = stem.rstrip("_")
    if plain in ("mm", "bmm", "matmul", "_int_mm", "_scaled_mm") and len(inputs) >= 2:
        return 2 * written * inputs[0][-1]
    if plain in ("addmm", "baddbmm", "addbmm", "_addmm_activation") and len(matrices) >= 2:
        return 2 * written * matrices[-2][-1]
    if plain in ("linear", "mv", "dot", "addmv") and inputs:
        return 2 * written * inputs[1 if plain == "addmv" else 0][-1]
    if plain in _CONVOLUTIONS and len(inputs) >= 2:
        return 2 * written * prod(inputs[1][1:])
    if plain in ("convolution_backward", "convolution_backward_overrideable") and len(inputs) >= 3:
        mask = arguments[10] if len(arguments) > 10 and isinstance(arguments[10], list) else [True, True]
        return 2 * prod(inputs[0]) * prod(inputs[2][1:]) * sum(bool(wanted) for wanted in mask[:2])
    if "attention" in plain and len(inputs) >= 3:
        # a backward pass is given the output's gradient first
        is_backward = "backward" in plain
        query, key = inputs[1 if is_backward else 0], inputs[2 if is_backward else 1]
        if len(query) == len(key) == 4:
            forward = 4 * prod(query) * key[2]
            return forward * 5 // 2 if is_backward else forward
    return written
