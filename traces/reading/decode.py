"""Chakra messages to columns. Protobuf objects go no further than this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.attributes import Entries, RecordAttributes, packed
from chakrasim.traces.builder import NARROWED, StringTable, csr_edges, narrowed
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, Defect, ExecutionGraph, NodeKind
from chakrasim.traces.memory import MEMORY
from chakrasim.traces.reading.records import AttributesOf
from chakrasim.traces.units import PS_PER_US

INT64_MAX = 2**63 - 1

_INTEGER_COLUMNS = {
    "num_ops": "ops",
    "tensor_size": "tensor_bytes",
    "comm_type": "comm_kinds",
    "comm_size": "comm_bytes",
    "comm_tag": "tags",
    "duration_ps": "durations_ps",
    "start_ps": "starts_ps",
    "comm_priority": "priorities",
}
_SMALL = {"comm_kinds": 127, "peers": 2**31 - 1}
_BYTE_COLUMNS = ("kinds", "comm_kinds", "dtype_ids", "op_kind_ids")
_DTYPES: dict[str, type[np.generic]] = {**dict.fromkeys(_BYTE_COLUMNS, np.int8), "is_cpu": np.bool_}
_INT32_COLUMNS = ("name_ids", "group_ids", "peers", "lanes")
_TABLES = {
    "pg_name": ("group_names", "group_ids"),
    "dtype": ("dtypes", "dtype_ids"),
    "op_kind": ("op_kinds", "op_kind_ids"),
}
_MAX_WORDS = 128
"""Different data types, or kinds of operation, in one file: their numbers are an int8."""


def attribute_value(attr: Any) -> Any:
    """The value of an AttributeProto as a plain Python object; None where it has no value at all."""
    which = attr.WhichOneof("value")
    if which is None:
        return None
    value = getattr(attr, which)
    return list(value.values) if which.endswith("_list") else value


def attributes_of(node: Any) -> dict[str, Any]:
    """Every attribute of a Node message by name; of a repeated name the first counts."""
    attributes: dict[str, Any] = {}
    for attr in node.attr:
        attributes.setdefault(attr.name, attribute_value(attr))
    return attributes


def graph_from_messages(
    rank: int,
    metadata: Any,
    nodes: Sequence[Any],
    *,
    read_node: Callable[[int], Any] | None = None,
    records: Callable[[], bytes] | None = None,
    drop_unknown_dependencies: bool = False,
) -> ExecutionGraph:
    """Columns from a GlobalMetadata and Node messages, in ascending order of id.

    What is wrong with single nodes becomes `defects`, so that all of it can be told at once.
    `read_node` gives a Node message again by its position in `nodes`, for attributes without a
    column. With `drop_unknown_dependencies`, dependencies on unknown ids are dropped and counted in
    `metadata["dropped_dependencies"]` instead. O(n + m log m).

    A collective, send or receive of the host that has neither kind nor size is the host's call
    around the real one, as older converters wrote it; it is read as host compute.
    """
    n = len(nodes)
    columns: dict[str, list[Any]] = {
        "kinds": [0] * n,
        "name_ids": [0] * n,
        "durations_ps": [0] * n,
        "starts_ps": [-1] * n,
        "ops": [-1] * n,
        "tensor_bytes": [-1] * n,
        "comm_kinds": [-1] * n,
        "comm_bytes": [-1] * n,
        "group_ids": [-1] * n,
        "peers": [-1] * n,
        "tags": [-1] * n,
        "lanes": [DEFAULT_LANE] * n,
        "is_cpu": [False] * n,
        "dtype_ids": [-1] * n,
        "op_kind_ids": [-1] * n,
        "involved_dims": [-1] * n,
        "priorities": [0] * n,
    }
    tables = {name: StringTable() for name in ("names", "group_names", "lane_names", "dtypes", "op_kinds")}
    defects: list[Defect] = []
    ids = np.fromiter((node.id for node in nodes), dtype=np.uint64, count=n)
    order = np.argsort(ids, kind="stable")
    row_of_id: dict[int, int] = {}
    position_of_row: list[int] = []
    for position in order.tolist():
        node_id = int(ids[position])
        if node_id in row_of_id:
            defects.append(Defect(node_id, "the id is used by more than one node"))
            continue
        row_of_id[node_id] = len(position_of_row)
        position_of_row.append(position)

    # Of graphs whose report asks for them anyway: parsing the records again is two thirds of reading them.
    integers: Entries | None = {} if any(a.name == MEMORY for a in metadata.attr) else None
    child_rows: list[int] = []
    parent_rows: list[int] = []
    control: list[bool] = []
    dropped = 0
    for row, position in enumerate(position_of_row):
        node = nodes[position]
        _decode_node(node, row, rank, columns, tables, defects, integers)
        for dependencies, is_control in ((node.data_deps, False), (node.ctrl_deps, True)):
            for parent_id in dependencies:
                parent = row_of_id.get(parent_id)
                if parent is None:
                    if drop_unknown_dependencies:
                        dropped += 1
                    else:
                        defects.append(Defect(node.id, _unknown_parent(node, parent_id, ids)))
                    continue
                child_rows.append(row)
                parent_rows.append(parent)
                control.append(is_control)

    n = len(position_of_row)
    for row in range(n):
        if (
            columns["is_cpu"][row]
            and columns["kinds"][row] >= NodeKind.SEND
            and columns["comm_kinds"][row] < 0
            and columns["comm_bytes"][row] < 0
        ):
            columns["kinds"][row] = int(NodeKind.COMP)
    offsets, parents, is_control_edge = csr_edges(
        n,
        np.array(child_rows, dtype=np.int64),
        np.array(parent_rows, dtype=np.int64),
        np.array(control, dtype=np.bool_),
    )
    arrays: dict[str, Any] = {}
    for name, values in columns.items():
        default = np.int32 if name in _INT32_COLUMNS else np.int64
        arrays[name] = np.array(values[:n], dtype=_DTYPES.get(name, default))
    arrays |= {name: narrowed(arrays[name]) for name in NARROWED}
    file_metadata = attributes_of(metadata) | {"version": metadata.version}
    if dropped:
        file_metadata["dropped_dependencies"] = dropped
    reader = read_node if read_node is not None else nodes.__getitem__
    return ExecutionGraph(
        rank=rank,
        ids=ids[order][_first_of_each(ids[order])] if n < len(ids) else ids[order],
        names=tables["names"].names(),
        group_names=tables["group_names"].names(),
        lane_names=tables["lane_names"].names(),
        dtypes=tables["dtypes"].names(),
        op_kinds=tables["op_kinds"].names(),
        parent_offsets=offsets,
        parents=parents,
        parent_is_control=is_control_edge,
        groups=declared_groups(file_metadata, nodes),
        metadata=file_metadata,
        defects=tuple(defects),
        read_attributes=RecordAttributes(
            AttributesOf(reader, attributes_of, position_of_row),
            n,
            None if integers is None else packed(integers),
        ),
        records=records,
        **arrays,
    )


def _first_of_each(sorted_ids: Any) -> Any:
    first = np.ones(len(sorted_ids), dtype=np.bool_)
    first[1:] = sorted_ids[1:] != sorted_ids[:-1]
    return first


def _unknown_parent(node: Any, parent_id: int, ids: Any) -> str:
    return (
        f"({node.name!r}) needs node {parent_id}, which is not in the file "
        f"(its {len(ids)} nodes have ids {ids.min()}..{ids.max()})"
    )


def _decode_node(
    node: Any,
    row: int,
    rank: int,
    columns: dict[str, list[Any]],
    tables: dict[str, StringTable],
    defects: list[Defect],
    integers: Entries | None,
) -> None:
    node_id, kind = node.id, node.type
    if 0 <= kind <= 7:
        columns["kinds"][row] = kind
    else:
        defects.append(Defect(node_id, f"unknown node kind {kind}; expected 0..7"))
    columns["name_ids"][row] = tables["names"](node.name)
    if node.duration_micros > INT64_MAX // PS_PER_US:
        defects.append(Defect(node_id, f"a duration of {node.duration_micros} us is impossible"))
    else:
        columns["durations_ps"][row] = node.duration_micros * PS_PER_US
    if 0 < node.start_time_micros <= INT64_MAX // PS_PER_US:
        columns["starts_ps"][row] = node.start_time_micros * PS_PER_US
    seen = set()
    for attr in node.attr:
        name = attr.name
        if name in seen:
            continue
        seen.add(name)
        column = _INTEGER_COLUMNS.get(name)
        if column is None and name in ("comm_src", "comm_dst", "comm_root"):
            column = "peers"
        if column is not None:
            which = attr.WhichOneof("value")
            if which is None:
                continue
            value = getattr(attr, which)
            if not isinstance(value, int):
                defects.append(Defect(node_id, f"{name} is {_shown(value)}; expected an integer"))
            elif column == "peers":
                _decode_peer(node, name, value, row, rank, columns, defects)
            elif not 0 <= value <= _SMALL.get(column, INT64_MAX):
                defects.append(Defect(node_id, f"{name} is {value}; expected 0 or more"))
            else:
                columns[column][row] = int(value)
        elif name == "involved_dim":
            value = attribute_value(attr)
            if not (isinstance(value, list) and all(isinstance(is_in, bool) for is_in in value)):
                defects.append(Defect(node_id, "involved_dim is not a list of true and false"))
            elif not all(value):
                columns["involved_dims"][row] = sum(is_in << d for d, is_in in enumerate(value))
        elif name == "is_cpu_op":
            value = attribute_value(attr)
            if isinstance(value, int):
                columns["is_cpu"][row] = bool(value)
            elif value is not None:
                defects.append(Defect(node_id, f"is_cpu_op is {_shown(value)}; expected true or false"))
        elif name in ("pg_name", "lane", "dtype", "op_kind"):
            value = attribute_value(attr)
            if value is None:
                continue
            if isinstance(value, int):
                value = str(value)
            if not isinstance(value, str):
                defects.append(Defect(node_id, f"{name} is {_shown(value)}; expected a string"))
            elif name == "lane":
                columns["lanes"][row] = tables["lane_names"](value) if value else NO_LANE
            elif value:
                table, target = _TABLES[name]
                number = tables[table](value)
                if target in _BYTE_COLUMNS and number >= _MAX_WORDS:
                    defects.append(
                        Defect(node_id, f"{name} {value!r} is one of over {_MAX_WORDS}, which can't be")
                    )
                else:
                    columns[target][row] = number
        elif integers is not None:
            value = attribute_value(attr)
            if type(value) is int:
                rows, values = integers.setdefault(name, ([], []))
                rows.append(row)
                values.append(value)


def _decode_peer(
    node: Any,
    name: str,
    value: int,
    row: int,
    rank: int,
    columns: dict[str, list[Any]],
    defects: list[Defect],
) -> None:
    """A send's peer is `comm_dst`, a receive's `comm_src`; the other end, if given, is the rank itself."""
    is_send, is_recv = node.type == schema.COMM_SEND_NODE, node.type == schema.COMM_RECV_NODE
    own_end = (is_send and name == "comm_src") or (is_recv and name == "comm_dst")
    if own_end:
        if value != rank:
            defects.append(Defect(node.id, f"{name} is {value}, but the node is in the trace of rank {rank}"))
    elif name == "comm_root" or is_send or is_recv:
        if 0 <= value < 2**31:
            columns["peers"][row] = int(value)
        else:
            defects.append(Defect(node.id, f"{name} is {value}; expected a rank"))


def _shown(value: Any) -> str:
    return "a list" if not isinstance(value, int | float | str | bytes) else repr(value)


def declared_groups(metadata: dict[str, Any], nodes: Iterable[Any]) -> dict[str, tuple[int, ...]]:
    """Process groups a trace declares: in its metadata (ours) or in `process_group:init` nodes.

    Those nodes hold the text of a list with one JSON string in it, written by PyTorch's host-trace
    observer. Groups of all ranks stand there without ranks: an empty tuple is the world. A smaller group
    without ranks is left out: who belongs to it isn't told.
    """
    observed = list(observed_groups(nodes))
    largest = max((group.size for group in observed), default=0)
    groups = {g.name: g.ranks for g in observed if g.ranks or (g.size or largest) == largest}
    # Ours knows more than PyTorch's observer did, so it has the last word.
    return groups | stated_groups(metadata.get("process_groups"))


def stated_groups(text: Any) -> dict[str, tuple[int, ...]]:
    """Process groups as our metadata state them, `{"1": [0, 1]}`; none where there is no such text."""
    content = _json_or_none(text)
    if not isinstance(content, dict):
        return {}
    return {str(name): tuple(ranks) for name, ranks in content.items() if isinstance(ranks, list)}


GROUPS_OBSERVED = "process_group:init"
"""Part of the names of nodes in which PyTorch's host-trace observer lists process groups."""


@dataclass(frozen=True)
class ObservedGroup:
    """An entry of the list in a `process_group:init` node."""

    name: str
    ranks: tuple[int, ...]
    """Empty where the list doesn't tell them, as for all ranks."""
    size: int
    """0 where it isn't told."""
    is_default: bool


def observed_groups(nodes: Iterable[Any]) -> Iterator[ObservedGroup]:
    """The process groups that PyTorch's observer listed in a trace; entries that aren't such are left out."""
    for node in nodes:
        if GROUPS_OBSERVED not in node.name:
            continue
        entries = _json_or_none(node.inputs.values.strip()[2:-2])
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "pg_name" in entry:
                ranks, size = entry.get("ranks"), entry.get("group_size")
                ranks = _json_or_none(ranks) if isinstance(ranks, str) else ranks
                if not (isinstance(ranks, list) and all(isinstance(rank, int) for rank in ranks)):
                    ranks = []
                yield ObservedGroup(
                    str(entry["pg_name"]),
                    tuple(ranks),
                    size if isinstance(size, int) and size > 0 else 0,
                    entry.get("pg_desc") == "default_pg" or str(entry["pg_name"]) == "0",
                )


def _json_or_none(text: Any) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return None
