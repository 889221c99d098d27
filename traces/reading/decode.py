"""Chakra messages to columns. Protobuf objects go no further than this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
_PEERS = ("comm_src", "comm_dst", "comm_root")
_WORDS = ("pg_name", "lane", "dtype", "op_kind")
_READ = {*_INTEGER_COLUMNS, *_PEERS, *_WORDS, "involved_dim", "is_cpu_op"}
"""Attributes that have columns."""
_SMALL = {"comm_kinds": 127, "peers": 2**31 - 1}
_BYTE_COLUMNS = ("kinds", "comm_kinds", "dtype_ids", "op_kind_ids")
_DTYPES: dict[str, type[np.generic]] = {**dict.fromkeys(_BYTE_COLUMNS, np.int8), "is_cpu": np.bool_}
_INT32_COLUMNS = ("name_ids", "group_ids", "peers", "lanes")
_TABLES = {
    "pg_name": ("group_names", "group_ids"),
    "dtype": ("dtypes", "dtype_ids"),
    "op_kind": ("op_kinds", "op_kind_ids"),
}
_ABSENT: dict[str, Any] = {
    "kinds": 0,
    "name_ids": 0,
    "durations_ps": 0,
    "starts_ps": -1,
    "ops": -1,
    "tensor_bytes": -1,
    "comm_kinds": -1,
    "comm_bytes": -1,
    "group_ids": -1,
    "peers": -1,
    "tags": -1,
    "lanes": DEFAULT_LANE,
    "is_cpu": False,
    "dtype_ids": -1,
    "op_kind_ids": -1,
    "involved_dims": -1,
    "priorities": 0,
}
"""Values of columns where a node says nothing."""
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
    ids = np.fromiter((node.id for node in nodes), dtype=np.uint64, count=len(nodes))
    defects: list[Defect] = []
    order = np.argsort(ids, kind="stable")
    position_of_row, row_of_id = _rows(ids, order, defects)
    n = len(position_of_row)
    # Of graphs whose report asks for them anyway: parsing the records again is two thirds of reading them.
    integers: Entries | None = {} if any(a.name == MEMORY for a in metadata.attr) else None
    columns = _Columns(rank, n, defects, integers)
    edges = _Edges([], [], [])
    for row, position in enumerate(position_of_row):
        columns.decode(nodes[position], row)
        edges.decode(nodes[position], row, row_of_id, ids, None if drop_unknown_dependencies else defects)
    columns.mend_host_calls()
    offsets, parents, is_control_edge = edges.arrays(n)
    file_metadata = attributes_of(metadata) | {"version": metadata.version}
    if edges.dropped:
        file_metadata["dropped_dependencies"] = edges.dropped
    reader = read_node if read_node is not None else nodes.__getitem__
    return ExecutionGraph(
        rank=rank,
        ids=ids[order][_first_of_each(ids[order])] if n < len(ids) else ids[order],
        names=columns.tables["names"].names(),
        group_names=columns.tables["group_names"].names(),
        lane_names=columns.tables["lane_names"].names(),
        dtypes=columns.tables["dtypes"].names(),
        op_kinds=columns.tables["op_kinds"].names(),
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
        **columns.arrays(),
    )


def _rows(ids: Any, order: Any, defects: list[Defect]) -> tuple[list[int], dict[int, int]]:
    """Position in the file of each row, and row of each id: rows ascend by id, a repeated id has none."""
    row_of_id: dict[int, int] = {}
    position_of_row: list[int] = []
    for position in order.tolist():
        node_id = int(ids[position])
        if node_id in row_of_id:
            defects.append(Defect(node_id, "the id is used by more than one node"))
            continue
        row_of_id[node_id] = len(position_of_row)
        position_of_row.append(position)
    return position_of_row, row_of_id


@dataclass
class _Edges:
    """Dependencies of rows on rows."""

    children: list[int]
    parents: list[int]
    is_control: list[bool]
    dropped: int = 0

    def decode(
        self, node: Any, row: int, row_of_id: Mapping[int, int], ids: Any, defects: list[Defect] | None
    ) -> None:
        """Add a node's dependencies. Unknown ones are defects; without a list of those they are dropped."""
        for dependencies, is_control in ((node.data_deps, False), (node.ctrl_deps, True)):
            for parent_id in dependencies:
                parent = row_of_id.get(parent_id)
                if parent is not None:
                    self.children.append(row)
                    self.parents.append(parent)
                    self.is_control.append(is_control)
                elif defects is None:
                    self.dropped += 1
                else:
                    defects.append(Defect(node.id, _unknown_parent(node, parent_id, ids)))

    def arrays(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """Offsets, parents and kinds of the edges of n rows."""
        return csr_edges(
            n,
            np.array(self.children, dtype=np.int64),
            np.array(self.parents, dtype=np.int64),
            np.array(self.is_control, dtype=np.bool_),
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


class _Columns:
    """Columns of n rows of a rank's graph, filled node by node, and what is wrong with the nodes."""

    def __init__(self, rank: int, n: int, defects: list[Defect], integers: Entries | None) -> None:
        self.rank = rank
        self.defects = defects
        self.integers = integers
        """Whole numbers without a column, where those are kept."""
        self.tables = {
            name: StringTable() for name in ("names", "group_names", "lane_names", "dtypes", "op_kinds")
        }
        self.values: dict[str, list[Any]] = {name: [absent] * n for name, absent in _ABSENT.items()}

    def decode(self, node: Any, row: int) -> None:
        """Fill a row from a Node message."""
        node_id, kind = node.id, node.type
        if 0 <= kind <= 7:
            self.values["kinds"][row] = kind
        else:
            self.defects.append(Defect(node_id, f"unknown node kind {kind}; expected 0..7"))
        self.values["name_ids"][row] = self.tables["names"](node.name)
        if node.duration_micros > INT64_MAX // PS_PER_US:
            self.defects.append(Defect(node_id, f"a duration of {node.duration_micros} us is impossible"))
        else:
            self.values["durations_ps"][row] = node.duration_micros * PS_PER_US
        if 0 < node.start_time_micros <= INT64_MAX // PS_PER_US:
            self.values["starts_ps"][row] = node.start_time_micros * PS_PER_US
        seen = set()
        for attr in node.attr:
            name = attr.name
            if name not in seen:
                seen.add(name)
                if name in _READ or self.integers is not None:
                    self._attribute(node, row, name, attribute_value(attr))

    def _attribute(self, node: Any, row: int, name: str, value: Any) -> None:
        if name in _INTEGER_COLUMNS or name in _PEERS:
            if value is not None:
                self._integer(node, row, name, value)
        elif name == "involved_dim":
            if not (isinstance(value, list) and all(isinstance(is_in, bool) for is_in in value)):
                self.defects.append(Defect(node.id, "involved_dim is not a list of true and false"))
            elif not all(value):
                self.values["involved_dims"][row] = sum(is_in << d for d, is_in in enumerate(value))
        elif name == "is_cpu_op":
            if isinstance(value, int):
                self.values["is_cpu"][row] = bool(value)
            elif value is not None:
                self.defects.append(Defect(node.id, f"is_cpu_op is {_shown(value)}; expected true or false"))
        elif name in _WORDS:
            if value is not None:
                self._word(node, row, name, value)
        elif type(value) is int and self.integers is not None:
            rows, values = self.integers.setdefault(name, ([], []))
            rows.append(row)
            values.append(value)

    def _integer(self, node: Any, row: int, name: str, value: Any) -> None:
        column = _INTEGER_COLUMNS.get(name, "peers")
        if not isinstance(value, int):
            self.defects.append(Defect(node.id, f"{name} is {_shown(value)}; expected an integer"))
        elif column == "peers":
            self._peer(node, row, name, value)
        elif not 0 <= value <= _SMALL.get(column, INT64_MAX):
            self.defects.append(Defect(node.id, f"{name} is {value}; expected 0 or more"))
        else:
            self.values[column][row] = int(value)

    def _peer(self, node: Any, row: int, name: str, value: int) -> None:
        """A send's peer is `comm_dst`, a receive's `comm_src`; the other end, if given, is the rank."""
        is_send, is_recv = node.type == schema.COMM_SEND_NODE, node.type == schema.COMM_RECV_NODE
        own_end = (is_send and name == "comm_src") or (is_recv and name == "comm_dst")
        if own_end:
            if value != self.rank:
                message = f"{name} is {value}, but the node is in the trace of rank {self.rank}"
                self.defects.append(Defect(node.id, message))
        elif name == "comm_root" or is_send or is_recv:
            if 0 <= value < 2**31:
                self.values["peers"][row] = int(value)
            else:
                self.defects.append(Defect(node.id, f"{name} is {value}; expected a rank"))

    def _word(self, node: Any, row: int, name: str, value: Any) -> None:
        if isinstance(value, int):
            value = str(value)
        if not isinstance(value, str):
            self.defects.append(Defect(node.id, f"{name} is {_shown(value)}; expected a string"))
        elif name == "lane":
            self.values["lanes"][row] = self.tables["lane_names"](value) if value else NO_LANE
        elif value:
            table, target = _TABLES[name]
            number = self.tables[table](value)
            if target in _BYTE_COLUMNS and number >= _MAX_WORDS:
                message = f"{name} {value!r} is one of over {_MAX_WORDS}, which can't be"
                self.defects.append(Defect(node.id, message))
            else:
                self.values[target][row] = number

    def mend_host_calls(self) -> None:
        """Turn communication of the host without kind and size, the host's call around the real one, into
        compute."""
        values = self.values
        for row, is_cpu in enumerate(values["is_cpu"]):
            if (
                is_cpu
                and values["kinds"][row] >= NodeKind.SEND
                and values["comm_kinds"][row] < 0
                and values["comm_bytes"][row] < 0
            ):
                values["kinds"][row] = int(NodeKind.COMP)

    def arrays(self) -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        for name, values in self.values.items():
            default = np.int32 if name in _INT32_COLUMNS else np.int64
            arrays[name] = np.array(values, dtype=_DTYPES.get(name, default))
        return arrays | {name: narrowed(arrays[name]) for name in NARROWED}


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
