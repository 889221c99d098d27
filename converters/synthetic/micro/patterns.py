"""Patterns of process groups, and geometric series of sizes."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from chakrasim.traces.errors import ConfigError, UnknownName

PATTERNS = ("all", "consecutive", "strided", "pairs")
MAX_STEPS = 10_000
"""Sizes of a series; more are taken for a factor too near to 1."""


@dataclass(frozen=True)
class Pattern:
    """A partition of ranks into groups that run at the same time, or for pairs one after the other.

    `all`: one group. `consecutive`: ranks 0 to size - 1, size to 2 size - 1, … `strided`: groups of `size`
    ranks that are ranks / size apart. `pairs`: every pair of ranks, in rounds of pairs that have no rank in
    common (the circle method of round-robin tournaments).
    """

    kind: str
    size: int = 0
    """Ranks of a group; 0 for the kinds that don't take one."""

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """From `all`, `pairs`, `consecutive:8` or `strided:4`. Raises ConfigError for anything else."""
        kind, colon, size = text.partition(":")
        if kind not in PATTERNS:
            raise UnknownName("pattern", kind, PATTERNS)
        takes_size = kind in ("consecutive", "strided")
        if takes_size != bool(colon) or (takes_size and not (size.isdecimal() and int(size))):
            expected = f"{kind}:N with N ranks a group" if takes_size else kind
            raise ConfigError(f"{text!r} is no pattern of groups; expected {expected}")
        return cls(kind, int(size or 0))


def rounds(pattern: Pattern, ranks: int) -> list[list[tuple[int, ...]]]:
    """For each round of a pattern its groups, each ascending. Raises ConfigError where ranks aren't a
    multiple of the group's size, UnknownName for a kind that isn't known.

    >>> rounds(Pattern("strided", 2), 4)
    [[(0, 2), (1, 3)]]
    >>> rounds(Pattern("pairs"), 3)
    [[(1, 2)], [(0, 2)], [(0, 1)]]
    """
    if pattern.kind not in PATTERNS:
        raise UnknownName("pattern", pattern.kind, PATTERNS)
    if pattern.kind == "all":
        return [[tuple(range(ranks))]]
    if pattern.kind == "pairs":
        if ranks < 2:
            raise ConfigError(f"ranks is {ranks}; pairs need 2 or more")
        return _pairs(ranks)
    size = pattern.size
    if size < 1 or ranks % size:
        raise ConfigError(f"groups of {size} don't divide {ranks} ranks; expected a divisor")
    count = ranks // size
    if pattern.kind == "consecutive":
        return [[tuple(range(at * size, (at + 1) * size)) for at in range(count)]]
    return [[tuple(range(at, ranks, count)) for at in range(count)]]


def round_count(pattern: Pattern, ranks: int) -> int:
    """Number of rounds of a pattern, without making them."""
    return ranks - 1 + ranks % 2 if pattern.kind == "pairs" else 1


def _pairs(ranks: int) -> list[list[tuple[int, ...]]]:
    """One rank stays, the others go around; with an odd number, who meets the empty seat rests."""
    seats = ranks + ranks % 2
    around = list(range(1, seats))
    found = []
    for _ in range(seats - 1):
        table = [0, *around]
        pairs = [tuple(sorted((table[at], table[-1 - at]))) for at in range(seats // 2)]
        found.append(sorted(pair for pair in pairs if pair[1] < ranks))
        around = around[-1:] + around[:-1]
    return found


def size_series(first: int, last: int, factor: float = 2) -> list[int]:
    """Sizes in bytes from `first` to at most `last`, each `factor` times the one before, rounded.

    >>> size_series(1024, 16384, 4)
    [1024, 4096, 16384]

    Raises ConfigError for a series that never ends.
    """
    if not 1 < factor < float("inf"):
        raise ConfigError(f"the factor between sizes is {factor}; expected more than 1")
    if not 1 <= first <= last:
        raise ConfigError(
            f"sizes from {first:,} to {last:,} bytes; expected 1 or more, and the last not below"
        )
    steps = log(last / first) / log(factor)
    if steps > MAX_STEPS:
        raise ConfigError(f"over {MAX_STEPS:,} sizes; expected a larger factor than {factor}")
    sizes: list[int] = []
    exact = float(first)
    while exact <= last:
        size = round(exact)
        if not sizes or size > sizes[-1]:
            sizes.append(size)
        exact *= factor
    return sizes
