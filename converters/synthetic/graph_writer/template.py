"""Pieces of a graph that occur many times, and the graph that is put together from them.

A template holds the nodes of one pass through one chunk of layers; every micro-batch gets a copy of its
columns, with rows, tags and the number of the micro-batch moved on. That is what makes graphs of 10^6 nodes
in a second: only distinct passes are made node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.attributes import NodeAttributes
from chakrasim.traces.builder import StringTable, graph_of_columns
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import DEFAULT_LANE, NO_LANE, CommKind, ExecutionGraph, Ints, NodeKind

COLUMNS = (
    "kinds", "name_ids", "ops", "tensor_bytes", "comm_kinds", "comm_bytes", "group_ids", "peers", "tags",
    "lanes", "is_cpu", "dtype_ids", "op_kind_ids",
)  # fmt: skip
ATTRIBUTES = (
    "micro_batch", "layer", "stage", "pass", "allocates", "frees", "allocates_temporary", "frees_temporary",
)  # fmt: skip


MAX_NODES = 20_000_000
"""Nodes of one rank; graphs with more don't fit into a laptop's memory."""


class Tables:
    """The strings that all templates of a graph share."""

    def __init__(self) -> None:
        self.names, self.groups, self.lanes = StringTable(), StringTable(), StringTable()
        self.dtypes, self.op_kinds = StringTable(), StringTable()


@dataclass
class Template:
    """Nodes of one pass, in the order in which they are issued.

    `tail` are the rows that the next node in line waits for. A node that is first in line waits for the tail
    of the pass before.
    """

    tables: Tables
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Attributes of all nodes that are added from now on."""
    rows: list[tuple[int, ...]] = field(default_factory=list)
    more: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    """(child, parent)"""
    tail: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    """Rows that wait for the pass before."""
    loose: list[int] = field(default_factory=list)
    """Rows that nothing in the pass waits for, but the step's end."""
    early: list[int] = field(default_factory=list)
    """Rows that wait for `gate` of the pass before."""
    gate: list[int] = field(default_factory=list)
    streams: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last row on each stream of what runs beside the line: its order is that of its issue. For
    collectives it is so on every rank, so that none waits for one that another rank has put behind it."""
    also: list[int] = field(default_factory=list)
    """Rows that the next node in line waits for besides the tail."""

    def add(
        self,
        kind: int,
        name: str,
        *,
        lane: str | None = None,
        op_kind: str = "",
        dtype: str = "",
        ops: int = -1,
        size_bytes: int = -1,
        comm_kind: int = -1,
        comm_bytes: int = -1,
        group: str = "",
        peer: int = -1,
        tag: int = -1,
        is_cpu: bool = False,
        allocates: int = 0,
        frees: int = 0,
        is_temporary: bool = False,
        after: Iterable[int] | None = None,
        in_line: bool = True,
    ) -> int:
        """Add a node and return its row.

        It waits for `after`, or where that is None for the tail; if it is `in_line`, the next waits for it.
        What it allocates and frees is kept for the backward pass, or `is_temporary`: computed again in it, or
        gathered from other ranks.
        """
        tables = self.tables
        row = len(self.rows)
        self.rows.append(
            (
                int(kind),
                tables.names(name),
                ops,
                size_bytes,
                int(comm_kind),
                comm_bytes,
                tables.groups(group) if group else -1,
                peer,
                tag,
                DEFAULT_LANE if lane is None else tables.lanes(lane) if lane else NO_LANE,
                int(is_cpu),
                tables.dtypes(dtype) if dtype else -1,
                tables.op_kinds(op_kind) if op_kind else -1,
            )
        )
        kept, temporary = (-1, -1), (allocates or -1, frees or -1)
        if not is_temporary:
            kept, temporary = temporary, kept
        given = self.attributes
        places = (given.get("layer", -1), given.get("stage", -1), given.get("pass", -1))
        self.more.append((0, *places, *kept, *temporary))
        self._wait(row, after, in_line=in_line)
        return row

    def _wait(self, row: int, after: Iterable[int] | None, *, in_line: bool) -> None:
        """Add the row's edges, and make it the tail if it is `in_line`."""
        if after is not None:
            self.edges += [(row, parent) for parent in after]
        elif self.tail:
            self.edges += [(row, parent) for parent in self.tail]
        else:
            self.entries.append(row)
        if in_line:
            self.edges += [(row, parent) for parent in self.also]
            self.tail, self.also = [row], []

    def keep_order(self, stream: str, row: int) -> None:
        """The row comes behind the last one of the stream."""
        first, last = self.streams.get(stream, (row, row))
        if last != row:
            self.edges.append((row, last))
        self.streams[stream] = first, row

    def __len__(self) -> int:
        return len(self.rows)


class Assembly:
    """Copies of templates, one after the other."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.n = 0
        self.tail: list[int] = []
        self.gate: list[int] = []
        self.loose: list[int] = []
        self._streams: dict[str, int] = {}
        self._placed: list[tuple[Template, int, int]] = []
        self._edges: list[tuple[int, int]] = []

    def place(self, template: Template, micro_batch: int = -1, *, waits_for_loose: bool = False) -> int:
        """Append a copy and return the row of its first node.

        Raises ConfigError for more nodes than a rank can have.
        """
        base = self.n
        if base + len(template) > MAX_NODES:
            raise ConfigError(
                f"the graph of a rank would have over {MAX_NODES:,} nodes; larger micro-batches or more "
                "data ranks make fewer passes"
            )
        self._placed.append((template, base, micro_batch))
        self.n += len(template)
        parents = self.tail + (self.loose if waits_for_loose else [])
        self._edges += [(base + row, parent) for row in template.entries for parent in parents]
        self._edges += [(base + row, parent) for row in template.early for parent in self.gate]
        for stream, (first, last) in template.streams.items():
            if stream in self._streams:
                self._edges.append((base + first, self._streams[stream]))
            self._streams[stream] = base + last
        if template.tail:
            self.tail = [base + row for row in template.tail]
        self.gate = [base + row for row in template.gate] or self.tail
        self.loose += [base + row for row in template.loose]
        return base

    def build(
        self, rank: int, groups: Mapping[str, tuple[int, ...]], metadata: Mapping[str, Any]
    ) -> tuple[ExecutionGraph, Ints]:
        """The graph, and int64[n] what its `peers` stand for: they are still the templates' own numbers."""
        arrays: dict[int, tuple[Ints, Ints, Ints]] = {}
        parts, more, edges = [], [], []
        for template, base, micro_batch in self._placed:
            if id(template) not in arrays:
                arrays[id(template)] = (
                    np.array(template.rows, dtype=np.int64).reshape(-1, len(COLUMNS)),
                    np.array(template.more, dtype=np.int64).reshape(-1, len(ATTRIBUTES)),
                    np.array(template.edges, dtype=np.int64).reshape(-1, 2),
                )
            rows, attributes, own_edges = arrays[id(template)]
            if micro_batch >= 0:
                rows, attributes = rows.copy(), attributes.copy()
                tags = rows[:, COLUMNS.index("tags")]
                tags[tags >= 0] += micro_batch
            else:
                attributes = attributes.copy()
            attributes[:, 0] = micro_batch
            parts.append(rows)
            more.append(attributes)
            edges.append(own_edges + base)
        edges.append(np.array(self._edges, dtype=np.int64).reshape(-1, 2))
        columns: NDArray[np.int64] = np.concatenate(parts).T
        attributes = np.concatenate(more).T
        joined = np.concatenate(edges)
        tables = self.tables
        named = {name: column for name, column in zip(COLUMNS, columns, strict=True) if name != "peers"}
        graph = graph_of_columns(
            rank,
            self.n,
            named,
            children=joined[:, 0],
            parents=joined[:, 1],
            names=tables.names.names(),
            group_names=tables.groups.names(),
            lane_names=tables.lanes.names(),
            dtypes=tables.dtypes.names(),
            op_kinds=tables.op_kinds.names(),
            groups=dict(groups),
            metadata=dict(metadata),
            attributes=NodeAttributes(
                {
                    name: np.ascontiguousarray(column)
                    for name, column in zip(ATTRIBUTES, attributes, strict=True)
                }
            ),
        )
        return graph, np.ascontiguousarray(columns[COLUMNS.index("peers")])


def collective(
    template: Template,
    name: str,
    comm: tuple[CommKind, int],
    group: str,
    *,
    after: Iterable[int] | None = None,
    in_line: bool = True,
    gathers: int = 0,
    drops: int = 0,
) -> int:
    """Add a collective on its group's lane, behind the last one of its group. `gathers` is what it
    allocates, `drops` what it frees."""
    kind, size_bytes = comm
    row = template.add(
        NodeKind.COLL,
        name,
        lane=group,
        comm_kind=kind,
        comm_bytes=size_bytes,
        group=group,
        after=after,
        in_line=in_line,
        allocates=gathers,
        frees=drops,
        is_temporary=True,
    )
    template.keep_order(group, row)
    return row
