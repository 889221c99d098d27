"""Options that edit a workload before it is replayed or written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click_option_group import OptionGroup

from chakrasim.replay.cli.options.types import parse_size

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

Pair = tuple[str, str]
"""What stands before and after the last `=` of an option."""

_RANKS = re.compile(r"\d+(,\d+)*(/\d+(,\d+)*)*")


def _pairs(example: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[Pair, ...]]:
    def callback(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[Pair, ...]:
        found = []
        for text in texts:
            pattern, _, value = text.rpartition("=")
            if not pattern or not value:
                raise click.BadParameter(f"{text!r}; expected for example {example}", ctx, param)
            found.append((pattern, value))
        return tuple(found)

    return callback


def _widen(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str | None, int], ...]:
    found: list[tuple[str | None, int]] = []
    for text in texts:
        group, _, count = text.rpartition("=")
        if not count.isdecimal() or int(count) < 1:
            raise click.BadParameter(f"{text!r}; expected for example dp=8, or 8", ctx, param)
        found.append((group or None, int(count)))
    return tuple(found)


_edits = OptionGroup("Edits of the workload")
OPTIONS = (
    _edits.option("--step", metavar="NAME|N", help="Keep one profiler step only, as in --step 3."),
    _edits.option(
        "--drop",
        multiple=True,
        metavar="PATTERN",
        help="Take nodes out; what waited for them waits for what they waited for. As in --drop 'nccl*'.",
    ),
    _edits.option(
        "--merge",
        multiple=True,
        metavar="PATTERN",
        help="Make one node of neighbours on a lane, with the sum of their durations. As in "
        "--merge elementwise.",
    ),
    _edits.option(
        "--move",
        multiple=True,
        metavar="PATTERN=LANE",
        callback=_pairs("'nccl*=comm'"),
        help="Move nodes to another lane, to wait there for their turn. As in --move 'nccl*=comm'.",
    ),
    _edits.option(
        "--collapse-host",
        is_flag=True,
        help="Make one node of host operators between launches and waits; times stay.",
    ),
    _edits.option(
        "--comm-size",
        "sizes",
        multiple=True,
        metavar="PATTERN=F|SIZE",
        callback=_pairs("'*AllReduce*=0.5' or '*AllReduce*=64MB'"),
        help="Collectives and messages with F times the bytes, or as many: --comm-size 'nccl*=0.5' or =64MB.",
    ),
    _edits.option(
        "--comm-group",
        "regroupings",
        multiple=True,
        metavar="PATTERN=GROUP",
        callback=_pairs("'*AllReduce*=dp' or '*AllReduce*=0,1/2,3'"),
        help="Collectives in another group, or in new ones by ranks: --comm-group 'nccl*=dp' or =0,1/2,3.",
    ),
    _edits.option(
        "--widen",
        multiple=True,
        metavar="[GROUP=]M",
        callback=_widen,
        help="M ranks in the data-parallel GROUP (default: the world), as in --widen dp=8. Edits are made in "
        "the order step, drop, merge, move, collapse, sizes, groups, widen.",
    ),
)


@dataclass(frozen=True)
class Edits:
    """What the user wants changed in a workload."""

    step: str | None = None
    drop: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    move: tuple[Pair, ...] = ()
    collapse_host: bool = False
    sizes: tuple[Pair, ...] = ()
    groups: tuple[Pair, ...] = ()
    widen: tuple[tuple[str | None, int], ...] = ()

    @property
    def changes_communication(self) -> bool:
        """Whether recorded durations of some communication no longer hold."""
        return bool(self.sizes or self.groups or self.widen)

    def apply(self, workload: Workload) -> Workload:
        """The edited workload, whose notes list what was done; the same one where there is nothing to do.

        Raises ConfigError for an edit that can't be made, TraceError if what comes out makes no sense, as
        where ranks no longer agree on their collectives.
        """
        if self == Edits():
            return workload
        from chakrasim.traces.check import raise_problems
        from chakrasim.traces.edits.collapse import collapse_host
        from chakrasim.traces.edits.drop import drop
        from chakrasim.traces.edits.groups import regroup
        from chakrasim.traces.edits.merge import merge
        from chakrasim.traces.edits.move import move
        from chakrasim.traces.edits.parts.each import mark_edited
        from chakrasim.traces.edits.sizes import resize
        from chakrasim.traces.edits.step import cut_step
        from chakrasim.traces.edits.widen import widen
        from chakrasim.traces.errors import TraceError

        workload = workload.complete_for(None)
        if self.step is not None:
            workload = cut_step(workload, self.step)
        for pattern in self.drop:
            workload = drop(workload, pattern)
        for pattern in self.merge:
            workload = merge(workload, pattern)
        for pattern, lane in self.move:
            workload = move(workload, pattern, lane)
        if self.collapse_host:
            workload = collapse_host(workload)
        for pattern, size in self.sizes:
            workload = resize(workload, pattern, **_size(size))
        for pattern, group in self.groups:
            workload = regroup(workload, pattern, _group(workload, group))
        for widened, count in self.widen:
            workload = widen(workload, count, widened)
        workload = mark_edited(workload)
        try:
            raise_problems(workload)
        except TraceError as error:
            raise TraceError(f"after the edits: {error}") from None
        return workload


def _size(text: str) -> dict[str, Any]:
    """A plain number is a factor, one with a unit bytes. Raises ConfigError."""
    from chakrasim.traces.errors import ConfigError

    try:
        return {"factor": float(text)}
    except ValueError:
        pass
    try:
        return {"size_bytes": parse_size(text)}
    except ValueError:
        raise ConfigError(
            f"--comm-size: {text!r} is neither a factor, such as 0.5, nor a size, such as 64MB"
        ) from None


def _group(workload: Workload, text: str) -> str | list[tuple[int, ...]]:
    """A group's name as it is, ranks such as `0,1/2,3` as lists."""
    names = {group.name for group in workload.groups}
    names.update(name for graph in workload.graphs.values() for name in (*graph.group_names, *graph.groups))
    if text in names or not _RANKS.fullmatch(text):
        return text
    return [tuple(map(int, ranks.split(","))) for ranks in text.split("/")]


def takes_edits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument, `edits`."""

    @wraps(command)
    def with_options(
        *,
        step: str | None,
        drop: tuple[str, ...],
        merge: tuple[str, ...],
        move: tuple[Pair, ...],
        collapse_host: bool,
        sizes: tuple[Pair, ...],
        regroupings: tuple[Pair, ...],
        widen: tuple[tuple[str | None, int], ...],
        **rest: Any,
    ) -> Any:
        edits = Edits(step, drop, merge, move, collapse_host, sizes, regroupings, widen)
        return command(edits=edits, **rest)

    taking: Callable[..., Any] = with_options
    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking
