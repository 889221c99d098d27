"""Options of text workloads, under the names that ASTRA-sim 1.0 has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click_option_group import OptionGroup

from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.workload import Workload

_text = OptionGroup("Text workloads of ASTRA-sim 1.0")
OPTIONS = (
    _text.option(
        "--num-passes",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Iterations of a text workload.",
    ),
    _text.option(
        "--compute-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="A text workload's times by this.",
    ),
    _text.option(
        "--comm-scale", type=float, default=1.0, metavar="F", help="A text workload's bytes by this."
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
            from chakrasim.converters.registry import TEXT, format_of

            if format_of(path).name == TEXT:
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
        if machine.size is None:
            raise ConfigError(
                f"{self.path}: a text workload needs a machine of fixed size; {machine.name} grows with "
                "the workload; expected --machine FILE, or --astra-network and --astra-system"
            )
        return self._convert([dimension.size or 1 for dimension in machine.dimensions])

    def convert_for(self, dimensions: Sequence[int]) -> Workload:
        """The graphs for a network of these sizes.

        A dimension in which a transformer's model-parallel group ends becomes two. Raises TraceError.
        """
        from chakrasim.replay.astra_sim.version1 import transformer_split

        if self.transformer_group is not None:
            _, logical, _ = transformer_split(self.transformer_group, dimensions)
            dimensions = logical
        return self._convert(dimensions)

    def _convert(self, sizes: Sequence[int]) -> Workload:
        from chakrasim.converters.interface import ConvertContext
        from chakrasim.converters.registry import FORMATS, TEXT

        options = {
            "num-passes": self.options.passes,
            "compute-scale": self.options.compute_scale,
            "comm-scale": self.options.communication_scale,
        }
        context = ConvertContext(dimensions=tuple(sizes), options=options)
        return FORMATS.get(TEXT).convert(self.path, context)


def takes_text_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument, `text`."""

    @wraps(command)
    def with_options(*, num_passes: int, compute_scale: float, comm_scale: float, **rest: Any) -> Any:
        return command(text=TextOptions(num_passes, compute_scale, comm_scale), **rest)

    taking: Callable[..., Any] = with_options
    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking
