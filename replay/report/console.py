"""What all tables for people share: where they go, how they look, and their units."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chakrasim.traces.units import PS_PER_NS, format_time

PIPE_WIDTH = 120
"""Columns where the output isn't a terminal."""


def people_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: names from a trace are never taken for markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or PIPE_WIDTH)
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def new_table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """A table with text columns on the left and right-aligned columns of numbers after them.

    The first column is never wrapped: it says what the row is about.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for i, name in enumerate(left):
        table.add_column(name, overflow="fold", no_wrap=i == 0, min_width=min(8, len(name)) if i else None)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_table(console: Console, table: Table, cut: int = 0, what: str = "rows") -> None:
    """Print a table, what was cut from it, and a blank line; nothing if it is empty."""
    if not table.row_count:
        return
    console.print(table)
    if cut > 0:
        console.print(f" … and {cut:,} more {what} (--json lists them all)", style="dim")
    console.print()


def print_list(console: Console, title: str, lines: Sequence[str], at_most: int = 20) -> None:
    """A titled list; nothing where it is empty."""
    if not lines:
        return
    console.print(title, style="bold")
    for line in lines[:at_most]:
        console.print(f"  • {line}", soft_wrap=True)
    if len(lines) > at_most:
        console.print(f"  … and {len(lines) - at_most:,} more (--json lists them all)", style="dim")
    console.print()


def show_ns(nanoseconds: float | None) -> str:
    """A duration in nanoseconds for people; a dash where there is none."""
    return "–" if nanoseconds is None else format_time(nanoseconds * PS_PER_NS)


def show_count(count: int | None) -> str:
    """A number with thousands set apart; a dash where there is none."""
    return "–" if count is None else f"{count:,}"


def bar(share: float, width: int = 6) -> str:
    """A share from 0 to 1 as a small bar and a percentage.

    >>> bar(0.5), bar(0.0)
    ('███     50 %', '         0 %')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    blocks = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return f"{blocks:<{width}}{percent(share):>6}"


def percent(share: float) -> str:
    """A share from 0 to 1 as a percentage: whole, but for small ones.

    >>> percent(0.314), percent(0.0), percent(0.0041)
    ('31 %', '0 %', '0.4 %')
    """
    value = 100 * share
    return f"{value:.1f} %" if 0.05 <= abs(value) < 1 else f"{value:.0f} %"


def headline(*parts: tuple[str, str]) -> Text:
    """Lines `name  value` with the names aligned."""
    width = max(len(name) for name, _ in parts)
    text = Text()
    for i, (name, value) in enumerate(parts):
        text.append(f"{name:<{width}}  ", style="dim")
        text.append(value + ("" if i == len(parts) - 1 else "\n"))
    return text


def listed_ranks(ranks: list[int], at_most: int = 8) -> str:
    """Rank numbers for people, runs drawn together.

    >>> listed_ranks([0, 1, 2, 3, 8]), listed_ranks([0, 2, 4])
    ('0–3, 8', '0, 2, 4')
    """
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    shown = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in runs[:at_most]]
    return ", ".join(shown) + (", …" if len(runs) > at_most else "")
