"""Options of text workloads, under the names that ASTRA-sim 1.0 has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from chakrasim.replay.machine import Machine
    from chakrasim.traces.workload import Workload

OPTIONS = (
    click.option(
        "--num-passes",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Of a text workload: how many iterations.",
    ),
    click.option(
        "--compute-scale", type=float, default=1.0, metavar="F", help="Of a text workload: factor on its times."
    ),
    click.option(
        "--comm-scale", type=float, default=1.0, metavar="F", help="Of a text workload: factor on its bytes."
    ),
)


@dataclass(frozen=True)
class TextOptions:
    """What the user wants of a text workload."""

    passes: int
    compute_scale: float
    communication_scale: float

    def read(self, trace: str) -> OpenText | None:
        """The text workload that a trace argument names; None if it is something else."""
        path = Path(trace)
        if path.is_file():
            from chakrasim.converters.text.sniff import is_text_workload

            if is_text_workload(path):
                from chakrasim.converters.text import read_text

                return OpenText(path, self, read_text(path).group)
        if (self.passes, self.compute_scale, self.communication_scale) != (1, 1, 1):
            raise click.UsageError(
                "--num-passes, --compute-scale and --comm-scale are for text workloads of ASTRA-sim 1.0; "
                "--scale is for all others"
            )
        return None


@dataclass(frozen=True)
class OpenText:
    """A text workload that waits for the machine whose dimensions it is to be laid on."""

    path: Path
    options: TextOptions
    transformer_group: int | None
    """Ranks of its model-parallel group."""

    def convert(self, machine: Machine) -> Workload:
        """The graphs for the ranks of a machine. Raises ConfigError, TraceError."""
        from chakrasim.converters.text import convert_text

        if machine.size is None:
            raise ConfigError(f"{machine.name} grows with the workload; a text workload needs one of a fixed size")
        return convert_text(
            self.path,
            sizes=[dimension.size or 1 for dimension in machine.dimensions],
            passes=self.options.passes,
            compute_scale=self.options.compute_scale,
            communication_scale=self.options.communication_scale,
        )


def takes_text_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument, `text`."""

    @wraps(command)
    def with_options(*, num_passes: int, compute_scale: float, comm_scale: float, **rest: Any) -> Any:
        return command(text=TextOptions(num_passes, compute_scale, comm_scale), **rest)

    taking: Callable[..., Any] = with_options
    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking
