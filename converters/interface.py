"""Interface of a trace format: recognising its files, and converting them to a workload.

A format of another package is a `TraceFormat` that its entry point in the group `chakrasim.converters` names;
`replay`, `convert` and `inspect` then take its files, and folders with one file a rank:

    CSV = TraceFormat("csv", (".csv",), "CSV timelines", sniff, convert)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chakrasim.traces.errors import TraceError

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

HEAD_BYTES = 65_536
"""Unpacked bytes from which a file is recognised: headers of Kineto's files take tens of kilobytes."""
_GZIP_MAGIC = b"\x1f\x8b"
_RANK = re.compile(r"\.(\d{1,7})$")

Progress = Callable[[int, int, str], None]
"""Called with files done, files in all, and the file at hand."""


@dataclass(frozen=True)
class Option:
    """A choice that a user has with one format, `--format-option NAME=VALUE` on the command line."""

    name: str
    help: str
    parse: Callable[[str], Any] = str
    """Parse the text to the value in `ConvertContext.options`. Raises ValueError."""


@dataclass(frozen=True)
class ConvertContext:
    """Arguments of a conversion, beside its input."""

    partial: bool = False
    """Ranks may be missing."""
    dimensions: tuple[int, ...] | None = None
    """Ranks along each dimension of the network, the innermost first, for formats that depend on it."""
    groups: Mapping[str, Sequence[int]] | None = None
    """Process groups by name, for formats that don't record them."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values of the format's own options by name; those not given are absent."""
    progress: Progress | None = None


@dataclass(frozen=True)
class TraceFormat:
    """A kind of trace files, and how they become a workload."""

    name: str
    suffixes: tuple[str, ...]
    """Endings of file names: only such files are looked at in a folder, and output is named without them."""
    summary: str
    """The files in a few words, in the plural."""
    sniff: Callable[[bytes, Path], bool]
    """Tell a file of the format by its first `HEAD_BYTES`, unpacked; by its path only where those can't."""
    convert: Callable[[Path, ConvertContext], Workload]
    """Convert a file or a folder. Ranks may stand in the files, or in their names (`files_by_rank`). Raises
    TraceError for what is wrong with a file, ConfigError for options that don't fit."""
    options: tuple[Option, ...] = ()
    takes_folders: bool = True
    """A folder with files of the format is one workload."""

    def has_option(self, name: str) -> bool:
        """Tell whether the format has an option of that name."""
        return any(option.name == name for option in self.options)

    def is_in(self, path: Path) -> bool:
        """Tell whether a file is of the format, or a folder holds one that is. Raises OSError."""
        if path.is_file():
            return self.sniff(head(path), path)
        return self.takes_folders and any(map(self._is_readable_and_mine, self.candidates(path)))

    def _is_readable_and_mine(self, file: Path) -> bool:
        try:
            return self.sniff(head(file), file)
        except OSError:
            return False

    def candidates(self, folder: Path) -> list[Path]:
        """Files of a folder with one of the format's suffixes, by name."""
        return sorted(
            file for file in folder.iterdir() if file.name.endswith(self.suffixes) and file.is_file()
        )


def head(path: Path) -> bytes:
    """The first `HEAD_BYTES` of a file, unpacked if it is gzipped; empty if nothing can be unpacked."""
    with path.open("rb") as file:
        data = file.read(HEAD_BYTES)
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, HEAD_BYTES)
    except zlib.error:
        return b""


def stem_and_rank(name: str, suffixes: Sequence[str]) -> tuple[str, int | None]:
    """A file name without its suffix and its rank, and the rank.

    >>> stem_and_rank("step.3.csv.gz", (".csv", ".csv.gz")), stem_and_rank("step.csv", (".csv",))
    (('step', 3), ('step', None))
    """
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.endswith(suffix) and name != suffix:
            name = name.removesuffix(suffix)
            break
    match = _RANK.search(name)
    return (name[: match.start()], int(match[1])) if match and match.start() else (name, None)


def files_by_rank(path: Path, trace_format: TraceFormat, *, partial: bool = False) -> dict[int, Path]:
    """The files of a folder by the ranks in their names (`name.<rank>.<suffix>`); of a file, itself.

    Raises TraceError for a file without rank, two of one rank and, unless `partial`, for ranks that are
    missing below the highest.
    """
    if path.is_file():
        rank = stem_and_rank(path.name, trace_format.suffixes)[1]
        return {rank or 0: path}
    found: dict[int, Path] = {}
    for file in trace_format.candidates(path):
        rank = stem_and_rank(file.name, trace_format.suffixes)[1]
        if rank is None:
            raise TraceError(f"{file}: its name tells no rank; name the files like trace.0{file.suffix}")
        if rank in found:
            raise TraceError(f"{file}: is of rank {rank}, and so is {found[rank].name}; keep one of them")
        found[rank] = file
    missing = sorted(set(range(max(found, default=-1))) - found.keys())
    if missing and not partial:
        listed = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        raise TraceError(
            f"{path}: no trace of rank {listed}, but of rank {max(found)}; to go on without, use --partial"
        )
    return dict(sorted(found.items()))
