"""One rank's execution graph: equal-length numpy columns and edges in CSR form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.shared.pickling import FieldsOnly

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]

DEFAULT_LANE = -1
"""Lane of a node that names none: the replay chooses by kind (cpu, compute or comm)."""
NO_LANE = -2
"""Lane of a node that occupies nothing while it runs."""


EDITED = "edited"
"""Metadata of a graph that is set once it has been edited: it is no recording any more."""
CLOCK = "clock_ps"
"""Metadata of a graph: how far its recorded starts are ahead of the clock that all ranks share, in ps."""


class NodeKind(IntEnum):
    """Kind of a node; Chakra's numbers."""

    INVALID = 0
    METADATA = 1
    MEM_LOAD = 2
    MEM_STORE = 3
    COMP = 4
    SEND = 5
    RECV = 6
    COLL = 7

    @property
    def label(self) -> str:
        """The name used in tables and messages."""
        return _NODE_LABELS[self]


class CommKind(IntEnum):
    """Kind of a collective; Chakra's numbers."""

    ALL_REDUCE = 0
    REDUCE = 1
    ALL_GATHER = 2
    GATHER = 3
    SCATTER = 4
    BROADCAST = 5
    ALL_TO_ALL = 6
    REDUCE_SCATTER = 7
    REDUCE_SCATTER_BLOCK = 8
    BARRIER = 9

    @property
    def label(self) -> str:
        """The name used in tables, messages and machine files, e.g. `all-reduce`."""
        return self.name.lower().replace("_", "-")


_NODE_LABELS = {
    NodeKind.INVALID: "invalid",
    NodeKind.METADATA: "metadata",
    NodeKind.MEM_LOAD: "memory load",
    NodeKind.MEM_STORE: "memory store",
    NodeKind.COMP: "compute",
    NodeKind.SEND: "send",
    NodeKind.RECV: "receive",
    NodeKind.COLL: "collective",
}


@dataclass(frozen=True)
class Defect:
    """Something wrong with one record of a file, found while it was read."""

    node_id: int
    message: str


@dataclass(frozen=True, eq=False)
class ExecutionGraph(FieldsOnly):
    """One rank's nodes as columns of length n, in ascending order of id.

    A row is a node's position in the columns; edges hold rows, not ids. -1 stands for an absent value
    in every integer column but `durations_ps`, where Chakra's schema can't tell absent from 0.
    """

    rank: int
    ids: NDArray[np.uint64]
    """Node ids, ascending and unique."""
    kinds: NDArray[np.int8]
    """`NodeKind` numbers."""
    name_ids: Rows
    """Index in `names`."""
    names: tuple[str, ...]
    durations_ps: Ints
    """Recorded duration, ps; 0 where none was recorded."""
    starts_ps: Ints
    """Recorded start, ps after the trace's origin. For reports only: nothing is scheduled by it."""
    ops: Ints
    """Floating-point operations."""
    tensor_bytes: Ints
    """Bytes a compute node touches or a memory node moves."""
    comm_kinds: NDArray[np.int8]
    """`CommKind` numbers of collectives. A collective with -1 was recorded but not understood."""
    comm_bytes: Ints
    """Bytes sent, received or given to a collective: the rank's own shard for an all-gather, its whole
    input buffer for every other kind."""
    group_ids: Rows
    """Index in `group_names`; -1 is the world."""
    group_names: tuple[str, ...]
    peers: Rows
    """Destination of a send, source of a receive, root of a rooted collective."""
    tags: Ints
    """int8 or int32 in a graph that was read, if that holds them; `involved_dims` and `priorities`, too."""
    lanes: Rows
    """Index in `lane_names`, or `DEFAULT_LANE` or `NO_LANE`."""
    lane_names: tuple[str, ...]
    is_cpu: NDArray[np.bool_]
    dtype_ids: NDArray[np.int8]
    """Index in `dtypes`."""
    dtypes: tuple[str, ...]
    op_kind_ids: NDArray[np.int8]
    """Index in `op_kinds`."""
    op_kinds: tuple[str, ...]
    """Kind of a compute node: `matmul`, `attention` (one fused kernel), `elementwise` (bound by memory),
    or of the host `launch`, whose `ops` are the operators that it issues."""
    involved_dims: Ints
    """Dimensions of a collective: bit d is set if dimension d of the network takes part; -1 is all."""
    priorities: Ints
    """Priority of a collective: higher ones go first where the machine schedules by them."""
    parent_offsets: Ints
    """[n + 1]: the parents of row i are `parents[parent_offsets[i]:parent_offsets[i + 1]]`."""
    parents: Rows
    parent_is_control: NDArray[np.bool_]
    """For each entry of `parents`: a control edge (True) or a data edge. Either gates the node."""
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Process groups that the trace itself declares: name to ranks, in group order."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the file as a whole."""
    defects: tuple[Defect, ...] = ()
    """Mistakes in single records; `check_graph` reports them."""
    read_attributes: Callable[[int], dict[str, Any]] | None = field(default=None, repr=False)
    """Reads every attribute of a row, those without a column included."""
    records: Callable[[], bytes] | None = field(default=None, repr=False)
    """The file's own bytes, for a graph that was read and not edited."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<ExecutionGraph rank {self.rank}: {len(self)} nodes, {len(self.parents)} edges>"

    def name(self, row: int) -> str:
        """The name of the node in `row`."""
        return self.names[int(self.name_ids[row])]

    def title(self, row: int) -> str:
        """Rank, id and name of the node in `row`, for messages."""
        return f"rank {self.rank} node {self.ids[row]} ({self.name(row)!r})"

    def lane_name(self, row: int) -> str:
        """The name of the row's lane, empty where the trace names none."""
        lane = int(self.lanes[row])
        return self.lane_names[lane] if lane >= 0 else ""

    def group_name(self, row: int) -> str:
        """The name of the row's process group, empty for the world."""
        group = int(self.group_ids[row])
        return self.group_names[group] if group >= 0 else ""

    def attributes(self, row: int) -> dict[str, Any]:
        """Every attribute of a row, also those without a column. Parses the record: not for hot paths."""
        return self.read_attributes(row) if self.read_attributes else {}

    def parents_of(self, row: int) -> Rows:
        """Rows that must end before `row` starts."""
        return self.parents[self.parent_offsets[row] : self.parent_offsets[row + 1]]

    def children(self) -> tuple[Ints, Rows]:
        """Offsets [n + 1] and rows [m]: the children of each row, ascending. Computed once, O(n + m)."""
        return self._children

    @cached_property
    def _children(self) -> tuple[Ints, Rows]:
        n = len(self)
        child_of_edge = np.repeat(np.arange(n, dtype=np.int32), np.diff(self.parent_offsets))
        order = np.argsort(self.parents, kind="stable")
        offsets = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.parents, minlength=n), out=offsets[1:])
        return offsets, child_of_edge[order]

    @property
    def is_communication(self) -> NDArray[np.bool_]:
        """bool[n]: collectives, sends and receives."""
        return self.kinds >= NodeKind.SEND
