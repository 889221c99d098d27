"""What the trace doctor changed: as a JSON document (`docs/json.md`) and, drawn from that, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chakrasim.traces.doctor import TITLES

if TYPE_CHECKING:
    from rich.console import Console

    from chakrasim.traces.doctor import Mend
    from chakrasim.traces.workload import Workload

Document = dict[str, Any]

MAX_CHANGES = 3
"""Changed nodes of one kind that people are shown; the JSON has a few more."""
MAX_RANKS = 16
LONGEST_NAME = 44


def describe_mends(
    workload: Workload, found: Iterable[Mend], files: Sequence[Path], before: int, problems: Sequence[str]
) -> Document:
    """What was found in a workload, what was written, and the problems before and after."""
    found = list(found)
    return {
        "trace": workload.name,
        "world_size": workload.world_size,
        "missing_ranks": workload.missing_ranks,
        "nodes": len(workload),
        "written": [str(file) for file in files],
        "mends": [describe_mend(mend) for mend in found if mend.is_mended],
        "left": [describe_mend(mend) for mend in found if not mend.is_mended],
        "problems_before": before,
        "problems": list(problems),
        "notes": list(workload.notes),
    }


def describe_mend(mend: Mend) -> Document:
    """One rank's changes of one kind."""
    return {
        "rank": mend.rank,
        "kind": mend.kind,
        "what": TITLES[mend.kind],
        "why": mend.why,
        "count": mend.count,
        "first": [
            {"node": change.node_id, "name": change.name, "before": change.before, "after": change.after}
            for change in mend.first
        ],
    }


def print_mends(console: Console, document: Mapping[str, Any]) -> None:
    """A document of `describe_mends`: rank by rank, ranks alike together."""
    from chakrasim.replay.report.console import headline, print_list, show_count
    from chakrasim.replay.report.trace.problems import print_problems

    counts = [sum(entry["count"] for entry in document[key]) for key in ("mends", "left")]
    console.print(
        headline(
            ("trace", document["trace"]),
            ("nodes", f"{document['nodes']:,}"),
            ("written to", str(Path(document["written"][0]).parent)),
            ("mended", f"{show_count(counts[0])} places" if counts[0] else "nothing: it was in order"),
            ("left as is", f"{counts[1]:,} places: the trace says too little" if counts[1] else "nothing"),
            ("problems", f"{document['problems_before']:,} before, {len(document['problems']):,} left"),
        ),
        soft_wrap=True,
    )
    console.print()
    _print_changes(console, "Mended", document["mends"])
    _print_changes(console, "Left as it is", document["left"])
    print_list(console, "Notes", document["notes"])
    print_problems(console, document["problems"])


def print_mendable(console: Console, mendable: Sequence[Mapping[str, Any]]) -> None:
    """What `--fix` would mend, added up over the ranks."""
    from chakrasim.replay.report.console import new_table, print_table, show_count

    table = new_table("What --fix OUT would mend", ("found", "what makes it certain"), ("ranks", "places"))
    sums: dict[tuple[str, str], tuple[set[int], int]] = {}
    for entry in mendable:
        ranks, count = sums.get((entry["what"], entry["why"]), (set(), 0))
        sums[entry["what"], entry["why"]] = (ranks | {entry["rank"]}, count + entry["count"])
    for (what, why), (ranks, count) in sums.items():
        table.add_row(what, why, show_count(len(ranks)), show_count(count))
    print_table(console, table)


def _print_changes(console: Console, title: str, entries: Sequence[Mapping[str, Any]]) -> None:
    from chakrasim.replay.report.console import listed_ranks

    by_rank: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_rank.setdefault(entry["rank"], []).append(entry)
    alike: list[tuple[list[int], list[Mapping[str, Any]]]] = []
    for rank, own in by_rank.items():
        own = [{key: value for key, value in entry.items() if key != "rank"} for entry in own]
        same = next((ranks for ranks, other in alike if other == own), None)
        if same is None:
            alike.append(([rank], own))
        else:
            same.append(rank)
    for ranks, own in alike[:MAX_RANKS]:
        what = "rank" if len(ranks) == 1 else "each of ranks"
        console.print(f"{title}, {what} {listed_ranks(ranks)}", style="bold")
        for entry in own:
            _print_entry(console, entry)
        console.print()
    if len(alike) > MAX_RANKS:
        console.print(f" … and {len(alike) - MAX_RANKS:,} more ranks (--json lists them all)\n", style="dim")


def _print_entry(console: Console, entry: Mapping[str, Any]) -> None:
    from rich.text import Text

    line = Text(f"  {entry['count']:>7,} × {entry['what']}")
    if entry["why"]:
        line.append(f": {entry['why']}", style="dim")
    console.print(line, soft_wrap=True)
    for change in entry["first"][:MAX_CHANGES]:
        name = change["name"]
        name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        place = "" if change["node"] is None else f"{change['node']} {name}: "
        line = Text(f"            {place}", style="dim")
        line.append(change["before"], style="red" if change["after"] else "")
        if change["after"] is not None:
            line.append(" → ", style="dim")
            line.append(change["after"], style="green")
        console.print(line, soft_wrap=True)
