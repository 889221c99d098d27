"""The command line: `chakrasim convert | export | inspect | generate | replay | predict | machines |
plugins | calibrate | conformance`.

Commands stand in `commands/`, one a file. Everything but click is imported inside them: `--help` answers at
once.
"""

from __future__ import annotations

import click

from chakrasim.replay.cli.commands.calibrate import calibrate
from chakrasim.replay.cli.commands.conformance import conformance
from chakrasim.replay.cli.commands.convert import convert
from chakrasim.replay.cli.commands.export import export
from chakrasim.replay.cli.commands.generate import generate
from chakrasim.replay.cli.commands.inspect import inspect
from chakrasim.replay.cli.commands.machines import machines
from chakrasim.replay.cli.commands.plugins import plugins
from chakrasim.replay.cli.commands.predict import predict
from chakrasim.replay.cli.commands.replay import replay
from chakrasim.replay.cli.common import Commands, print_versions


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nCompletion of options and names by the shell (also zsh_source, fish_source):\n"
    '  eval "$(_CHAKRASIM_COMPLETE=bash_source chakrasim)"\n\n'
    "\b\nExample:\n  chakrasim replay\n",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_versions,
    help="Show the version, and those of what it runs on, and exit.",
)
def main() -> None:
    """How long does a training step take, and why: replay a recorded trace on a machine you describe."""


for command in (
    convert,
    export,
    inspect,
    generate,
    replay,
    predict,
    machines,
    plugins,
    calibrate,
    conformance,
):
    main.add_command(command)
