"""Memory needs of ranks, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console

from chakrasim.replay.analysis.memory import capacity_bytes, memory_of_ranks
from chakrasim.replay.report.console import new_table, print_table, show_ns
from chakrasim.traces.units import format_bytes, ps_to_ns

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result

Document = Mapping[str, Any]

MAX_RANKS = 16
"""More ranks than these are summarised."""
FULLEST = 3
WIDE = 104
"""Columns of a terminal from which on there is room for what is held part by part."""


def memory_document(result: Result) -> dict[str, Any]:
    """`memory` of the result's document. Only for a workload that states memory."""
    capacity, needed = capacity_bytes(result), memory_of_ranks(result)
    ranks = [
        {
            "rank": memory.rank,
            "stands_for": result.workload.stands_for.get(memory.rank, 1),
            "held": dict(memory.held),
            "held_bytes": memory.held_bytes,
            "activation_bytes": memory.activation_bytes,
            "allocated_bytes": memory.allocated_bytes,
            "peak_bytes": memory.peak_bytes,
            "peak_at_ns": None if memory.peak_ps is None else ps_to_ns(memory.peak_ps),
            "spare_bytes": None if capacity is None else capacity - memory.peak_bytes,
        }
        for memory in needed
    ]
    return {
        "capacity_bytes": capacity,
        "fits": None if capacity is None else all(memory.peak_bytes <= capacity for memory in needed),
        "ranks": ranks,
    }


def print_memory(console: Console, memory: Document) -> None:
    """The table of `memory_document`."""
    ranks, capacity = memory["ranks"], memory["capacity_bytes"]
    title = "Memory" if capacity is None else f"Memory ({format_bytes(capacity)} a rank)"
    held = held_parts(ranks) if console.width >= WIDE else ["held"]
    table = new_table(title, ("rank",), (*held, "activations", "at", "peak", "verdict"))

    def add(name: str, rank: Document) -> None:
        sizes = [rank["held"].get(part, 0) for part in held] if held != ["held"] else [rank["held_bytes"]]
        table.add_row(
            name,
            *map(format_bytes, (*sizes, rank["activation_bytes"])),
            show_ns(rank["peak_at_ns"]),
            format_bytes(rank["peak_bytes"]),
            verdict(rank["spare_bytes"]),
            style="bold red" if (rank["spare_bytes"] or 0) < 0 else None,
        )

    fullest = sorted(ranks, key=lambda rank: -rank["peak_bytes"])
    if len(ranks) <= MAX_RANKS:
        for rank in ranks:
            add(str(rank["rank"]), rank)
    else:
        for name, pick in (("min", min), ("median", median), ("max", max)):
            add(name, _summary(ranks, pick, capacity))
        for rank in fullest[:FULLEST]:
            add(f"full: {rank['rank']}", rank)
    print_table(console, table)


def verdict(spare_bytes: int | None) -> str:
    """Whether a rank fits, and by how much.

    >>> verdict(2_500_000_000), verdict(-1_000), verdict(None)
    ('fits, 2.5 GB to spare', 'lacks 1 kB', 'unknown')
    """
    if spare_bytes is None:
        return "unknown"
    return (
        f"fits, {format_bytes(spare_bytes)} to spare"
        if spare_bytes >= 0
        else f"lacks {format_bytes(-spare_bytes)}"
    )


def held_parts(ranks: Sequence[Document]) -> list[str]:
    """Names of the parts that ranks hold, in the order in which they are stated."""
    return list(dict.fromkeys(part for rank in ranks for part in rank["held"]))


def _summary(ranks: Sequence[Document], pick: Any, capacity: int | None) -> Document:
    """An entry each figure of which is picked from those of all ranks."""
    found: dict[str, Any] = {
        key: pick(rank[key] for rank in ranks) for key in ("held_bytes", "activation_bytes", "peak_bytes")
    }
    found["held"] = {part: pick(rank["held"].get(part, 0) for rank in ranks) for part in held_parts(ranks)}
    found["peak_at_ns"] = None
    found["spare_bytes"] = None if capacity is None else capacity - found["peak_bytes"]
    return found
