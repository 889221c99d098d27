"""Attributes of nodes that have no column in the graph: kept for people and for a faithful round trip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.errors import TraceError

if TYPE_CHECKING:
    from chakrasim.traces.graph import ExecutionGraph

ATTRIBUTE_NAMES = "attribute_names"
"""Metadata of a graph: object, attribute to a list of names, of which a node's value is an index."""

HAVE_COLUMNS = frozenset(
    (
        *("num_ops", "tensor_size", "comm_type", "comm_size", "comm_tag", "duration_ps", "start_ps"),
        *("is_cpu_op", "pg_name", "comm_src", "comm_dst", "comm_root", "lane", "dtype", "op_kind"),
        *("involved_dim", "comm_priority"),
    )
)
"""Attributes in a file that are columns of the graph, and come from nowhere else."""

Entries = dict[str, tuple[list[int], list[int]]]
"""Rows and values by attribute, while they are collected."""
SparseColumns = dict[str, tuple[NDArray[np.int32], NDArray[Any]]]
"""The same as arrays."""


@dataclass(frozen=True)
class NodeAttributes:
    """Attributes by row, to be called with one.

    >>> attributes = NodeAttributes({"rf_id": np.array([7, -1])}, {1: {"note": "x"}})
    >>> attributes(0), attributes(1)
    ({'rf_id': 7}, {'note': 'x'})
    """

    columns: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Whole numbers by attribute; a row with -1 lacks it."""
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes of any kind, of the few rows that have some."""

    def __call__(self, row: int) -> dict[str, Any]:
        """Every attribute of a row."""
        found = {name: int(column[row]) for name, column in self.columns.items() if column[row] != -1}
        return {**found, **self.rows.get(row, {})}


@dataclass(frozen=True, eq=False)
class RecordAttributes:
    """Attributes that `read` parses from a row's record in a file, to be called with a row."""

    read: Callable[[int], dict[str, Any]]
    n: int
    found: SparseColumns | None = None
    """Whole numbers of all rows, where they were collected on the way."""

    def __call__(self, row: int) -> dict[str, Any]:
        """Every attribute of a row, also those that have a column."""
        return self.read(row)

    @cached_property
    def integers(self) -> SparseColumns:
        """Whole numbers of all rows. May parse the file's records, once, for all graphs that share them."""
        if self.found is not None:
            return self.found
        return _integers((row, self.read(row)) for row in range(self.n))


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Attributes of some rows of another graph, to be called with a row."""

    read: Callable[[int], dict[str, Any]]
    rows: NDArray[np.int64]
    """For each row which one of the other graph it is; rows beyond have no attributes."""
    without: frozenset[str] = frozenset()
    """Attributes that are left out."""

    def __call__(self, row: int) -> dict[str, Any]:
        """The attributes that are left of a row."""
        if row >= len(self.rows):
            return {}
        found = self.read(int(self.rows[row]))
        return {name: value for name, value in found.items() if name not in self.without}


def attribute_column(graph: ExecutionGraph, name: str) -> NDArray[np.int64]:
    """int64[n]: a whole-number attribute that is no column of the graph, -1 where a node lacks it.

    O(n); of a graph that was read from a file, the first call may parse its records. Raises TraceError for a
    number that takes more than 64 bits.

    >>> from chakrasim.traces.builder import GraphBuilder
    >>> builder = GraphBuilder(rank=0)
    >>> rows = builder.add(4, "gemm", attrs={"layer": 3}), builder.add(4, "relu")
    >>> attribute_column(builder.build(), "layer")
    array([ 3, -1])
    """
    return attribute_columns(graph, (name,))[0]


def attribute_columns(graph: ExecutionGraph, names: Sequence[str]) -> list[NDArray[np.int64]]:
    """`attribute_column` of several names, in one pass."""
    read = graph.read_attributes
    columns = [np.full(len(graph), -1, dtype=np.int64) for _ in names]
    entries = _entries(graph)
    for name, column in zip(names, columns, strict=True):
        if isinstance(read, NodeAttributes) and name in read.columns:
            column[:] = read.columns[name]
        if name not in entries:
            continue
        rows, values = entries[name]
        try:
            column[rows] = values
        except OverflowError:
            raise TraceError(
                f"rank {graph.rank}: attribute {name!r} is {max(values, key=abs)}; expected 64 bits at most"
            ) from None
    return columns


def integer_attributes(graph: ExecutionGraph) -> list[str]:
    """Names of the whole-number attributes that some node has and that are no columns, sorted.

    Takes as long as `attribute_column`.
    """
    read = graph.read_attributes
    columns = read.columns if isinstance(read, NodeAttributes) else {}
    return sorted({*_entries(graph), *(name for name, column in columns.items() if (column != -1).any())})


def value_names(graph: ExecutionGraph, attribute: str) -> tuple[str, ...]:
    """Names of the values 0, 1, … of an attribute; empty where the graph has no names for them."""
    names = (metadata_object(graph, ATTRIBUTE_NAMES) or {}).get(attribute)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def metadata_object(graph: ExecutionGraph, name: str) -> Mapping[str, Any] | None:
    """A mapping in the metadata, which files hold as the text of a JSON object; None where there is none."""
    value = graph.metadata.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) else None


def _entries(graph: ExecutionGraph) -> SparseColumns:
    """Whole numbers that stand with single rows."""
    read = graph.read_attributes
    if read is None:
        return {}
    if isinstance(read, RecordAttributes):
        return read.integers
    if isinstance(read, NodeAttributes):
        return _integers(read.rows.items())
    return _integers((row, read(row)) for row in range(len(graph)))


def _integers(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> SparseColumns:
    found: Entries = {}
    for row, attributes in rows:
        for name, value in attributes.items():
            if type(value) is int and name not in HAVE_COLUMNS:
                at, values = found.setdefault(name, ([], []))
                at.append(row)
                values.append(value)
    return packed(found)


def packed(found: Entries) -> SparseColumns:
    """Columns that take a fifth of the lists' memory; numbers that int64 can't hold stay as they are."""
    columns: SparseColumns = {}
    for name, (rows, values) in found.items():
        fits = all(-(2**63) <= bound < 2**63 for bound in (min(values), max(values)))
        columns[name] = np.array(rows, dtype=np.int32), np.array(values, dtype=np.int64 if fits else object)
    return columns
