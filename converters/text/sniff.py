"""Telling a text workload from other files by its first word."""

from __future__ import annotations

from pathlib import Path

from chakrasim.converters.text.read import KINDS

LONGEST_LINE = 256


def is_text_workload(path: Path) -> bool:
    """Whether a file begins with the name of a kind of text workload. Raises OSError if it can't be read."""
    with path.open("rb") as file:
        words = file.read(LONGEST_LINE).split()
    return bool(words) and words[0].decode("ascii", "replace") in KINDS
