"""`chakrasim inspect`: what is in a trace, what is wrong with it, and mending that."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.common import EXIT_BAD_INPUT, converts_traces, json_option, reads_trace
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

MAX_NODES = 100_000
"""Of larger workloads, what could be mended is looked for only when asked: it takes 15 s for so many."""


@click.command(
    epilog="\b\nExample:\n  chakrasim inspect sample:ddp_transformer\n"
    "  chakrasim convert sample:ddp_transformer -o converted\n"
    "  chakrasim inspect converted --fix mended\n"
)
@click.argument("trace")
@json_option
@click.option("--fix", metavar="OUT", help="Mend what is certain; write the graphs to folder OUT.")
@click.option("--prefix", metavar="NAME", help="With --fix: files are OUT/NAME.<rank>.et.")
@click.option("--force", is_flag=True, help="With --fix: replace files of that name in OUT.")
@converts_traces
@reads_trace
@click.pass_context
def inspect(
    ctx: click.Context,
    trace: str,
    fix: str | None,
    prefix: str | None,
    force: bool,
    options: dict[str, Any],
    groups: str | None,
    drop_unknown_dependencies: bool,
    as_json: bool,
) -> None:
    """Show what is in a trace, and what is wrong with it. With --fix, mend it.

    TRACE is what `replay` takes. Exits 2 if problems are found, or with --fix if some are left.
    """
    from chakrasim.replay.cli.open_workload import mend_workload, open_for_inspection
    from chakrasim.replay.cli.progress import progress
    from chakrasim.replay.report.trace.summary import describe_workload

    if fix is not None:
        mend_and_show(ctx, trace, Path(fix), prefix, force, groups, as_json)
        return
    if force or prefix is not None:
        raise click.UsageError("--force and --prefix are about what --fix writes; give --fix OUT too")
    with progress(f"reading {trace}") as report:
        workload, problems = open_for_inspection(
            trace,
            groups_file=groups,
            drop_unknown_dependencies=drop_unknown_dependencies,
            options=options,
            progress=report,
        )
        found = mend_workload(trace, workload, groups)[1] if problems and len(workload) < MAX_NODES else ()
        document = describe_workload(workload, problems, found)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.trace.tables import print_trace

        print_trace(people_console(), document)
    if problems:
        hint = ""
        if document["mendable"] or len(workload) >= MAX_NODES:
            hint = f"; chakrasim inspect {shlex.quote(trace)} --fix OUT mends what is certain"
        click.echo(f"chakrasim: error: {trace}: {len(problems):,} problems found{hint}", err=True)
        ctx.exit(EXIT_BAD_INPUT)


def mend_and_show(
    ctx: click.Context,
    trace: str,
    folder: Path,
    prefix: str | None,
    force: bool,
    groups: str | None,
    as_json: bool,
) -> None:
    """Mend a trace, write it, and show what was changed."""
    from chakrasim.replay.cli.open_workload import (
        graph_prefix,
        mend_workload,
        open_for_inspection,
        require_graphs,
    )
    from chakrasim.replay.cli.output import require_free, write_workload
    from chakrasim.replay.cli.progress import progress
    from chakrasim.replay.report.trace.mends import describe_mends, print_mends
    from chakrasim.traces.check import check_workload

    require_graphs(trace)
    if prefix is not None:
        require_free(folder, prefix, force=force)
    with progress(f"mending {trace}") as report:
        workload, problems = open_for_inspection(trace, groups_file=groups, progress=report)
        prefix = prefix or graph_prefix(workload)
        require_free(folder, prefix, force=force)
        mended, found = mend_workload(trace, workload, groups)
        files = write_workload(mended, folder, prefix, force=force)
    left = [str(problem) for problem in check_workload(mended)]
    document = describe_mends(mended, found, files, len(problems), left)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console

        console = people_console()
        print_mends(console, document)
        if not left:
            console.print(f"Replay it: chakrasim replay {shlex.quote(str(folder))}{_options(mended)}")
    if left:
        click.echo(f"chakrasim: error: {trace}: {len(left):,} problems could not be mended", err=True)
        ctx.exit(EXIT_BAD_INPUT)


def _options(workload: Workload) -> str:
    """What `replay` needs for a folder that lacks ranks below its highest."""
    is_gapped = tuple(workload.ranks) != tuple(range(max(workload.ranks) + 1))
    return " --partial" if is_gapped else ""
