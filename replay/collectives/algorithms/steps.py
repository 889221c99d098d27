"""What an algorithm says: who sends what to whom, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chakrasim.traces.graph import Ints


@dataclass(frozen=True, eq=False)
class Step:
    """Messages that stand at the same place in the programs of their members; `times` of them in a row.

    A member sends its messages of a step when it has what it needs of the steps before. Members are
    positions 0..n-1 in the group.
    """

    sources: Ints
    destinations: Ints
    size_bytes: int
    """Of each message."""
    blocks: Callable[[int], Ints]
    """int64[messages, b]: which blocks of the buffer each message of repetition i carries."""
    reduces: bool = False
    """The destination adds what it receives to what it has; otherwise it keeps it as it is."""
    times: int = 1


def everyone(n: int) -> Ints:
    """Positions 0..n-1."""
    return np.arange(n, dtype=np.int64)
