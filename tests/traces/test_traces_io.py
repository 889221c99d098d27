"""Reading and writing Chakra files: nothing is lost, and what is broken is named."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shared_files
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records, split_records
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, read_graph, write_graph
from chakrasim.traces.errors import TraceError
from chakrasim.traces.io import write_bytes_atomically

INTEGERS = [
    "int32",
    "int64",
    "uint32",
    "uint64",
    "sint32",
    "sint64",
    "fixed32",
    "fixed64",
    "sfixed32",
    "sfixed64",
]


def columns_of(graph: ExecutionGraph) -> dict[str, Any]:
    """A graph's content with the string tables resolved, for comparing."""
    out: dict[str, Any] = {}
    for field in fields(graph):
        value = getattr(graph, field.name)
        if isinstance(value, np.ndarray):
            out[field.name] = value.tolist()
    rows = range(len(graph))
    out["name_ids"] = [graph.name(row) for row in rows]
    out["lanes"] = [graph.lane_name(row) or int(graph.lanes[row]) for row in rows]
    out["group_ids"] = [graph.group_name(row) for row in rows]
    out["op_kind_ids"] = [graph.op_kinds[k] if k >= 0 else "" for k in graph.op_kind_ids]
    out["dtype_ids"] = [graph.dtypes[d] if d >= 0 else "" for d in graph.dtype_ids]
    return out


def sample() -> ExecutionGraph:
    builder = GraphBuilder(3, metadata={"world_size": 8}, groups={"dp": [3, 5]})
    launch = builder.add(
        NodeKind.COMP, "launch", duration_ps=1_234_567, start_ps=17, is_cpu=True, lane="thread 1"
    )
    gemm = builder.add(
        NodeKind.COMP,
        "gemm",
        duration_ps=5_000_000,
        ops=7,
        tensor_bytes=0,
        dtype="bf16",
        op_kind="matmul",
        after=[launch],
    )
    builder.add(
        NodeKind.COLL,
        "all-reduce",
        comm_kind=CommKind.ALL_REDUCE,
        comm_bytes=4 << 30,
        group="dp",
        lane="gpu0 stream 7",
        control_after=[gemm],
        attrs={"algorithm": "ring", "splits": [1, 2], "nothing": None},
    )
    builder.add(NodeKind.SEND, "to 5", peer=5, tag=9, comm_bytes=10, lane="", after=[gemm, launch])
    builder.add(NodeKind.RECV, "from 5", peer=5, tag=2**31, comm_bytes=0)
    builder.add(NodeKind.COLL, "broadcast", comm_kind=CommKind.BROADCAST, comm_bytes=1, peer=5, group="dp")
    return builder.build()


@pytest.mark.parametrize("name", ["t.3.et", "t.3.et.gz"])
def test_what_is_written_is_what_is_read(tmp_path: Path, name: str) -> None:
    graph = sample()
    write_graph(graph, tmp_path / name)
    again = read_graph(tmp_path / name)
    assert columns_of(again) == columns_of(graph)
    assert again.rank == 3
    assert again.groups == {"dp": (3, 5)}
    assert again.metadata["world_size"] == 8
    attributes = again.attributes(2)
    assert (attributes["algorithm"], attributes["splits"], attributes["nothing"]) == ("ring", [1, 2], None)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", INTEGERS)
def test_any_integer_kind_serves_where_an_integer_is_meant(tmp_path: Path, kind: str) -> None:
    node = schema.Node(id=0, type=7)
    for name, value in (("comm_type", 2), ("comm_size", 77), ("is_cpu_op", 1), ("pg_name", 12)):
        node.attr.add(name=name, **{f"{kind}_val": value})
    graph = read_records(tmp_path, [node])
    assert (graph.comm_kinds[0], graph.comm_bytes[0], graph.is_cpu[0]) == (2, 77, True)
    assert graph.group_name(0) == "12"


def read_records(folder: Path, nodes: list[Any], name: str = "t.0.et") -> ExecutionGraph:
    records = [schema.GlobalMetadata().SerializeToString(), *(n.SerializeToString() for n in nodes)]
    (folder / name).write_bytes(frame_records(records))
    return read_graph(folder / name)


def test_an_attribute_without_a_value_is_absent_and_survives(tmp_path: Path) -> None:
    node = schema.Node(id=4, type=4)
    node.attr.add(name="num_ops")
    graph = read_records(tmp_path, [node])
    assert graph.ops[0] == -1
    assert graph.attributes(0) == {"num_ops": None}
    assert graph.defects == ()


def test_of_a_repeated_attribute_the_first_counts(tmp_path: Path) -> None:
    node = schema.Node(id=4, type=4)
    node.attr.add(name="num_ops", int64_val=1)
    node.attr.add(name="num_ops", int64_val=2)
    assert read_records(tmp_path, [node]).ops[0] == 1


def attribute_messages() -> st.SearchStrategy[Any]:
    """AttributeProto of each of the 30 kinds, or without a value."""
    integers = {"32": st.integers(0, 2**31 - 1), "64": st.integers(0, 2**63 - 1)}
    values = {
        "bool": st.booleans(),
        "string": st.text(),
        "bytes": st.binary(),
        "double": st.floats(),
        "float": st.floats(width=32),
    }

    def build(kind: str, as_list: bool) -> st.SearchStrategy[Any]:
        one = values[kind] if kind in values else integers[kind[-2:]]
        if as_list:
            holder = getattr(schema, f"{kind.capitalize()}List")
            return st.lists(one, max_size=3).map(lambda v: {f"{kind}_list": holder(values=v)})
        return one.map(lambda v: {f"{kind}_val": v})

    kinds = [*INTEGERS, *values]
    value = st.sampled_from(kinds).flatmap(lambda k: st.booleans().flatmap(lambda as_list: build(k, as_list)))
    return st.tuples(st.text(max_size=5), st.one_of(st.just({}), value)).map(
        lambda pair: schema.AttributeProto(name="x" + pair[0], **pair[1])
    )


@settings(max_examples=60)
@given(attributes=st.lists(attribute_messages(), max_size=4), unknown=st.integers(0, 1000))
def test_reading_and_writing_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, attributes: list[Any], unknown: int
) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    node = schema.Node(id=2**64 - 1, name="n", type=4, start_time_micros=3, attr=attributes)
    node.inputs.values = "[1]"
    # A field that a later schema could have: number 11, varint.
    raw = node.SerializeToString() + b"\x58" + frame_records([b""])[:0] + bytes([unknown % 128])
    data = frame_records([schema.GlobalMetadata(version="9").SerializeToString(), raw])
    (folder / "a.0.et").write_bytes(data)
    write_graph(read_graph(folder / "a.0.et"), folder / "b.0.et")
    assert (folder / "b.0.et").read_bytes() == data


def test_nodes_are_kept_in_order_of_their_ids(tmp_path: Path) -> None:
    graph = read_records(tmp_path, [schema.Node(id=9, type=4, data_deps=[2]), schema.Node(id=2, type=4)])
    assert graph.ids.tolist() == [2, 9]
    assert graph.parents_of(1).tolist() == [0]


FILES = shared_files("oracle/cases/*/*.et") + shared_files("real_traces/*/*.et")


@pytest.mark.parametrize("folder", sorted({path.parent.parent for path in FILES}), ids=str)
def test_published_files_read_and_round_trip(shared: Path, folder: Path, tmp_path: Path) -> None:
    for path in (shared / folder).glob("*/*.et"):
        graph = read_graph(path)
        data = path.read_bytes()
        assert len(graph) == len(list(split_records(data))) - 1
        write_graph(graph, tmp_path / "again.0.et")
        assert (tmp_path / "again.0.et").read_bytes() == data


class TestBrokenFiles:
    """Each gets one line that names the file and what is wrong."""

    def refused(self, folder: Path, data: bytes, match: str, name: str = "t.0.et") -> None:
        (folder / name).write_bytes(data)
        with pytest.raises(TraceError, match=match) as error:
            read_graph(folder / name)
        assert str(folder / name) in str(error.value)
        assert "\n" not in str(error.value)

    def test_empty(self, tmp_path: Path) -> None:
        self.refused(tmp_path, b"", "is empty")

    def test_only_metadata(self, tmp_path: Path) -> None:
        self.refused(tmp_path, frame_records([b""]), "no nodes")

    def test_cut_inside_a_node(self, tmp_path: Path) -> None:
        data = frame_records([b"", schema.Node(id=1, name="a long name").SerializeToString()])
        self.refused(tmp_path, data[:-3], "the file is cut")

    def test_cut_inside_a_length(self, tmp_path: Path) -> None:
        data = frame_records([b"", schema.Node(id=1, name="n" * 200).SerializeToString()])
        self.refused(tmp_path, data[:2], "ends inside a record's length")

    def test_a_length_beyond_the_file(self, tmp_path: Path) -> None:
        self.refused(tmp_path, b"\x00\xff\xff\x03abc", "65535 bytes is announced, but only 3")

    def test_a_cut_gzip_stream(self, tmp_path: Path) -> None:
        data = gzip.compress(frame_records([b"", b"\x08\x01"] * 50))
        self.refused(tmp_path, data[:-9], "gzip stream", "t.0.et.gz")

    def test_a_png(self, tmp_path: Path) -> None:
        self.refused(tmp_path, b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture")

    def test_random_bytes(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
        self.refused(tmp_path, noise, "not a Chakra execution graph")

    def test_json_that_is_something_else(self, tmp_path: Path) -> None:
        self.refused(tmp_path, b'{"a": 1}, 2', "not a Chakra execution graph|not valid JSON")

    def test_a_profiler_trace(self, tmp_path: Path) -> None:
        self.refused(tmp_path, b'{"traceEvents": []}', "chakrasim convert")

    def test_a_wrong_attribute_type_is_a_defect_with_the_node(self, tmp_path: Path) -> None:
        node = schema.Node(id=5, type=7)
        node.attr.add(name="comm_size", double_val=1.5)
        graph = read_records(tmp_path, [node])
        assert [(d.node_id, d.message) for d in graph.defects] == [
            (5, "comm_size is 1.5; expected an integer")
        ]


def test_writing_follows_links_and_leaves_devices_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    write_bytes_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"
    write_bytes_atomically(Path("/dev/null"), b"gone")
    assert not Path("/dev/null").is_file()


def test_the_workload_graph_form_of_json_is_read(tmp_path: Path) -> None:
    nodes = [
        {"Id": 1, "Name": "a", "NodeType": 4, "runtime": 3, "is_cpu_op": True, "data_deps": []},
        {"Id": 2, "Name": "b", "NodeType": 7, "ctrlDeps": [1], "comm_type": 0, "comm_size": 8},
    ]
    path = tmp_path / "small.0.json"
    path.write_text(json.dumps({"workload_graph": nodes}))
    graph = read_graph(path)
    assert graph.durations_ps.tolist() == [3_000_000, 0]
    assert graph.comm_bytes.tolist() == [-1, 8]
    assert graph.parents_of(1).tolist() == [0]
    assert graph.parent_is_control.tolist() == [True]


def test_the_jsonizer_form_of_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.0.json"
    node = '{"id": "7", "name": "x", "type": "COMP_NODE", "durationMicros": "5"}'
    path.write_text('{"version": "1"}' + node + node.replace("7", "8"))
    graph = read_graph(path)
    assert graph.ids.tolist() == [7, 8]
    assert graph.durations_ps.tolist() == [5_000_000, 5_000_000]
