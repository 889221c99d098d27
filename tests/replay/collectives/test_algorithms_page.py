"""The page about algorithms lists what the registry has."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import ALL_KINDS, Algorithm
from chakrasim.replay.plugins import ALGORITHMS

PAGE = Path(__file__).parents[3] / "docs" / "algorithms.md"


def row(found: Algorithm) -> str:
    """One line of the table."""
    missing = sorted(kind.label for kind in ALL_KINDS - found.kinds)
    runs = "all" if not missing else f"all but {', '.join(missing)}"
    if len(missing) > len(found.kinds):
        runs = ", ".join(sorted(kind.label for kind in found.kinds))
    theirs = f"`{found.astra_sim}`" if found.astra_sim else "–"
    return f"| `{found.name}` | {theirs} | {found.summary} | {runs} | {found.source} |"


def test_every_algorithm_stands_in_the_table() -> None:
    lines = PAGE.read_text().splitlines()
    head = lines.index("| name | ASTRA-sim | what it does | collectives | source |")
    table = list(takewhile(bool, lines[head + 2 :]))
    assert table == [row(algorithm(name)) for name in ALGORITHMS.names()]
