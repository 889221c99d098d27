"""`chakrasim convert`: traces of other tools to Chakra graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.common import converts_traces, writes_workload
from chakrasim.replay.cli.options.edits import Edits, takes_edits
from chakrasim.replay.cli.options.text import TextOptions, takes_text_options
from chakrasim.replay.cli.options.types import join_scales, scale_option, sizes_option
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.traces.workload import Workload


@click.command(
    epilog="\b\nExample:\n  chakrasim convert sample:ddp_transformer -o converted\n"
    "  chakrasim replay converted\n"
    "  chakrasim convert converted --drop all_reduce -o without\n"
)
@click.argument("source", metavar="INPUT")
@click.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@click.option(
    "--dimensions",
    callback=sizes_option,
    metavar="NxN",
    help="Of a text workload: ranks along each dimension of the network, the innermost first, as in 16x8.",
)
@click.option("--groups", metavar="FILE", help='Process groups of Chakra graphs: {"1": [0, 1]}.')
@click.option(
    "--drop-unknown-dependencies",
    is_flag=True,
    help="Ignore dependencies on nodes that are not in the trace.",
)
@click.option(
    "--scale",
    "scales",
    callback=scale_option,
    metavar="PATTERN=F",
    multiple=True,
    help="Multiply recorded durations by F, after all edits: '*gemm*=0.5', or cpu=F, gpu=F.",
)
@takes_edits
@takes_text_options
@converts_traces
@writes_workload
def convert(
    source: str,
    partial: bool,
    dimensions: tuple[int, ...] | None,
    groups: str | None,
    drop_unknown_dependencies: bool,
    scales: tuple[tuple[str, float], ...],
    text: TextOptions,
    edits: Edits,
    options: dict[str, Any],
    output: str,
    prefix: str | None,
    compress: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn PyTorch profiler traces, or a text workload of ASTRA-sim 1.0, into Chakra graphs; edit graphs.

    INPUT is a Kineto JSON file, plain or gzipped, a folder with one such file a rank, a text workload, Chakra
    graphs (a folder, a prefix or one file), or sample:NAME.
    """
    from chakrasim.converters.registry import plain_name
    from chakrasim.replay.cli.fork_task import beside
    from chakrasim.replay.cli.open_workload import open_workload, self_check, trace_path
    from chakrasim.replay.cli.output import require_free, write_workload
    from chakrasim.replay.cli.progress import progress
    from chakrasim.traces.check import raise_problems
    from chakrasim.traces.edits.scale import scale

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
            workload = open_workload(
                source,
                groups_file=groups,
                partial=partial,
                drop_unknown_dependencies=drop_unknown_dependencies,
                options=options,
                prefers_graphs=False,
                progress=report,
            )
        else:
            workload = text_workload.convert_for(dimensions or ())
            raise_problems(workload)
        edited = scale(edits.apply(workload), join_scales(scales))
        written = beside(lambda: write_workload(edited, Path(output), prefix, compress=compress, force=force))
        checks = self_check(workload)
        files = written()
    _show(edited, files, checks, as_json=as_json)


def _show(workload: Workload, files: Sequence[Path], checks: Sequence[Fidelity], *, as_json: bool) -> None:
    from chakrasim.replay.report.result import fidelity_table as fidelity
    from chakrasim.replay.report.trace.summary import describe_conversion

    document = describe_conversion(workload, files)
    if as_json:
        print_json({**document, "self_check": fidelity.document(checks)})
        return
    from chakrasim.replay.report.console import people_console
    from chakrasim.replay.report.trace.tables import print_conversion

    console = people_console()
    fidelity.print_fidelity(console, checks, is_what_if=False)
    print_conversion(console, document)
