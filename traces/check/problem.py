"""A broken invariant of a graph or workload, with its file, rank and node."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LISTED = 20
"""Findings of one kind that are spelt out; a damaged trace can have one a node."""


@dataclass(frozen=True)
class Problem:
    """One broken invariant. `node_id` is None where it isn't one node's."""

    source: str
    rank: int
    node_id: int | None
    message: str

    def __str__(self) -> str:
        node = "" if self.node_id is None else f" node {self.node_id}"
        return f"{self.source}: rank {self.rank}{node}: {self.message}"
