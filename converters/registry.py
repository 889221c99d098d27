"""Known trace formats, and which of them a file or folder is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chakrasim.converters.interface import TraceFormat, head, stem_and_rank
from chakrasim.traces.errors import ConfigError, TraceError, UnknownName
from chakrasim.traces.shared.registry import Registry

CHAKRA, PYTORCH, TEXT = "chakra", "pytorch", "astra-sim-text"

FORMATS: Registry[TraceFormat] = Registry(
    "trace format",
    {
        CHAKRA: "chakrasim.converters.chakra:FORMAT",
        PYTORCH: "chakrasim.converters.pytorch.format:FORMAT",
        TEXT: "chakrasim.converters.text.format:FORMAT",
    },
    "chakrasim.converters",
)


def formats_of(path: Path) -> list[TraceFormat]:
    """All formats that recognise a file, or a file of a folder. Raises OSError."""
    return [known for known in _all_formats() if known.is_in(path)]


def format_of(path: Path) -> TraceFormat:
    """The one format of a file or folder; Chakra graphs where there is neither: a prefix of file names.

    Raises TraceError where no format recognises it, or several do; OSError for a file that can't be opened.
    """
    if not path.exists():
        return FORMATS.get(CHAKRA)
    return only(path, formats_of(path))


def only(path: Path, found: list[TraceFormat]) -> TraceFormat:
    """The one format that was found. Raises TraceError for none or several."""
    if len(found) == 1:
        return found[0]
    if found:
        sources = {entry.name: entry.source for entry in FORMATS.entries()}
        claims = " and ".join(f"{known.name} ({known.summary}; {sources[known.name]})" for known in found)
        raise TraceError(f"{path}: could be of several trace formats: {claims}; keep files of one of them")
    asked = [known for known in _all_formats() if known.takes_folders or not path.is_dir()]
    tried = ", ".join(f"{known.summary} ({known.suffixes[0]})" for known in asked)
    if path.is_dir():
        raise TraceError(f"{path}: the folder holds no trace; looked for {tried}")
    if not path.stat().st_size:
        raise TraceError(f"{path}: the file is empty; expected {tried}")
    if not head(path):
        raise TraceError(f"{path}: the gzip stream is cut or broken; copy the file again")
    raise TraceError(f"{path}: its first bytes are not those of a known trace format; tried {tried}")


def require_options_of(path: Path, trace_format: TraceFormat, options: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that isn't one of the format."""
    own = {option.name for option in trace_format.options}
    for name in options:
        if name in own:
            continue
        others = [k for k in _all_formats() if k.has_option(name)]
        raise ConfigError(
            f"{path}: is of {trace_format.summary}; --{name} is for {' and '.join(k.summary for k in others)}"
        )


def parse_options(given: Iterable[str]) -> dict[str, Any]:
    """Values of formats' options from texts like `name=value`. Raises ConfigError, UnknownName."""
    known = {option.name: option for k in _all_formats() for option in k.options}
    values = {}
    for text in given:
        name, is_set, value = text.partition("=")
        if not is_set:
            raise ConfigError(f"{text!r}: expected NAME=VALUE")
        if name not in known:
            raise UnknownName("option of trace formats", name, known)
        try:
            values[name] = known[name].parse(value)
        except ValueError as error:
            raise ConfigError(f"{text}: {error}") from None
    return values


def plain_name(path: Path) -> str:
    """The name of output files made from an input: without its rank and its format's suffix.

    >>> plain_name(Path("runs/step.3.json.gz")), plain_name(Path("runs/step")), plain_name(Path("t.0.et"))
    ('step', 'step', 't')
    """
    return stem_and_rank(path.absolute().name, _all_suffixes())[0]


def _all_suffixes() -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(known.suffixes for known in _all_formats()))


def _all_formats() -> Iterable[TraceFormat]:
    return [FORMATS.get(name) for name in FORMATS.names()]
