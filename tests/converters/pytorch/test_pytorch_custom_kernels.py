"""Communication kernels of neither NCCL nor RCCL: the table that knows them, and what users add to it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kineto_trace import Nodes, Trace

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.communication.custom_kernels import KernelTable, load_kernel_table
from chakrasim.converters.pytorch.communication.describe import Communication, Source, describe
from chakrasim.converters.pytorch.communication.groups import Groups
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind

MULTIMEM = (
    "void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)"
)
BF16 = "c10::BFloat16"

converts_by_table = pytest.mark.skipif(
    "communication_table" not in inspect.signature(convert_pytorch).parameters,
    reason="this convert_pytorch takes no table",
)


def known_as(
    kernel: str, *around: Source, table: KernelTable | None = None, groups: Groups | None = None
) -> Communication:
    groups = groups or Groups(0, 8, {"pg_config": [{"pg_name": "3", "pg_desc": "tp", "ranks": [0, 1, 2, 3]}]})
    return describe(kernel, {}, around, groups, kernels=table or load_kernel_table())


def operator(name: str, dims: list[Any], types: list[str], **more: Any) -> Source:
    return Source(name, {"Input Dims": dims, "Input type": types, **more})


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (MULTIMEM, "all-reduce"),
        (
            "void (anonymous namespace)::multimem_one_shot_all_reduce_kernel<float, 16, 8>(float*)",
            "all-reduce",
        ),
        ("void (anonymous namespace)::one_shot_all_reduce_kernel<c10::BFloat16, 16, 8>(x)", "all-reduce"),
        (
            "void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<c10::BFloat16, 16, 2>(x)",
            "all-reduce",
        ),
        ("void (anonymous namespace)::multimem_all_gather_kernel<16>(x)", "all-gather"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(vllm::RankData*)", "all-reduce"),
        ("void vllm::cross_device_reduce_2stage<half, 8>(vllm::RankData*)", "all-reduce"),
        ("void aiter::cross_device_reduce_1stage_naive<__hip_bfloat16, 8>(x)", "all-reduce"),
        ("quickreduce::allreduce_prototype_twoshot<x>", "all-reduce"),
        ("void deep_ep::intranode::dispatch<(int)2, (int)768, (int)8192>(int4 *)", "all-to-all"),
        ("void deep_ep::intranode::combine<__nv_bfloat16, 8, 768, 4096>(x)", "all-to-all"),
        ("void deep_ep::internode::dispatch<false, 4>(x)", "all-to-all"),
        ("void deep_ep::internode::notify_dispatch<false, 4>(x)", "all-to-all"),
        ("void deep_ep::intranode::cached_notify_combine<8>(void**)", "all-to-all"),
        ("void deep_ep::internode_ll::combine<(bool)0, (int)7168>(x)", "all-to-all"),
        ("void alltoall_on_stream_kernel<float>(int, float*, float const*, unsigned long)", "all-to-all"),
        ("void rdxn_on_stream_kernel<float, (rdxn_ops)3>(int)", "all-reduce"),
        ("void fcollect_on_stream_kernel<int>(int)", "all-gather"),
        ("void reducescatter_on_stream_kernel<float>(int)", "reduce-scatter"),
        ("barrier_on_stream_kernel_threadgroup(int)", "barrier"),
    ],
)
def test_known_kernels(kernel: str, kind: str) -> None:
    row = load_kernel_table().match(kernel)
    assert row is not None
    assert row.kind.label == kind


@pytest.mark.parametrize(
    "kernel",
    [
        "void at::native::reduce_kernel<512, 1, x>",
        "void splitKreduce_kernel<float>",
        "void deep_ep::layout::get_dispatch_layout<256, 32, 8>(x)",
        "triton_poi_fused_add_all_reduce_0",
        "void vllm::moe::topkGatingSoftmax<x>",
    ],
)
def test_kernels_that_only_sound_like_it(kernel: str) -> None:
    assert load_kernel_table().match(kernel) is None


@pytest.mark.parametrize(
    ("kernel", "around"),
    [
        (MULTIMEM, operator("symm_mem::multimem_all_reduce_", [[6], [], []], [BF16, "", ""])),
        (MULTIMEM, operator("vllm::all_reduce", [[2, 3], []], [BF16, ""])),
        (
            "void (anonymous namespace)::one_shot_all_reduce_kernel<c10::BFloat16, 16, 8>(x)",
            operator(
                "symm_mem::one_shot_all_reduce_copy_out", [[99], [6], [], [], [6]], [BF16, BF16, "", "", BF16]
            ),
        ),
        (
            "void vllm::cross_device_reduce_2stage<__nv_bfloat16, 8>(x)",
            operator(
                "_C_custom_ar::all_reduce", [[], [2, 3], [2, 3], [], []], ["Scalar", BF16, BF16, "", ""]
            ),
        ),
    ],
)
def test_sizes_come_from_the_operator_around_the_launch(kernel: str, around: Source) -> None:
    known = known_as(kernel, Source("c10d_other", {}), around)
    assert (known.kind, known.comm_kind) == (NodeKind.COLL, CommKind.ALL_REDUCE)
    assert (known.comm_bytes, known.dtype, known.group) == (12, "bf16", None)


def test_without_the_operator_the_size_is_unknown() -> None:
    known = known_as("void deep_ep::intranode::combine<__nv_bfloat16, 8>(x)")
    assert (known.problem, known.comm_kind) == ("its size isn't recorded", -1)


def test_an_operator_may_name_the_group() -> None:
    arguments = {"Concrete Inputs": ["", "sum", "3"]}
    around = operator(
        "symm_mem::multimem_all_reduce_", [[6], [], []], [BF16, "String", "String"], **arguments
    )
    assert known_as(MULTIMEM, around).group == "3"
    scalar = operator("symm_mem::multimem_all_reduce_", [[6], [], []], [BF16, "", "Scalar"], **arguments)
    groups = Groups(0, 8, {"pg_config": [{"pg_name": "3", "ranks": [0, 1, 2, 3]}]})
    assert known_as(MULTIMEM, scalar, groups=groups).group is None  # a number isn't a name
    assert groups.doubts.total() == 1


OWN = """
- kernel: my_gather_kernel
  kind: all-gather
  operators:
    "^mylib::gather$": 1
  group: {group}
- kernel: multimem_all_reduce_kernel
  kind: reduce-scatter
"""


@pytest.mark.parametrize("group", ["3", "tp"])
def test_users_add_rows_and_they_go_first(tmp_path: Path, group: str) -> None:
    (tmp_path / "own.yaml").write_text(OWN.format(group=group))
    table = load_kernel_table(tmp_path / "own.yaml")
    assert table.describes("mylib::gather")
    assert not table.describes("mylib::gather_more")
    known = known_as("my_gather_kernel", operator("mylib::gather", [[], [5]], ["", "float"]), table=table)
    assert (known.comm_kind, known.comm_bytes, known.group) == (CommKind.ALL_GATHER, 20, "3")
    row = table.match(MULTIMEM)
    assert row is not None
    assert row.kind == CommKind.REDUCE_SCATTER


def test_a_group_that_is_not_recorded_is_said(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN.format(group="ep"))
    known = known_as("my_gather_kernel", table=load_kernel_table(tmp_path / "own.yaml"))
    assert known.problem == "its process group 'ep' isn't among the recorded ones"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel: x", "expected a list of rows"),
        ("- x", "row 1: expected keys kernel, kind"),
        ("- {kernel: x}", "row 1: needs kind:"),
        ("- {kernel: x, kind: allreduce}", "did you mean 'all-reduce'?"),
        ("- {kernel: x, kind: all-reduce, operator: y}", "did you mean 'operators'?"),
        ("- {kernel: '(', kind: all-reduce}", "isn't a regular expression"),
        ("- {kernel: x, kind: all-reduce, operators: y}", "operators: expected names"),
        ("- {kernel: x, kind: all-reduce, operators: {y: first}}", "expected the input's position"),
        ("- {kernel: x, kind: all-reduce, group: [1]}", "group: expected world or the name"),
        ("- [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_kernel_table(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_kernel_table(tmp_path / "nowhere.yaml")


@converts_by_table
def test_a_users_kernel_becomes_a_collective(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "- {kernel: my_kernel, kind: all-reduce, operators: {'mylib::sum': 0}}"
    )
    trace = Trace(distributedInfo={"rank": 0, "world_size": 2})
    trace.op("mylib::sum", 0, 9, **{"Input Dims": [[8]], "Input type": ["float"]})
    trace.call("cudaLaunchKernel", 5, 1, 1).kernel("my_kernel", 8, 20, 1)
    path = trace.write(tmp_path / "t.json")
    (graph,) = convert_pytorch(path).graphs.values()
    assert Nodes(graph).communications() == []
    (graph,) = convert_pytorch(path, communication_table=tmp_path / "own.yaml").graphs.values()
    (row,) = Nodes(graph).communications()
    assert (graph.comm_kinds[row], graph.comm_bytes[row]) == (CommKind.ALL_REDUCE, 32)


@converts_by_table
def test_vllms_all_reduces_have_sizes_that_fit_their_durations(shared: Path) -> None:
    trace = shared / "real_traces/tracelens/vllm_moe_eager_b200_rank0of8.json.gz"
    (graph,) = convert_pytorch(trace).graphs.values()
    rows = np.array([row for row in Nodes(graph).communications() if "multimem" in graph.name(row)])
    assert len(rows) == 73
    assert (graph.comm_kinds[rows] == CommKind.ALL_REDUCE).all()
    # 888 tokens of 2880 values, padded to 3072 after a layer of experts, in bf16
    assert sorted(set(graph.comm_bytes[rows].tolist())) == [888 * 2880 * 2, 888 * 3072 * 2]
    # each rank sends and receives the buffer once: 200 GB/s of the 900 that NVLink 5 has each way
    GBps = graph.comm_bytes[rows] / (graph.durations_ps[rows] / 1e3)
    assert 190 < np.median(GBps) < 215
    assert GBps.max() < 900
    small, large = (graph.durations_ps[rows][graph.comm_bytes[rows] == size] for size in (5114880, 5455872))
    assert np.median(large) > np.median(small)
