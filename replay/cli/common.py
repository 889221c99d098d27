"""What all commands share: how mistakes end, and options of more than one."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
from click_option_group import OptionGroup

from chakrasim.traces.errors import ChakrasimError

EXIT_UNFINISHED = 1
"""A replay that ran into a deadlock."""
EXIT_BAD_INPUT = 2
"""Something the user can mend."""
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

Command = TypeVar("Command", bound=Callable[..., Any])


class UserError(click.ClickException):
    """One line on standard error."""

    exit_code = EXIT_BAD_INPUT

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"chakrasim: error: {self.message}", file=file, err=True)


RUNS_ON = ("numpy", "numba", "protobuf", "click", "rich")
"""Packages whose versions a bug report needs."""


def print_versions(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    """Print the version of chakrasim and of what it runs on, and exit."""
    if not is_asked or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    import chakrasim

    click.echo(f"chakrasim {chakrasim.__version__}")
    click.echo(f"Python {platform.python_version()}, {platform.platform()}")
    click.echo(", ".join(f"{package} {version(package)}" for package in RUNS_ON))
    ctx.exit()


def print_what_fits() -> None:
    """Let the console show `?` for a character that its encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def drop_output() -> None:
    """Send what is still buffered nowhere: whoever read it has closed the pipe, and exit must not raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a stream of a test has no file
            os.dup2(nowhere, stream.fileno())


class Commands(click.Group):
    """A group of commands in which users' mistakes end in one line and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, on any console, until its reader has seen enough."""
        print_what_fits()
        try:
            return super().main(*args, **kwargs)
        except SystemExit:
            try:
                sys.stdout.flush()
            except BrokenPipeError:
                drop_output()
                sys.exit(EXIT_PIPE_CLOSED)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; anything but a user's mistake or the user's wish keeps its traceback."""
        try:
            return super().invoke(ctx)
        except ChakrasimError as error:
            raise UserError(" ".join(str(error).splitlines())) from None
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command shows its help
                raise
            path = error.ctx.command_path if error.ctx else "chakrasim"
            raise UserError(f"{' '.join(error.format_message().split())} (see {path} --help)") from None
        except BrokenPipeError:
            drop_output()
            ctx.exit(EXIT_PIPE_CLOSED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(f"{where}{error.strerror or error}") from None
        except KeyboardInterrupt:
            click.echo("chakrasim: interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")


READING = OptionGroup("Reading the trace")
mirror_option = READING.option(
    "--mirror", is_flag=True, help="Let copies of ranks with a trace stand for those without."
)


def converts_traces(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of trace formats; the command gets those given as one argument, `options`, by name."""

    @wraps(command)
    def with_options(*, communication_kernels: str | None, format_options: Any, **rest: Any) -> Any:
        options = dict(format_options)
        if communication_kernels is not None:
            options["communication-kernels"] = communication_kernels
        return command(options=options, **rest)

    taking: Callable[..., Any] = with_options
    for option in (
        READING.option(
            "--format-option",
            "format_options",
            metavar="NAME=VALUE",
            multiple=True,
            callback=_format_options,
            help="An option of the trace's format, such as a plug-in's.",
        ),
        READING.option(
            "--communication-kernels",
            metavar="FILE",
            help="YAML: kernels of a profiler trace that communicate, beside NCCL's, RCCL's and those known.",
        ),
    ):
        taking = option(taking)
    return taking


def _format_options(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Values by name, as the format that has an option of that name parses them."""
    if not given:
        return {}
    from chakrasim.converters.registry import parse_options

    return parse_options(given)


def reads_trace(command: Command) -> Command:
    """The options of every command that reads a trace, but --json."""
    for option in (
        READING.option(
            "--drop-unknown-dependencies",
            is_flag=True,
            help="Ignore dependencies on nodes that are not in the trace.",
        ),
        READING.option("--groups", metavar="FILE", help='Process groups of Chakra graphs: {"1": [0, 1]}.'),
        READING.option(
            "--no-cache",
            is_flag=True,
            expose_value=False,
            callback=_without_cache,
            help="Read files anew, and keep nothing of them in the user's cache folder.",
        ),
    ):
        command = option(command)
    return command


def _without_cache(ctx: click.Context, _: click.Parameter, is_off: bool) -> None:
    if is_off:
        from chakrasim.traces.reading.column_cache import switched_off

        ctx.with_resource(switched_off())


def writes_workload(command: Command) -> Command:
    """The options of every command that writes graphs."""
    for option in (
        json_option,
        click.option("--force", is_flag=True, help="Replace files of that name in OUT."),
        click.option("--compress", is_flag=True, help="Write .et.gz."),
        click.option("--prefix", metavar="NAME", help="Files are OUT/NAME.<rank>.et."),
        click.option("-o", "--output", required=True, metavar="OUT", help="Folder to write to."),
    ):
        command = option(command)
    return command
