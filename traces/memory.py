"""Memory stated by a graph: what its rank holds all the time, and what nodes allocate and free.

Metadata `memory` is an object, part to bytes, for example
`{"parameters": 2000000000, "gradients": 4000000000, "optimizer": 12000000000}`; in a file it is JSON text. A
node's attributes `allocates` and `frees` are bytes: the first are there from its start, the others until its
end. `allocates_temporary` and `frees_temporary` count beside them: what isn't kept from a forward pass to its
backward pass, such as activations that are computed again and parameters gathered from other ranks. A graph
without the metadata states nothing.
"""

from __future__ import annotations

import numpy as np

from chakrasim.traces.attributes import attribute_columns, metadata_object
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, Ints

MEMORY = "memory"
"""Metadata: what is held throughout, bytes by part."""
ALLOCATES = "allocates"
"""Attribute of nodes: bytes from the node's start on."""
FREES = "frees"
"""Attribute of nodes: bytes until the node's end."""
TEMPORARY = "_temporary"
"""Ending of both attributes for what is not kept for a backward pass."""

MAX_BYTES = 2**61
"""More than all of a rank's nodes can allocate."""


def held_bytes(graph: ExecutionGraph) -> dict[str, int] | None:
    """Memory that the rank holds throughout, bytes by part; None where the graph states none.

    Raises TraceError for a part that isn't whole bytes.
    """
    stated = metadata_object(graph, MEMORY)
    if stated is None:
        return None
    for part, size in stated.items():
        if type(size) is not int or not 0 <= size < MAX_BYTES:
            raise TraceError(
                f"rank {graph.rank}: metadata {MEMORY!r} says {part!r} is {size!r}; expected bytes, a "
                "whole number from 0 on"
            )
    return dict(stated)


def allocations(graph: ExecutionGraph, *, kept_only: bool = False) -> tuple[Ints, Ints]:
    """int64[n] twice: bytes that each node allocates at its start and frees at its end, 0 for none. O(n).

    With `kept_only`, what is temporary is left out.

    Raises TraceError for a negative size, and for more bytes than there can be.
    """
    names = (ALLOCATES, FREES, ALLOCATES + TEMPORARY, FREES + TEMPORARY)
    columns = attribute_columns(graph, names)
    for name, column in zip(names, columns, strict=True):
        column[column == -1] = 0
        if (column < 0).any():
            row = int(np.argmin(column))
            raise TraceError(
                f"rank {graph.rank} node {graph.ids[row]}: ({graph.name(row)!r}) {name} {column[row]} bytes; "
                "expected 0 or more"
            )
        if float(column.sum(dtype=np.float64)) >= MAX_BYTES:
            raise TraceError(f"rank {graph.rank}: its nodes have {name!r} of over {MAX_BYTES} bytes together")
    if kept_only:
        return columns[0], columns[1]
    return columns[0] + columns[2], columns[1] + columns[3]
