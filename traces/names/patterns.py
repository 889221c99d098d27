"""Patterns by which users name nodes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.graph import ExecutionGraph

SHOWN = 3
"""Names that a message offers."""


def matches(pattern: str, name: str) -> bool:
    """True if a pattern means a name, without regard to case.

    With `*`, `?` or `[` it is a shell pattern for the whole name, otherwise a part of the name.

    >>> matches("gemm", "ampere_GEMM_tn"), matches("gemm*", "ampere_GEMM_tn")
    (True, False)
    """
    pattern, name = pattern.lower(), name.lower()
    is_shell_pattern = any(mark in pattern for mark in "*?[")
    return fnmatchcase(name, pattern) if is_shell_pattern else pattern in name


def matching_rows(graph: ExecutionGraph, pattern: str) -> NDArray[np.bool_]:
    """bool[n]: nodes whose name a pattern means. Each distinct name is looked at once."""
    by_name = np.array([matches(pattern, name) for name in graph.names], dtype=np.bool_)
    return by_name[graph.name_ids]


def near_names(pattern: str, names: Iterable[str]) -> str:
    """Hint for a pattern that matches nothing: the nearest names, or else some that there are.

    >>> near_names("gem", ["relu", "GEMM"]), near_names("xyz", ["relu"])
    ("; near it: 'GEMM'", "; there are for example: 'relu'")
    """
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    wanted = pattern.lower().strip("*?[]")
    near = difflib.get_close_matches(wanted, by_lower, n=SHOWN, cutoff=0.5)
    found = near or sorted(by_lower)[:SHOWN]
    if not found:
        return ""
    listed = ", ".join(repr(_short(by_lower[name])) for name in found)
    return f"; {'near it' if near else 'there are for example'}: {listed}"


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}…"
