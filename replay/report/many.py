"""The same workload on several machines, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chakrasim.replay.report.console import headline, new_table, percent, print_list, print_table, show_ns
from chakrasim.replay.report.exposure import exposed_by_kind, exposed_waiting_ps
from chakrasim.replay.report.memory import verdict
from chakrasim.replay.report.tables import what_bounds

if TYPE_CHECKING:
    from rich.console import Console

    from chakrasim.replay.result import Result

Outcome = tuple[str, "Result | str"]
"""A machine's name, and the result there or why there is none."""


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Under `machines` the document of each result, or `machine` and `error`."""
    return {
        "machines": [
            {"machine": name, "error": result} if isinstance(result, str) else result.to_json()
            for name, result in outcomes
        ]
    }


def print_many(console: Console, trace: str, outcomes: Sequence[Outcome]) -> None:
    """A row for each machine, in the order given, and what bounds the step there."""
    finished = [(name, one, one.to_json()) for name, one in outcomes if not isinstance(one, str)]
    some = finished[0][2]
    ranks, world = len(some["ranks"]), some["world_size"]
    of_world = f"{ranks:,} of {world:,}" if ranks < world else f"{ranks:,}"
    console.print(headline(("trace", trace), ("ranks", f"{of_world}, {some['nodes']:,} nodes")))
    console.print()
    times = [found["step_time_ns"] for _, _, found in finished if found["step_time_ns"] is not None]
    fastest = min(times, default=None)
    columns = ["step time", "times the\nfastest", "compute", "exposed\ncommunication", "waiting", "idle"]
    has_throughput = any("throughput" in found for _, _, found in finished)
    has_memory = any("memory" in found for _, _, found in finished)
    columns += ["tokens/s", "MFU"] * has_throughput + ["memory"] * has_memory
    table = new_table(f"On {len(outcomes)} machines", ("machine",), tuple(columns))
    for name, one, found in finished:
        row = [name, *_times(found, fastest)]
        if has_throughput:
            row += _throughput(found.get("throughput"))
        if has_memory:
            row.append(_memory(found.get("memory")))
        table.add_row(*row, style="bold red" if one.deadlock is not None else None)
    print_table(console, table)
    print_list(console, "What bounds the step", [f"{name}: {_bound(one)}" for name, one, _ in finished])
    failed = [f"{name}: {one}" for name, one in outcomes if isinstance(one, str)]
    print_list(console, "Not replayed", failed)
    notes = {
        note: [name for name, _, found in finished if note in found["notes"]] for note in _notes(finished)
    }
    print_list(
        console,
        "Notes",
        [note if len(on) == len(finished) else f"{', '.join(on)}: {note}" for note, on in notes.items()],
    )


def _notes(finished: Sequence[tuple[str, Result, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(note for _, _, found in finished for note in found["notes"]))


def _times(found: Mapping[str, Any], fastest_ns: float | None) -> list[str]:
    """Of the rank that finishes last."""
    step_ns = found["step_time_ns"]
    if step_ns is None:
        return ["deadlock", "", "", "", "", ""]
    rank = max(found["ranks"], key=lambda rank: rank["finish_ns"])
    relative = f"{step_ns / fastest_ns:.2f}" if fastest_ns else ""
    parts = (rank[f"{part}_ns"] for part in ("compute", "exposed_communication", "waiting", "idle"))
    return [show_ns(step_ns), relative, *map(show_ns, parts)]


def _throughput(done: Mapping[str, Any] | None) -> list[str]:
    if done is None:
        return ["", ""]
    share = done["model_flops_utilisation"]
    return [f"{done['tokens_per_s']:,.0f}", "" if share is None else percent(share)]


def _memory(memory: Mapping[str, Any] | None) -> str:
    """Of the rank with the least to spare."""
    spare = [rank["spare_bytes"] for rank in memory["ranks"]] if memory else []
    return verdict(min(spare)) if spare and None not in spare else ""


def _bound(result: Result) -> str:
    if result.deadlock is not None:
        return str(result.deadlock).splitlines()[0]
    last = max(result.ranks, key=lambda times: times.finish_ps)
    is_alone = any(other.finish_ps < last.finish_ps for other in result.ranks)
    exposed = exposed_by_kind(result, last.rank)
    return what_bounds(last, exposed, exposed_waiting_ps(result, last.rank), is_alone)
