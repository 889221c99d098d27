"""From what a user names (a file, a folder, a prefix, a sample) to a checked workload.

This and `cli.py` are the only places that know both the converters and the replay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from chakrasim.traces.errors import ConfigError, TraceError, UnknownName

if TYPE_CHECKING:
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
    communication_kernels: str | os.PathLike[str] | None = None,
    prefers_graphs: bool = True,
    check: bool = True,
    progress: Progress | None = None,
) -> Workload:
    """Read Chakra graphs, or convert profiler traces, whichever `name` turns out to be.

    Of a folder that holds both, `prefers_graphs` says which is read. `groups` are for graphs without a file
    of groups. With `check` off, a workload with problems is returned for looking at. Raises TraceError for
    what is wrong with a trace, ConfigError for options that don't fit it, OSError for a file that can't be
    opened.
    """
    from chakrasim.traces.check import raise_problems
    from chakrasim.traces.workload_files import read_workload

    path = trace_path(name)
    if is_profiler_input(path, beside_graphs=not prefers_graphs):
        if groups_file is not None:
            raise ConfigError(
                f"{path}: a profiler trace names its process groups itself; --groups is for Chakra graphs"
            )
        workload = convert_traces(
            path, partial=partial, communication_kernels=communication_kernels, progress=progress
        )
    elif communication_kernels is not None:
        raise ConfigError(f"{path}: is no profiler trace, which --communication-kernels is for")
    elif path.is_file() and is_text(path):
        raise ConfigError(
            f"{path}: a text workload of ASTRA-sim 1.0; `chakrasim convert {path} --dimensions 16x8 -o OUT` "
            "makes graphs of it, and `chakrasim replay` takes it together with a machine"
        )
    elif path.is_dir() and not find_graphs(path):
        others = [file.name for file in sorted(path.iterdir()) if _may_be_json(file)]
        found = f"; {others[0]} and {len(others) - 1} more are neither" if others else ""
        raise TraceError(
            f"{path}: the folder holds neither Chakra graphs (name.<rank>.et) nor PyTorch profiler traces "
            f"(name.<rank>.json or .json.gz){found}"
        )
    else:
        left_aside = _left_aside(path)
        try:
            workload = read_workload(
                path,
                groups_file=groups_file,
                groups=groups,
                partial=partial,
                drop_unknown_dependencies=drop_unknown_dependencies,
            )
            if check:
                raise_problems(workload)
        except TraceError as error:
            raise TraceError(f"{error}{'; ' if left_aside else ''}{left_aside}") from None
        return workload.with_notes([left_aside] if left_aside else ())
    if check:
        raise_problems(workload)
    return workload


def _left_aside(path: Path) -> str:
    """What to say of a folder whose graphs are read though it holds profiler traces as well."""
    if not path.is_dir() or not is_profiler_input(path, beside_graphs=True):
        return ""
    if path.parent == _samples():
        return ""
    return f"the folder's graphs are read; `chakrasim convert {path} -o OUT` takes its PyTorch traces instead"


def convert_traces(
    path: Path,
    *,
    partial: bool = False,
    communication_kernels: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Workload:
    """Convert a profiler trace, or a folder with one a rank; see `chakrasim.converters.pytorch`."""
    from chakrasim.converters.pytorch import convert_pytorch

    table = None if communication_kernels is None else Path(communication_kernels)
    return convert_pytorch(path, partial=partial, progress=progress, communication_table=table)


def is_profiler_input(path: Path, *, beside_graphs: bool = False) -> bool:
    """Whether the path is a trace of PyTorch's, or a folder with such and, if not said otherwise, without
    Chakra graphs.
    """
    if path.is_dir():
        files = (
            []
            if find_graphs(path) and not beside_graphs
            else [f for f in sorted(path.iterdir()) if _may_be_json(f)]
        )
    else:
        files = [path] if path.is_file() and not path.name.endswith(GRAPH_SUFFIXES) else []
    if not files:
        return False
    from chakrasim.converters.pytorch import is_pytorch_trace

    return any(is_pytorch_trace(file) for file in files)


def is_text(path: Path) -> bool:
    """Whether a file is a text workload of ASTRA-sim 1.0."""
    from chakrasim.converters.text.sniff import is_text_workload

    return is_text_workload(path)


def find_graphs(folder: Path) -> list[Path]:
    """The `.et` and `.et.gz` files of a folder."""
    return [file for file in sorted(folder.iterdir()) if file.name.endswith(GRAPH_SUFFIXES)]


def _may_be_json(file: Path) -> bool:
    return file.is_file() and file.name.endswith((".json", ".json.gz"))


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
    profiler traces, which name theirs."""
    if groups_file is None or is_profiler_input(trace_path(name)):
        return None
    from chakrasim.traces.doctor import read_group_list

    return read_group_list(groups_file)


def require_graphs(name: str) -> None:
    """Raise ConfigError if the trace isn't of Chakra graphs, which alone can be mended."""
    path = trace_path(name)
    if is_profiler_input(path):
        raise ConfigError(
            f"{path}: a profiler trace, not graphs to mend; `chakrasim convert {name} -o OUT` makes graphs"
        )


def mend_workload(
    name: str, workload: Workload, groups_file: str | os.PathLike[str] | None = None
) -> tuple[Workload, tuple[Mend, ...]]:
    """What `chakrasim.traces.doctor.mend` makes of an opened trace; nothing is mended of profiler traces."""
    from chakrasim.traces.doctor import mend

    if is_profiler_input(trace_path(name)):
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


def plain_name(path: Path) -> str:
    """What output files are called after an input, without its rank and its suffixes.

    >>> plain_name(Path("runs/step.3.json.gz")), plain_name(Path("runs/step"))
    ('step', 'step')
    """
    name = path.absolute().name
    for suffix in (".gz", ".json", ".pt.trace", ".txt"):
        name = name.removesuffix(suffix)
    stem, _, rank = name.rpartition(".")
    return stem if stem and rank.isdigit() else name
