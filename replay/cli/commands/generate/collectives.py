"""Workloads of collectives alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chakrasim.replay.cli.commands.generate.written import (
    makes_workload,
    ranks_option,
    repeat_option,
    takes_sizes,
)
from chakrasim.replay.cli.options.types import COLLECTIVES, OneOf, collective_option, size_option

if TYPE_CHECKING:
    from chakrasim.traces.graph import CommKind
    from chakrasim.traces.workload import Workload


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate collective --kind all-reduce --size 64MB --ranks 8 -o demo\n"
    "  chakrasim replay demo\n"
)
@click.option(
    "--kind", type=OneOf(*COLLECTIVES), callback=collective_option, required=True, help="The collective."
)
@click.option(
    "--size", callback=size_option, required=True, help="Bytes each rank puts in: 64MB, 64MiB, 4096."
)
@ranks_option
@repeat_option
@makes_workload
def collective(kind: CommKind, size: int, ranks: int, repeat: int) -> tuple[Workload, str]:
    """Make a workload in which all ranks run a collective."""
    from chakrasim.converters.synthetic.micro.collective import generate_collective

    return generate_collective(kind, size, ranks, repeat), kind.label


def _kinds(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> list[CommKind]:
    return [collective_option(ctx, param, text) for text in texts or COLLECTIVES]


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate sweep --kind all-reduce --last 1MiB --ranks 16 --pattern consecutive:8 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100\n"
)
@click.option(
    "--kind",
    "kinds",
    type=OneOf(*COLLECTIVES),
    callback=_kinds,
    multiple=True,
    help="Give the option again for more. Default: all.",
)
@takes_sizes
@ranks_option
@click.option(
    "--pattern",
    default="all",
    show_default=True,
    metavar="P",
    help="Who runs them: all ranks; consecutive:N or strided:N, groups of N ranks at the same time, "
    "neighbours or as far apart as can be; pairs, every two ranks.",
)
@repeat_option
@makes_workload
def sweep(
    kinds: list[CommKind],
    first: int,
    last: int,
    factor: float,
    ranks: int,
    pattern: str,
    repeat: int,
) -> tuple[Workload, str]:
    """Make a workload of collectives of many sizes, one after another.

    A size is what each rank puts in.
    """
    from chakrasim.converters.synthetic.micro.microbenchmarks import generate_sweep
    from chakrasim.converters.synthetic.micro.patterns import Pattern, size_series

    sizes = size_series(first, last, factor)
    return generate_sweep(kinds, sizes, ranks, Pattern.parse(pattern), repeat), "sweep"
