"""Verdicts of a comparison with ASTRA-sim, as JSON and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from chakrasim.replay.report.console import new_table, print_table

if TYPE_CHECKING:
    from chakrasim.replay.astra_sim.conformance import Verdict


def describe_verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The document: every case, and how many are exact. Times are ns, of the rank that ends last."""
    return {
        "cases": [
            {
                "case": verdict.case,
                "backend": verdict.backend,
                "verdict": verdict.verdict,
                "ranks": len(verdict.finish_ns),
                "finish_ns": _last(verdict.finish_ns),
                "expected_finish_ns": _last(verdict.expected_finish_ns),
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ],
        "exact": sum(verdict.verdict == "exact" for verdict in verdicts),
        "total": len(verdicts),
    }


def print_verdicts(console: Console, document: Mapping[str, Any]) -> None:
    """One row a case; the last line counts."""
    table = new_table(
        "Cases", ("case", "backend", "verdict"), ("ranks", "finish (ns)", "ASTRA-sim's\nfinish (ns)")
    )
    for entry in document["cases"]:
        table.add_row(
            entry["case"],
            entry["backend"],
            entry["verdict"],
            str(entry["ranks"]),
            _shown(entry["finish_ns"]),
            _shown(entry["expected_finish_ns"]),
        )
    print_table(console, table)
    for entry in document["cases"]:
        if entry["detail"]:
            console.print(f"{entry['case']}: {entry['detail']}", soft_wrap=True)
    console.print(f"{document['exact']} of {document['total']} exact")


def _last(times_ns: Sequence[int | None]) -> int | None:
    ended = [time_ns for time_ns in times_ns if time_ns is not None]
    return max(ended, default=None)


def _shown(time_ns: int | None) -> str:
    return "never" if time_ns is None else f"{time_ns:,}"
