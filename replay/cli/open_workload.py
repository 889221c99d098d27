"""From what a user names (a file, a folder, a prefix, a sample) to a checked workload.

This and `commands/` are the only places that know both the converters and the replay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chakrasim.traces.errors import ConfigError, TraceError, UnknownName

if TYPE_CHECKING:
    from chakrasim.converters.interface import TraceFormat
    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.traces.doctor import Mend
    from chakrasim.traces.workload import Workload

SAMPLE = "sample:"
DEFAULT_TRACE = "sample:ddp_transformer"
"""What is replayed when nothing is named."""

GRAPH_SUFFIXES = (".et", ".et.gz")

Progress = Callable[[int, int, str], None]


def sample_names() -> list[str]:
    """The bundled samples."""
    return sorted(f.name for f in _samples().iterdir() if f.is_dir() and any(f.glob("*.gz")))


def trace_path(name: str) -> Path:
    """The path that a TRACE argument means: `sample:NAME` is a bundled sample, all else is a path.

    Raises UnknownName for a sample that isn't there.
    """
    if not name:
        raise ConfigError("the trace's name is empty; expected a file, a folder, a prefix or sample:NAME")
    if not name.startswith(SAMPLE):
        return Path(name)
    path = _samples() / name.removeprefix(SAMPLE)
    if path.name not in sample_names():
        raise UnknownName("sample", path.name, sample_names())
    return path


def _samples() -> Path:
    return Path(str(resources.files("chakrasim.traces"))) / "samples"


def open_workload(
    name: str,
    *,
    groups_file: str | os.PathLike[str] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    partial: bool = False,
    drop_unknown_dependencies: bool = False,
    options: Mapping[str, Any] | None = None,
    prefers_graphs: bool = True,
    check: bool = True,
    progress: Progress | None = None,
) -> Workload:
    """Read Chakra graphs, or convert traces of any other registered format.

    `options` are those of the format (`TraceFormat.options`), `groups` for graphs without a file of groups.
    Of a folder that holds graphs and other traces, `prefers_graphs` says which are read. With `check` off, a
    workload with problems is returned for looking at. Raises TraceError for what is wrong with a trace,
    ConfigError for options that don't fit it, OSError for a file that can't be opened.
    """
    from chakrasim.converters.chakra import DROP_UNKNOWN
    from chakrasim.converters.interface import ConvertContext
    from chakrasim.converters.registry import require_options_of
    from chakrasim.traces.check import raise_problems

    path = trace_path(name)
    options = dict(options or {})
    if groups_file is not None:
        options["groups"] = groups_file
    trace_format, others = _choose_format(path, prefers_graphs=prefers_graphs)
    if drop_unknown_dependencies and trace_format.has_option(DROP_UNKNOWN):
        # Tolerates what other formats can't have wrong, so that it may be given for any trace.
        options[DROP_UNKNOWN] = True
    require_options_of(path, trace_format, options)
    left_aside = ""
    if others and path.parent != _samples():
        kinds = " and ".join(other.summary for other in others)
        left_aside = (
            f"the folder's graphs are read; `chakrasim convert {path} -o OUT` takes its {kinds} instead"
        )
    context = ConvertContext(partial=partial, groups=groups, options=options, progress=progress)
    try:
        workload = trace_format.convert(path, context)
        if check:
            raise_problems(workload)
    except TraceError as error:
        if not left_aside:
            raise
        raise TraceError(f"{error}; {left_aside}") from None
    return workload.with_notes([left_aside] if left_aside else ())


def _choose_format(path: Path, *, prefers_graphs: bool) -> tuple[TraceFormat, list[TraceFormat]]:
    """The format of a path; of a folder with Chakra graphs and others, which others are left aside."""
    from chakrasim.converters.registry import CHAKRA, format_of, formats_of, only

    if not path.is_dir():
        return format_of(path), []
    found = formats_of(path)
    graphs = [known for known in found if known.name == CHAKRA]
    others = [known for known in found if known.name != CHAKRA]
    if graphs and (prefers_graphs or not others):
        return graphs[0], others
    return only(path, others), []


def is_graphs(name: str) -> bool:
    """Tell whether a trace argument names Chakra graphs."""
    from chakrasim.converters.registry import CHAKRA

    return _choose_format(trace_path(name), prefers_graphs=True)[0].name == CHAKRA


def find_graphs(folder: Path) -> list[Path]:
    """The `.et` and `.et.gz` files of a folder."""
    return [file for file in sorted(folder.iterdir()) if file.name.endswith(GRAPH_SUFFIXES)]


def self_check(workload: Workload) -> tuple[Fidelity, ...]:
    """How far a replay of an unchanged recording is from it; nothing for what wasn't recorded."""
    from chakrasim.replay.analysis.fidelity import compare, has_recording, replay_as_recorded

    return compare(replay_as_recorded(workload)) if has_recording(workload) else ()


def default_network(trace: str, workload: Workload, machine: str | None) -> str:
    """Name of the network model where the user names none.

    A trace recorded on a real network, replayed without naming another machine, keeps what it recorded. The
    bundled sample was recorded between processes of one host, which is not what anyone asks about.
    """
    from chakrasim.replay.network import DEFAULT_NETWORK, RECORDED_NETWORK

    if machine is None and not trace.startswith(SAMPLE) and _has_recorded_communication(workload):
        return RECORDED_NETWORK
    return DEFAULT_NETWORK


def _has_recorded_communication(workload: Workload) -> bool:
    found = False
    for graph in workload.graphs.values():
        durations = graph.durations_ps[graph.is_communication]
        if (durations <= 0).any():
            return False
        found = found or len(durations) > 0
    return found


def open_for_inspection(
    name: str,
    *,
    groups_file: str | os.PathLike[str] | None = None,
    drop_unknown_dependencies: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Workload, list[str]]:
    """As `open_workload`, but what is wrong with the workload comes back as a list.

    Raises TraceError only where a file can't be read at all.
    """
    from chakrasim.traces.check import check_workload

    problems = []
    groups = read_groups_for(name, groups_file)

    def read(partial: bool) -> Workload:
        return open_workload(
            name,
            groups_file=groups_file if groups is None else None,
            groups=groups,
            partial=partial,
            drop_unknown_dependencies=drop_unknown_dependencies,
            options=options,
            check=False,
            progress=progress,
        )

    try:
        workload = read(partial=False)
    except TraceError as error:
        workload = read(partial=True)
        problems.append(str(error))
    return workload, problems + [str(problem) for problem in check_workload(workload)]


def read_groups_for(
    name: str, groups_file: str | os.PathLike[str] | None
) -> dict[str, tuple[int, ...]] | None:
    """The process groups of a file for Chakra graphs, in any of its forms; None without a file, and for
    other traces, which name theirs."""
    if groups_file is None or not is_graphs(name):
        return None
    from chakrasim.traces.doctor import read_group_list

    return read_group_list(groups_file)


def require_graphs(name: str) -> None:
    """Raise ConfigError if the trace isn't of Chakra graphs, which alone can be mended."""
    if not is_graphs(name):
        raise ConfigError(
            f"{trace_path(name)}: no graphs to mend; `chakrasim convert {name} -o OUT` makes graphs of it"
        )


def mend_workload(
    name: str, workload: Workload, groups_file: str | os.PathLike[str] | None = None
) -> tuple[Workload, tuple[Mend, ...]]:
    """What `chakrasim.traces.doctor.mend` makes of an opened trace; only Chakra graphs are mended."""
    from chakrasim.traces.doctor import mend

    if not is_graphs(name):
        return workload, ()
    return mend(workload, read_groups_for(name, groups_file))


def graph_prefix(workload: Workload) -> str:
    """What a workload's graph files are called, without rank and suffix.

    >>> from chakrasim.traces.testing import graph
    >>> from chakrasim.traces.workload import Workload
    >>> graph_prefix(Workload.from_graphs([graph("a")], name="step.0.et.gz"))
    'step'
    """
    name = workload.name
    for suffix in (".gz", ".et", ".json"):
        name = name.removesuffix(suffix)
    stem, _, rank = name.rpartition(".")
    return stem if stem and rank.isdigit() else name
