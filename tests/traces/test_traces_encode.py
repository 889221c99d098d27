"""The encoder puts messages together by hand: protobuf itself says whether they are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.attributes import NodeAttributes
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.io import read_graph, write_graph
from chakrasim.traces.testing import graph
from chakrasim.traces.writing import encode
from chakrasim.traces.writing.encode import _blocks, _fields, encode_graph, encode_nodes
from chakrasim.traces.writing.encode_bytes import put_records
from chakrasim.traces.writing.encode_fields import framed

NUMBERS = st.one_of(st.just(-1), st.sampled_from([0, 1, 127, 128, 2**31 - 1, 2**31, 2**62, 2**63 - 1]))


@st.composite
def graphs(draw: st.DrawFn) -> ExecutionGraph:
    """A few nodes whose columns hold absent, small, and very large numbers."""
    plain = graph("a:1 -> b:2 -> c:3, a -> c, d:4")
    n = len(plain)

    def column(values: st.SearchStrategy[int], dtype: type) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)

    return replace(
        plain,
        ids=np.sort(column(st.integers(0, 2**64 - n), np.uint64)) + np.arange(n, dtype=np.uint64),
        kinds=column(st.sampled_from(list(NodeKind)), np.int8),
        names=("", "gemm", "ä" * 100, "x" * 300),
        name_ids=column(st.integers(0, 3), np.int32),
        durations_ps=column(st.sampled_from([0, 1, 999_999, 1_000_000, 2**62]), np.int64),
        starts_ps=column(NUMBERS, np.int64),
        ops=column(NUMBERS, np.int64),
        tensor_bytes=column(NUMBERS, np.int64),
        comm_kinds=column(st.integers(-1, 9), np.int8),
        comm_bytes=column(NUMBERS, np.int64),
        group_names=("", "tp"),
        group_ids=column(st.integers(-1, 1), np.int32),
        peers=column(st.integers(-1, 9), np.int32),
        tags=column(NUMBERS, np.int64),
        lane_names=("stream 7",),
        lanes=column(st.integers(-2, 0), np.int32),
        is_cpu=column(st.integers(0, 1), np.bool_),
        dtypes=("bf16",),
        dtype_ids=column(st.integers(-1, 0), np.int8),
        op_kinds=("matmul", "launch"),
        op_kind_ids=column(st.integers(-1, 1), np.int8),
        involved_dims=column(st.sampled_from([-1, 0, 5, 2**40]), np.int64),
        priorities=column(st.sampled_from([0, 7, -3]), np.int64),
        parent_is_control=column(st.integers(0, 1), np.bool_)[: len(plain.parents)],
        read_attributes=NodeAttributes({"rf_id": column(NUMBERS, np.int64)}, {1: {"split": [1, 2]}}),
    )


@given(graphs())
def test_every_record_is_what_protobuf_would_write(of: ExecutionGraph) -> None:
    for record in encode_nodes(of):
        assert schema.Node.FromString(record).SerializeToString() == record


@given(graphs())
def test_fields_say_what_the_columns_say(of: ExecutionGraph) -> None:
    for row, record in enumerate(encode_nodes(of)):
        node = schema.Node.FromString(record)
        assert (node.id, node.name, node.type) == (of.ids[row], of.name(row), of.kinds[row])
        assert sorted([*node.ctrl_deps, *node.data_deps]) == of.ids[of.parents_of(row)].tolist()
        found = {a.name: getattr(a, a.WhichOneof("value")) for a in node.attr if a.name != "split"}
        assert found["is_cpu_op"] == of.is_cpu[row]
        assert found.get("num_ops", -1) == of.ops[row]
        assert found.get("op_kind", "") == ("matmul", "launch", "")[of.op_kind_ids[row]]
        assert found.get("tensor_size", -1) == of.tensor_bytes[row]
        assert found.get("comm_tag", -1) == of.tags[row]
        assert found.get("start_ps", -1) == of.starts_ps[row]
        assert found.get("comm_priority", 0) == of.priorities[row]
        assert len(found) + (row == 1) == len(node.attr)


@given(graphs())
def test_compiled_and_plain_writers_write_the_same(of: ExecutionGraph) -> None:
    by_objects = encode_graph(of)
    (block,) = _blocks(of)
    fields = _fields(block, of.ids)
    first = by_objects.index(framed(fields, put_records))
    assert framed(fields, put_records) == framed(fields) == by_objects[first:]


def test_blocks_of_nodes_make_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    of = graph("a:1 -> b:2 -> c:3, a -> c, d:4 -> e:5, c -> f:6")
    of = replace(
        of, read_attributes=NodeAttributes({"rf_id": np.arange(6) - 1}, {1: {"x": 1}, 4: {"y": "z"}})
    )
    whole = encode_graph(of)
    later = encode_graph(replace(of, read_attributes=of.attributes))
    for size in (1, 2, 4):
        monkeypatch.setattr(encode, "BLOCK_NODES", size)
        assert encode_graph(of) == whole
        assert encode_graph(replace(of, read_attributes=of.attributes)) == later
        monkeypatch.setattr(encode, "WITH_NUMBA_FROM_NODES", 0)
        monkeypatch.setattr(encode, "COMPILE_FROM_NODES", 0)
        assert encode_graph(of) == whole


def test_records_stand_behind_their_lengths() -> None:
    of = graph("a:1 -> b:2")
    data = encode_graph(of)
    nodes = encode_nodes(of)
    assert data.endswith(bytes([len(nodes[0])]) + nodes[0] + bytes([len(nodes[1])]) + nodes[1])


def test_no_length_of_the_first_record_makes_a_file_look_like_json(tmp_path: Path) -> None:
    """A record of 123 bytes begins with a brace, one of 91 with a bracket."""
    firsts = set()
    for size in range(60, 130):
        of = replace(graph("a:1"), metadata={"note": "x" * size})
        write_graph(of, tmp_path / "t.0.et")
        firsts.add((tmp_path / "t.0.et").read_bytes()[:1])
        assert read_graph(tmp_path / "t.0.et").metadata["note"] == "x" * size
    assert {b"{", b"["} <= firsts
