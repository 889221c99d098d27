"""`chakrasim convert`: traces of other tools to Chakra graphs."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.commands.common import writes_workload
from chakrasim.replay.commands.text import TextOptions, takes_text_options
from chakrasim.replay.options import sizes_option
from chakrasim.replay.report.jsontext import print_json


@click.command(
    epilog="\b\nExample:\n  chakrasim convert sample:ddp_transformer -o converted\n"
    "  chakrasim replay converted\n"
)
@click.argument("source", metavar="INPUT")
@click.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@click.option(
    "--dimensions",
    callback=sizes_option,
    metavar="NxN",
    help="Of a text workload: ranks along each dimension of the network, the innermost first, as in 16x8.",
)
@takes_text_options
@writes_workload
def convert(
    source: str,
    partial: bool,
    dimensions: tuple[int, ...] | None,
    text: TextOptions,
    output: str,
    prefix: str | None,
    compress: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn PyTorch profiler traces, or a text workload of ASTRA-sim 1.0, into Chakra graphs.

    INPUT is a Kineto JSON file, plain or gzipped, a folder with one such file a rank, or a text workload.
    """
    from chakrasim.replay.open_workload import convert_traces, plain_name, trace_path
    from chakrasim.replay.output import require_free, write_workload
    from chakrasim.replay.progress import progress
    from chakrasim.replay.report.inspect import describe_conversion
    from chakrasim.traces.check import raise_problems

    path = trace_path(source)
    prefix = prefix or plain_name(path)
    text_workload = text.read(str(path))
    if text_workload is not None and dimensions is None:
        raise click.UsageError(f"{path} is a text workload; say for which network: --dimensions 16x8")
    if text_workload is None and dimensions is not None:
        raise click.UsageError(f"{path} is no text workload, which --dimensions is for")
    require_free(Path(output), prefix, force=force)
    with progress(f"converting {source}") as report:
        if text_workload is None:
            workload = convert_traces(path, partial=partial, progress=report)
        else:
            workload = text_workload.convert_for(dimensions or ())
        raise_problems(workload)
        files = write_workload(workload, Path(output), prefix, compress=compress, force=force)
    document = describe_conversion(workload, files)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.trace_tables import print_conversion

        print_conversion(people_console(), document)
