"""Telling a text workload from other files by its first word."""

from __future__ import annotations

from pathlib import Path

from chakrasim.converters.text.read import KINDS

LONGEST_LINE = 256


def is_text_workload(path: Path) -> bool:
    """Whether a file begins with the name of a kind of text workload, or is called `.txt` and holds words.

    Raises OSError if it can't be read.
    """
    with path.open("rb") as file:
        head = file.read(LONGEST_LINE)
    words = head.decode("ascii", "replace").split()
    is_named_so = path.suffix == ".txt" and head.isascii() and not head.startswith((b"{", b"["))
    return bool(words) and (words[0] in KINDS or is_named_so)
