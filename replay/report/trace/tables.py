"""Tables for people of `inspect` and `convert`, drawn from their JSON documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from chakrasim.replay.report.console import (
    headline,
    listed_ranks,
    new_table,
    print_list,
    print_table,
    show_count,
    show_ns,
)
from chakrasim.replay.report.result.memory_table import held_parts
from chakrasim.replay.report.trace.mends import print_mendable
from chakrasim.replay.report.trace.problems import print_problems
from chakrasim.traces.units import format_bytes

MAX_RANKS = 16
"""More ranks than these are cut short in a table; the JSON has them all."""
MAX_LANES = 12


def print_trace(console: Console, trace: Mapping[str, Any]) -> None:
    """What `describe_workload` found."""
    missing = trace["missing_ranks"]
    ranks = f"{len(trace['ranks'])} of {trace['world_size']}" if missing else str(len(trace["ranks"]))
    console.print(
        headline(
            ("trace", f"{trace['trace']} in {Path(trace['ranks'][0]['source']).parent}"),
            ("ranks", ranks + (f" (missing: {listed_ranks(missing)})" if missing else "")),
            ("nodes", f"{trace['nodes']:,}, {trace['edges']:,} dependencies"),
        ),
        soft_wrap=True,
    )
    console.print()
    _print_kinds(console, trace)
    _print_ranks(console, trace["ranks"])
    _print_memory(console, trace["ranks"])
    _print_collectives(console, trace)
    _print_groups(console, trace["groups"])
    _print_lanes(console, trace["ranks"][0])
    print_list(console, "Notes", trace["notes"])
    print_problems(console, trace["problems"])
    if trace["mendable"]:
        print_mendable(console, trace["mendable"])


def print_conversion(console: Console, conversion: Mapping[str, Any]) -> None:
    """What `describe_conversion` found."""
    console.print(
        headline(
            ("written to", str(Path(conversion["ranks"][0]["file"]).parent)),
            ("ranks", str(len(conversion["ranks"]))),
        ),
        soft_wrap=True,
    )
    console.print()
    table = new_table(
        "Converted", ("rank", "file"), ("nodes", "dependencies", "not understood", "recorded span")
    )
    ranks = conversion["ranks"][:MAX_RANKS]
    cut = len(conversion["ranks"]) - MAX_RANKS
    for rank in ranks:
        table.add_row(
            str(rank["rank"]),
            Path(rank["file"]).name,
            show_count(rank["nodes"]),
            show_count(rank["edges"]),
            show_count(rank["not_understood"]),
            show_ns(rank["span_ns"]),
        )
    print_table(console, table, cut, "ranks")
    kinds = list(dict.fromkeys(k for rank in conversion["ranks"] for k in rank["nodes_by_kind"]))
    table = new_table("Nodes by kind", ("rank",), tuple(kinds))
    for rank in ranks:
        counts = rank["nodes_by_kind"]
        table.add_row(str(rank["rank"]), *(show_count(counts.get(kind, 0)) for kind in kinds))
    print_table(console, table, cut, "ranks")
    print_list(console, "Notes", conversion["notes"])


def _print_kinds(console: Console, trace: Mapping[str, Any]) -> None:
    table = new_table("Nodes by kind", ("kind",), ("nodes",))
    for kind, count in sorted(trace["nodes_by_kind"].items(), key=lambda item: -item[1]):
        table.add_row(kind, show_count(count))
    if trace["not_understood"]:
        table.add_row("collective, not understood", show_count(trace["not_understood"]))
    print_table(console, table)


def _print_ranks(console: Console, ranks: list[Mapping[str, Any]]) -> None:
    table = new_table(
        "Ranks",
        ("rank", "file"),
        ("nodes", "dependencies", "with recorded duration", "recorded span"),
    )
    for rank in ranks[:MAX_RANKS]:
        table.add_row(
            str(rank["rank"]),
            Path(rank["source"]).name,
            show_count(rank["nodes"]),
            show_count(rank["edges"]),
            show_count(rank["recorded_nodes"]),
            show_ns(rank["span_ns"]),
        )
    print_table(console, table, len(ranks) - MAX_RANKS, "ranks")


def _print_memory(console: Console, ranks: list[Mapping[str, Any]]) -> None:
    ranks = [rank for rank in ranks if "held" in rank]
    parts = held_parts(ranks)
    table = new_table("Memory held throughout", ("rank",), (*parts, "together"))
    for rank in ranks[:MAX_RANKS]:
        sizes = [rank["held"].get(part, 0) for part in parts]
        table.add_row(str(rank["rank"]), *map(format_bytes, (*sizes, sum(sizes))))
    print_table(console, table, len(ranks) - MAX_RANKS, "ranks")


def _print_collectives(console: Console, trace: Mapping[str, Any]) -> None:
    if trace["collectives"]:
        table = new_table(
            "Communication of one rank",
            ("collective", "group"),
            ("ranks", "count", "bytes", "recorded time"),
        )
        for entry in trace["collectives"]:
            table.add_row(
                entry["kind"],
                entry["group"],
                show_count(entry["group_size"]),
                show_count(entry["count"]),
                format_bytes(entry["bytes"]),
                show_ns(entry["recorded_ns"] or None),
            )
        print_table(console, table)
    messages = trace["messages"]
    if messages["count"]:
        console.print(f"{messages['count']:,} sends of {format_bytes(messages['bytes'])} in all")


def _print_groups(console: Console, groups: list[Mapping[str, Any]]) -> None:
    if len(groups) < 2:
        return
    table = new_table("Process groups", ("group", "ranks"), ("size",))
    for group in groups[:MAX_RANKS]:
        table.add_row(group["name"], listed_ranks(group["ranks"]), show_count(len(group["ranks"])))
    print_table(console, table, len(groups) - MAX_RANKS, "groups")


def _print_lanes(console: Console, rank: Mapping[str, Any]) -> None:
    table = new_table(f"Lanes of rank {rank['rank']}", ("lane",), ("nodes", "recorded time"))
    for lane in rank["lanes"][:MAX_LANES]:
        table.add_row(lane["name"], show_count(lane["nodes"]), show_ns(lane["recorded_ns"] or None))
    print_table(console, table, len(rank["lanes"]) - MAX_LANES, "lanes")
