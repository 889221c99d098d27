"""`chakrasim export`: a trace as files that ASTRA-sim runs."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.cli.common import json_option, mirror_option, reads_trace
from chakrasim.replay.report.jsontext import print_json


@click.command(
    epilog="\b\nExample:\n  chakrasim export sample:ddp_transformer -o exported --prefix step\n"
    "  chakrasim replay exported/step\n"
)
@click.argument("trace")
@json_option
@click.option("-o", "--output", required=True, metavar="OUT", help="Folder to write to.")
@click.option("--prefix", metavar="NAME", help="Files are OUT/NAME.<rank>.et and OUT/NAME.groups.json.")
@click.option("--force", is_flag=True, help="Replace files of that name in OUT.")
@mirror_option
@reads_trace
def export(
    trace: str,
    output: str,
    prefix: str | None,
    force: bool,
    mirror: bool,
    groups: str | None,
    drop_unknown_dependencies: bool,
    as_json: bool,
) -> None:
    """Write a trace for ASTRA-sim 2.x: Chakra graphs that its feeder takes and its rules bring to an end.

    TRACE is anything that `replay` takes, with all its ranks or --mirror. What had to change for it is said.
    """
    from chakrasim.converters.registry import plain_name
    from chakrasim.replay.cli.open_workload import open_workload, trace_path
    from chakrasim.replay.cli.output import require_free
    from chakrasim.replay.cli.progress import progress
    from chakrasim.replay.report.trace.export import describe_export, print_export
    from chakrasim.traces.astra_export.export import export_for_astra_sim, groups_path
    from chakrasim.traces.errors import ConfigError

    folder, prefix = Path(output), prefix or plain_name(trace_path(trace))
    stale = require_free(folder, prefix, force=force)
    if groups_path(folder, prefix).exists():
        if not force:
            raise ConfigError(f"{groups_path(folder, prefix)}: is there already; replace it with --force")
        stale.append(groups_path(folder, prefix))
    with progress(f"exporting {trace}") as report:
        workload = open_workload(
            trace,
            groups_file=groups,
            partial=mirror,
            drop_unknown_dependencies=drop_unknown_dependencies,
            progress=report,
        )
        if mirror:
            from chakrasim.traces.edits.mirror import mirror_ranks

            workload = mirror_ranks(workload)
        written = export_for_astra_sim(workload, folder, prefix)
    for file in set(stale) - {*written.files, written.groups_file}:
        file.unlink()
    document = describe_export(written)
    if as_json:
        print_json(document)
    else:
        print_export(document)
