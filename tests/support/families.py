"""Tests over a family of inputs: what many inputs share is one case, which names each that fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def families(names: Iterable[str], pattern: str) -> dict[str, list[str]]:
    """Names by what the pattern matches at their beginning; "*" stands for inputs that aren't there."""
    found: dict[str, list[str]] = {}
    for name in names:
        match = re.match(pattern, name)
        found.setdefault(match[0] if match else name, []).append(name)
    return found or {"*": ["*"]}


def check_each(names: Iterable[str], check: Callable[[str], object]) -> None:
    """Check every member of a family; the assertion names those that fail, with the first line of why.

    A member whose input is missing skips the family, as one test would.
    """
    wrong = {}
    for name in names:
        try:
            check(name)
        except AssertionError as error:
            wrong[name] = (str(error) or "assertion failed").splitlines()[0]
    assert not wrong, wrong
