"""A replay's result for people: what the step takes, where each rank's time goes, and what bounds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chakrasim.replay.analysis.exposure import Exposed, exposed_by_kind, exposed_waiting_ps
from chakrasim.replay.network import DEFAULT_NETWORK, RECORDED_NETWORK, network_model
from chakrasim.replay.report.console import (
    bar,
    headline,
    listed_ranks,
    new_table,
    percent,
    print_list,
    print_table,
    show_count,
    show_ns,
)
from chakrasim.replay.report.result.attribute_table import print_shares
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.report.result.fidelity_table import print_fidelity
from chakrasim.replay.report.result.memory_table import print_memory
from chakrasim.replay.report.result.symmetry_table import print_symmetry
from chakrasim.traces.units import format_bytes, format_rate, format_time

if TYPE_CHECKING:
    from chakrasim.replay.analysis.by_attribute import Share
    from chakrasim.replay.analysis.critical_path import Part
    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.replay.results.result import RankTimes, Result

Document = Mapping[str, Any]

MAX_RANKS = 16
"""More ranks than these are summarised."""
SLOWEST = 3
MAX_ROWS = 14
WIDE, MEDIUM = 112, 92
"""Columns of a terminal from which on there is room for bars, and for times beside percentages."""

SHARES = {
    "compute": "compute_ns",
    "exposed\ncommunication": "exposed_communication_ns",
    "idle": "idle_ns",
    "waiting\nfor others": "waiting_ns",
}
"""Columns of the table of ranks. The first three add up to the finish; waiting is part of communication."""

COMPUTE: Mapping[str, str] = {
    "measured": "measured: as long as recorded",
    "roofline": "roofline: from operations and bytes",
}


def print_replay(
    console: Console,
    result: Result,
    *,
    trace: str,
    is_default_network: bool,
    critical_path: list[Part] | None,
    timeline: str | None,
    fidelity: Sequence[Fidelity] = (),
    is_what_if: bool = True,
    by: tuple[str, Sequence[Share]] | None = None,
    symmetry: Document | None = None,
) -> None:
    """Everything for people about a replay of `trace`. `timeline` is where one was written.

    `by` is an attribute of nodes and what those of each value did, `symmetry` the document of rank classes.
    `fidelity` is the self-check of the unchanged trace; `is_what_if` says that this is another replay.
    """
    document = json_document(result)
    print_fidelity(console, fidelity, is_what_if=is_what_if)
    _print_header(console, document, trace, is_default_network)
    if result.deadlock is None:
        times = max(result.ranks, key=lambda times: times.finish_ps)
        exposed = exposed_by_kind(result, times.rank)
        finishes_alone = any(other.finish_ps < times.finish_ps for other in result.ranks)
        waiting_ps = exposed_waiting_ps(result, times.rank)
        sentence = what_bounds(times, exposed, waiting_ps, finishes_alone)
        _print_step(console, document, sentence, with_recorded=is_what_if)
    else:
        exposed = []
        console.print(str(result.deadlock), style="bold red", soft_wrap=True)
        console.print()
    _print_ranks(console, document["ranks"])
    if "memory" in document:
        print_memory(console, document["memory"])
    if by is not None:
        print_shares(console, *by)
    _print_communication(console, document["collectives"], exposed)
    _print_stragglers(console, result)
    if symmetry is not None:
        print_symmetry(console, symmetry)
    if critical_path is not None:
        _print_critical_path(console, critical_path)
    print_list(console, "Assumed, since ranks are missing", document["assumptions"])
    print_list(console, "Notes", document["notes"])
    if timeline is None:
        console.print("To see it as a timeline: --timeline OUT.json", style="dim")
    elif timeline != "-":
        console.print(f"Timeline in {timeline}: open it at https://ui.perfetto.dev", soft_wrap=True)


def _print_stragglers(console: Console, result: Result) -> None:
    from chakrasim.replay.report.result.straggler_table import COLUMNS, rows

    table = new_table("Who the others waited for", ("rank",), COLUMNS[:-1])
    table.add_column(COLUMNS[-1], overflow="fold")
    for row in rows(result):
        table.add_row(*row)
    print_table(console, table)


def _print_critical_path(console: Console, parts: list[Part], at_most: int = 12) -> None:
    total_ps = sum(part.time_ps for part in parts)
    table = new_table(
        "Critical path: what the step time is made of", ("kind", "name"), ("nodes", "time", "share")
    )
    for part in parts[:at_most]:
        name = part.name if len(part.name) <= 60 else part.name[:59] + "…"
        share = percent(part.time_ps / total_ps) if total_ps else ""
        table.add_row(part.kind, name, f"{part.count:,}", format_time(part.time_ps), share)
    rest = parts[at_most:]
    if rest:
        rest_ps = sum(part.time_ps for part in rest)
        count = sum(part.count for part in rest)
        table.add_row(
            "", f"{len(rest):,} more", f"{count:,}", format_time(rest_ps), percent(rest_ps / total_ps)
        )
    print_table(console, table)


def _print_header(console: Console, document: Document, trace: str, is_default_network: bool) -> None:
    ranks, world = len(document["ranks"]), document["world_size"]
    machine, compute, network = document["machine"], str(document["compute"]), str(document["network"])
    model = network_model(network)
    if compute == "measured" and model.splits_recording:
        machine += ", only for what has no recorded time"
    explained = f"{network}: {model.summary}"
    if not document["collectives"] and "deadlock" not in document:
        explained = "not used: the trace has no communication"
    elif is_default_network:
        other = DEFAULT_NETWORK if model.needs_recording else RECORDED_NETWORK
        explained += f" (by default; or --network {other})"
    console.print(
        headline(
            ("trace", trace),
            (
                "ranks",
                (f"{ranks:,} of {world:,}" if ranks < world else f"{ranks:,}")
                + f", {document['nodes']:,} nodes",
            ),
            ("machine", machine),
            ("compute", COMPUTE.get(compute, compute)),
            ("network", explained),
        ),
        soft_wrap=True,
    )
    console.print()


def _print_step(console: Console, document: Document, sentence: str, *, with_recorded: bool) -> None:
    console.print(Panel.fit(Text(f"step time  {show_ns(document['step_time_ns'])}", style="bold green")))
    console.print(sentence)
    if "throughput" in document:
        console.print(_throughput(document["throughput"]))
    if document["recorded"] and with_recorded:
        console.print(_self_check(document["recorded"]), soft_wrap=True, style="dim")
    console.print()


def _throughput(done: Document) -> str:
    share = done["model_flops_utilisation"]
    utilised = "" if share is None else f", model FLOPs utilisation {percent(share)}"
    return (
        f"{done['tokens_per_s']:,.0f} tokens/s, {done['tokens_per_s_and_rank']:,.1f} a rank; "
        f"{done['model_TFLOPs_per_rank']:,.1f} TFLOP/s of the model a rank{utilised}."
    )


def what_bounds(times: RankTimes, exposed: Sequence[Exposed], waiting_ps: int, is_last: bool) -> str:
    """A sentence on where the step of a rank goes; `is_last` says that others finish before it."""
    if not times.finish_ps:
        return "Nothing takes any time."

    def share(part_ps: int) -> str:
        return percent(part_ps / times.finish_ps)

    uncovered_ps = times.exposed_communication_ps
    step = f"the step of rank {times.rank}" + (", which finishes last" if is_last else "")
    longest_ps = max(times.compute_ps, uncovered_ps, times.idle_ps)
    if longest_ps == times.compute_ps:
        text = f"Compute fills {share(times.compute_ps)} of {step}; communication is exposed for "
        text += share(uncovered_ps)
    elif longest_ps == uncovered_ps:
        text = f"Communication is exposed for {share(uncovered_ps)} of {step}"
    else:
        text = f"For {share(times.idle_ps)} of {step}, it neither computes nor communicates"
        if times.host_ps:
            text += f", while its host works for {share(times.host_ps)}"
        text += f"; communication is exposed for {share(uncovered_ps)}"
    if exposed:
        where = f" over {exposed[0].group}" if exposed[0].group else ""
        text += f", mostly {exposed[0].kind}{where} ({format_time(exposed[0].exposed_ps)})"
    if waiting_ps >= 0.01 * times.finish_ps:
        text += f"; for {share(waiting_ps)} it only waits for others"
    return text + "."


def _self_check(recorded: Sequence[Document]) -> str:
    longest = max(recorded, key=lambda entry: entry["span_ns"])
    text = (
        f"Recorded: {show_ns(longest['span_ns'])} on the {longest['over']} of rank {longest['rank']}, "
        f"replayed there: {show_ns(longest['replayed_ns'])} ({longest['error_percent']:+.1f} %)"
    )
    worst = max(recorded, key=lambda entry: abs(entry["error_percent"]))
    if worst is not longest:
        text += f"; most apart: rank {worst['rank']} ({worst['error_percent']:+.1f} %)"
    return text + "."


def _print_ranks(console: Console, ranks: Sequence[Document]) -> None:
    show = _share_for(console.width)
    finished = [rank for rank in ranks if rank["finish_ns"] is not None]
    table = new_table("Ranks", ("rank",), ("finish", *SHARES))
    if len(ranks) <= MAX_RANKS:
        for rank in ranks if finished else ():
            _add_rank(table, str(rank["rank"]), rank, show)
        print_table(console, table)
        return
    ways: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
        ("min", min),
        ("median", median),
        ("max", max),
    )
    for name, pick in ways if finished else ():
        keys = ("finish_ns", *SHARES.values())
        _add_rank(table, name, {key: pick([rank[key] for rank in finished]) for key in keys}, show)
    for rank in sorted(finished, key=lambda rank: -rank["finish_ns"])[:SLOWEST]:
        _add_rank(table, f"slow: {rank['rank']}", rank, show)
    print_table(console, table)
    unfinished = [rank["rank"] for rank in ranks if rank["finish_ns"] is None]
    if unfinished:
        console.print(f"not finished: ranks {listed_ranks(unfinished)}\n")


def _share_for(width: int) -> Callable[[float, float], str]:
    """How to show a time and its share of the finish in a terminal of some width."""
    if width >= WIDE:
        return lambda time_ns, share: f"{show_ns(time_ns)}  {bar(share)}"
    if width >= MEDIUM:
        return lambda time_ns, share: f"{show_ns(time_ns)}{percent(share):>6}"
    return lambda time_ns, share: percent(share)


def _add_rank(table: Table, name: str, times: Document, show: Callable[[float, float], str]) -> None:
    finish_ns = times["finish_ns"]
    cells = [show(times[key], times[key] / finish_ns) if finish_ns else "–" for key in SHARES.values()]
    table.add_row(name, show_ns(finish_ns), *cells)


def _print_communication(
    console: Console, collectives: Sequence[Document], exposed: Sequence[Exposed]
) -> None:
    exposed_ps = {(entry.kind, entry.group): entry.exposed_ps for entry in exposed}
    rows = [dict(entry) | {"exposed_ps": _exposed_ps(entry, exposed_ps)} for entry in collectives]
    if len(rows) > MAX_ROWS:
        rows = _joined(rows)
    narrow = console.width < MEDIUM
    columns = [name for name in COMMUNICATION if not (narrow and name in LEFT_OUT_IF_NARROW)]
    table = new_table("Communication", ("kind", "group"), tuple(columns))
    rows.sort(key=lambda row: -row["time_ns"])
    for row in rows[:MAX_ROWS]:
        kind = "send and receive" if row["kind"] == "send" else row["kind"]
        table.add_row(kind, row["group"] or "–", *(COMMUNICATION[name](row) for name in columns))
    print_table(console, table, len(rows) - MAX_ROWS, "kinds and groups")
    if table.row_count and exposed:
        console.print("* of the rank that finishes last\n", style="dim")


def _bus_bandwidth(row: Document) -> str:
    if not row["bytes"] or not row["time_ns"]:
        return "–"
    return format_rate(bus_factor(row["kind"], row["group_size"]) * row["bytes"] * 1e9 / row["time_ns"])


COMMUNICATION: dict[str, Callable[[Document], str]] = {
    "ranks": lambda row: show_count(row["group_size"] or None),
    "count": lambda row: show_count(row["count"]),
    "bytes": lambda row: format_bytes(row["bytes"]),
    "time": lambda row: show_ns(row["time_ns"]),
    "waiting,\nall ranks": lambda row: show_ns(row["waiting_ns"]),
    "bus\nbandwidth": _bus_bandwidth,
    "exposed*": lambda row: format_time(row["exposed_ps"]),
}
"""Columns of the table of communication, and what they show of a row."""
LEFT_OUT_IF_NARROW = ("ranks", "waiting,\nall ranks")


def _exposed_ps(entry: Document, exposed_ps: Mapping[tuple[str, str], int]) -> int:
    if entry["kind"] == "send":
        return exposed_ps.get(("send", ""), 0) + exposed_ps.get(("receive", ""), 0)
    return exposed_ps.get((entry["kind"], entry["group"] or ""), 0)


def _joined(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one kind over groups of one size, added up."""
    joined: dict[tuple[str, int], dict[str, Any]] = {}
    groups: dict[tuple[str, int], int] = {}
    for row in rows:
        key = row["kind"], row["group_size"]
        groups[key] = groups.get(key, 0) + 1
        if key not in joined:
            joined[key] = dict(row)
            continue
        for column in ("count", "bytes", "time_ns", "waiting_ns", "exposed_ps"):
            joined[key][column] += row[column]
        joined[key]["group"] = f"{groups[key]:,} groups"
    return list(joined.values())


def bus_factor(kind: str, ranks: int) -> float:
    """Bus bandwidth over algorithm bandwidth, where bytes are one rank's input.

    As nccl-tests defines it (its PERFORMANCE.md), whose bytes of an all-gather and of a gather are however
    those of all ranks together.

    >>> bus_factor("all-reduce", 4), bus_factor("all-gather", 4), bus_factor("broadcast", 4)
    (1.5, 3.0, 1.0)
    """
    if ranks < 2:
        return 1.0
    if kind == "all-reduce":
        return 2 * (ranks - 1) / ranks
    if kind in ("all-gather", "gather"):
        return float(ranks - 1)
    if kind in ("reduce-scatter", "reduce-scatter-block", "all-to-all", "scatter"):
        return (ranks - 1) / ranks
    return 1.0
