"""`chakrasim convert`: traces of other tools to Chakra graphs."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.commands.common import writes_workload
from chakrasim.replay.report.jsontext import print_json


@click.command(
    epilog="\b\nExample:\n  chakrasim convert sample:ddp_transformer -o converted\n"
    "  chakrasim replay converted\n"
)
@click.argument("source", metavar="INPUT")
@click.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@writes_workload
def convert(
    source: str,
    partial: bool,
    output: str,
    prefix: str | None,
    compress: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn PyTorch profiler traces into Chakra graphs.

    INPUT is a Kineto JSON file, plain or gzipped, or a folder with one such file a rank.
    """
    from chakrasim.replay.open_workload import convert_traces, plain_name, trace_path
    from chakrasim.replay.output import require_free, write_workload
    from chakrasim.replay.progress import progress
    from chakrasim.replay.report.inspect import describe_conversion
    from chakrasim.traces.check import raise_problems

    path = trace_path(source)
    prefix = prefix or plain_name(path)
    require_free(Path(output), prefix, force=force)
    with progress(f"converting {source}") as report:
        workload = convert_traces(path, partial=partial, progress=report)
        raise_problems(workload)
        files = write_workload(workload, Path(output), prefix, compress=compress, force=force)
    document = describe_conversion(workload, files)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.trace_tables import print_conversion

        print_conversion(people_console(), document)
