"""Random workloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.commands.generate.written import makes_workload
from chakrasim.replay.cli.options.types import size_option

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

_natural = click.IntRange(min=0)
_share = click.FloatRange(0, 1)


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate random --seed 7 --ranks 4 --operations 200 -o demo\n"
    "  chakrasim replay demo\n"
)
@click.option("--seed", type=_natural, default=0, show_default=True, help="The same seed, the same workload.")
@click.option("--ranks", type=click.IntRange(min=1), default=4, show_default=True, help="How many ranks.")
@click.option(
    "--operations",
    type=_natural,
    default=100,
    show_default=True,
    help="Kernels, collectives and messages in all.",
)
@click.option(
    "--communication", type=_share, default=0.3, show_default=True, help="Share of them that communicates."
)
@click.option(
    "--messages", type=_share, default=0.5, show_default=True, help="Share of that between two ranks."
)
@click.option("--groups", type=_natural, default=3, show_default=True, help="Process groups of random ranks.")
@click.option(
    "--max-size",
    "max_bytes",
    callback=size_option,
    default="10MB",
    show_default=True,
    help="Most bytes of a collective or message.",
)
@makes_workload
def random(**plan: Any) -> tuple[Workload, str]:
    """Make a random workload that is valid: for tests."""
    from chakrasim.converters.synthetic.micro.random_graphs import RandomPlan, generate_random

    return generate_random(RandomPlan(**plan)), "random"
