"""What the readers of ASTRA-sim's files share: words, units, and files that can't be opened."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from chakrasim.traces.errors import ConfigError, nearest

T = TypeVar("T")

GIB = 2**30
"""Bytes in ASTRA-sim's "GB" of network bandwidth."""
TOPOLOGIES = {"Ring": "ring", "FullyConnected": "fully_connected", "Switch": "switch"}
"""ASTRA-sim's names of topologies, and ours."""


def unknown_word(word: str, known: Collection[str]) -> str:
    """A word that isn't known, with the nearest known one or all of them, for a message."""
    guess = nearest(word, known)
    return f"{word!r}; " + (f"did you mean {guess!r}?" if guess else f"expected one of {', '.join(known)}")


def loaded(load: Callable[[Path], T], path: Path) -> T:
    """The content of a file. Raises ConfigError also where it can't be opened."""
    try:
        return load(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from None
