"""Host execution traces: read in every schema, linked with the profiler's traces, or converted alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from host_nodes import CUDA, GROUPS, flat, nested, tensor, write
from kineto_trace import Trace

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.host_traces.host_trace import read_host_trace
from chakrasim.converters.pytorch.host_traces.host_trace_link import align, link_host_trace
from chakrasim.converters.pytorch.read.kineto_reader import read_recording
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import CommKind, NodeKind


@pytest.mark.parametrize(("node", "schema"), [(flat, "1.0.1"), (nested, "1.1.1-chakra.0.0.4")])
def test_flat_and_nested_nodes_become_the_same_columns(tmp_path: Path, node: Any, schema: str) -> None:
    nodes = [
        node(9, "aten::mm", 2, 4, tid=3, seq_id=11, inputs=([CUDA], [[32, 32]], ["Tensor(float)"])),
        node(2, "[pytorch|profiler|execution_trace|thread]", 1, 0),
        node(3, "## process_group:init ##", 2, 1, inputs=([GROUPS], [[]], ["String"])),
    ]
    trace = read_host_trace(write(tmp_path / "host.0.json.gz", nodes, schema))
    assert trace.ids.tolist() == [2, 3, 9]
    assert trace.parents.tolist() == [1, 2, 2]
    assert trace.rf_id.tolist() == [0, 1, 4]
    assert trace.seq_id.tolist() == [-1, -1, 11]
    assert trace.tid.tolist() == [1, 1, 3]
    assert trace.names[2] == "aten::mm"
    assert trace.inputs(2).values == [CUDA]
    assert trace.inputs(2).shapes == [[32, 32]]
    assert trace.inputs(2).types == ["Tensor(float)"]
    assert trace.group_declarations() == [GROUPS]
    assert trace.schema == schema


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([], "has no nodes"),
        ([{"name": "x"}], "node number 0"),
        ([nested(2, "a", 1, 0), {"id": 3, "name": "b", "attrs": []}], "node number 1"),
        ([nested(2, "a", 1, 0), nested(2, "b", 1, 1)], "node 2 stands there twice"),
        ([nested(2, "a", 1, 0), 7], "node number 1"),
        ([nested(2, "a", 1, "x")], "node number 0"),  # type: ignore[arg-type]
        ([nested(2, "a", 1, 0), nested(2**70, "b", 1, 0)], "node number 1 .* is no id"),
    ],
)
def test_what_is_no_host_trace_is_told(tmp_path: Path, nodes: list[Any], says: str) -> None:
    path = write(tmp_path / "host.0.json", nodes, "9.9.9")
    with pytest.raises(TraceError, match=says) as caught:
        read_host_trace(path)
    assert "host.0.json" in str(caught.value)


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "host.0.json", [nested(2, "a", 1, 0)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TraceError, match="isn't complete JSON"):
        read_host_trace(path)


def test_names_are_aligned_across_what_only_one_side_has() -> None:
    first = [*"abcdefgh"]
    assert align(first, first) == [(k, k) for k in range(8)]
    assert align(first, [*"xxabcd", *"efgh"]) == [(k, k + 2) for k in range(8)]
    assert align(first, [*"abc", *"fgh"]) == [(0, 0), (1, 1), (2, 2), (5, 3), (6, 4), (7, 5)]
    assert align(first, [*"zzzz"]) == []
    # a name that the other side has once is no reason to skip to it
    assert align([*"abcde"], [*"abxde"]) == [(0, 0), (1, 1), (3, 3), (4, 4)]


def linked(tmp_path: Path, trace: Trace, nodes: list[dict[str, Any]]) -> tuple[list[int], float, str]:
    host = read_host_trace(write(tmp_path / "host.0.json", nodes))
    link = link_host_trace(read_recording(trace.write(tmp_path / "device.0.json")), host)
    return [int(host.ids[row]) if row >= 0 else -1 for row in link.rows], link.share, link.by


def test_operators_are_linked_by_id_where_there_are_ids(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 9, **{"Record function id": 12}).op("b", 1, 2, **{"Record function id": 13})
    trace.op("c", 20, 2, **{"Record function id": 99})
    nodes = [nested(5, "b", 4, 13), nested(4, "a", 1, 12), nested(8, "later", 1, 14)]
    assert linked(tmp_path, trace, nodes) == ([4, 5, -1], 1.0, "record-function id")


def test_operators_are_linked_by_order_on_each_thread_where_there_are_none(tmp_path: Path) -> None:
    trace = Trace()
    for k, name in enumerate("abcd"):
        trace.op(name, 10 * k, 5, tid=100, **{"External id": 40 + k})
    for k, name in enumerate("xyz"):
        trace.op(name, 3 + 10 * k, 5, tid=200, **{"External id": 60 + k})
    nodes = [nested(10 + k, name, 1, 30 + k, tid=1) for k, name in enumerate("xyz")]
    nodes += [nested(20 + k, name, 1, 40 + k, tid=2) for k, name in enumerate("abcd")]
    nodes.append(nested(30, "ProfilerStep#1", 1, 50, tid=2, scope=7))
    rows, share, by = linked(tmp_path, trace, nodes)
    assert rows == [20, 21, 22, 23, 10, 11, 12]
    assert (share, by) == (1.0, "order")


def test_traces_of_two_runs_are_refused(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 1).op("b", 1, 1).op("c", 2, 1)
    with pytest.raises(TraceError, match=r"host\.0\.json: doesn't belong to .*device\.0\.json: 0 %"):
        linked(tmp_path, trace, [nested(5, "x", 1, 1), nested(6, "y", 1, 2)])


def test_a_host_trace_tells_what_the_profiler_left_out(tmp_path: Path) -> None:
    """As before PyTorch 2.4: neither the kernel nor `record_param_comms` says what was sent."""
    trace = Trace(distributedInfo={"rank": 0, "world_size": 8})
    trace.op("c10d::allreduce_", 0, 30, **{"External id": 1})
    trace.op("record_param_comms", 2, 20, **{"External id": 2}).call("cudaLaunchKernel", 5, 5, 9)
    trace.kernel("ncclKernel_AllReduce_RING_LL_Sum_half(ncclWorkElem)", 12, 50, 9)
    trace.write(tmp_path / "device.0.json")
    alone = convert_pytorch(tmp_path / "device.0.json").graphs[0]
    assert alone.comm_kinds[alone.is_communication].tolist() == [-1]
    sent = [[[[131, 132, 0, 4096, 2, "cuda:0"]], 337, 9381, 0, "allreduce", [], [], 8]]
    sent += [[[[4, 1024]], [], [], [], [], [], [], []]]
    sent += [["GenericList[Tensor(c10::Half)]", *["Int"] * 3, "String", *["GenericList[]"] * 2, "Int"]]
    nodes = [
        flat(4, "c10d::allreduce_", 1, 91),
        flat(5, "record_param_comms", 4, 92, inputs=sent),
    ]
    write(tmp_path / "host.0.json", nodes, "1.0.1")
    workload = convert_pytorch(tmp_path)
    (graph,) = workload.graphs.values()
    (row,) = np.flatnonzero(graph.is_communication)
    assert graph.comm_kinds[row] == CommKind.ALL_REDUCE
    assert graph.comm_bytes[row] == 8192
    assert graph.dtypes[graph.dtype_ids[row]] == "fp16"
    assert any("2 of 2 operators are linked" in note for note in workload.notes)


@pytest.mark.slow
def test_real_pairs_are_linked_to_the_last_operator(shared: Path) -> None:
    folders = [f"own_traces/out_{name}" for name in ("colls", "ddp", "fsdp2", "fsdp2_tp", "pp", "pp_batch")]
    folders += ["real_traces/megatron_tp8_a100", "real_traces/megatron_tp2_v100"]
    pairs = [host for folder in folders for host in (shared / folder).glob("host.*")]
    assert len(pairs) == 8 + 2 + 24
    for host in (*pairs, shared / "real_traces/hta_simple_add_pair/host.0.json.gz"):
        recording = read_recording(host.with_name(host.name.replace("host", "device")))
        link = link_host_trace(recording, read_host_trace(host))
        assert link.count == link.operators, host
        assert link.share == 1.0


def test_a_pair_of_different_lengths_is_refused(shared: Path) -> None:
    with pytest.raises(TraceError, match="2 % of their operators are the same on both sides"):
        convert_pytorch(shared / "real_traces/param_linear_pair_rtx2080")


@pytest.mark.slow
def test_megatrons_collectives_are_understood_with_its_host_traces(shared: Path) -> None:
    workload = convert_pytorch(shared / "real_traces/megatron_tp8_a100")
    for graph in workload.graphs.values():
        rows = np.flatnonzero(graph.is_communication)
        assert len(rows) == 84
        assert (graph.comm_kinds[rows] == CommKind.ALL_REDUCE).all()
        # activations of 4 x 2,048 tokens, 4,096 wide, in fp16; and three losses of all tokens in fp32
        assert sorted(graph.comm_bytes[rows].tolist()) == [4 * 2048 * 4] * 3 + [4 * 2048 * 4096 * 2] * 81


def test_a_host_trace_alone_becomes_work_and_collectives(tmp_path: Path) -> None:
    mm = ([CUDA, CUDA], [[32, 32], [32, 32]], ["Tensor(float)", "Tensor(float)"])
    bucket = ([[[9, 77, 0, 64, 4, "cuda:0"]]], [[[64]]], ["GenericList[Tensor(float)]"])
    told = {"collective_name": "allreduce", "dtype": "Float", "in_msg_nelems": 64, "out_msg_nelems": 64}
    nodes = [
        nested(3, "## process_group:init ##", 2, 1, inputs=([GROUPS], [[]], ["String"]), scope=7),
        nested(4, "aten::linear", 2, 2, inputs=mm, outputs=tensor(32, 32, storage=9)),
        nested(5, "aten::mm", 4, 3, inputs=mm, outputs=tensor(32, 32, storage=9)),
        nested(6, "c10d::allreduce_", 2, 4, inputs=bucket),
        nested(7, "record_param_comms", 6, 5, inputs=bucket, pg_name="0", **told),
        nested(8, "aten::relu", 2, 6, inputs=tensor(32, 32), outputs=tensor(32, 32)),
        nested(9, "aten::div", 2, 7, inputs=tensor(64, storage=77), outputs=tensor(64, storage=78)),
    ]
    workload = convert_pytorch(write(tmp_path / "host.1.json", nodes))
    assert (workload.world_size, list(workload.graphs)) == (2, [1])
    graph = workload.graphs[1]
    names = [graph.name(row) for row in range(len(graph))]
    # the caller's work is its callee's
    assert names == ["aten::mm", "allreduce", "aten::relu", "aten::div"]
    assert graph.ops[0] == 2 * 32**3
    assert graph.tensor_bytes[0] == 3 * 4096
    op_kinds = [graph.op_kinds[kind] if kind >= 0 else "" for kind in graph.op_kind_ids.tolist()]
    assert op_kinds == ["matmul", "", "elementwise", "elementwise"]
    assert (graph.kinds[1], graph.comm_bytes[1]) == (NodeKind.COLL, 256)
    parents = [[names[p] for p in graph.parents_of(row)] for row in range(4)]
    # relu runs beside the collective; what reads its bucket waits for it
    assert parents == [[], ["aten::mm"], ["aten::mm"], ["allreduce", "aten::relu"]]
    assert not graph.is_cpu.any()
    assert (graph.durations_ps == 0).all()


@pytest.mark.slow
def test_resnet50_counts_the_operations_that_are_known_of_it(shared: Path) -> None:
    """4.09 * 10^9 multiply-adds an image (He et al. 2016, table 1: 3.8 without what the profiler sees) and
    25,557,032 parameters, whose gradients DDP all-reduces."""
    workload = convert_pytorch(shared / "real_traces/resnet50_ddp2_hostonly")
    assert check_workload(workload) == []
    for graph in workload.graphs.values():
        names = np.array(graph.names)[graph.name_ids]
        forward = graph.ops[names == "aten::cudnn_convolution"].sum() / 32
        assert forward == pytest.approx(2 * 4.09e9, rel=0.01)
        backward = graph.ops[names == "aten::convolution_backward"].sum() / 32
        assert 1.9 * forward < backward < 2 * forward  # no gradient of the images
        reduced = (graph.comm_kinds == CommKind.ALL_REDUCE) & (graph.kinds == NodeKind.COLL)
        assert graph.comm_bytes[reduced].sum() == 4 * 25_557_032
    result = simulate(workload, load_machine("dgx-a100"), compute="roofline")
    # 0.78 * 10^12 operations at the A100's 19.5 TFLOP/s, and 26 GB at 2 TB/s
    assert 0.03 < (result.step_time_ps or 0) / 1e12 < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet_1gpu_v1.0.3", "resnet_1gpu_v1.1.1", "resnet_v1.1.0"])
def test_every_schema_gives_the_same_work(shared: Path, name: str) -> None:
    workload = convert_pytorch(shared / f"real_traces/param_host_et_schemas/{name}.json.gz")
    (graph,) = workload.graphs.values()
    assert (len(graph), int(graph.ops[graph.ops > 0].sum())) == (2727, 2_337_983_765_757)
    assert int(graph.is_communication.sum()) == 21


@pytest.mark.slow
def test_without_any_time_the_roofline_is_the_default(shared: Path, tmp_path: Path) -> None:
    folder = shared / "real_traces/resnet50_ddp2_hostonly"
    document = orjson.loads(run("replay", folder, "--machine", "dgx-a100", "--json"))
    assert (document["compute"], document["network"]) == ("roofline", "analytical")
    assert document["step_time_ns"] > 0
    assert "self_check" not in document
    run("convert", folder, "-o", tmp_path)
    again = orjson.loads(run("replay", tmp_path, "--machine", "dgx-a100", "--json"))
    assert again["step_time_ns"] == document["step_time_ns"]


def test_a_folder_with_graphs_and_traces_says_which_it_read(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 1).write(tmp_path / "t.0.json")
    run("convert", trace, "-o", tmp_path, "--prefix", "graphs")
    (note,) = [n for n in orjson.loads(run("replay", tmp_path, "--json"))["notes"] if "graphs are read" in n]
    assert f"chakrasim convert {tmp_path} -o OUT" in note


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout
