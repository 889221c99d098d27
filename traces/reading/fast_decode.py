"""A graph from the columns that `proto_scan.py` reads: as `decode.py` makes it, without objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import FramingError, split_records
from chakrasim.traces.attributes import RecordAttributes, SparseColumns
from chakrasim.traces.builder import NODE_COLUMNS, csr_edges, narrowed
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, ExecutionGraph, NodeKind
from chakrasim.traces.memory import MEMORY
from chakrasim.traces.reading import column_cache
from chakrasim.traces.reading.column_cache import Columns
from chakrasim.traces.reading.decode import GROUPS_OBSERVED, attributes_of, declared_groups
from chakrasim.traces.reading.proto_scan import INTEGERS, WORDS
from chakrasim.traces.reading.records import AttributesOf, FileBytes, NodesAt
from chakrasim.traces.reading.scan_columns import Nodes, read_columns, strings

_MAX_WORDS = 128
_TABLES = {
    "names": "name",
    "group_names": "pg_name",
    "lane_names": "lane",
    "dtypes": "dtype",
    "op_kinds": "op_kind",
}
"""Tables of strings, and the attributes that they are of."""
_EDGES = ("parent_offsets", "parents", "parent_is_control")


@dataclass(frozen=True, eq=False)
class Source:
    """A file's bytes, and what its columns depend on beside its nodes."""

    data: bytes
    begin: int
    """Offset of the first node record; offsets of records count from there."""
    rank: int
    metadata: dict[str, Any]
    wants_more: bool
    """True if whole numbers that have no column are kept, for the report that asks for them."""
    drops_unknown: bool
    digest: bytes | None
    """Digest of all records but the first; without it nothing goes to the cache."""

    @property
    def key(self) -> str | None:
        """The name of the columns in the cache."""
        if self.digest is None:
            return None
        facts = self.begin, self.rank, self.wants_more, self.drops_unknown
        return column_cache.key(self.digest, *facts)


def source_of(
    data: bytes, rank: int | None, digest: bytes | None = None, *, drops_unknown: bool = False
) -> Source | None:
    """The file as a source of columns; None where its first record can't be parsed.

    Without a rank it is the metadata's.
    """
    try:
        begin, end = next(split_records(data))
        metadata = schema.GlobalMetadata.FromString(data[begin:end])
    except (FramingError, StopIteration, DecodeError):
        return None
    attributes = attributes_of(metadata) | {"version": metadata.version}
    if rank is None:
        rank = next((a.int64_val for a in metadata.attr if a.name == "rank"), 0)
    wants_more = any(attribute.name == MEMORY for attribute in metadata.attr)
    return Source(data, end, rank, attributes, wants_more, drops_unknown, digest)


def graph_from_cache(source: Source) -> ExecutionGraph | None:
    """The graph of a file that was read before (`column_cache.py`), if its columns were kept. O(bytes)."""
    columns = None if source.key is None else column_cache.load(source.key)
    return None if columns is None else _graph(columns, source)


def graph_from_bytes(source: Source) -> ExecutionGraph | None:
    """The graph in a file's bytes; None where `graph_from_messages` has to read it, or to say what is wrong.

    Its columns go to the cache. O(bytes + n log n).
    """
    columns = _columns(source)
    if columns is None:
        return None
    _store(source, columns)
    return _graph(columns, source)


def keep(source: Source, graph: ExecutionGraph, spans: Sequence[tuple[int, int]]) -> None:
    """Put the columns of a graph without defects, that was read some other way, into the cache.

    `spans` are where the nodes' records begin and end, in order of their ids.
    """
    found = graph.read_attributes.found if isinstance(graph.read_attributes, RecordAttributes) else None
    more = found or {}
    starts, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    place = np.uint32 if len(source.data) < 2**32 else np.int64
    empty = np.empty(0, dtype=np.int64)
    arrays = {name: getattr(graph, name) for name in (*NODE_COLUMNS, *_EDGES)}
    arrays |= {
        "dropped_dependencies": np.array([graph.metadata.get("dropped_dependencies", 0)]),
        "record_starts": starts.astype(place),
        "record_sizes": (ends - starts).astype(place),
        "more_numbers": np.repeat(np.arange(len(more)), [len(rows) for rows, _ in more.values()]),
        "more_rows": np.concatenate([*(rows for rows, _ in more.values()), empty]).astype(np.int32),
        "more_values": np.concatenate([*(values for _, values in more.values()), empty]),
    }
    texts = {**{name: list(getattr(graph, name)) for name in _TABLES}, "more": list(more)}
    _store(source, Columns(arrays=arrays, texts=texts))


def _store(source: Source, columns: Columns) -> None:
    if source.key is not None:
        column_cache.store(source.key, columns)


def _columns(source: Source) -> Columns | None:
    """The graph's columns, those of further attributes and where records are, in order of ids."""
    data = source.data
    nodes = read_columns(data, source.begin, source.rank, wants_more=source.wants_more)
    if nodes is None:
        return None
    order = np.argsort(nodes.ids, kind="stable")
    ids = nodes.ids[order]
    if (ids[1:] == ids[:-1]).any():
        return None
    rows = np.empty(len(ids), dtype=np.int64)
    rows[order] = np.arange(len(ids))
    edges = _edges(nodes, ids, rows, source.drops_unknown)
    words = _words(data, nodes, order)
    more = _more(data, nodes, rows)
    if edges is None or words is None or more is None:
        return None
    numbers, names = words
    integers = {name: column[order] for name, column in zip(INTEGERS, nodes.integers, strict=True)}
    kinds, is_cpu = nodes.kinds[order], nodes.is_cpu[order]
    comm_kinds = integers["comm_type"].astype(np.int8)
    # The host's call around the real collective or message; see `graph_from_messages`.
    is_call = is_cpu & (kinds >= NodeKind.SEND) & (comm_kinds < 0) & (integers["comm_size"] < 0)
    kinds[is_call] = NodeKind.COMP
    lane = 1 + WORDS.index("lane")
    lanes = np.where(nodes.word_sizes[lane][order] == 0, NO_LANE, numbers["lane"])
    is_named = nodes.word_starts[lane][order] >= 0
    place = np.uint32 if len(data) < 2**32 else np.int64
    return Columns(
        arrays={
            "ids": ids,
            "kinds": kinds,
            "name_ids": numbers["name"].astype(np.int32),
            "durations_ps": integers["duration_ps"],
            "starts_ps": integers["start_ps"],
            "ops": integers["num_ops"],
            "tensor_bytes": integers["tensor_size"],
            "comm_kinds": comm_kinds,
            "comm_bytes": integers["comm_size"],
            "group_ids": numbers["pg_name"].astype(np.int32),
            "peers": nodes.peers[order],
            "tags": narrowed(integers["comm_tag"]),
            "lanes": np.where(is_named, lanes, DEFAULT_LANE).astype(np.int32),
            "is_cpu": is_cpu,
            "dtype_ids": numbers["dtype"].astype(np.int8),
            "op_kind_ids": numbers["op_kind"].astype(np.int8),
            "involved_dims": narrowed(nodes.involved_dims[order]),
            "priorities": narrowed(integers["comm_priority"]),
            "parent_offsets": edges[0],
            "parents": edges[1],
            "parent_is_control": edges[2],
            "dropped_dependencies": np.array([len(nodes.parents) - edges[3]]),
            "record_starts": nodes.starts[order].astype(place),
            "record_sizes": (nodes.ends - nodes.starts)[order].astype(place),
            "more_numbers": more[1],
            "more_rows": more[2],
            "more_values": more[3],
        },
        texts={**{name: names[word] for name, word in _TABLES.items()}, "more": more[0]},
    )


def _graph(columns: Columns, source: Source) -> ExecutionGraph:
    data, metadata = source.data, source.metadata
    arrays: dict[str, Any] = dict(columns.arrays)
    starts, sizes = arrays.pop("record_starts"), arrays.pop("record_sizes")
    if dropped := int(arrays.pop("dropped_dependencies")[0]):
        metadata = metadata | {"dropped_dependencies": dropped}
    numbers, rows, values = (arrays.pop(f"more_{what}") for what in ("numbers", "rows", "values"))

    read_node = NodesAt(data, starts, sizes)
    observed: list[int] = []
    if GROUPS_OBSERVED.encode() in data:
        listed = [number for number, name in enumerate(columns.texts["names"]) if GROUPS_OBSERVED in name]
        rows_listed = np.flatnonzero(np.isin(arrays["name_ids"], listed))
        observed = rows_listed[np.argsort(starts[rows_listed])].tolist()  # in the order of the file
    tables: dict[str, Any] = {name: tuple(columns.texts[name]) for name in _TABLES}
    more: SparseColumns | None = None
    if source.wants_more:
        names = columns.texts["more"]
        bounds = np.searchsorted(numbers, np.arange(len(names) + 1))
        more = {
            name: (rows[bounds[k] : bounds[k + 1]], values[bounds[k] : bounds[k + 1]])
            for k, name in enumerate(names)
            if bounds[k] < bounds[k + 1]
        }
    return ExecutionGraph(
        rank=source.rank,
        groups=declared_groups(metadata, map(read_node, observed)),
        metadata=metadata,
        read_attributes=RecordAttributes(AttributesOf(read_node, attributes_of), len(starts), more),
        records=FileBytes(data),
        **arrays,
        **tables,
    )


def _edges(nodes: Nodes, ids: NDArray[np.uint64], rows: NDArray[np.int64], drops_unknown: bool) -> Any:
    """CSR edges and how many parents are in the file; None where one isn't and may not be dropped."""
    children, is_control = rows[nodes.children], nodes.is_control
    parents = np.minimum(np.searchsorted(ids, nodes.parents), len(ids) - 1)
    is_there = ids[parents] == nodes.parents
    if not is_there.all():
        if not drops_unknown:
            return None
        children, parents, is_control = children[is_there], parents[is_there], is_control[is_there]
    return *csr_edges(len(ids), children, parents.astype(np.int64), is_control), len(parents)


def _words(data: bytes, nodes: Nodes, order: NDArray[np.int64]) -> Any:
    """Numbers by row, and strings, of names and of `WORDS`; None for what `graph_from_messages` refuses."""
    numbers, names = {}, {}
    for place, what in enumerate(("name", *WORDS)):
        starts, sizes = nodes.word_starts[place][order], nodes.word_sizes[place][order]
        if what == "lane":
            starts = np.where(sizes == 0, -1, starts)
        try:
            numbers[what], names[what] = strings(data, starts, sizes)
        except UnicodeDecodeError:
            return None
        if what in ("dtype", "op_kind") and len(names[what]) > _MAX_WORDS:
            return None
    return numbers, names


def _more(data: bytes, nodes: Nodes, rows: NDArray[np.int64]) -> Any:
    """Names of further whole numbers; and sorted by those and rows, numbers of names, rows and values. None
    where a node has two of one name."""
    numbers, names = strings(data, nodes.more_starts, nodes.more_sizes)
    of_rows = rows[nodes.more_nodes]
    order = np.lexsort((of_rows, numbers))
    numbers, of_rows = numbers[order], of_rows[order]
    if ((numbers[1:] == numbers[:-1]) & (of_rows[1:] == of_rows[:-1])).any():
        return None
    is_whole = nodes.more_is_whole[order]
    return names, numbers[is_whole], of_rows[is_whole].astype(np.int32), nodes.more_values[order][is_whole]
