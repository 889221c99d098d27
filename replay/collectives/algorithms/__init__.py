"""Collective algorithms as steps of messages: built-in ones, MSCCL files, Chakra graphs.

Touch it to add an algorithm. It knows members by their place, 0 to n - 1, and blocks of bytes, and neither
machines nor times.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module

from chakrasim.replay.collectives.algorithms.steps import Algorithm
from chakrasim.traces.errors import UnknownName

HERE = "chakrasim.replay.collectives.algorithms"
ALGORITHMS = {
    "ring": f"{HERE}.ring:RING",
    "direct": f"{HERE}.direct:DIRECT",
    "halving-doubling": f"{HERE}.halving_doubling:HALVING_DOUBLING",
    "double-binary-tree": f"{HERE}.double_binary_tree:DOUBLE_BINARY_TREE",
    "bruck": f"{HERE}.bruck:BRUCK",
}
"""Algorithms by name, as `module:attribute`."""


def plain_algorithm(name: str) -> Algorithm:
    """A registered algorithm. Raises UnknownName."""
    if name not in ALGORITHMS:
        raise UnknownName("collective algorithm", name, (*ALGORITHMS, "direct:3", "one-ring"))
    module, _, attribute = ALGORITHMS[name].partition(":")
    found: Algorithm = getattr(import_module(module), attribute)
    return found


@cache
def algorithm(name: str) -> Algorithm:
    """An algorithm with its parameters: `direct:3` has a window of 3, `one-ring` is a ring over all ranks.

    Raises UnknownName.
    """
    base, colon, window = name.removeprefix("one-").partition(":")
    found = plain_algorithm(base) if base in ALGORITHMS else plain_algorithm(name)
    if colon and not (found.is_windowed and window.isdigit() and int(window) > 0):
        raise UnknownName("collective algorithm", name, (*ALGORITHMS, "direct:3", "one-ring"))
    return replace(
        found,
        name=name,
        window=int(window) if colon else found.window,
        is_flat=name.startswith("one-"),
    )


def is_algorithm(name: str) -> bool:
    """Tell a name that `algorithm` knows from one that it doesn't."""
    try:
        algorithm(name)
    except UnknownName:
        return False
    return True
