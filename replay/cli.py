"""The command line: `chakrasim convert | inspect | generate | replay | machines`.

Each command parses, calls one library function and shows what it returned. Everything but click is imported
inside the commands: `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chakrasim.replay.options import (
    COLLECTIVES,
    collective_option,
    join_scales,
    scale_option,
    size_option,
)
from chakrasim.replay.report.jsontext import print_json
from chakrasim.traces.errors import ChakrasimError

if TYPE_CHECKING:
    from chakrasim.replay.result import Result
    from chakrasim.traces.graph import CommKind

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


class Commands(click.Group):
    """A group of commands in which users' mistakes end in one line and exit code 2."""

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
            # Whoever read our output has seen enough. What is still buffered must not raise at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_PIPE_CLOSED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(f"{where}{error.strerror or error}") from None
        except KeyboardInterrupt:
            click.echo("chakrasim: interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")


def reads_trace(command: Command) -> Command:
    """The options of every command that reads a trace."""
    for option in (
        json_option,
        click.option(
            "--drop-unknown-dependencies",
            is_flag=True,
            help="Ignore dependencies on nodes that are not in the trace.",
        ),
        click.option("--groups", metavar="FILE", help='Process groups of Chakra graphs: {"1": [0, 1]}.'),
    ):
        command = option(command)
    return command


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


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  chakrasim replay\n",
)
@click.version_option(package_name="chakrasim", prog_name="chakrasim")
def main() -> None:
    """How long does a training step take, and why: replay a recorded trace on a machine you describe."""


@main.command(
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


@main.command(epilog="\b\nExample:\n  chakrasim inspect sample:ddp_transformer\n")
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


@main.group(
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


@main.command(
    epilog="\b\nExample:\n  chakrasim replay sample:ddp_transformer --timeline timeline.json\n"
    "  chakrasim replay sample:ddp_transformer --scale gpu=0.5 --json\n"
)
@click.argument("trace", required=False)
@click.option("--machine", metavar="NAME|FILE", help="See `chakrasim machines list`.")
@click.option(
    "--compute",
    metavar="MODEL",
    default="measured",
    show_default=True,
    help="measured: recorded durations; roofline: from operations and bytes.",
)
@click.option(
    "--network",
    metavar="MODEL",
    help="analytical: from the machine's links; shared-ports: so, and messages share the ports of their "
    "ranks; measured: recorded durations. Default: measured for a recorded trace with no --machine, else "
    "analytical.",
)
@click.option(
    "--scale",
    "scales",
    callback=scale_option,
    metavar="PATTERN=F",
    multiple=True,
    help="Multiply durations by F: of nodes whose name matches a pattern such as '*gemm*', or cpu=F, gpu=F.",
)
@click.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@click.option("--critical-path", is_flag=True, help="Show what the step time is made of, node by node.")
@click.option("--timeline", metavar="OUT", help="Write a Perfetto/Chrome trace; - for standard output.")
@reads_trace
@click.pass_context
def replay(
    ctx: click.Context,
    trace: str | None,
    machine: str | None,
    compute: str,
    network: str | None,
    scales: tuple[tuple[str, float], ...],
    partial: bool,
    critical_path: bool,
    timeline: str | None,
    groups: str | None,
    drop_unknown_dependencies: bool,
    as_json: bool,
) -> None:
    """Replay a trace on a machine: step time, exposed communication, waiting.

    TRACE is a folder of Chakra graphs, a prefix (dir/name for dir/name.<rank>.et), one graph, a PyTorch
    profiler trace or a folder of them, or sample:NAME. Without it, a bundled sample is replayed. Exits 1 if
    the replay ends in a deadlock.
    """
    from chakrasim.replay.machine import DEFAULT_MACHINE, load_machine
    from chakrasim.replay.open_workload import DEFAULT_TRACE, default_network, open_workload
    from chakrasim.replay.output import require_writable
    from chakrasim.replay.progress import progress, show_log
    from chakrasim.replay.simulate import simulate

    if timeline == "-" and as_json:
        raise click.UsageError("--timeline - and --json can't both have standard output")
    if timeline not in (None, "-"):
        require_writable(Path(timeline))
    show_log()
    name = DEFAULT_TRACE if trace is None else trace
    description = load_machine(machine or DEFAULT_MACHINE)
    with progress(f"replaying {name}") as report:
        workload = open_workload(
            name,
            groups_file=groups,
            partial=partial,
            drop_unknown_dependencies=drop_unknown_dependencies,
            progress=report,
        )
        model = network or default_network(name, workload, machine)
        result = simulate(workload, description, compute=compute, network=model, scales=join_scales(scales))
    show_replay(result, name, network is None, critical_path, timeline, as_json)
    if result.deadlock is not None:
        ctx.exit(EXIT_UNFINISHED)


def show_replay(
    result: Result,
    trace: str,
    is_default_network: bool,
    with_critical_path: bool,
    timeline: str | None,
    as_json: bool,
) -> None:
    """Print a result, and write its timeline where one is wanted."""
    if timeline == "-":
        from chakrasim.replay.report.timeline import timeline_json

        click.echo(timeline_json(result), nl=False)
    elif timeline is not None:
        from chakrasim.replay.report.timeline import write_timeline

        write_timeline(result, timeline)
    parts = None
    if with_critical_path and result.deadlock is None:
        from chakrasim.replay.report import critical_path

        parts = critical_path.parts(critical_path.critical_path(result))
    if as_json:
        document = result.to_json()
        if parts is not None:
            document["critical_path"] = critical_path.document(parts)
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.tables import print_replay

        console = people_console(stderr=timeline == "-")
        print_replay(
            console,
            result,
            trace=trace,
            is_default_network=is_default_network,
            critical_path=parts,
            timeline=timeline,
        )


@main.group(epilog="\b\nExample:\n  chakrasim machines list\n")
def machines() -> None:
    """The machines that come with chakrasim."""


@machines.command("list", epilog="\b\nExample:\n  chakrasim machines list\n")
@json_option
def list_machines(as_json: bool) -> None:
    """List the machines that --machine knows by name."""
    from chakrasim.replay.machine import load_machine, machine_names
    from chakrasim.replay.report.machines import describe_machine, print_machines

    known = [describe_machine(load_machine(name)) for name in machine_names()]
    if as_json:
        print_json({"machines": known})
    else:
        from chakrasim.replay.report.console import people_console

        print_machines(people_console(), known)


@machines.command("show", epilog="\b\nExample:\n  chakrasim machines show dgx-a100 > my.yaml\n")
@click.argument("name")
@json_option
def show_machine(name: str, as_json: bool) -> None:
    """Print a machine file, with the source of each figure: a start for your own."""
    from chakrasim.replay.machine import load_machine, machine_path
    from chakrasim.replay.report.machines import describe_machine

    machine = load_machine(name)
    if as_json:
        print_json(describe_machine(machine))
    else:
        click.echo(machine_path(name).read_text(encoding="utf-8"), nl=False)


if __name__ == "__main__":
    main()
