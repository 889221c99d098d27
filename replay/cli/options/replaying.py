"""Options of a replay: the models it asks, what is shown of it, and how the loop goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

from click_option_group import OptionGroup

from chakrasim.replay.cli.options.types import OneOf, compute_models, machines, network_models, scale_option

_models = OptionGroup("Machine and models")
_shown = OptionGroup("What is shown")
_loop = OptionGroup("How the replay goes (the result is the same)")


@dataclass(frozen=True)
class Models:
    """The machines, and the models of compute and network; None where the user names none."""

    machines: tuple[str, ...]
    compute: str | None
    network: str | None
    scales: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Shown:
    """Views of the result, and its form."""

    critical_path: bool
    by: str | None
    timeline: str | None
    explain_symmetry: bool
    as_json: bool


@dataclass(frozen=True)
class Loop:
    """Shortcuts of the replay that are switched off."""

    no_classes: bool
    no_extrapolate: bool


MODELS = (
    _models.option(
        "--machine",
        "machines",
        type=OneOf("all", others=machines, metavar="NAME|FILE"),
        multiple=True,
        help="See `chakrasim machines list`. With several, the workload is replayed on each and times are "
        "compared with the first; all: the whole catalogue.",
    ),
    _models.option(
        "--compute",
        type=OneOf(others=compute_models),
        help="measured: recorded durations; roofline: from operations and bytes. Default: what the machine's "
        "file says, else measured.",
    ),
    _models.option(
        "--network",
        type=OneOf(others=network_models),
        help="analytical: from the machine's links; congestion-aware: every message on those links, one at a "
        "time on each; shared-ports: as the first, and messages share the ports of their ranks; measured: "
        "recorded durations; recorded: so, and nobody waits for anybody. Default: measured for a recorded "
        "trace with no --machine, else analytical.",
    ),
    _models.option(
        "--scale",
        "scales",
        callback=scale_option,
        metavar="PATTERN=F",
        multiple=True,
        help="Multiply durations by F: of nodes whose name matches a pattern such as '*gemm*', or cpu=F, "
        "gpu=F.",
    ),
)
SHOWN = (
    _shown.option("--critical-path", is_flag=True, help="Show what the step time is made of, node by node."),
    _shown.option(
        "--by",
        metavar="ATTRIBUTE",
        help="Add up times, operations and bytes by a whole-number attribute of nodes, e.g. layer, pass.",
    ),
    _shown.option("--timeline", metavar="OUT", help="Write a Perfetto/Chrome trace; - for standard output."),
    _shown.option(
        "--explain-symmetry",
        is_flag=True,
        help="Show which ranks do the same, so that one of them is replayed, and what keeps others apart.",
    ),
    _shown.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md)."),
)
LOOP = (
    _loop.option("--no-classes", is_flag=True, help="Replay every rank, also those that do the same."),
    _loop.option(
        "--no-extrapolate",
        is_flag=True,
        help="Replay iterations and layers one by one even where they repeat exactly.",
    ),
)


def takes_replay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `models`, `shown` and `loop`."""

    @wraps(command)
    def with_options(**given: Any) -> Any:
        for name, kind in (("models", Models), ("shown", Shown), ("loop", Loop)):
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    taking: Callable[..., Any] = with_options
    for option in reversed((*MODELS, *SHOWN, *LOOP)):
        taking = option(taking)
    return taking
