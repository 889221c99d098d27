"""Values of command-line options that click has no type for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from chakrasim.traces.errors import nearest

if TYPE_CHECKING:
    from chakrasim.traces.edits.scale import Scales
    from chakrasim.traces.graph import CommKind


class OneOf(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A name among those known: shown and completed as choices, judged by the part that is named.

    So that a wrong name is answered everywhere in the same way, with the nearest one.
    """

    name = "name"

    def __init__(self, *names: str, others: Callable[[], Iterable[str]] = tuple, metavar: str | None = None):
        self._names, self._others, self._metavar = names, others, metavar

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; an empty one is a mistake, such as an unset variable of the shell."""
        if not value:
            self.fail("expected a name", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The choices, as in `[none|full]`, or what else may be said."""
        return self._metavar or f"[{'|'.join((*self._names, *self._others()))}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so; files where something else than names may be said."""
        known = [name for name in (*self._names, *self._others()) if name.startswith(incomplete)]
        is_path = not known and self._metavar is not None
        return [CompletionItem(incomplete, type="file")] if is_path else [CompletionItem(n) for n in known]


def machines() -> Iterable[str]:
    """Names of machines, the catalogue's and others."""
    from chakrasim.replay.machine.load import machine_names

    return machine_names()


def compute_models() -> Iterable[str]:
    """Names of compute models."""
    from chakrasim.replay.plugins import COMPUTE

    return COMPUTE.names()


def network_models() -> Iterable[str]:
    """Names of network models."""
    from chakrasim.replay.plugins import NETWORKS

    return NETWORKS.names()


COLLECTIVES = (
    "all-reduce",
    "reduce",
    "all-gather",
    "gather",
    "scatter",
    "broadcast",
    "all-to-all",
    "reduce-scatter",
    "reduce-scatter-block",
    "barrier",
)
"""Labels of `CommKind`; spelt out because importing that needs numpy, which `--help` must not pay for."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes from a number with an optional unit; `MB` is 10^6, `MiB` is 2^20.

    Raises ValueError if the text is no size, or isn't a whole number of bytes.

    >>> parse_size("64MB"), parse_size("64 MiB"), parse_size("1.5GB"), parse_size("4096")
    (64000000, 67108864, 1500000000, 4096)
    """
    match = _SIZE.fullmatch(text.strip())
    if not match or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size; expected for example 64MB, 64MiB, 1.5GB or 4096")
    unit = int((1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
    whole, _, fraction = match[1].partition(".")
    scaled, rest = divmod(int(whole + fraction) * unit, int(10 ** len(fraction)))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    if scaled >= 2**63:
        raise ValueError(f"{text!r} is more than fits in 63 bits")
    return scaled


def size_option(ctx: click.Context | None, param: click.Parameter | None, text: str) -> int:
    """Callback of an option that takes bytes, see `parse_size`."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def sizes_option(
    ctx: click.Context | None, param: click.Parameter | None, text: str | None
) -> tuple[int, ...] | None:
    """Callback of an option that takes sizes of dimensions: `16x8`."""
    if text is None:
        return None
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"{text!r} is no list of sizes; expected for example 16x8", ctx, param)
    return tuple(int(size) for size in sizes)


def collective_option(ctx: click.Context | None, param: click.Parameter | None, text: str) -> CommKind:
    """Callback of an option that takes the label of a collective."""
    from chakrasim.traces.graph import CommKind

    label = text.lower().replace("_", "-")
    if label not in COLLECTIVES:
        guess = nearest(label, COLLECTIVES)
        hint = f"; did you mean {guess!r}?" if guess else ""
        message = f"no collective {text!r}{hint} (known: {', '.join(COLLECTIVES)})"
        raise click.BadParameter(message, ctx, param)
    return CommKind[label.upper().replace("-", "_")]


def scale_option(
    ctx: click.Context | None, param: click.Parameter | None, texts: tuple[str, ...]
) -> tuple[tuple[str, float], ...]:
    """Callback of an option that takes `PATTERN=F` any number of times."""
    return tuple(_pattern_and_factor(ctx, param, text) for text in texts)


def _pattern_and_factor(
    ctx: click.Context | None, param: click.Parameter | None, text: str
) -> tuple[str, float]:
    pattern, _, factor = text.rpartition("=")
    try:
        number = float(factor)
    except ValueError:
        pattern, number = "", 0.0
    if not pattern:
        message = f"{text!r} is no scale; expected for example gpu=0.5 or '*gemm*=0.8'"
        raise click.BadParameter(message, ctx, param)
    return pattern, number


def join_scales(pairs: tuple[tuple[str, float], ...]) -> Scales:
    """One `Scales` from pairs; the patterns `cpu` and `gpu` mean all nodes of that kind.

    Raises ConfigError for a factor below 0.
    """
    from chakrasim.traces.edits.scale import Scales

    factors = dict(pairs)
    return Scales(
        cpu=factors.get("cpu", 1.0),
        device=factors.get("gpu", 1.0),
        patterns=tuple((pattern, factor) for pattern, factor in pairs if pattern not in ("cpu", "gpu")),
    )
