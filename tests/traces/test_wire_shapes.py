"""Bytes that no writer makes but protobuf allows, or nearly: both ways of reading them agree.

Protobuf's messages can't express these, so the files here are put together field by field: overlong numbers,
fields that come twice or in another order, fields of another type than the schema's, unknown ones, and
damage at any byte of a file that is whole otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire import from_bytes

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records
from chakrasim.traces import io
from chakrasim.traces.attributes import attribute_columns, integer_attributes
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.shared import jit
from chakrasim.traces.testing import graph
from chakrasim.traces.writing.encode import encode_graph

pytestmark = pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")

RANK = 3
NEVER = 1 << 60
ID, NAME, TYPE, CONTROL, DATA, START, DURATION, INPUTS, OUTPUTS, ATTR = range(1, 11)
VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)
INT32, INT64, UINT32, UINT64, BOOL, BOOL_LIST, STRING = 7, 9, 11, 13, 27, 28, 29
SEND, RECEIVE = 5, 6

Outcome = ExecutionGraph | str


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAKRASIM_CACHE", "off")


def varint(value: int, length: int = 0) -> bytes:
    """A number in base 128, drawn out to `length` bytes where it takes fewer."""
    out = bytearray()
    while value >= 0x80 or len(out) + 1 < length:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3 | VARINT) + varint(value % 2**64)


def text(field: int, content: bytes) -> bytes:
    return varint(field << 3 | BYTES) + varint(len(content)) + content


def attribute(name: str, *values: bytes) -> bytes:
    return text(ATTR, text(1, name.encode()) + b"".join(values))


def file_of(*nodes: bytes, metadata: bytes = b"") -> bytes:
    return frame_records([metadata, *nodes])


MEMORY = schema.GlobalMetadata(attr=[schema.AttributeProto(name="memory", string_val="{}")])
KEEPS_NUMBERS = MEMORY.SerializeToString()
"""Of a file whose whole-number attributes are collected while it is read."""


def read(data: bytes, path: Path, min_bytes: int, *, drops_unknown: bool = False) -> Outcome:
    """The graph, or the message of its error."""
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "COMPILE_FROM_BYTES", min_bytes)
        patch.setattr(io, "WITH_NUMBA_FROM_BYTES", min_bytes)
        try:
            return io.read_graph(path, drop_unknown_dependencies=drops_unknown)
        except TraceError as error:
            return str(error)


def assert_same_either_way(data: bytes, folder: Path, *, drops_unknown: bool = False) -> None:
    path = folder / f"w.{RANK}.et"
    fast = read(data, path, 0, drops_unknown=drops_unknown)
    slow = read(data, path, NEVER, drops_unknown=drops_unknown)
    if isinstance(fast, str) or isinstance(slow, str):
        assert fast == slow
        return
    for field in fields(fast):
        one, other = getattr(fast, field.name), getattr(slow, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.tolist() == other.tolist(), field.name
        elif field.name == "records":
            assert (one and one()) == (other and other())
        elif field.name != "read_attributes":
            assert one == other, field.name
    assert repr([fast.attributes(row) for row in range(len(fast))]) == repr(
        [slow.attributes(row) for row in range(len(slow))]
    )
    names = integer_attributes(fast)
    assert names == integer_attributes(slow)
    assert outcome(lambda: attribute_columns(fast, names)) == outcome(lambda: attribute_columns(slow, names))


def outcome(function: Callable[[], list[Any]]) -> Any:
    try:
        return [column.tolist() for column in function()]
    except TraceError as error:
        return str(error)


def send() -> bytes:
    return attribute("comm_size", number(INT64, 8)) + attribute("comm_dst", number(INT32, 1))


ODD = {
    "a dependency of eight bytes": number(ID, 1) + varint(DATA << 3 | FIXED64) + bytes([0x80] * 8),
    "a dependency of four bytes": number(ID, 1) + varint(DATA << 3 | FIXED32) + bytes([0x80] * 4),
    "a dependency as a group": varint(DATA << 3 | GROUP) + varint(DATA << 3 | GROUP_END),
    "an id as bytes": number(ID, 1) + text(ID, b"\x01"),
    "an unknown field": number(ID, 1) + number(99, 7) + text(98, b"\xff"),
    "an unknown group": varint(99 << 3 | GROUP) + number(1, 1) + varint(99 << 3 | GROUP_END),
    "field 0": number(0, 1),
    "field 0 as bytes": text(0, b"x"),
    "a tag of five bytes": varint(ID << 3, 5) + varint(1),
    "a tag of six bytes": varint(ID << 3, 6) + varint(1),
    "a tag of ten bytes": varint(ID << 3, 10) + varint(1),
    "a tag over 32 bits": varint(1 << 35 | ID << 3) + varint(1),
    "a length of five bytes": varint(NAME << 3 | BYTES) + varint(1, 5) + b"x",
    "a length of six bytes": varint(NAME << 3 | BYTES) + varint(1, 6) + b"x",
    "an attribute's length of six bytes": varint(ATTR << 3 | BYTES) + varint(0, 6),
    "an attribute's name's length of six bytes": text(
        ATTR, varint(1 << 3 | BYTES) + varint(7, 6) + b"num_ops" + number(INT64, 7)
    ),
    "an attribute's tag of six bytes": attribute("num_ops", varint(INT64 << 3, 6) + b"\x07"),
    "an id of ten bytes": varint(ID << 3) + varint(1, 10),
    "an id of eleven bytes": varint(ID << 3) + varint(1, 11),
    "an id over 64 bits": varint(ID << 3) + b"\xff" * 9 + b"\x02",
    "dependencies' length of six bytes": varint(DATA << 3 | BYTES) + varint(1, 6) + b"\x00",
    "packed and single dependencies": text(DATA, b"\x00\x01") + number(DATA, 0) + text(CONTROL, b"\x00"),
    "packed dependencies that are cut": text(DATA, b"\x00\x80"),
    "packed dependencies of eleven bytes": text(DATA, varint(1, 11)),
    "a dependency drawn out": text(DATA, varint(0, 10)),
    "two ids": number(ID, 5) + number(ID, 7),
    "two names": text(NAME, b"one") + text(NAME, b"two"),
    "two names, the first not UTF-8": text(NAME, b"\xff") + text(NAME, b"two"),
    "two names, the second empty": text(NAME, b"one") + text(NAME, b""),
    "a name that isn't UTF-8": text(NAME, b"\xc3\x28"),
    "a name with a surrogate": text(NAME, b"\xed\xa0\x80"),
    "a name with a NUL": text(NAME, b"a\x00b"),
    "two kinds": number(TYPE, SEND) + send() + number(TYPE, RECEIVE),
    "two kinds, the last computes": number(TYPE, SEND) + send() + number(TYPE, 4),
    "a kind behind the attributes": send() + number(TYPE, SEND),
    "a kind that is no kind, then one": number(TYPE, 99) + number(TYPE, 4),
    "a negative kind": number(TYPE, -1),
    "a kind over 32 bits": number(TYPE, 2**32 + 4),
    "two starts": number(START, 5) + number(START, 0),
    "two durations": number(DURATION, 5) + number(DURATION, 0),
    "an impossible duration, then one": number(DURATION, 2**63) + number(DURATION, 2),
    "an impossible start, then one": number(START, 2**63) + number(START, 2),
    "a start, then an impossible one": number(START, 2) + number(START, 2**63),
    "a duration behind its attribute": attribute("duration_ps", number(INT64, 5)) + number(DURATION, 1),
    "an attribute without a name": text(ATTR, number(INT64, 5)),
    "an attribute with an empty name": attribute("", number(INT64, 5)),
    "an attribute with two names": text(ATTR, text(1, b"num_ops") + text(1, b"x") + number(INT64, 5)),
    "an attribute with a name last": text(ATTR, number(INT64, 5) + text(1, b"num_ops")),
    "an attribute with two values": attribute("num_ops", number(INT64, 5), number(INT32, 6)),
    "an attribute twice": attribute("num_ops", number(INT64, 5)) + attribute("num_ops", number(INT64, 6)),
    "an attribute twice, first without a value": attribute("num_ops")
    + attribute("num_ops", number(INT64, 6)),
    "an unknown attribute, a string and a number": (
        attribute("x", text(STRING, b"a")) + attribute("x", number(INT64, 6))
    ),
    "an unknown attribute, nothing and a number": attribute("x") + attribute("x", number(INT64, 6)),
    "an unknown attribute twice": attribute("x", number(INT64, 5)) + attribute("x", number(INT64, 6)),
    "an unknown attribute over 63 bits": attribute("x", number(UINT64, 2**64 - 1)),
    "an int32 over 32 bits": attribute("num_ops", number(INT32, 2**40 + 5)),
    "an int32 of five bytes": attribute("num_ops", varint(INT32 << 3) + varint(0x7FFFFFFF, 5)),
    "a uint32 over 32 bits": attribute("num_ops", number(UINT32, 2**40 + 5)),
    "a truth over 32 bits": attribute("is_cpu_op", number(BOOL, 2**40)),
    "a truth that is 2": attribute("is_cpu_op", number(BOOL, 2)),
    "a truth of ten bytes": attribute("is_cpu_op", varint(BOOL << 3) + varint(0, 10)),
    "an integer as eight bytes": attribute("num_ops", varint(INT64 << 3 | FIXED64) + bytes(8)),
    "an integer as bytes": attribute("num_ops", text(INT64, b"\x05")),
    "a string as an integer": attribute("lane", number(STRING, 5)),
    "a string that isn't UTF-8": attribute("note", text(STRING, b"\xff")),
    "a documentation that isn't UTF-8": attribute("note", text(2, b"\xff"), text(STRING, b"x")),
    "dimensions, packed": attribute("involved_dim", text(BOOL_LIST, text(1, b"\x01\x00"))),
    "dimensions, single": attribute("involved_dim", text(BOOL_LIST, number(1, 1) + number(1, 0))),
    "dimensions, mixed": attribute("involved_dim", text(BOOL_LIST, number(1, 0) + text(1, b"\x01\x01"))),
    "dimensions in two lists": attribute(
        "involved_dim", text(BOOL_LIST, number(1, 1)), text(BOOL_LIST, number(1, 0))
    ),
    "dimensions, none": attribute("involved_dim", text(BOOL_LIST, b"")),
    "dimensions drawn out": attribute("involved_dim", text(BOOL_LIST, text(1, varint(0, 10) + b"\x01"))),
    "dimensions over 64 bits": attribute("involved_dim", text(BOOL_LIST, text(1, varint(1, 11)))),
    "dimensions, unknown fields among them": attribute(
        "involved_dim", text(BOOL_LIST, number(1, 1) + number(9, 1))
    ),
    "dimensions, 62 of them": attribute("involved_dim", text(BOOL_LIST, text(1, b"\x01" * 61 + b"\x00"))),
    "dimensions, 63 of them": attribute("involved_dim", text(BOOL_LIST, text(1, b"\x01" * 62 + b"\x00"))),
    "dimensions' tag of six bytes": attribute(
        "involved_dim", text(BOOL_LIST, varint(1 << 3, 6) + b"\x01" + number(1, 0))
    ),
    "inputs with an unknown field": text(INPUTS, text(1, b"[]") + number(7, 1)),
    "inputs twice": text(INPUTS, text(1, b"[1]")) + text(INPUTS, text(2, b"[2]")),
    "inputs that aren't UTF-8": text(OUTPUTS, text(3, b"\xff")),
    "inputs' length of six bytes": text(INPUTS, varint(1 << 3 | BYTES) + varint(0, 6)),
    "inputs as a number": number(INPUTS, 1),
    "a list of numbers": attribute("splits", text(10, text(1, b"\x01\x02"))),
    "a list of 100 numbers": attribute("splits", text(8, text(1, bytes(100)))),
    "a list of truths for dimensions, 100 of them": attribute(
        "involved_dim", text(BOOL_LIST, text(1, bytes(100)))
    ),
    "a list of dimensions of the wrong kind": attribute("involved_dim", text(10, text(1, bytes(2)))),
    "a list of floats": attribute("x", text(6, text(1, bytes(8)))),
    "a list of strings in ASCII": attribute("tags", text(30, text(1, b"a") + text(1, b""))),
    "a list of strings with a number": attribute("tags", text(30, text(1, b"a") + number(1, 1))),
    "a list of strings for a size": attribute("comm_size", text(30, text(1, b"a"))),
    "a list of numbers that is cut": attribute("splits", text(10, text(1, b"\x01\x80"))),
    "a list of strings": attribute("tags", text(30, text(1, b"a") + text(1, b"\xff"))),
    "an unknown field in an attribute": attribute("num_ops", number(60, 1), number(INT64, 5)),
    "an attribute cut in its name": text(ATTR, b"\x0a\x09num_ops"),
    "a lane, empty": attribute("lane", text(STRING, b"")),
    "a lane twice": attribute("lane", text(STRING, b"")) + attribute("lane", text(STRING, b"x")),
    "a group, empty": attribute("pg_name", text(STRING, b"")) + attribute("pg_name", text(STRING, b"1")),
}


@pytest.mark.parametrize("metadata", [b"", KEEPS_NUMBERS], ids=["", "numbers kept"])
@pytest.mark.parametrize("what", ODD)
def test_odd_fields_are_read_the_same_either_way(what: str, metadata: bytes, tmp_path: Path) -> None:
    plain = number(ID, 0) + number(TYPE, 4) + text(NAME, b"plain")
    assert_same_either_way(file_of(plain, number(ID, 1) + ODD[what], metadata=metadata), tmp_path)
    assert_same_either_way(file_of(ODD[what] + number(ID, 1), plain, metadata=metadata), tmp_path)


@pytest.mark.parametrize("length", range(1, 13))
def test_lengths_of_records_may_be_drawn_out(length: int, tmp_path: Path) -> None:
    node = number(ID, 1) + number(TYPE, 4)
    data = varint(0, length) + varint(len(node), length) + node
    assert_same_either_way(data, tmp_path)


@pytest.mark.parametrize("head", [b"\x89PNG", b"PK\x03\x04", b"%PDF", b"\x7fELF"])
def test_other_formats_are_named_even_if_they_could_be_graphs(head: bytes, tmp_path: Path) -> None:
    """A first record whose length and first bytes happen to be those of another format."""
    length = head[0] if head[0] < 0x80 else (head[0] & 0x7F) | head[1] << 7
    body = head[1 if head[0] < 0x80 else 2 :]
    filler = length - len(body) - 4
    body += varint(15 << 3 | BYTES) + varint(max(filler, 0)) + bytes(max(filler, 0))
    data = (head[:1] if head[0] < 0x80 else head[:2]) + body[:length].ljust(length, b"\x00")
    assert_same_either_way(data + frame_records([number(ID, 1) + number(TYPE, 4)]), tmp_path)


def test_observed_process_groups_are_the_same_either_way(tmp_path: Path) -> None:
    """Two nodes say different things of a group: the last one in the file counts, whatever its id."""

    def node(node_id: int, ranks: list[int]) -> bytes:
        listed = json.dumps([{"pg_name": "7", "ranks": ranks, "group_size": len(ranks)}])
        inputs = text(INPUTS, text(1, f"['{listed}']".encode()))
        return number(ID, node_id) + text(NAME, b"## process_group:init ##") + number(TYPE, 4) + inputs

    data = file_of(node(9, [0, 1]), number(ID, 5) + number(TYPE, 4), node(2, [2, 3]))
    fast = from_bytes(data, RANK)
    assert fast is not None
    assert fast.groups == {"7": (2, 3)}
    assert_same_either_way(data, tmp_path)


@given(dependencies=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4))
@settings(max_examples=100)
def test_dependencies_on_unknown_nodes_are_dropped_the_same_either_way(
    dependencies: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ids are 2, 4, … so that unknown ones lie before, between and behind them."""
    nodes = [
        number(ID, 2 * place + 2) + number(TYPE, 4) + text(CONTROL if place == 1 else DATA, bytes(parents))
        for place, parents in enumerate(dependencies)
    ]
    data, folder = file_of(*nodes), tmp_path_factory.mktemp("unknown")
    assert from_bytes(data, RANK, drops_unknown=True) is not None
    assert_same_either_way(data, folder, drops_unknown=True)
    assert_same_either_way(data, folder)


PARTS = [content for content in ODD.values() if len(content) < 60]


@given(
    nodes=st.lists(st.lists(st.sampled_from(PARTS), max_size=4), min_size=1, max_size=4),
    metadata=st.sampled_from([b"", KEEPS_NUMBERS]),
)
@settings(max_examples=300)
def test_odd_fields_together_are_read_the_same_either_way(
    nodes: list[list[bytes]], metadata: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = [number(ID, place) + b"".join(parts) for place, parts in enumerate(nodes)]
    assert_same_either_way(file_of(*records, metadata=metadata), tmp_path_factory.mktemp("odd"))


def whole_file() -> bytes:
    """All kinds of nodes, attributes and edges in under 1,000 bytes."""
    one = encode_graph(graph("a:10 -> b:5@stream7 -> d:3, a -> c:7"))
    nodes = [
        number(ID, 4) + number(TYPE, 7) + text(NAME, "größe".encode())
        + attribute("comm_type", number(INT64, 0)) + attribute("comm_size", number(UINT64, 300))
        + attribute("pg_name", text(STRING, b"dp")) + text(DATA, b"\x00\x01"),
        number(ID, 5) + number(TYPE, SEND) + number(START, 9) + number(DURATION, 4) + send(),
        number(ID, 6) + number(TYPE, 4) + attribute("is_cpu_op", number(BOOL, 1))
        + attribute("dtype", text(STRING, b"bf16")) + attribute("layer", number(INT32, 3))
        + attribute("involved_dim", text(BOOL_LIST, text(1, b"\x01\x00"))) + text(INPUTS, text(1, b"[1]")),
    ]  # fmt: skip
    return one + frame_records(nodes)


WHOLE = whole_file()


def test_the_whole_file_is_read_without_objects() -> None:
    """Else the tests with damage below would compare the slow way with itself."""
    assert from_bytes(WHOLE, RANK) is not None


def test_every_cut_is_read_the_same_either_way(tmp_path: Path) -> None:
    for length in range(1, len(WHOLE)):
        assert_same_either_way(WHOLE[:length], tmp_path)


@pytest.mark.slow
@given(
    at=st.integers(0, len(WHOLE) - 1),
    put=st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff"]) | st.binary(min_size=1, max_size=3),
)
@settings(max_examples=1000)
def test_damage_anywhere_is_read_the_same_either_way(
    at: int, put: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_same_either_way(WHOLE[:at] + put + WHOLE[at + len(put) :], tmp_path_factory.mktemp("damage"))
