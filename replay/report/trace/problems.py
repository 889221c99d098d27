"""Problems of a trace for people, those of one sort drawn together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console

from chakrasim.replay.report.console import print_list


def print_problems(console: Console, problems: Sequence[str]) -> None:
    """Problems, those that differ only in their rank, nodes and numbers drawn together."""
    print_list(console, "Problems", fold_problems(problems))


def fold_problems(problems: Sequence[str]) -> list[str]:
    """Problems of one sort as their first one and the number of the others.

    >>> fold_problems(["t: rank 0 node 5: ('a') needs node 3", "t: rank 1 node 7: ('b') needs node 2", "odd"])
    ["t: rank 0 node 5: ('a') needs node 3  (and 1 more like it)", 'odd']
    """
    sorts: dict[str, list[str]] = {}
    for problem in problems:
        message = re.sub(r"^.*?: rank \d+( node \d+)?: ", "", problem)
        sorts.setdefault(re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "·", message), []).append(problem)
    return [
        first + (f"  (and {len(others):,} more like it)" if others else "")
        for first, *others in sorts.values()
    ]
