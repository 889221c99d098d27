"""What every command does with the workload that it made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chakrasim.replay.cli.common import writes_workload
from chakrasim.replay.cli.options.types import OneOf, size_option
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

Command = TypeVar("Command", bound=Callable[..., Any])


def makes_workload(command: Callable[..., tuple[Workload, str]]) -> Callable[..., None]:
    """A command that returns a workload and what its files are named after, with the options of all commands
    that write: it writes the files and says so."""

    @wraps(command)
    def written(
        *, output: str, prefix: str | None, compress: bool, force: bool, as_json: bool, **own: Any
    ) -> None:
        from chakrasim.replay.cli.output import write_workload
        from chakrasim.replay.cli.progress import progress
        from chakrasim.replay.report.trace.summary import describe_conversion

        with progress("generating") as report:
            workload, name = command(**own)
            files = write_workload(
                workload, Path(output), prefix or name, compress=compress, force=force, progress=report
            )
        if as_json:
            print_json(describe_conversion(workload, files))
        else:
            click.echo(f"wrote {len(files):,} files, {files[0]}" + (f" … {files[-1]}" if files[1:] else ""))

    return writes_workload(written)


ranks_option = click.option("--ranks", type=click.IntRange(min=1), required=True, help="How many ranks.")
repeat_option = click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="One after another."
)


def takes_sizes(command: Command) -> Command:
    """Options of a series of sizes: `first`, `last` and `factor`."""
    for option in (
        click.option(
            "--factor",
            type=float,
            default=2.0,
            show_default=True,
            help="Each size is that many times the last.",
        ),
        click.option(
            "--last", callback=size_option, default="64MiB", show_default=True, help="Largest size, in bytes."
        ),
        click.option(
            "--first",
            callback=size_option,
            default="1KiB",
            show_default=True,
            help="Smallest size, in bytes.",
        ),
    ):
        command = option(command)
    return command


def takes_step(command: Command) -> Command:
    """Options that all data-parallel steps have; see `VisionPlan` and `DlrmPlan`."""
    for option in (
        click.option("--inference", "is_inference", is_flag=True, help="The forward pass alone."),
        click.option(
            "--host/--no-host",
            "has_host",
            default=True,
            help="The host's launches take time, or CUDA graphs.",
        ),
        click.option(
            "--overlap/--no-overlap",
            "overlaps",
            default=True,
            help="Communicate beside kernels, or with nothing beside it.",
        ),
        click.option(
            "--bucket",
            "bucket_bytes",
            callback=size_option,
            default="25MiB",
            show_default=True,
            help="Gradients reduced at once.",
        ),
        click.option(
            "--gradient-dtype",
            type=OneOf("fp32", "tf32", "bf16", "fp16"),
            default="fp32",
            show_default=True,
            help="Of gradients as they are reduced.",
        ),
        click.option(
            "--dtype",
            type=OneOf("fp32", "tf32", "bf16", "fp16"),
            default="fp32",
            show_default=True,
            help="Of activations.",
        ),
        click.option(
            "--ranks", type=click.IntRange(min=1), default=1, show_default=True, help="How many ranks."
        ),
    ):
        command = option(command)
    return command
