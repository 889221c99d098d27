"""Stragglers as JSON and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chakrasim.replay.analysis.stragglers import Excess, find_stragglers
from chakrasim.traces.units import format_time, ps_to_ns

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result

COLUMNS = ("last at", "cost to others", "own waiting", "what took longer than elsewhere")
"""Columns of `rows` after the rank."""


def stragglers_document(result: Result) -> dict[str, Any]:
    """The `stragglers` block of the JSON; times in ns. See `docs/json.md`."""
    found = find_stragglers(result)
    return {
        "ranks": [
            {
                "rank": entry.rank,
                "last_at": entry.last_at,
                "cost_to_others_ns": ps_to_ns(entry.cost_ps),
                "own_waiting_ns": ps_to_ns(entry.waiting_ps),
                "nodes": [
                    {
                        "name": node.name,
                        "on": "host" if node.is_host else "device",
                        "excess_ns": ps_to_ns(node.excess_ps),
                        "own_ns": ps_to_ns(node.own_ps),
                    }
                    for node in entry.nodes
                ],
            }
            for entry in found.ranks
        ],
        "collectives": [
            {
                "group": meeting.group,
                "kind": meeting.kind,
                "ordinal": meeting.ordinal,
                "last_rank": meeting.last_rank,
                "arrival_ns": ps_to_ns(meeting.arrival_ps),
                "waiting_ns": ps_to_ns(sum(meeting.waits_ps.values())),
                "waits": [
                    {"rank": rank, "waiting_ns": ps_to_ns(wait)} for rank, wait in meeting.waits_ps.items()
                ],
            }
            for meeting in found.meetings
        ],
    }


def rows(result: Result, at_most: int = 8) -> list[tuple[str, ...]]:
    """For people: rank and `COLUMNS` of the ranks that cost the others most, the worst first."""
    ranks = [entry for entry in find_stragglers(result).ranks if entry.cost_ps > 0]
    ranks.sort(key=lambda entry: (-entry.cost_ps, entry.rank))
    return [
        (
            str(entry.rank),
            f"{entry.last_at:,}",
            format_time(entry.cost_ps),
            format_time(entry.waiting_ps),
            ", ".join(_told(entry.nodes)) or "–",
        )
        for entry in ranks[:at_most]
    ]


def _told(nodes: tuple[Excess, ...], at_most: int = 2) -> Iterator[str]:
    for node in nodes[:at_most]:
        name = node.name if len(node.name) <= 40 else node.name[:39] + "…"
        yield f"{name} +{format_time(node.excess_ps)}"
