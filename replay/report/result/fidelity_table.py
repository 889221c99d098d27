"""The self-check for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from chakrasim.replay.analysis.fidelity import doubt, is_doubtful
from chakrasim.replay.report.console import new_table, print_table
from chakrasim.traces.units import format_time, ps_to_ns

if TYPE_CHECKING:
    from chakrasim.replay.analysis.fidelity import Compared, Fidelity

MAX_RANKS = 16
GOOD_PERCENT = 1.0
"""Below this an error is no news."""


def document(found: Sequence[Fidelity]) -> list[dict[str, Any]]:
    """The `self_check` of `convert --json` and `replay --json`."""
    return [
        {
            "rank": rank.rank,
            "over": rank.over,
            **_compared(rank.span),
            "start_error_median_ns": ps_to_ns(rank.median_ps),
            "start_error_p95_ns": ps_to_ns(rank.p95_ps),
            "streams": [{"name": stream.name, **_compared(stream)} for stream in rank.streams],
            "phases": [
                {"name": phase.name, "count": phase.count, **_compared(phase)} for phase in rank.phases
            ],
            "worst": [
                {
                    "node": node.node_id,
                    "name": node.name,
                    "lane": node.lane,
                    "recorded_start_ns": ps_to_ns(node.recorded_ps),
                    "late_ns": ps_to_ns(node.error_ps),
                }
                for node in rank.worst
            ],
        }
        for rank in found
    ]


def _compared(of: Compared) -> dict[str, Any]:
    return {
        "recorded_ns": ps_to_ns(of.recorded_ps),
        "replayed_ns": ps_to_ns(of.replayed_ps),
        "error_percent": round(of.error_percent, 4),
    }


def print_fidelity(console: Console, found: Sequence[Fidelity], *, is_what_if: bool) -> None:
    """How far the replay of the unchanged trace is from the recording, for people: a line if it is near."""
    if not found:
        return
    if all(_is_good(rank) for rank in found):
        console.print(_sentence(found), soft_wrap=True, style="dim")
        console.print()
        return
    table = new_table(
        "Self-check: the unchanged trace, replayed with recorded durations",
        ("rank",),
        (
            *("recorded", "replayed", "error", "starts off by\n(median)", "(95 %)"),
            *("busy streams\noff by", "phases\noff by"),
        ),
    )
    shown = sorted(found, key=lambda rank: -abs(rank.span.error_percent))[:MAX_RANKS]
    for rank in sorted(shown, key=lambda rank: rank.rank):
        table.add_row(
            str(rank.rank),
            format_time(rank.span.recorded_ps),
            format_time(rank.span.replayed_ps),
            f"{rank.span.error_percent:+.2f} %",
            format_time(rank.median_ps),
            format_time(rank.p95_ps),
            _most(rank.streams),
            _most(rank.phases),
        )
    print_table(console, table, len(found) - len(shown), "ranks")
    for text in _worst_nodes(found):
        console.print(text, soft_wrap=True, style="dim")
    console.print()
    if is_what_if and is_doubtful(tuple(found)):
        console.print(f"Warning: {doubt(tuple(found))}.\n", style="bold yellow", soft_wrap=True)


def _is_good(rank: Fidelity) -> bool:
    compared = (rank.span, *rank.streams, *rank.phases)
    near_ps = GOOD_PERCENT / 100 * rank.span.recorded_ps
    return max(abs(c.error_percent) for c in compared) < GOOD_PERCENT and rank.p95_ps < near_ps


def _sentence(found: Sequence[Fidelity]) -> str:
    """The self-check of all ranks in a line: of each error the worst."""
    longest = max(found, key=lambda rank: rank.span.recorded_ps)
    error = max((rank.span.error_percent for rank in found), key=abs)
    streams = max((s.error_percent for rank in found for s in rank.streams), key=abs, default=0.0)
    phases = max((p.error_percent for rank in found for p in rank.phases), key=abs, default=0.0)
    worst = max((abs(n.error_ps) for rank in found for n in rank.worst), default=0)
    return (
        f"Self-check: replayed as recorded, the trace takes {format_time(longest.span.replayed_ps)} of its "
        f"{format_time(longest.span.recorded_ps)} ({error:+.2f} %); streams are busy {streams:+.2f} %, "
        f"phases last {phases:+.2f} %, nodes start {format_time(max(rank.median_ps for rank in found))} off "
        f"(median), {format_time(max(rank.p95_ps for rank in found))} (95 %), {format_time(worst)} at worst."
    )


def _worst_nodes(found: Sequence[Fidelity]) -> list[str]:
    worst = max(found, key=lambda rank: max((abs(n.error_ps) for n in rank.worst), default=0))
    return [
        f"  rank {worst.rank} node {node.node_id} ({node.name[:60]}) on {node.lane} starts "
        f"{format_time(abs(node.error_ps))} too {'late' if node.error_ps > 0 else 'early'}"
        for node in worst.worst
    ]


def _most(of: Sequence[Compared]) -> str:
    if not of:
        return "–"
    return f"{max((c.error_percent for c in of), key=abs):+.2f} %"
