"""A replay's work by an attribute of its nodes, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from chakrasim.replay.report.console import new_table, print_table, show_count
from chakrasim.traces.units import format_bytes, format_time, ps_to_ns

if TYPE_CHECKING:
    from chakrasim.replay.analysis.by_attribute import Share

MAX_VALUES = 40
"""Of more values, those with the longest times are shown."""


def document(attribute: str, shares: Sequence[Share]) -> dict[str, Any]:
    """`by` of the result's document."""
    return {"attribute": attribute, "values": [_entry(share) for share in shares]}


def _entry(share: Share) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": share.value, "name": share.name, "ranks": share.ranks}
    for quantity, mean in share.mean.items():
        most = share.maximum[quantity]
        if quantity.endswith("_ps"):
            name = quantity.removesuffix("_ps")
            entry[f"{name}_mean_ns"], entry[f"{name}_max_ns"] = ps_to_ns(round(mean)), ps_to_ns(most)
        else:
            entry[f"{quantity}_mean"], entry[f"{quantity}_max"] = mean, most
    return entry


def print_shares(console: Console, attribute: str, shares: Sequence[Share]) -> None:
    """The table of `document`: per value the mean and maximum over the ranks that have such nodes."""
    table = new_table(
        f"By {attribute}, a rank",
        (attribute,),
        (
            *("ranks", "nodes", "compute\nmean", "compute\nmax", "communication\nmean", "communication\nmax"),
            *("GFLOP\nmean", "bytes\nmean", "bytes\ncommunicated"),
        ),
    )
    longest = sorted(shares, key=lambda share: -_longest_ps(share))[:MAX_VALUES]
    shown = {id(share) for share in longest}
    for share in shares:
        if id(share) not in shown:
            continue
        mean, most = share.mean, share.maximum
        table.add_row(
            share.name,
            show_count(share.ranks),
            show_count(round(mean["nodes"])),
            *(
                format_time(of[quantity])
                for quantity in ("compute_ps", "communication_ps")
                for of in (mean, most)
            ),
            _giga(mean["operations"]),
            format_bytes(mean["bytes"]),
            format_bytes(mean["communication_bytes"]),
        )
    print_table(console, table, len(shares) - len(longest), "values")


def _giga(operations: float) -> str:
    value = operations / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _longest_ps(share: Share) -> int:
    return share.maximum["compute_ps"] + share.maximum["communication_ps"]
