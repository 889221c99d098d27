"""Names of collective algorithms as machine files and options spell them."""

from __future__ import annotations

from typing import NamedTuple

from chakrasim.replay.plugins import ALGORITHMS
from chakrasim.traces.errors import UnknownName


class AlgorithmName(NamedTuple):
    """The parts of a spelling such as `ring`, `direct:3` or `one-ring`."""

    base: str
    """A name of the registry `ALGORITHMS`."""
    window: int | None
    """Messages that a member has under way at once; None is the algorithm's own."""
    is_flat: bool
    """One ring (or exchange, or tree) over all ranks, whatever the dimensions are."""


def parse_algorithm(name: str) -> AlgorithmName:
    """Take a spelling apart. Raises UnknownName.

    >>> parse_algorithm("one-direct:3")
    AlgorithmName(base='direct', window=3, is_flat=True)
    """
    base, colon, window = name.removeprefix("one-").partition(":")
    has_window = window.isdigit() and int(window) > 0
    if base not in ALGORITHMS or (colon and not (has_window and ALGORITHMS.get(base).is_windowed)):
        raise UnknownName("collective algorithm", name, (*ALGORITHMS.names(), "direct:3", "one-ring"))
    return AlgorithmName(base, int(window) if colon else None, name.startswith("one-"))


def is_algorithm(name: str) -> bool:
    """True if `parse_algorithm` knows the name."""
    try:
        parse_algorithm(name)
    except UnknownName:
        return False
    return True
