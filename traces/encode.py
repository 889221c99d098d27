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
from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.attributes import HAVE_COLUMNS, NodeAttributes
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_US

SCHEMA_VERSION = "0.0.4"

BLOCK_NODES = 32_768
"""Nodes that are encoded at a time: enough for numpy, and few enough for the processor's cache."""

_COLUMNS = (
    *("ids", "kinds", "name_ids", "durations_ps", "starts_ps", "ops", "tensor_bytes", "comm_kinds"),
    *("comm_bytes", "group_ids", "peers", "tags", "lanes", "is_cpu", "dtype_ids", "op_kind_ids"),
    *("involved_dims", "priorities"),
)
_LENGTH_DELIMITED = 2
_INT32, _INT64, _UINT64 = "int32_val", "int64_val", "uint64_val"


def encode_graph(graph: ExecutionGraph) -> bytes:
    """The bytes of a file: GlobalMetadata, then one Node a row, each with its length before it. O(n + m)."""
    return b"".join(encoded_parts(graph))


def encoded_parts(graph: ExecutionGraph) -> Iterator[bytes]:
    """The same in parts, which take less memory one by one."""
    yield _framed([_metadata(graph).SerializeToString()])
    for block in _blocks(graph):
        yield _framed(_encode_block(block, graph.ids))


def messages_from_graph(graph: ExecutionGraph) -> Iterator[Any]:
    """GlobalMetadata, then one Node a row, as protobuf's objects: for looking at, not for writing."""
    yield _metadata(graph)
    for record in encode_nodes(graph):
        yield schema.Node.FromString(record)


def encode_nodes(graph: ExecutionGraph) -> list[bytes]:
    """The body of each row's record."""
    return [record for block in _blocks(graph) for record in _encode_block(block, graph.ids)]


def _framed(records: list[bytes]) -> bytes:
    parts: list[bytes] = [b""] * (2 * len(records))
    parts[0::2] = _varints(np.array([*map(len, records)], dtype=np.uint64))
    parts[1::2] = records
    return b"".join(parts)


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
            **{name: getattr(graph, name)[first:last] for name in _COLUMNS},
            parent_offsets=graph.parent_offsets[first : last + 1] - graph.parent_offsets[first],
            parents=graph.parents[edges],
            parent_is_control=graph.parent_is_control[edges],
            read_attributes=part,
        )


def _read_later(read: Callable[[int], dict[str, Any]], first: int, row: int) -> dict[str, Any]:
    return read(first + row)


def _encode_block(graph: ExecutionGraph, ids: NDArray[np.uint64]) -> list[bytes]:
    """The bodies of a block's records; `ids` are those of the whole graph."""
    starts, durations = graph.starts_ps, graph.durations_ps
    fields = [
        _integers("id", graph.ids, graph.ids > 0),
        _names_and_kinds(graph),
        *_dependencies(graph, ids),
        # Chakra keeps whole microseconds; the exact value goes into attributes of ours.
        _integers("start_time_micros", starts // PS_PER_US, starts >= PS_PER_US),
        _integers("duration_micros", durations // PS_PER_US, durations >= PS_PER_US),
        _chosen(graph.is_cpu, [_attribute("is_cpu_op", bool_val=is_cpu) for is_cpu in (False, True)]),
        _integer_attributes("duration_ps", _INT64, durations, durations % PS_PER_US > 0),
        _integer_attributes("start_ps", _INT64, starts, starts >= 0),
        _integer_attributes("num_ops", _INT64, graph.ops),
        _integer_attributes("tensor_size", _UINT64, graph.tensor_bytes),
        *_communication(graph),
        _lanes(graph),
        _chosen(graph.dtype_ids, [*(_attribute("dtype", string_val=d) for d in graph.dtypes), b""]),
        _op_kinds(graph),
        _involved_dims(graph),
        _integer_attributes("comm_priority", _INT64, graph.priorities, graph.priorities != 0),
        *_other_attributes(graph),
    ]
    return [b"".join(parts) for parts in zip(*[f for f in fields if f is not None], strict=True)]


def _varints(values: NDArray[Any]) -> list[bytes]:
    """Each number as protobuf's base-128 varint; a negative one counts as its 64-bit two's complement."""
    rest = values.astype(np.uint64) if values.dtype != np.uint64 else values
    width = max(1, -(-int(rest.max(initial=0)).bit_length() // 7))
    digits = np.zeros((len(rest), width), dtype=np.uint8)
    for k in range(width):
        low = (rest & np.uint64(0x7F)).astype(np.uint8)
        rest = rest >> np.uint64(7)
        digits[:, k] = low | (rest > 0).astype(np.uint8) << 7
    # as numpy's text, which ends before its last zeros; only the number 0 ends in one itself
    texts: list[bytes] = np.ascontiguousarray(digits).view(f"S{width}").ravel().tolist()
    for row in np.flatnonzero(values == 0).tolist():
        texts[row] = b"\0"
    return texts


def _spread(rows: NDArray[Any], texts: Sequence[bytes], n: int) -> list[bytes]:
    """`texts` in the given rows of n, nothing in the others."""
    if len(texts) == n:
        return list(texts)
    out = np.full(n, b"", dtype=object)
    out[rows] = np.array(texts, dtype=object)
    spread: list[bytes] = out.tolist()
    return spread


def _chosen(index: NDArray[Any], table: Sequence[bytes]) -> list[bytes]:
    """The entry of each row; -1 is the last one."""
    return [table[k] for k in index.tolist()]


def _tag(message: Any, field: str, wire_type: int) -> bytes:
    return _varints(np.array([message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type]))[0]


def _sized(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 128 else _varints(np.array([size]))[0]
    return tag + length + body


def _integers(field: str, values: NDArray[Any], is_present: NDArray[np.bool_]) -> list[bytes] | None:
    """A whole-number field of Node where it is present; None if it is nowhere."""
    rows = np.flatnonzero(is_present)
    if not len(rows):
        return None
    tag = _tag(schema.Node, field, 0)
    return _spread(rows, [tag + text for text in _varints(values[rows])], len(values))


def _names_and_kinds(graph: ExecutionGraph) -> list[bytes]:
    name_tag = _tag(schema.Node, "name", _LENGTH_DELIMITED)
    kind_tag = _tag(schema.Node, "type", 0)
    names = [_sized(name_tag, name.encode()) if name else b"" for name in graph.names]
    kinds = [kind_tag + bytes([kind]) if kind else b"" for kind in range(int(graph.kinds.max(initial=0)) + 1)]
    both = graph.name_ids.astype(np.int64) * len(kinds) + graph.kinds
    used, index = np.unique(both, return_inverse=True)
    table = [names[k // len(kinds)] + kinds[k % len(kinds)] for k in used.tolist()]
    return _chosen(index, table)


def _dependencies(graph: ExecutionGraph, ids_of_rows: NDArray[np.uint64]) -> Iterator[list[bytes] | None]:
    """Control dependencies, then data dependencies: ids of parents, packed."""
    n = len(graph)
    child = np.repeat(np.arange(n), np.diff(graph.parent_offsets))
    for field, is_chosen in (("ctrl_deps", graph.parent_is_control), ("data_deps", ~graph.parent_is_control)):
        chosen = np.flatnonzero(is_chosen)
        if not len(chosen):
            yield None
            continue
        tag = _tag(schema.Node, field, _LENGTH_DELIMITED)
        ids = _varints(ids_of_rows[graph.parents[chosen]])
        counts = np.bincount(child[chosen], minlength=n)
        rows = np.flatnonzero(counts)
        ends = np.cumsum(counts[rows])
        heads = [_sized(tag, b"\0" * size)[:-size] for size in range(1, 11)]
        first = ids if len(ids) == len(rows) else [ids[low] for low in (ends - counts[rows]).tolist()]
        texts = [heads[len(text) - 1] + text for text in first]
        for k in np.flatnonzero(counts[rows] > 1).tolist():
            texts[k] = _sized(tag, b"".join(ids[ends[k] - counts[rows[k]] : ends[k]]))
        yield _spread(rows, texts, n)


def _attribute(name: str, **value: Any) -> bytes:
    """One attribute, with its tag and length, as a field of Node."""
    node = schema.Node()
    node.attr.add(name=name, **value)
    encoded: bytes = node.SerializeToString()
    return encoded


def _integer_attributes(
    name: str, kind: str, values: NDArray[Any], is_present: NDArray[np.bool_] | None = None
) -> list[bytes] | None:
    """A whole-number attribute where it is present (if not given: where it isn't -1); None if nowhere."""
    rows = np.flatnonzero(values != -1 if is_present is None else is_present)
    if not len(rows):
        return None
    tag = _tag(schema.Node, "attr", _LENGTH_DELIMITED)
    body = _sized(_tag(schema.AttributeProto, "name", _LENGTH_DELIMITED), name.encode())
    body += _tag(schema.AttributeProto, kind, 0)
    heads = [tag + _varints(np.array([len(body) + size]))[0] + body for size in range(11)]
    texts = [heads[len(text)] + text for text in _varints(values[rows])]
    return _spread(rows, texts, len(values))


def _communication(graph: ExecutionGraph) -> Iterator[list[bytes] | None]:
    yield _integer_attributes("comm_type", _INT64, graph.comm_kinds, graph.comm_kinds >= 0)
    yield _integer_attributes("comm_size", _INT64, graph.comm_bytes, graph.comm_bytes >= 0)
    if (graph.group_ids >= 0).any():
        yield _chosen(
            graph.group_ids, [*(_attribute("pg_name", string_val=g) for g in graph.group_names), b""]
        )
    has_peer = graph.peers >= 0
    is_send, is_receive = graph.kinds == NodeKind.SEND, graph.kinds == NodeKind.RECV
    yield _integer_attributes("comm_dst", _INT32, graph.peers, has_peer & is_send)
    yield _integer_attributes("comm_src", _INT32, graph.peers, has_peer & is_receive)
    yield _integer_attributes("comm_root", _INT32, graph.peers, has_peer & ~is_send & ~is_receive)
    is_small = graph.tags < 2**31
    yield _integer_attributes("comm_tag", _INT32, graph.tags, (graph.tags >= 0) & is_small)
    yield _integer_attributes("comm_tag", _INT64, graph.tags, (graph.tags >= 0) & ~is_small)


def _lanes(graph: ExecutionGraph) -> list[bytes]:
    named = [_attribute("lane", string_val=lane) for lane in graph.lane_names]
    # DEFAULT_LANE is -1, the last entry, and NO_LANE stands before it
    assert NO_LANE == -2
    return _chosen(graph.lanes, [*named, _attribute("lane", string_val=""), b""])


def _op_kinds(graph: ExecutionGraph) -> list[bytes] | None:
    if not graph.op_kinds:
        return None
    return _chosen(graph.op_kind_ids, [*(_attribute("op_kind", string_val=k) for k in graph.op_kinds), b""])


def _involved_dims(graph: ExecutionGraph) -> list[bytes] | None:
    rows = np.flatnonzero(graph.involved_dims >= 0)
    if not len(rows):
        return None
    texts = []
    for dims in graph.involved_dims[rows].tolist():
        node = schema.Node()
        # Other readers take four dimensions for granted.
        is_involved = [bool(dims >> d & 1) for d in range(max(4, dims.bit_length()))]
        node.attr.add(name="involved_dim").bool_list.values.extend(is_involved)
        texts.append(node.SerializeToString())
    return _spread(rows, texts, len(graph))


def _other_attributes(graph: ExecutionGraph) -> Iterator[list[bytes] | None]:
    """Attributes without a column in the graph."""
    read, n = graph.read_attributes, len(graph)
    if isinstance(read, NodeAttributes):
        for name, column in read.columns.items():
            yield _integer_attributes(name, _INT64, column)
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
    yield _spread(np.array(chosen, dtype=np.int64), texts, n) if chosen else None


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
