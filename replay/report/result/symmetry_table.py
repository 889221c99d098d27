"""Rank classes for people: who was replayed for whom, and what keeps the classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from chakrasim.replay.report.console import listed_ranks, new_table, print_table
from chakrasim.replay.symmetry.classes import RankClasses
from chakrasim.replay.symmetry.explain import apart

MAX_CLASSES = 24
"""More aren't listed to people."""


def document(classes: RankClasses, at_most: int | None = None) -> dict[str, Any]:
    """Every class with its ranks; `unlike` is the replayed rank of the class nearest to it.

    Why they are apart is told of the first `at_most` classes, if that is given.
    """
    graphs, stands_for = classes.workload.graphs, classes.workload.stands_for
    reasons = {one.number: one for one in apart(classes, at_most)}
    found = []
    for number, representative in enumerate(classes.representatives):
        ranks = classes.ranks_of(number)
        reason = reasons.get(number)
        found.append(
            {
                "replayed": representative,
                "size": sum(stands_for.get(rank, 1) for rank in ranks),
                "ranks": list(ranks),
                "unlike": None if reason is None else classes.representatives[reason.nearest],
                "because": None if reason is None else reason.because,
            }
        )
    return {
        "classes": found,
        "replayed_nodes": sum(len(graphs[rank]) for rank in classes.representatives),
        "nodes": sum(len(graph) * stands_for.get(rank, 1) for rank, graph in graphs.items()),
        "every_rank_because": classes.why_all or None,
    }


def print_symmetry(console: Console, found: Mapping[str, Any]) -> None:
    """The document as a table."""
    classes = found["classes"]
    if found["every_rank_because"]:
        console.print(f"Rank classes: every rank is replayed, since {found['every_rank_because']}.\n")
        return
    ranks = sum(one["size"] for one in classes)
    title = f"Rank classes: {len(classes):,} of {ranks:,} ranks are replayed"
    if found["nodes"] > found["replayed_nodes"]:
        title += f", {found['replayed_nodes']:,} of {found['nodes']:,} nodes"
    console.print(title, style="bold")
    table = new_table("", ("replayed",), ("size",))
    table.add_column("ranks", overflow="fold")
    table.add_column("unlike", justify="right", no_wrap=True)
    table.add_column("because", overflow="fold", ratio=1)
    for one in classes[:MAX_CLASSES]:
        unlike = "" if one["unlike"] is None else str(one["unlike"])
        because = one["because"] or ""
        table.add_row(str(one["replayed"]), f"{one['size']:,}", listed_ranks(one["ranks"]), unlike, because)
    print_table(console, table, len(classes) - MAX_CLASSES, "classes")
