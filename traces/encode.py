"""Columns to Chakra messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_US

SCHEMA_VERSION = "0.0.4"


def messages_from_graph(graph: ExecutionGraph) -> Iterator[Any]:
    """GlobalMetadata, then one Node a row. O(n + m)."""
    yield _metadata(graph)
    ids, names = graph.ids.tolist(), graph.names
    offsets, parents = graph.parent_offsets.tolist(), graph.parents.tolist()
    is_control = graph.parent_is_control.tolist()
    columns = zip(
        graph.kinds.tolist(),
        graph.name_ids.tolist(),
        graph.durations_ps.tolist(),
        graph.starts_ps.tolist(),
        graph.is_cpu.tolist(),
        graph.ops.tolist(),
        graph.tensor_bytes.tolist(),
        graph.comm_kinds.tolist(),
        graph.comm_bytes.tolist(),
        graph.group_ids.tolist(),
        graph.peers.tolist(),
        graph.tags.tolist(),
        graph.lanes.tolist(),
        graph.dtype_ids.tolist(),
        graph.involved_dims.tolist(),
        graph.priorities.tolist(),
        strict=True,
    )
    for row, (kind, name, duration, start, cpu, ops, size, *rest) in enumerate(columns):
        comm_kind, comm_bytes, group, peer, tag, lane, dtype, dims, priority = rest
        node = schema.Node(id=ids[row], name=names[name], type=kind)
        for edge in range(offsets[row], offsets[row + 1]):
            deps = node.ctrl_deps if is_control[edge] else node.data_deps
            deps.append(ids[parents[edge]])
        # Chakra keeps whole microseconds; the exact value goes into attributes of ours.
        node.duration_micros = duration // PS_PER_US
        attr = node.attr
        attr.add(name="is_cpu_op", bool_val=cpu)
        if duration % PS_PER_US:
            attr.add(name="duration_ps", int64_val=duration)
        if start >= 0:
            node.start_time_micros = start // PS_PER_US
            attr.add(name="start_ps", int64_val=start)
        if ops >= 0:
            attr.add(name="num_ops", int64_val=ops)
        if size >= 0:
            attr.add(name="tensor_size", uint64_val=size)
        if comm_kind >= 0:
            attr.add(name="comm_type", int64_val=comm_kind)
        if comm_bytes >= 0:
            attr.add(name="comm_size", int64_val=comm_bytes)
        if group >= 0:
            attr.add(name="pg_name", string_val=graph.group_names[group])
        if peer >= 0:
            attr.add(name=_peer_name(kind), int32_val=peer)
        if tag >= 0:
            attr.add(name="comm_tag", int32_val=tag) if tag < 2**31 else attr.add(
                name="comm_tag", int64_val=tag
            )
        if lane >= 0 or lane == NO_LANE:
            attr.add(name="lane", string_val=graph.lane_names[lane] if lane >= 0 else "")
        if dtype >= 0:
            attr.add(name="dtype", string_val=graph.dtypes[dtype])
        if dims >= 0:
            # Other readers take four dimensions for granted.
            is_involved = [bool(dims >> d & 1) for d in range(max(4, dims.bit_length()))]
            attr.add(name="involved_dim").bool_list.values.extend(is_involved)
        if priority:
            attr.add(name="comm_priority", int64_val=priority)
        _add_attributes(attr, graph.attributes(row))
        yield node


def _peer_name(kind: int) -> str:
    if kind == NodeKind.SEND:
        return "comm_dst"
    return "comm_src" if kind == NodeKind.RECV else "comm_root"


def _metadata(graph: ExecutionGraph) -> Any:
    message = schema.GlobalMetadata(version=SCHEMA_VERSION)
    attributes = {k: v for k, v in graph.metadata.items() if k != "version"}
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
