"""The one way to make an `ExecutionGraph`: converters, generators, readers and tests all end here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.attributes import NodeAttributes
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, ExecutionGraph


class StringTable:
    """Gives each distinct string the next small number."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index))

    def names(self) -> tuple[str, ...]:
        """The strings in the order of their numbers."""
        return tuple(self.index)


class GraphBuilder:
    """Collects nodes one by one; `build` turns them into columns.

    Adding is O(1), building O(n + m log m).

    >>> from chakrasim.traces.graph import NodeKind
    >>> builder = GraphBuilder(rank=0)
    >>> first = builder.add(NodeKind.COMP, "gemm", duration_ps=5_000_000)
    >>> second = builder.add(NodeKind.COMP, "relu", duration_ps=1_000_000, after=[first])
    >>> builder.build()
    <ExecutionGraph rank 0: 2 nodes, 1 edges>
    """

    def __init__(
        self,
        rank: int,
        *,
        metadata: Mapping[str, Any] | None = None,
        groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.rank = rank
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.groups = {name: tuple(ranks) for name, ranks in (groups or {}).items()}
        self._nodes: list[tuple[int, ...]] = []
        self._names = StringTable()
        self._group_names = StringTable()
        self._lane_names = StringTable()
        self._dtypes = StringTable()
        self._op_kinds = StringTable()
        self._edges: list[tuple[int, int, bool]] = []
        self._attrs: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(
        self,
        kind: int,
        name: str,
        *,
        duration_ps: int = 0,
        start_ps: int = -1,
        is_cpu: bool = False,
        lane: str | None = None,
        ops: int = -1,
        tensor_bytes: int = -1,
        comm_kind: int = -1,
        comm_bytes: int = -1,
        group: str | None = None,
        peer: int = -1,
        tag: int = -1,
        dtype: str | None = None,
        op_kind: str | None = None,
        involved_dims: int = -1,
        priority: int = 0,
        after: Iterable[int] = (),
        control_after: Iterable[int] = (),
        attrs: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a node and return its row, which is also its id.

        `after` and `control_after` are rows, of nodes already added or still to come. A `lane` of None leaves
        the choice to the replay, "" occupies nothing. See `ExecutionGraph` for the columns.
        """
        row = len(self._nodes)
        lane_id = DEFAULT_LANE if lane is None else self._lane_names(lane) if lane else NO_LANE
        self._nodes.append(
            (
                int(kind),
                self._names(name),
                duration_ps,
                start_ps,
                ops,
                tensor_bytes,
                int(comm_kind),
                comm_bytes,
                self._group_names(group) if group else -1,
                peer,
                tag,
                lane_id,
                is_cpu,
                self._dtypes(dtype) if dtype else -1,
                self._op_kinds(op_kind) if op_kind else -1,
                involved_dims,
                priority,
            )
        )
        for parent in after:
            self._edges.append((row, parent, False))
        for parent in control_after:
            self._edges.append((row, parent, True))
        if attrs:
            self._attrs[row] = dict(attrs)
        return row

    def add_edge(self, parent: int, child: int, *, control: bool = False) -> None:
        """Make `child` wait for `parent`; both are rows."""
        self._edges.append((child, parent, control))

    def build(self) -> ExecutionGraph:
        """Freeze the nodes into columns.

        Raises IndexError for an edge to a row that was never added: a mistake of the caller's.
        """
        n = len(self._nodes)
        columns = list(zip(*self._nodes, strict=True)) if n else [()] * len(_COLUMNS)
        edges = np.array(self._edges, dtype=np.int64).reshape(-1, 3)
        return graph_of_columns(
            self.rank,
            n,
            {
                name: np.array(column, dtype=dtype)
                for (name, (dtype, _)), column in zip(_COLUMNS.items(), columns, strict=True)
            },
            children=edges[:, 0],
            parents=edges[:, 1],
            is_control=edges[:, 2] != 0,
            names=self._names.names(),
            group_names=self._group_names.names(),
            lane_names=self._lane_names.names(),
            dtypes=self._dtypes.names(),
            op_kinds=self._op_kinds.names(),
            groups=self.groups,
            metadata=self.metadata,
            attributes=NodeAttributes(rows=self._attrs),
        )


_COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "kinds": (np.int8, 0),
    "name_ids": (np.int32, 0),
    "durations_ps": (np.int64, 0),
    "starts_ps": (np.int64, -1),
    "ops": (np.int64, -1),
    "tensor_bytes": (np.int64, -1),
    "comm_kinds": (np.int8, -1),
    "comm_bytes": (np.int64, -1),
    "group_ids": (np.int32, -1),
    "peers": (np.int32, -1),
    "tags": (np.int64, -1),
    "lanes": (np.int32, DEFAULT_LANE),
    "is_cpu": (np.bool_, 0),
    "dtype_ids": (np.int8, -1),
    "op_kind_ids": (np.int8, -1),
    "involved_dims": (np.int64, -1),
    "priorities": (np.int64, 0),
}
"""Type and absent value of each column, in the order in which `GraphBuilder` keeps a node."""
NODE_COLUMNS = ("ids", *_COLUMNS)
"""Columns of a graph with an entry a node."""
NARROWED = ("tags", "involved_dims", "priorities")
"""Columns of int64 that few nodes have, and then with small values: int8 or int32 where that holds them, so
that a node takes under 100 bytes."""


def graph_of_columns(
    rank: int,
    n: int,
    columns: Mapping[str, NDArray[Any]],
    *,
    children: NDArray[np.int64],
    parents: NDArray[np.int64],
    is_control: NDArray[np.bool_] | None = None,
    names: Sequence[str],
    group_names: Sequence[str] = (),
    lane_names: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    op_kinds: Sequence[str] = (),
    groups: Mapping[str, tuple[int, ...]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    attributes: NodeAttributes | None = None,
) -> ExecutionGraph:
    """A graph of n nodes, with ids 0 to n - 1, from whole columns; those left out are absent in every node.

    `children`, `parents` and `is_control` are the edges, by row and in any order. O(n + m log m). Raises
    IndexError for an edge to a row that isn't there: a mistake of the caller's.
    """
    full: dict[str, Any] = {}
    for name, (dtype, absent) in _COLUMNS.items():
        if name not in columns:
            full[name] = np.full(n, absent, dtype=np.int8 if name in NARROWED else dtype)
        else:
            column = np.asarray(columns[name], dtype=dtype)
            full[name] = narrowed(column) if name in NARROWED else column
    if is_control is None:
        is_control = np.zeros(len(children), dtype=np.bool_)
    offsets, parent_rows, is_control = csr_edges(n, children, parents, is_control)
    return ExecutionGraph(
        rank=rank,
        ids=np.arange(n, dtype=np.uint64),
        names=tuple(names),
        group_names=tuple(group_names),
        lane_names=tuple(lane_names),
        dtypes=tuple(dtypes),
        op_kinds=tuple(op_kinds),
        parent_offsets=offsets,
        parents=parent_rows,
        parent_is_control=is_control,
        groups=groups or {},
        metadata=metadata or {},
        read_attributes=attributes,
        **full,
    )


def narrowed(column: NDArray[np.int64]) -> NDArray[Any]:
    """The column in the smallest of int8, int32 and int64 that holds it."""
    least, most = int(column.min(initial=0)), int(column.max(initial=0))
    for dtype in (np.int8, np.int32):
        bounds = np.iinfo(dtype)
        if bounds.min <= least and most <= bounds.max:
            return column.astype(dtype)
    return column


def csr_edges(
    n: int, children: NDArray[np.int64], parents: NDArray[np.int64], is_control: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
    """Sort edges by (child, parent) and merge repeated ones; one that is both data and control is data.

    Returns offsets [n + 1], parents [m] and is_control [m]. O(m log m).
    """
    if len(parents) and (parents.min() < 0 or parents.max() >= n):
        raise IndexError(f"an edge names a row outside 0..{n - 1}")
    key = children.astype(np.int64)
    key *= n
    key += parents
    key *= 2
    key += is_control
    key.sort()
    first = np.ones(len(key), dtype=np.bool_)
    np.not_equal(key[1:] >> 1, key[:-1] >> 1, out=first[1:])
    key = key[first]
    is_control = (key & 1).astype(np.bool_)
    key >>= 1
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(key // max(n, 1), minlength=n), out=offsets[1:])
    return offsets, (key % max(n, 1)).astype(np.int32), is_control
