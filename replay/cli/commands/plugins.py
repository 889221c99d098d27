"""`chakrasim plugins`: the parts that are there by name, and where each comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from chakrasim.replay.cli.common import json_option
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from chakrasim.traces.shared.registry import Entry


@click.command(epilog="\b\nExample:\n  chakrasim plugins\n")
@json_option
def plugins(as_json: bool) -> None:
    """List models, algorithms, formats and machines, of this and of other packages."""
    families = entries_by_family()
    if as_json:
        print_json({family: [asdict(entry) for entry in entries] for family, entries in families.items()})
        return
    from chakrasim.replay.report.console import new_table, people_console, print_table

    console = people_console()
    for family, entries in families.items():
        table = new_table(family, ("name", "from", "what it is"), ())
        for entry in entries:
            table.add_row(entry.name, entry.source, entry.summary)
        print_table(console, table)


def entries_by_family() -> dict[str, tuple[Entry, ...]]:
    """Entries of every registry, by the name of what it holds in the plural."""
    from chakrasim.converters.registry import FORMATS
    from chakrasim.replay.machine.load import machine_entries
    from chakrasim.replay.plugins import ALGORITHMS, COMPUTE, NETWORKS

    return {
        **{f"{registry.what}s": registry.entries() for registry in (COMPUTE, NETWORKS, ALGORITHMS, FORMATS)},
        "machines": machine_entries(),
    }
