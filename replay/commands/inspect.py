"""`chakrasim inspect`: what is in a trace."""

from __future__ import annotations

import click

from chakrasim.replay.commands.common import EXIT_BAD_INPUT, reads_trace
from chakrasim.replay.report.jsontext import print_json


@click.command(epilog="\b\nExample:\n  chakrasim inspect sample:ddp_transformer\n")
@click.argument("trace")
@reads_trace
@click.pass_context
def inspect(
    ctx: click.Context, trace: str, groups: str | None, drop_unknown_dependencies: bool, as_json: bool
) -> None:
    """Show what is in a trace, and what is wrong with it.

    TRACE is what `replay` takes. Exits 2 if problems are found.
    """
    from chakrasim.replay.open_workload import open_for_inspection
    from chakrasim.replay.progress import progress
    from chakrasim.replay.report.inspect import describe_workload

    with progress(f"reading {trace}") as report:
        workload, problems = open_for_inspection(
            trace,
            groups_file=groups,
            drop_unknown_dependencies=drop_unknown_dependencies,
            progress=report,
        )
        document = describe_workload(workload, problems)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.trace_tables import print_trace

        print_trace(people_console(), document)
    if problems:
        click.echo(f"chakrasim: error: {trace}: {len(problems):,} problems found", err=True)
        ctx.exit(EXIT_BAD_INPUT)
