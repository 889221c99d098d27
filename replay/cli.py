"""The command line: `chakrasim convert | export | inspect | generate | replay | machines | calibrate |
conformance`.

Commands stand in `commands/`, one a file. Everything but click is imported inside them: `--help` answers at
once.
"""

from __future__ import annotations

import click

from chakrasim.replay.commands.calibrate import calibrate
from chakrasim.replay.commands.common import Commands
from chakrasim.replay.commands.conformance import conformance
from chakrasim.replay.commands.convert import convert
from chakrasim.replay.commands.export import export
from chakrasim.replay.commands.generate import generate
from chakrasim.replay.commands.inspect import inspect
from chakrasim.replay.commands.machines import machines
from chakrasim.replay.commands.replay import replay


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  chakrasim replay\n",
)
@click.version_option(package_name="chakrasim", prog_name="chakrasim")
def main() -> None:
    """How long does a training step take, and why: replay a recorded trace on a machine you describe."""


for command in (convert, export, inspect, generate, replay, machines, calibrate, conformance):
    main.add_command(command)

if __name__ == "__main__":
    main()
