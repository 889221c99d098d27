"""`chakrasim generate`: workloads from a description.

Commands stand beside this file, one kind of workload a file. They know the generators' arguments, and nothing
of how graphs are made.
"""

from __future__ import annotations

import click

from chakrasim.replay.cli.commands.generate.collectives import collective, sweep
from chakrasim.replay.cli.commands.generate.messages import halo, pingpong, pipeline
from chakrasim.replay.cli.commands.generate.models import dlrm, vision
from chakrasim.replay.cli.commands.generate.random import random
from chakrasim.replay.cli.commands.generate.transformers import models, transformer

__all__ = ["generate"]


@click.group(
    epilog="\b\nExample:\n  chakrasim generate collective --kind all-to-all --size 16MiB --ranks 16 -o demo\n"
)
def generate() -> None:
    """Make a workload from a description."""


for command in (transformer, models, vision, dlrm, collective, sweep, pingpong, pipeline, halo, random):
    generate.add_command(command)
