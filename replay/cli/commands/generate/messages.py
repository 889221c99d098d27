"""Workloads of messages between two ranks at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chakrasim.replay.cli.commands.generate.written import makes_workload, repeat_option, takes_sizes
from chakrasim.replay.cli.options.types import size_option, sizes_option

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

_message_size = click.option(
    "--size", callback=size_option, required=True, help="Bytes of a message: 64MB, 64MiB, 4096."
)
_compute = click.option(
    "--compute-us",
    type=float,
    default=0.0,
    show_default=True,
    help="Microseconds of compute before each exchange.",
)


def _pair(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, int]:
    ends = text.split(",")
    if len(ends) != 2 or not all(end.strip().isdecimal() for end in ends):
        raise click.BadParameter(f"{text!r} is no pair of ranks; expected for example 0,8", ctx, param)
    return int(ends[0]), int(ends[1])


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate pingpong --pair 0,8 --last 1MiB --repeat 3 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100\n"
)
@click.option("--pair", callback=_pair, default="0,1", show_default=True, help="The two ranks.")
@takes_sizes
@repeat_option
@click.option(
    "--ranks", type=click.IntRange(min=1), help="Ranks in all; others do nothing. Default: up to the pair."
)
@makes_workload
def pingpong(
    pair: tuple[int, int],
    first: int,
    last: int,
    factor: float,
    repeat: int,
    ranks: int | None,
) -> tuple[Workload, str]:
    """Make a workload in which messages of many sizes go back and forth between two ranks."""
    from chakrasim.converters.synthetic.micro.microbenchmarks import generate_ping_pong
    from chakrasim.converters.synthetic.micro.patterns import size_series

    sizes = size_series(first, last, factor)
    return generate_ping_pong(sizes, pair, repeat, ranks), "pingpong"


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate pipeline --stages 4 --micro-batches 8 --size 16MiB --compute-us 500 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100\n"
)
@click.option("--stages", type=click.IntRange(min=1), required=True, help="One rank each.")
@click.option("--micro-batches", type=click.IntRange(min=1), required=True, help="How many go through.")
@_message_size
@click.option("--compute-us", type=float, required=True, help="Microseconds a stage takes for each.")
@makes_workload
def pipeline(stages: int, micro_batches: int, size: int, compute_us: float) -> tuple[Workload, str]:
    """Make a workload of micro-batches that go through stages, from rank to rank."""
    from chakrasim.converters.synthetic.micro.microbenchmarks import generate_pipeline

    return generate_pipeline(stages, micro_batches, size, compute_us), "pipeline"


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate halo --grid 4x4 --size 1MiB --repeat 3 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100\n"
)
@click.option(
    "--grid", callback=sizes_option, required=True, help="Ranks by dimension: 16 is a ring, 4x4 a torus."
)
@_message_size
@repeat_option
@_compute
@click.option(
    "--periodic/--open", "is_periodic", default=True, help="The ends of the grid are neighbours, or not."
)
@makes_workload
def halo(
    grid: tuple[int, ...], size: int, repeat: int, compute_us: float, is_periodic: bool
) -> tuple[Workload, str]:
    """Make a workload in which every rank exchanges messages with its neighbours in a grid."""
    from chakrasim.converters.synthetic.micro.microbenchmarks import generate_halo

    return generate_halo(grid, size, repeat, compute_us, is_periodic=is_periodic), "halo"
