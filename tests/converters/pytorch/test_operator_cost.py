"""What operators of a host trace cost, by hand, and which of them keep work of their own."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_nodes import nested, tensor, write

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.host_traces.operator_cost import Tensor, operator_cost
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph

Shape = tuple[int, ...]
Work = list[tuple[str, int, int]]


def matrix(*shape: int, storage: int = -1) -> Tensor:
    return Tensor(shape, "fp32", 4 * prod(shape), storage)


def operations(
    name: str, inputs: list[Shape], outputs: list[Shape], arguments: list[Any] | None = None
) -> int:
    read, written = [matrix(*shape) for shape in inputs], [matrix(*shape) for shape in outputs]
    return operator_cost(f"aten::{name}", read, written, arguments or ())[0]


@pytest.mark.parametrize(
    ("name", "inputs", "output", "expected"),
    [
        ("mm", [(4, 8), (8, 16)], (4, 16), 2 * 4 * 8 * 16),
        ("mm", [(4, 8), (8, 16), (4, 16)], (4, 16), 2 * 4 * 8 * 16),  # out=
        ("addmm", [(16,), (4, 8), (8, 16)], (4, 16), 2 * 4 * 8 * 16),
        ("addmm", [(16,), (4, 8), (8, 16), (4, 16)], (4, 16), 2 * 4 * 8 * 16),  # out=
        ("addmm_", [(4, 16), (4, 8), (8, 16)], (4, 16), 2 * 4 * 8 * 16),
        ("_scaled_mm", [(4, 8), (8, 16), (), ()], (4, 16), 2 * 4 * 8 * 16),
        ("bmm", [(3, 4, 8), (3, 8, 16)], (3, 4, 16), 2 * 3 * 4 * 8 * 16),
        ("baddbmm", [(3, 4, 16), (3, 4, 8), (3, 8, 16)], (3, 4, 16), 2 * 3 * 4 * 8 * 16),
        # three products, added up into one matrix
        ("addbmm", [(4, 16), (3, 4, 8), (3, 8, 16)], (4, 16), 2 * 3 * 4 * 8 * 16),
        ("linear", [(5, 4, 8), (16, 8), (16,)], (5, 4, 16), 2 * 5 * 4 * 8 * 16),
        # the second factor is repeated along the batch, or the first
        ("matmul", [(5, 4, 8), (8, 16)], (5, 4, 16), 2 * 5 * 4 * 8 * 16),
        ("matmul", [(4, 8), (5, 8, 16)], (5, 4, 16), 2 * 5 * 4 * 8 * 16),
        ("mv", [(4, 8), (8,)], (4,), 2 * 4 * 8),
        ("addmv", [(4,), (4, 8), (8,)], (4,), 2 * 4 * 8),
        ("dot", [(8,), (8,)], (), 2 * 8),
        ("add_", [(4, 8), (4, 8)], (4, 8), 32),
        ("view", [(4, 8)], (32,), 0),
        ("dropout", [(4, 8)], (4, 8), 0),
    ],
)
def test_matrix_products_count_two_operations_for_each_pair(
    name: str, inputs: list[Shape], output: Shape, expected: int
) -> None:
    assert operations(name, inputs, [output]) == expected


def switched(position: int, *, is_transposed: bool, mask: list[bool] | None = None) -> list[Any]:
    return [*[None] * position, is_transposed, [0, 0], 1, mask]


def test_each_point_of_a_convolutions_output_meets_the_filter() -> None:
    shapes = [(2, 3, 9, 9), (5, 3, 3, 3)]
    by_hand = 2 * (2 * 5 * 7 * 7) * (3 * 3 * 3)
    assert operations("cudnn_convolution", shapes, [(2, 5, 7, 7)]) == by_hand
    assert operations("convolution", shapes, [(2, 5, 7, 7)], switched(6, is_transposed=False)) == by_hand


def test_each_point_of_a_transposed_convolutions_input_meets_the_filter() -> None:
    """Stride 2: the output's grid is 19 by 19, but only the input's points are multiplied."""
    shapes = [(2, 4, 9, 9), (4, 6, 3, 3)]
    by_hand = 2 * (2 * 4 * 9 * 9) * (6 * 3 * 3)
    assert operations("conv_transpose2d", shapes, [(2, 6, 19, 19)]) == by_hand
    assert operations("_convolution", shapes, [(2, 6, 19, 19)], switched(6, is_transposed=True)) == by_hand


@pytest.mark.parametrize(
    ("mask", "gradients"),
    [([True, True, False], 2), ([False, True, True], 1), ([True, False, False], 1), (None, 2)],
)
def test_a_convolutions_backward_costs_its_forward_for_each_gradient(mask: Any, gradients: int) -> None:
    forward = 2 * (2 * 5 * 7 * 7) * (3 * 3 * 3)
    shapes = [(2, 5, 7, 7), (2, 3, 9, 9), (5, 3, 3, 3)]
    arguments = switched(7, is_transposed=False, mask=mask)
    assert operations("convolution_backward", shapes, [], arguments) == gradients * forward
    transposed = 2 * (2 * 4 * 9 * 9) * (6 * 3 * 3)
    shapes = [(2, 6, 19, 19), (2, 4, 9, 9), (4, 6, 3, 3)]
    arguments = switched(7, is_transposed=True, mask=mask)
    assert operations("convolution_backward", shapes, [], arguments) == gradients * transposed


PAIRS = 2 * 4 * 8 * 6
"""Of 2 sequences, 4 heads, 8 queries and 6 keys; widths are 16 and, for the values, 32."""
HEADS_FIRST = [(2, 4, 8, 16), (2, 4, 6, 16), (2, 4, 6, 32)]
SEQUENCE_FIRST = [(2, 8, 4, 16), (2, 6, 4, 16), (2, 6, 4, 32)]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("_scaled_dot_product_flash_attention", HEADS_FIRST),
        ("_scaled_dot_product_efficient_attention", HEADS_FIRST),
        ("_scaled_dot_product_cudnn_attention", HEADS_FIRST),
        ("_flash_attention_forward", SEQUENCE_FIRST),
        ("_efficient_attention_forward", SEQUENCE_FIRST),
        ("_flash_attn_forward", SEQUENCE_FIRST),
    ],
)
def test_an_attention_has_two_products_and_five_backward(name: str, shapes: list[Shape]) -> None:
    output = (*shapes[0][:-1], 32)
    assert operations(name, shapes, [output]) == 2 * PAIRS * (16 + 32)
    backward = name.removesuffix("_forward") + "_backward"
    # queries with keys again; of the output's gradient, values' and probabilities'; queries' and keys'
    expected = 2 * PAIRS * (16 + 32 + 32 + 16 + 16)
    assert operations(backward, [output, *shapes], shapes) == expected


def test_keys_that_several_queries_share_cost_as_much() -> None:
    shapes = [(2, 4, 8, 16), (2, 1, 6, 16), (2, 1, 6, 32)]
    output = [(2, 4, 8, 32)]
    assert operations("_scaled_dot_product_flash_attention", shapes, output) == 2 * PAIRS * (16 + 32)


@pytest.mark.parametrize(
    "name", ["copy_", "fill_", "zeros_like", "cat", "index_select", "split_with_sizes_copy"]
)
def test_moving_memory_is_no_operation(name: str) -> None:
    ops, size_bytes = operator_cost(f"aten::{name}", [matrix(4, 8), matrix(4, 8)], [matrix(4, 8)])
    assert ops == 0
    assert size_bytes > 0


INDEX = Tensor((10,), "int64", 80)
TABLE = matrix(1000, 16)
ROWS = matrix(10, 16)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "arguments", "expected"),
    [
        ("mm", [matrix(4, 8), matrix(8, 16)], [matrix(4, 16)], [], 4 * (32 + 128 + 64)),
        # ten rows of a table are read, not all of it
        ("embedding", [TABLE, INDEX], [ROWS], [], 640 + 80 + 640),
        ("index_select", [TABLE, INDEX], [ROWS], [], 640 + 80 + 640),
        # bags of five rows each
        ("_embedding_bag", [TABLE, INDEX, Tensor((2,), "int64", 16)], [matrix(2, 16)], [], 640 + 96 + 128),
        # ten rows are read and written anew; a lone value may go to all
        ("index_add_", [TABLE, INDEX, ROWS], [TABLE], [], 640 + 80 + 640 + 640),
        ("index_put_", [TABLE, INDEX, matrix()], [TABLE], [], 64000 + 80 + 4 + 64000),
        # what is overwritten isn't read
        ("copy_", [matrix(4, 8), matrix(4, 8)], [matrix(4, 8)], [], 128 + 128),
        ("zero_", [matrix(4, 8)], [matrix(4, 8)], [], 128),
        ("add_", [matrix(4, 8), matrix(4, 8)], [matrix(4, 8)], [], 3 * 128),
        # nor what is added with a factor of 0
        ("addmm", [matrix(4, 16), matrix(4, 8), matrix(8, 16)], [matrix(4, 16)], [0, 0, 0, 0.0, 1.0], 896),
        ("addmm", [matrix(4, 16), matrix(4, 8), matrix(8, 16)], [matrix(4, 16)], [0, 0, 0, 1.0, 1.0], 1152),
    ],
)
def test_bytes_by_hand(
    name: str, inputs: list[Tensor], outputs: list[Tensor], arguments: list[Any], expected: int
) -> None:
    assert operator_cost(f"aten::{name}", inputs, outputs, arguments)[1] == expected


def test_an_output_that_is_given_is_written_and_not_read() -> None:
    out = matrix(4, 8, storage=3)
    assert operator_cost("aten::exp", [matrix(4, 8, storage=2), out], [out])[1] == 2 * 128
    # the same memory is read and written
    assert operator_cost("aten::exp", [out, out], [out])[1] == 2 * 128
    # an input that is changed in passing, with others behind it, is read
    read = [matrix(4, 8, storage=2), out, matrix(4, 8, storage=4)]
    assert operator_cost("aten::native_norm", read, [matrix(4, 8, storage=5), out])[1] == 5 * 128


def work(tmp_path: Path, *nodes: dict[str, Any]) -> tuple[Work, list[str]]:
    """Name, operations and bytes of all nodes, and the notes."""
    workload = convert_pytorch(write(tmp_path / "host.0.json", list(nodes)))
    graph: ExecutionGraph = workload.graphs[0]
    costs = zip(graph.ops.tolist(), graph.tensor_bytes.tolist(), strict=True)
    return [(graph.name(row), *cost) for row, cost in enumerate(costs)], list(workload.notes)


def several(*tensors: tuple[list, list, list]) -> tuple[list, list, list]:  # type: ignore[type-arg]
    """The values, shapes and types of several tensors."""
    return tuple([one[k][0] for one in tensors] for k in range(3))  # type: ignore[return-value]


def square(storage: int) -> tuple[list, list, list]:  # type: ignore[type-arg]
    return tensor(32, 32, storage=storage)


SQUARE_BYTES = 4096


def test_a_product_keeps_its_work_beside_what_prepares_it(tmp_path: Path) -> None:
    """`addmm` copies what it adds into its result; `linear` calls it, and has no work of its own."""
    read = several(square(1), square(2), square(3))
    found, _ = work(
        tmp_path,
        nested(3, "aten::linear", 2, 1, inputs=read, outputs=square(4)),
        nested(4, "aten::addmm", 3, 2, inputs=read, outputs=square(4)),
        nested(5, "aten::copy_", 4, 3, inputs=several(square(4), square(1)), outputs=square(4)),
        nested(6, "aten::add_", 4, 4, inputs=several(square(4), square(1)), outputs=square(4)),
    )
    assert found == [
        ("aten::addmm", 2 * 32**3, 4 * SQUARE_BYTES),
        ("aten::copy_", 0, 2 * SQUARE_BYTES),
        ("aten::add_", 32 * 32, 3 * SQUARE_BYTES),
    ]


def test_other_work_is_kept_beside_fills_and_copies_alone(tmp_path: Path) -> None:
    """A pooling's gradient is cleared before; a `clone` is its copy, and a softmax's work its callee's."""
    found, _ = work(
        tmp_path,
        nested(3, "aten::max_pool2d_with_indices_backward", 2, 1, inputs=square(1), outputs=square(4)),
        nested(4, "aten::zero_", 3, 2, inputs=square(4), outputs=square(4)),
        nested(5, "aten::fill_", 4, 3, inputs=square(4), outputs=square(4)),
        nested(6, "aten::clone", 2, 4, inputs=square(1), outputs=square(5)),
        nested(7, "aten::copy_", 6, 5, inputs=several(square(5), square(1)), outputs=square(5)),
        nested(8, "aten::softmax", 2, 6, inputs=square(1), outputs=square(6)),
        nested(9, "aten::_softmax", 8, 7, inputs=square(1), outputs=square(6)),
    )
    assert found == [
        ("aten::max_pool2d_with_indices_backward", 32 * 32, 2 * SQUARE_BYTES),
        ("aten::fill_", 0, SQUARE_BYTES),
        ("aten::copy_", 0, 2 * SQUARE_BYTES),
        ("aten::_softmax", 32 * 32, 2 * SQUARE_BYTES),
    ]


def test_calls_whose_work_isnt_recorded_are_told(tmp_path: Path) -> None:
    """Autograd's own nodes and annotations do no work; a function that calls operators has theirs."""
    mm = {"inputs": several(square(1), square(2)), "outputs": square(3)}
    found, notes = work(
        tmp_path,
        nested(3, "FusedLayerNorm", 2, 1, inputs=square(1)),
        nested(4, "FusedLayerNorm", 2, 2, inputs=square(1)),
        nested(5, "triton_poi_fused_add_0", 2, 3),
        nested(6, "MmBackward0", 2, 4, inputs=square(1)),
        nested(7, "Mine", 2, 5, inputs=square(1)),
        nested(8, "aten::mm", 7, 6, **mm),
        nested(9, "ProfilerStep#3", 2, 7, scope=7),
        nested(10, "MineToo", 2, 8, inputs=square(1)),
        nested(11, "aten::fill_", 10, 9, inputs=square(4), outputs=square(4)),
    )
    assert [name for name, *_ in found] == ["aten::mm", "aten::fill_"]
    (note,) = [note for note in notes if "extensions" in note]
    assert note.startswith("rank 0: 3 calls of extensions or compiled kernels take no time")
    assert note.endswith("(FusedLayerNorm 2, triton_poi_fused_add_0 1)")


def test_a_compiled_kernel_touches_all_that_it_is_given(tmp_path: Path) -> None:
    read = several(square(1), square(2), square(3))
    found, notes = work(tmp_path, nested(3, "triton_poi_fused_add_0", 2, 1, inputs=read))
    assert found == [("triton_poi_fused_add_0", 32 * 32, 3 * SQUARE_BYTES)]
    assert not [note for note in notes if "extensions" in note]


def test_attentions_over_sequences_one_behind_another_are_told(tmp_path: Path) -> None:
    packed = tensor(48, 4, 16, storage=1)
    query = several(packed, packed, packed)
    _, notes = work(
        tmp_path,
        nested(3, "aten::_flash_attention_forward", 2, 1, inputs=query, outputs=tensor(48, 4, 16, storage=2)),
    )
    (note,) = [note for note in notes if "too few" in note]
    assert note.startswith("rank 0: 1 operators count too few operations")


def test_a_tensor_that_wasnt_there_is_none(tmp_path: Path) -> None:
    """Recorded as one of no memory on no device: it neither counts nor makes the rest the host's."""
    absent = [[[9, 0, 0, 0, 0, ""]], [[]], ["Tensor(nullptr (uninitialized))"]]
    host = tensor(32, 32, storage=1, device="cpu")
    out = tensor(32, 32, storage=2, device="cpu")
    found, notes = work(
        tmp_path,
        nested(3, "aten::relu", 2, 1, inputs=several(host, absent), outputs=several(out, absent)),  # type: ignore[arg-type]
    )
    assert found == [("aten::relu", 32 * 32, 2 * SQUARE_BYTES)]
    assert any("all tensors are the host's" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "shape", "says"),
    [
        ([7, 8, 0, "many", 4, "cuda:0"], [32, 32], "lists a tensor that can't be read"),
        ([7, 8, 0, -5, 4, "cuda:0"], [32, 32], "-5 is no size"),
        ([7, 8, 0, 1024, 4, "cuda:0"], [32, None], "lists a tensor that can't be read"),
        ([7, 8, 0, 1024, 4, "cuda:0"], 5, "lists a tensor that can't be read"),
        ([7, 8], [32, 32], "lists a tensor that can't be read"),
        ([7, 8, 0, 1024, 2**70, "cuda:0"], [32, 32], "too large to be meant"),
    ],
)
def test_a_tensor_that_cant_be_read_is_refused(tmp_path: Path, value: Any, shape: Any, says: str) -> None:
    node = nested(3, "aten::relu", 2, 1, inputs=([value], [shape], ["Tensor(float)"]))
    with pytest.raises(TraceError, match=says) as caught:
        work(tmp_path, node)
    assert "host.0.json: node 3 (aten::relu)" in str(caught.value)


def test_megatrons_scores_are_products_that_add_nothing(shared: Path) -> None:
    """40 layers' scores of 4 sequences of 2,048 tokens, on each of 8 ranks 8 heads 64 wide, in fp16."""
    workload = convert_pytorch(shared / "real_traces/megatron_tp8_a100/host.0.json.gz")
    (graph,) = workload.graphs.values()
    rows = np.array(graph.names)[graph.name_ids] == "aten::baddbmm"
    sequences, length, width = 4 * 8, 2048, 64
    assert graph.ops[rows].sum() == 40 * 2 * sequences * length * length * width
    assert graph.tensor_bytes[rows].sum() == 40 * 2 * sequences * (length * length + 2 * length * width)
