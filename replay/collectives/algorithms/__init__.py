"""Collective algorithms as steps of messages: built-in ones, MSCCL files, Chakra graphs.

Touch it to add an algorithm: a file here, and a line in `plugins.ALGORITHMS`. It knows members by their
place, 0 to n - 1, and blocks of bytes, and neither machines nor times.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from chakrasim.replay.collectives.algorithms.steps import Algorithm
from chakrasim.replay.machine.algorithm_names import parse_algorithm
from chakrasim.replay.plugins import ALGORITHMS


@cache
def algorithm(name: str) -> Algorithm:
    """An algorithm with its parameters: `direct:3` has a window of 3, `one-ring` is a ring over all ranks.

    Raises UnknownName.
    """
    base, window, is_flat = parse_algorithm(name)
    found: Algorithm = ALGORITHMS.get(base)
    return replace(found, name=name, window=window or found.window, is_flat=is_flat)
