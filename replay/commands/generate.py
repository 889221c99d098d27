"""`chakrasim generate`: workloads from a description."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chakrasim.replay.commands.common import writes_workload
from chakrasim.replay.options import COLLECTIVES, collective_option, size_option
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from chakrasim.traces.graph import CommKind


@click.group(
    epilog="\b\nExample:\n  chakrasim generate collective --kind all-to-all --size 16MiB --ranks 16 -o demo\n"
)
def generate() -> None:
    """Make a workload from a description."""


@generate.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate collective --kind all-reduce --size 64MB --ranks 8 -o demo\n"
    "  chakrasim replay demo\n"
)
@click.option("--kind", callback=collective_option, required=True, help=f"One of {', '.join(COLLECTIVES)}.")
@click.option(
    "--size", callback=size_option, required=True, help="Bytes each rank puts in: 64MB, 64MiB, 4096."
)
@click.option("--ranks", type=click.IntRange(min=1), required=True, help="How many ranks.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="One after another.")
@writes_workload
def collective(
    kind: CommKind,
    size: int,
    ranks: int,
    repeat: int,
    output: str,
    prefix: str | None,
    compress: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a workload in which all ranks run a collective."""
    from chakrasim.converters.synthetic.collective import generate_collective
    from chakrasim.replay.output import write_workload
    from chakrasim.replay.report.inspect import describe_conversion

    workload = generate_collective(kind, size, ranks, repeat)
    files = write_workload(workload, Path(output), prefix or kind.label, compress=compress, force=force)
    if as_json:
        print_json(describe_conversion(workload, files))
    else:
        click.echo(f"wrote {len(files):,} files, {files[0]}" + (f" … {files[-1]}" if files[1:] else ""))
