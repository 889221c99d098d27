"""Cost of an ATen operator from its shapes: floating-point operations and bytes touched.

A multiply and an add are two operations. Matrix products, convolutions and attentions count all of theirs,
what a causal mask leaves out too. An attention's backward pass has five matrix products for the two of its
forward (Dao, FlashAttention-2, section 3.1). The formulas agree with `torch.utils.flop_counter`, but for the
weights' gradient of a grouped convolution, for which that one leaves the groups out. What only moves or fills
memory counts none, and everything else one for each element it writes.

Bytes are those of all tensors read and written, once each. Of a table that is looked up or updated by index
only the rows in question count. Operators that only make other views of memory cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from chakrasim.converters.pytorch.read.spellings import dtype_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor that an operator read or wrote."""

    shape: Shape
    dtype: str
    """Our name of its data type, empty where it isn't known."""
    size_bytes: int
    storage: int = -1
    """Number of the memory it lies in, -1 where that wasn't recorded."""
    is_host: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


# fmt: off
FREE = frozenset(
    {
        "alias", "as_strided", "as_strided_", "broadcast_tensors", "chunk", "contiguous",
        "cudnn_is_acceptable", "detach", "detach_", "diagonal", "dropout", "dropout_", "empty",
        "empty_like", "empty_permuted", "empty_strided", "expand", "expand_as", "flatten", "is_nonzero",
        "is_pinned", "is_same_size", "item", "lift_fresh", "movedim", "narrow", "numpy_T", "permute",
        "record_stream", "reshape", "resize_", "resize_as_", "resolve_conj", "result_type", "select",
        "set_", "size", "slice", "split", "split_with_sizes", "squeeze", "squeeze_", "stride", "t", "t_",
        "to", "transpose", "transpose_", "unbind", "unflatten", "unfold", "unsafe_chunk", "unsafe_split",
        "unsqueeze", "unsqueeze_", "view", "view_as", "_conj", "_fused_sdp_choice",
        "_has_compatible_shallow_copy_type", "_local_scalar_dense", "_reshape_alias", "_reshape_copy",
        "_to_copy", "_unsafe_view", "_version", "requires_grad_",
    }
)
"""Operators that do no work on the device themselves. Dropout's is `native_dropout`'s, or none."""

_MATRIX_PRODUCTS = {
    **dict.fromkeys(("mm", "bmm", "_int_mm", "_scaled_mm", "matmul", "linear", "mv", "dot"), 0),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "_addmm_activation", "addmv"), 1),
}
"""Position of the first factor; the second follows it."""
_BETA = 3
"""Position of the argument by which the input before the factors is multiplied."""
_CONVOLUTIONS = frozenset(
    {
        "convolution", "_convolution", "convolution_overrideable", "cudnn_convolution",
        "miopen_convolution", "mkldnn_convolution", "conv1d", "conv2d", "conv3d", "thnn_conv2d",
        "_slow_conv2d_forward", "cudnn_convolution_relu", "cudnn_convolution_add_relu",
        "miopen_depthwise_convolution", "_conv_depthwise2d", "conv_depthwise3d", "slow_conv3d_forward",
        "slow_conv_dilated2d", "slow_conv_dilated3d",
    }
)
_TRANSPOSED = frozenset(
    {
        "cudnn_convolution_transpose", "miopen_convolution_transpose", "conv_transpose1d",
        "conv_transpose2d", "conv_transpose3d", "slow_conv_transpose2d", "slow_conv_transpose3d",
    }
)
# fmt: on
_SWITCH = {"convolution": 6, "_convolution": 6, "convolution_overrideable": 6}
"""Position of the argument that says whether a convolution is a transposed one."""
_BACKWARD_SWITCH, _BACKWARD_MASK = 7, 10
"""Positions in `convolution_backward` of that switch, and of the mask of wanted gradients."""
_SEQUENCE_FIRST = re.compile(r"_?(flash|efficient)_")
"""Attentions of tensors [batch, sequence, heads, width]; the others' are [batch, heads, sequence, width]."""
_RECURRENT = frozenset({"_cudnn_rnn", "_cudnn_rnn_backward", "miopen_rnn", "miopen_rnn_backward"})

_PREPARES = frozenset({"copy_", "fill_", "zero_"})
_OVERWRITES = _PREPARES | {"normal_", "uniform_", "random_", "bernoulli_"}
"""Operators that don't read their first input."""
_LOOKS_UP = frozenset({"embedding", "index_select", "gather", "index", "take"})
_UPDATES = frozenset(
    {"index_put_", "_index_put_impl_", "index_add_", "index_copy_", "scatter_", "scatter_add_"}
)
_MOVES = (_PREPARES | _LOOKS_UP | _UPDATES) - {"index_add_", "scatter_add_"}
_MOVES_TOO = re.compile(
    r"(arange|cat|clone|constant_pad_nd|flip|repeat|roll|stack|_foreach_zero_|zero|fill)$"
    r"|(new_)?(full|ones|zeros)(_like)?$|\w*copy"
)


def tensors_of(values: Sequence[Any], shapes: Sequence[Any], types: Sequence[Any]) -> list[Tensor]:
    """The tensors of a host trace's inputs or outputs, those in lists too, in their order.

    Raises TypeError, ValueError or OverflowError for a tensor that wasn't recorded as numbers.
    """
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
    elif kind.startswith("Tensor(") and "nullptr" not in kind:
        _, storage, _, elements, element_bytes, device = value
        dtype = dtype_of(kind)
        yield Tensor(
            shape=tuple(_natural(n) for n in shape),
            dtype=dtype[0] if dtype else "",
            size_bytes=_natural(elements) * _natural(element_bytes),
            storage=int(storage),
            is_host=str(device).startswith("cpu"),
        )


def _natural(value: Any) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(f"{number} is no size")
    return number


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
    stem = _stem(name)
    if stem in FREE or not (inputs or outputs):
        return 0, 0
    read = [t.shape for t in inputs]
    written = sum(t.elements for t in outputs) or max((t.elements for t in inputs), default=0)
    operations = _product_operations(stem.rstrip("_"), read, written, arguments)
    if operations is None:
        operations = 0 if only_moves(name) else written
    return operations, _bytes(stem, inputs, outputs, arguments)


def is_product(name: str) -> bool:
    """Tell matrix products and convolutions from other operators.

    >>> is_product("aten::addmm_"), is_product("aten::cudnn_convolution"), is_product("aten::add")
    (True, True, False)
    """
    stem = _stem(name).rstrip("_")
    return (
        stem in _MATRIX_PRODUCTS
        or stem in _CONVOLUTIONS
        or stem in _TRANSPOSED
        or stem.startswith("convolution_backward")
    )


def is_attention(name: str) -> bool:
    """Tell fused attentions and their backward passes from other operators.

    >>> is_attention("aten::_scaled_dot_product_flash_attention_backward"), is_attention("aten::bmm")
    (True, False)
    """
    stem = _stem(name)
    return "attention" in stem or "attn" in stem


def only_moves(name: str) -> bool:
    """Tell operators that only move or fill memory.

    >>> only_moves("aten::cat"), only_moves("aten::zeros_like"), only_moves("aten::add_")
    (True, True, False)
    """
    stem = _stem(name)
    return stem in _MOVES or _MOVES_TOO.match(stem) is not None


def prepares(name: str) -> bool:
    """Tell operators that others call to prepare memory.

    >>> prepares("aten::fill_"), prepares("aten::add_")
    (True, False)
    """
    return _stem(name) in _PREPARES


def counts_too_few(name: str, inputs: Sequence[Tensor]) -> bool:
    """Tell operators that multiply matrices whose sizes aren't recorded.

    Recurrent layers do, and attentions over sequences that lie one behind another, in three axes.
    """
    if is_attention(name):
        return _attention_operations(_stem(name), [t.shape for t in inputs]) is None
    return _stem(name) in _RECURRENT


def _stem(name: str) -> str:
    return name.rpartition("::")[2]


def _bytes(stem: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], arguments: Sequence[Any]) -> int:
    read, written = [t.size_bytes for t in inputs], sum(t.size_bytes for t in outputs)
    if outputs and len(inputs) > 1:
        if stem in _LOOKS_UP:
            read[0] = min(read[0], written)
        elif stem in ("_embedding_bag", "_embedding_bag_forward_only") and inputs[0].elements:
            rows = inputs[1].elements * inputs[0].shape[-1]
            read[0] = min(read[0], read[0] * rows // inputs[0].elements)
        elif stem in _UPDATES and inputs[-1].elements > 1:  # a lone value may go anywhere
            read[0] = written = min(read[0], read[-1])
    # `addmm` and its like: beta 0 leaves out what would be added
    adds_nothing = _MATRIX_PRODUCTS.get(stem.rstrip("_")) == 1 and arguments[_BETA : _BETA + 1] == [0]
    if outputs and (stem in _OVERWRITES or adds_nothing):
        del read[:1]
    if not stem.endswith("_"):  # `out=` stands last among the inputs, and isn't read
        made = {(t.storage, t.shape) for t in outputs if t.storage >= 0}
        for tensor in inputs[:0:-1][: len(outputs)]:
            if (tensor.storage, tensor.shape) not in made:
                break
            read.pop()
    return sum(read) + written


def _product_operations(
    stem: str, inputs: Sequence[Shape], written: int, arguments: Sequence[Any]
) -> int | None:
    """Operations of a matrix product, convolution or attention; None for anything else."""
    first = _MATRIX_PRODUCTS.get(stem)
    if first is not None and len(inputs) >= first + 2:
        left, right = inputs[first : first + 2]
        if len(right) < 2:  # a vector has no columns
            return 2 * prod(left)
        if stem == "matmul":  # either may be repeated along the batch
            return 2 * written * (left[-1] if left else 1)
        return 2 * prod(left) * right[0 if stem == "linear" else -1]
    # each point of one grid meets the whole filter: of the output's or, if transposed, of the input's
    if stem in _TRANSPOSED or stem in _CONVOLUTIONS:
        if len(inputs) < 2:
            return None
        is_transposed = stem in _TRANSPOSED or _is_set(arguments, _SWITCH.get(stem))
        return 2 * (prod(inputs[0]) if is_transposed else written) * prod(inputs[1][1:])
    if stem.startswith("convolution_backward") and len(inputs) >= 3:
        wanted = arguments[_BACKWARD_MASK] if len(arguments) > _BACKWARD_MASK else None
        gradients = sum(map(bool, wanted[:2])) if isinstance(wanted, list) else 2
        grid = inputs[1 if _is_set(arguments, _BACKWARD_SWITCH) else 0]
        return 2 * prod(grid) * prod(inputs[2][1:]) * gradients
    return _attention_operations(stem, inputs) if is_attention(stem) else None


def _attention_operations(stem: str, inputs: Sequence[Shape]) -> int | None:
    """None where sequences lie one behind another, or the tensors are others."""
    is_backward = "backward" in stem
    factors = inputs[int(is_backward) :][:3]  # a backward pass is given the output's gradient first
    if [len(shape) for shape in factors] != [4, 4, 4]:
        return None
    query, key, value = factors
    pairs = prod(query[:-1]) * key[1 if _SEQUENCE_FIRST.match(stem) else 2]
    if is_backward:
        return 2 * pairs * (3 * query[-1] + 2 * value[-1])
    return 2 * pairs * (query[-1] + value[-1])


def _is_set(arguments: Sequence[Any], position: int | None) -> bool:
    return position is not None and position < len(arguments) and arguments[position] is True
