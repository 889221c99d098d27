"""Reading files without objects gives what reading them with protobuf's gives, or leaves it to that."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records, split_records
from chakrasim.traces import io
from chakrasim.traces.attributes import RecordAttributes, attribute_columns, integer_attributes
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.reading.fast_decode import graph_from_bytes, source_of
from chakrasim.traces.shared import jit
from chakrasim.traces.testing import graph
from chakrasim.traces.writing.encode import encode_graph

pytestmark = pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAKRASIM_CACHE", "off")


def read_with_objects(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExecutionGraph:
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", 1 << 60)
    monkeypatch.setattr(io, "WITH_NUMBA_FROM_BYTES", 1 << 60)
    path = tmp_path / "w.3.et"
    path.write_bytes(data)
    return io.read_graph(path)


def assert_same(one: ExecutionGraph, other: ExecutionGraph) -> None:
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert np.array_equal(a, b), field.name
        elif field.name == "records":
            assert a() == b()
        elif field.name != "read_attributes":
            assert a == b, field.name
    for row in range(0, len(one), max(1, len(one) // 50)):
        assert one.attributes(row) == other.attributes(row)
    names = integer_attributes(one)
    assert names == integer_attributes(other)
    for a, b in zip(attribute_columns(one, names), attribute_columns(other, names), strict=True):
        assert np.array_equal(a, b)


INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 9)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int32_val": st.integers(-(2**31), 2**31 - 1) | SMALL,
    "int64_val": INT64 | SMALL,
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1) | SMALL,
    "sint64_val": SMALL,
    "fixed64_val": SMALL,
    "bool_val": st.booleans(),
    "double_val": st.floats(allow_nan=False),
    "float_val": st.sampled_from([0.5, 2.0]),
    "string_val": st.sampled_from(["", "0", "stream 7", "bf16", "größer"]),
    "bytes_val": st.just(b"\xff"),
}
NAMES = st.sampled_from(
    [
        "num_ops", "tensor_size", "comm_type", "comm_size", "comm_tag", "duration_ps", "start_ps", "comm_src",
        "comm_dst", "comm_root", "comm_priority", "involved_dim", "is_cpu_op", "pg_name", "lane", "dtype",
        "op_kind", "layer", "other", "",
    ]
)  # fmt: skip


WORDS = ("pg_name", "lane", "dtype", "op_kind")
SOUND_INTEGERS = ("int32_val", "int64_val", "uint32_val", "uint64_val", "bool_val")


@st.composite
def attributes(draw: st.DrawFn, is_odd: bool) -> Any:
    attribute = schema.AttributeProto(name=draw(NAMES))
    kind = draw(st.sampled_from([*VALUES, "bool_list", "int64_list", "none"]))
    if not is_odd:
        of_known = "string_val" if attribute.name in WORDS else draw(st.sampled_from(SOUND_INTEGERS))
        kind = "bool_list" if attribute.name == "involved_dim" else of_known
        if attribute.name in ("", "layer", "other"):
            kind = draw(st.sampled_from(["int64_val", "double_val", "string_val", "bool_val", "none"]))
    if kind == "bool_list":
        attribute.bool_list.values.extend(draw(st.lists(st.booleans(), max_size=4)))
    elif kind == "int64_list":
        attribute.int64_list.values.extend([1, 2])
    elif kind != "none":
        small = st.booleans() if kind == "bool_val" else st.sampled_from([0, 3, 100])
        value = draw(small if not is_odd and kind in SOUND_INTEGERS else VALUES[kind])
        setattr(attribute, kind, "lane 1" if not is_odd and value == "größer" else value)
    if draw(st.integers(0, 9)) == 0:
        attribute.doc_string = "größe" if is_odd else "why"
    return attribute


@st.composite
def files(draw: st.DrawFn) -> bytes:
    is_odd = draw(st.integers(0, 3)) == 0
    metadata = schema.GlobalMetadata(version="0.0.4")
    if draw(st.booleans()):
        metadata.attr.add(name="memory", string_val="{}")
    ids = draw(st.lists(st.integers(0, 12) | st.just(2**64 - 1), min_size=1, max_size=8))
    names = ["", "gemm", "größe"]
    parents, kinds, micros = st.sampled_from(ids), st.integers(0, 4), st.sampled_from([0, 3, 9223372036854])
    if is_odd:
        names.append("process_group:init")
        parents, kinds, micros = parents | st.just(5), st.integers(0, 8), micros | st.just(2**63)
    else:
        ids = list(dict.fromkeys(ids))
        kinds |= st.just(7)
    nodes = []
    for node_id in ids:
        node = schema.Node(id=node_id, name=draw(st.sampled_from(names)), type=draw(kinds))
        for deps in (node.data_deps, node.ctrl_deps):
            deps.extend(draw(st.lists(parents, max_size=3)))
        node.duration_micros, node.start_time_micros = draw(micros), draw(micros)
        if draw(st.integers(0, 4)) == 0:
            node.inputs.values = "ö" if is_odd else "[1]"
        node.attr.extend(draw(st.lists(attributes(is_odd), max_size=5)))
        nodes.append(node.SerializeToString())
    return frame_records([metadata.SerializeToString(), *nodes])


def from_bytes(data: bytes, rank: int = 3, *, drops_unknown: bool = False) -> ExecutionGraph | None:
    """The graph as it is read without objects, if it can be."""
    source = source_of(data, rank, drops_unknown=drops_unknown)
    return None if source is None else graph_from_bytes(source)


@pytest.mark.slow
@given(data=files())
@settings(max_examples=400)
def test_whatever_is_read_is_the_same(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    fast = from_bytes(data)
    if fast is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        slow = read_with_objects(data, tmp_path_factory.mktemp("wire"), patch)
    assert not slow.defects
    assert_same(fast, slow)


@cache
def sound() -> bytes:
    workload = generate_training(load_model("llama3-8b"), Plan(tensor=2, pipeline=2, global_batch=2))
    first = next(iter(workload.graphs.values()))
    return encode_graph(replace(first, rank=3))


def test_sound_files_are_read_without_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (sound(), encode_graph(replace(graph("a:10 -> b:5@stream7, a -> c:7"), rank=3))):
        fast = from_bytes(data)
        assert fast is not None
        assert_same(fast, read_with_objects(data, tmp_path, monkeypatch))
        assert isinstance(fast.read_attributes, RecordAttributes)


@given(cut=st.integers(0, 3000), at=st.integers(0, 3000), byte=st.integers(0, 255), is_cut=st.booleans())
@settings(max_examples=400)
def test_damaged_files_are_never_read_otherwise(
    cut: int, at: int, byte: int, is_cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = sound()
    whole = whole[: max(end for _, end in split_records(whole) if end <= 3000)]
    data = bytearray(whole[:cut] if is_cut else whole)
    if at < len(data):
        data[at] = byte
    fast = from_bytes(bytes(data))
    if fast is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        try:
            slow = read_with_objects(bytes(data), tmp_path_factory.mktemp("wire"), patch)
        except TraceError as error:
            pytest.fail(f"read without objects, though {error}")
    assert_same(fast, slow)


@pytest.mark.parametrize("rank", [0, 1])
def test_real_graphs_are_the_same(
    shared: Path, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.read_bytes(shared / f"real_traces/dummy_2groups_et/chakra_trace.{rank}.et")
    fast = from_bytes(data)
    assert fast is not None
    assert_same(fast, read_with_objects(data, tmp_path, monkeypatch))


def test_large_files_take_this_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.3.et"
    path.write_bytes(sound())
    expected = io.read_graph(path)
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", 1)
    monkeypatch.setattr(io, "_parse_records", None)  # what makes the objects
    assert_same(io.read_graph(path), expected)
