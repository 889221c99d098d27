"""Columns to the bytes of a Chakra file.

Messages are put together from whole columns of encoded fields, since one protobuf object a node takes five
times as long; a test holds the bytes against what protobuf itself writes. Fields and attributes stand in the
order of `execution_graph.proto` and of this file.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.attributes import HAVE_COLUMNS, NodeAttributes
from chakrasim.traces.builder import NODE_COLUMNS
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.shared import jit
from chakrasim.traces.units import PS_PER_US
from chakrasim.traces.writing.encode_fields import (
    MAX_BYTES,
    Field,
    Lists,
    Numbers,
    Texts,
    framed,
    records,
    sized,
    varints,
)

SCHEMA_VERSION = "0.0.4"

BLOCK_NODES = 32_768
"""Nodes that are encoded at a time: enough for numpy, and few enough for the processor's cache."""
COMPILE_FROM_NODES, WITH_NUMBA_FROM_NODES = 400_000, 5_000
"""From which on compiled code is worth its loading, before numba is there and where it is already."""

_LENGTH_DELIMITED = 2
_INT32, _INT64, _UINT64 = "int32_val", "int64_val", "uint64_val"


def encode_graph(graph: ExecutionGraph) -> bytes:
    """The bytes of a file: GlobalMetadata, then one Node a row, each with its length before it. O(n + m)."""
    return b"".join(encoded_parts(graph))


def encoded_parts(graph: ExecutionGraph) -> Iterator[bytes]:
    """The same in parts, which take less memory one by one."""
    metadata = _metadata(graph).SerializeToString()
    yield varints(np.array([len(metadata)]))[0] + metadata
    is_compiled = len(graph) >= (WITH_NUMBA_FROM_NODES if jit.is_loaded() else COMPILE_FROM_NODES)
    for block in _blocks(graph):
        fields = _fields(block, graph.ids)
        if is_compiled and not jit.is_off():
            yield framed(fields)
            continue
        bodies = records(fields)
        parts: list[bytes] = [b""] * (2 * len(bodies))
        parts[0::2] = varints(np.array([*map(len, bodies)], dtype=np.uint64))
        parts[1::2] = bodies
        yield b"".join(parts)


def messages_from_graph(graph: ExecutionGraph) -> Iterator[Any]:
    """GlobalMetadata, then one Node a row, as protobuf's objects: for looking at, not for writing."""
    yield _metadata(graph)
    for record in encode_nodes(graph):
        yield schema.Node.FromString(record)


def encode_nodes(graph: ExecutionGraph) -> list[bytes]:
    """The body of each row's record."""
    return [record for block in _blocks(graph) for record in records(_fields(block, graph.ids))]


def _blocks(graph: ExecutionGraph) -> Iterator[ExecutionGraph]:
    """Rows of a graph, some at a time; their parents are rows of the whole."""
    read, n = graph.read_attributes, len(graph)
    with_rows = sorted(read.rows) if isinstance(read, NodeAttributes) else []
    for first in range(0, n, BLOCK_NODES):
        last = min(first + BLOCK_NODES, n)
        edges = slice(graph.parent_offsets[first], graph.parent_offsets[last])
        part: Callable[[int], dict[str, Any]] | None = None
        if isinstance(read, NodeAttributes):
            chosen = with_rows[bisect_left(with_rows, first) : bisect_left(with_rows, last)]
            columns = {name: column[first:last] for name, column in read.columns.items()}
            part = NodeAttributes(columns, {row - first: read.rows[row] for row in chosen})
        elif read is not None:
            part = partial(_read_later, read, first)
        yield replace(
            graph,
            **{name: getattr(graph, name)[first:last] for name in NODE_COLUMNS},
            parent_offsets=graph.parent_offsets[first : last + 1] - graph.parent_offsets[first],
            parents=graph.parents[edges],
            parent_is_control=graph.parent_is_control[edges],
            read_attributes=part,
        )


def _read_later(read: Callable[[int], dict[str, Any]], first: int, row: int) -> dict[str, Any]:
    return read(first + row)


def _fields(graph: ExecutionGraph, ids: NDArray[np.uint64]) -> list[Field]:
    """Fields of a block's records; `ids` are those of the whole graph."""
    starts, durations = graph.starts_ps, graph.durations_ps
    return [
        _number("id", graph.ids, graph.ids > 0),
        _names_and_kinds(graph),
        *_dependencies(graph, ids),
        # Chakra keeps whole microseconds; the exact value goes into attributes of ours.
        _number("start_time_micros", starts // PS_PER_US, starts >= PS_PER_US),
        _number("duration_micros", durations // PS_PER_US, durations >= PS_PER_US),
        Texts(graph.is_cpu, [_attribute("is_cpu_op", bool_val=is_cpu) for is_cpu in (False, True)]),
        _whole("duration_ps", _INT64, durations, durations % PS_PER_US > 0),
        _whole("start_ps", _INT64, starts, starts >= 0),
        _whole("num_ops", _INT64, graph.ops, graph.ops != -1),
        _whole("tensor_size", _UINT64, graph.tensor_bytes, graph.tensor_bytes != -1),
        *_communication(graph),
        _words("lane", graph.lanes, graph.lane_names),
        _words("dtype", graph.dtype_ids, graph.dtypes),
        _words("op_kind", graph.op_kind_ids, graph.op_kinds),
        _involved_dims(graph),
        _whole("comm_priority", _INT64, graph.priorities, graph.priorities != 0),
        *_other_attributes(graph),
    ]


@cache
def _tag(message: Any, field: str, wire_type: int) -> bytes:
    return varints(np.array([message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type]))[0]


def _number(field: str, values: NDArray[Any], is_present: NDArray[np.bool_]) -> Field:
    """A whole-number field of Node."""
    return Numbers(values, is_present, [_tag(schema.Node, field, 0)] * (MAX_BYTES + 1))


def _whole(name: str, kind: str, values: NDArray[Any], is_present: NDArray[np.bool_]) -> Field:
    """A whole-number attribute."""
    return Numbers(values, is_present, _heads(name, kind))


@cache
def _heads(name: str, kind: str) -> list[bytes]:
    """Bytes before the value of an attribute, by the bytes that it takes."""
    tag = _tag(schema.Node, "attr", _LENGTH_DELIMITED)
    body = sized(_tag(schema.AttributeProto, "name", _LENGTH_DELIMITED), name.encode())
    body += _tag(schema.AttributeProto, kind, 0)
    return [tag + varints(np.array([len(body) + size]))[0] + body for size in range(MAX_BYTES + 1)]


def _attribute(name: str, **value: Any) -> bytes:
    """One attribute, with its tag and length, as a field of Node."""
    node = schema.Node()
    node.attr.add(name=name, **value)
    encoded: bytes = node.SerializeToString()
    return encoded


def _words(name: str, index: NDArray[Any], words: Sequence[str]) -> Field:
    """An attribute of strings; -1 is absent, and -2, which only lanes have, the empty string."""
    assert (DEFAULT_LANE, NO_LANE) == (-1, -2)
    return Texts(
        index, [*(_attribute(name, string_val=word) for word in words), _attribute(name, string_val=""), b""]
    )


def _names_and_kinds(graph: ExecutionGraph) -> Field:
    name_tag = _tag(schema.Node, "name", _LENGTH_DELIMITED)
    kind_tag = _tag(schema.Node, "type", 0)
    kinds = int(graph.kinds.max(initial=0)) + 1
    both = graph.name_ids.astype(np.int64) * kinds + graph.kinds
    used, index = np.unique(both, return_inverse=True)
    table = []
    for name, kind in (divmod(k, kinds) for k in used.tolist()):
        text = graph.names[name].encode()
        table.append((sized(name_tag, text) if text else b"") + (kind_tag + bytes([kind]) if kind else b""))
    return Texts(index.reshape(-1), table)


def _dependencies(graph: ExecutionGraph, ids_of_rows: NDArray[np.uint64]) -> Iterator[Field]:
    """Control dependencies, then data dependencies: ids of parents, packed."""
    n = len(graph)
    child = np.repeat(np.arange(n), np.diff(graph.parent_offsets))
    for field, is_chosen in (("ctrl_deps", graph.parent_is_control), ("data_deps", ~graph.parent_is_control)):
        offsets = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(child[is_chosen], minlength=n), out=offsets[1:])
        ids = ids_of_rows[graph.parents[is_chosen]]
        yield Lists(offsets, ids, _tag(schema.Node, field, _LENGTH_DELIMITED))


def _communication(graph: ExecutionGraph) -> Iterator[Field]:
    yield _whole("comm_type", _INT64, graph.comm_kinds, graph.comm_kinds >= 0)
    yield _whole("comm_size", _INT64, graph.comm_bytes, graph.comm_bytes >= 0)
    yield _words("pg_name", graph.group_ids, graph.group_names)
    has_peer = graph.peers >= 0
    is_send, is_receive = graph.kinds == NodeKind.SEND, graph.kinds == NodeKind.RECV
    yield _whole("comm_dst", _INT32, graph.peers, has_peer & is_send)
    yield _whole("comm_src", _INT32, graph.peers, has_peer & is_receive)
    yield _whole("comm_root", _INT32, graph.peers, has_peer & ~is_send & ~is_receive)
    is_small = graph.tags < 2**31
    yield _whole("comm_tag", _INT32, graph.tags, (graph.tags >= 0) & is_small)
    yield _whole("comm_tag", _INT64, graph.tags, (graph.tags >= 0) & ~is_small)


def _involved_dims(graph: ExecutionGraph) -> Field:
    rows = np.flatnonzero(graph.involved_dims >= 0)
    texts = []
    for dims in graph.involved_dims[rows].tolist():
        node = schema.Node()
        # Other readers take four dimensions for granted.
        is_involved = [bool(dims >> d & 1) for d in range(max(4, dims.bit_length()))]
        node.attr.add(name="involved_dim").bool_list.values.extend(is_involved)
        texts.append(node.SerializeToString())
    return _in_rows(rows, texts, len(graph))


def _other_attributes(graph: ExecutionGraph) -> Iterator[Field]:
    """Attributes without a column in the graph."""
    read, n = graph.read_attributes, len(graph)
    if isinstance(read, NodeAttributes):
        for name, column in read.columns.items():
            yield _whole(name, _INT64, column, column != -1)
        rows: Mapping[int, Mapping[str, Any]] = read.rows
    else:
        rows = {row: read(row) for row in range(n)} if read is not None else {}
    texts, chosen = [], []
    for row, attributes in rows.items():
        node = schema.Node()
        _add_attributes(node.attr, {k: v for k, v in attributes.items() if k not in HAVE_COLUMNS})
        if node.attr:
            chosen.append(row)
            texts.append(node.SerializeToString())
    yield _in_rows(np.array(chosen, dtype=np.int64), texts, n)


def _in_rows(rows: NDArray[Any], texts: Sequence[bytes], n: int) -> Field:
    """A text in each of some rows."""
    index = np.full(n, -1, dtype=np.int64)
    index[rows] = np.arange(len(texts))
    return Texts(index, [*texts, b""])


def _metadata(graph: ExecutionGraph) -> Any:
    message = schema.GlobalMetadata(version=SCHEMA_VERSION)
    attributes = {
        # Counts of operations may take more than orjson's 64 bits.
        k: json.dumps(v, separators=(",", ":"), ensure_ascii=False) if isinstance(v, Mapping) else v
        for k, v in graph.metadata.items()
        if k != "version"
    }
    attributes["rank"] = graph.rank
    if graph.groups:
        attributes["process_groups"] = orjson.dumps(dict(graph.groups)).decode()
    _add_attributes(message.attr, attributes)
    return message


def _add_attributes(target: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if value is None:
            target.add(name=name)
        elif isinstance(value, list | tuple):
            attr = target.add(name=name)
            getattr(attr, f"{_kind(value[0]) if value else 'string'}_list").values.extend(value)
        else:
            target.add(name=name, **{f"{_kind(value)}_val": value})


def _kind(value: Any) -> str:
    for types, kind in ((bool, "bool"), (int, "int64"), (float, "double"), (str, "string")):
        if isinstance(value, types):
            return kind
    if isinstance(value, bytes):
        return "bytes"
    raise TypeError(f"an attribute can't hold a {type(value).__name__}")
