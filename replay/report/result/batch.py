"""The same workload on several machines, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chakrasim.replay.analysis.exposure import exposed_by_kind, exposed_waiting_ps
from chakrasim.replay.network import network_model
from chakrasim.replay.report.console import headline, new_table, percent, print_list, print_table, show_ns
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.report.result.fidelity_table import print_fidelity
from chakrasim.replay.report.result.tables import COMPUTE, what_bounds
from chakrasim.traces.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.replay.results.result import RankTimes, Result

Outcome = tuple[str, "Result | str"]
"""What a machine is called, and the result there or why there is none."""

NARROWER = ("idle", "waiting", "MFU", "bound by", "tokens/s")
"""Columns that a narrow terminal goes without, the first of them first."""


def document(
    outcomes: Sequence[Outcome], of_one: Callable[[Result], Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """Under `machines` what `of_one` says of each result, or `machine` and `error`."""
    return {
        "machines": [
            {"machine": name, "error": " ".join(one.splitlines())} if isinstance(one, str) else of_one(one)
            for name, one in outcomes
        ]
    }


@dataclass(frozen=True)
class _Row:
    """A machine on which the workload was replayed."""

    name: str
    result: Result
    found: Mapping[str, Any]
    """Its document."""

    @property
    def step_ns(self) -> float | None:
        """None after a deadlock."""
        step_ns: float | None = self.found["step_time_ns"]
        return step_ns

    @property
    def last(self) -> RankTimes:
        """Times of the rank that finishes last, which the row shows."""
        return max(self.result.ranks, key=lambda times: times.finish_ps)

    @property
    def fits(self) -> bool | None:
        """None where it isn't known."""
        memory = self.found.get("memory")
        return memory["fits"] if memory else None


def print_batch(
    console: Console,
    trace: str,
    outcomes: Sequence[Outcome],
    *,
    fidelity: Sequence[Fidelity] = (),
    is_what_if: bool = True,
) -> None:
    """The fastest machine, a row for each in the order given, and what bounds the step there.

    `fidelity` is the self-check of the unchanged trace; `is_what_if` says that these are other replays.
    """
    rows = [_Row(name, one, json_document(one)) for name, one in outcomes if not isinstance(one, str)]
    print_fidelity(console, fidelity, is_what_if=is_what_if)
    console.print(headline(*_header(trace, rows)), soft_wrap=True)
    console.print()
    _print_table(console, f"On {len(outcomes)} machines, in the order given", rows)
    print_list(console, "What bounds the step", [f"{row.name}: {_sentence(row)}" for row in rows])
    failed = [(name, " ".join(one.splitlines())) for name, one in outcomes if isinstance(one, str)]
    print_list(console, "Not replayed", [f"{name}: {reason}" for name, reason in failed])
    assumed = [line for row in rows for line in row.found["assumptions"]]
    print_list(console, "Assumed, since ranks are missing", list(dict.fromkeys(assumed)))
    print_list(console, "Notes", _notes(rows))


def _header(trace: str, rows: Sequence[_Row]) -> list[tuple[str, str]]:
    some = rows[0].found
    ranks, world = len(some["ranks"]), some["world_size"]
    of_world = f"{ranks:,} of {world:,}" if ranks < world else f"{ranks:,}"
    models: dict[str, list[str]] = {}
    for row in rows:
        models.setdefault(row.result.compute, []).append(row.name)
    compute = "; ".join(
        COMPUTE.get(model, model) + (f" ({', '.join(names)})" if len(models) > 1 else "")
        for model, names in models.items()
    )
    lines = [
        ("trace", trace),
        ("ranks", f"{of_world}, {some['nodes']:,} nodes"),
        ("compute", compute),
        ("network", f"{some['network']}: {network_model(some['network']).summary}"),
    ]
    fastest = _fastest(rows)
    if fastest is not None:
        lines.append(("fastest", _praise(fastest, rows)))
        fitting = _fastest([row for row in rows if row.fits])
        if fastest.fits is False:
            praise = "none: no machine has the memory" if fitting is None else _praise(fitting, rows)
            lines.append(("that fits", praise))
    return lines


def _fastest(rows: Sequence[_Row]) -> _Row | None:
    """Of equal ones the first."""
    steps = [(row.step_ns, i) for i, row in enumerate(rows) if row.step_ns is not None]
    return rows[min(steps)[1]] if steps else None


def _praise(row: _Row, rows: Sequence[_Row]) -> str:
    """What the headline says of a machine."""
    text = f"{row.name}, {show_ns(row.step_ns)} a step, bound by {bound_by(row.last)}"
    first = next(other for other in rows if other.step_ns is not None)
    if first is not row and row.step_ns and first.step_ns:
        text += f"; {first.step_ns / row.step_ns:.2f} × as fast as {first.name}"
    return text


def bound_by(times: RankTimes) -> str:
    """The longest part of a rank's step in a word.

    It is the host's where the device idles longest and the host works at least as long as that.
    """
    parts = {
        "compute": times.compute_ps,
        "communication": times.exposed_communication_ps,
        "idling": times.idle_ps,
    }
    longest = max(parts, key=lambda part: parts[part])
    return "host" if longest == "idling" and times.host_ps >= times.idle_ps else longest


def _columns(rows: Sequence[_Row]) -> dict[str, list[str]]:
    """Cells by column; the times are those of the rank that finishes last."""
    first = next((row.step_ns for row in rows if row.step_ns is not None), None)
    columns = {
        "step time": ["deadlock" if row.step_ns is None else show_ns(row.step_ns) for row in rows],
        "× the\nfirst": [f"{row.step_ns / first:.2f}" if row.step_ns and first else "" for row in rows],
    }
    for name, part in (
        ("compute", "compute_ns"),
        ("exposed\ncommunication", "exposed_communication_ns"),
        ("waiting", "waiting_ns"),
        ("idle", "idle_ns"),
    ):
        columns[name] = [_part(row, part) for row in rows]
    columns["bound by"] = ["" if row.step_ns is None else bound_by(row.last) for row in rows]
    done = [row.found.get("throughput") for row in rows]
    if any(done):
        columns["tokens/s"] = [f"{one['tokens_per_s']:,.0f}" if one else "" for one in done]
        shares = [one and one["model_flops_utilisation"] for one in done]
        columns["MFU"] = ["" if share is None else percent(share) for share in shares]
    memory = [row.found.get("memory") for row in rows]
    if any(memory):
        columns["memory"] = [_memory(one) for one in memory]
    return columns


def _part(row: _Row, part: str) -> str:
    if row.step_ns is None:
        return ""
    return show_ns(next(entry[part] for entry in row.found["ranks"] if entry["rank"] == row.last.rank))


def _memory(memory: Mapping[str, Any] | None) -> str:
    """Of the rank that needs the most."""
    if memory is None or memory["fits"] is None:
        return ""
    min_bytes = min(rank["spare_bytes"] for rank in memory["ranks"])
    return "fits" if memory["fits"] else f"lacks {format_bytes(-min_bytes)}"


def _print_table(console: Console, title: str, rows: Sequence[_Row]) -> None:
    columns, left_out = _columns(rows), []
    table = _table(title, rows, columns)
    unlimited = console.options.update(width=10_000)
    for name in NARROWER:
        if name in columns and console.measure(table, options=unlimited).maximum > console.width:
            del columns[name]
            left_out.append(" ".join(name.split()))
            table = _table(title, rows, columns)
    print_table(console, table)
    if left_out:
        more = f"In a wider terminal: {', '.join(left_out)} (--json has all)"
        console.print(more, style="dim", soft_wrap=True)
        console.print()


def _table(title: str, rows: Sequence[_Row], columns: Mapping[str, Sequence[str]]) -> Table:
    table = new_table(title, ("machine",), tuple(columns))
    for i, row in enumerate(rows):
        style = "bold red" if row.step_ns is None else None
        table.add_row(row.name, *(cells[i] for cells in columns.values()), style=style)
    return table


def _sentence(row: _Row) -> str:
    result, last = row.result, row.last
    if result.deadlock is not None:
        return str(result.deadlock).splitlines()[0]
    is_alone = any(other.finish_ps < last.finish_ps for other in result.ranks)
    waiting_ps = exposed_waiting_ps(result, last.rank)
    return what_bounds(last, exposed_by_kind(result, last.rank), waiting_ps, is_alone)


def _notes(rows: Sequence[_Row]) -> list[str]:
    """Each once, and on which machines if not on all."""
    machines: dict[str, list[str]] = {}
    for row in rows:
        for note in row.found["notes"]:
            machines.setdefault(note, []).append(row.name)
    everywhere = len(rows)
    return [note if len(on) == everywhere else f"{', '.join(on)}: {note}" for note, on in machines.items()]
