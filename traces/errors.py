"""Errors a user can cause and mend. Anything else that is raised is a bug of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChakrasimError(Exception):
    """Base of every error with a one-line message for the user."""


class TraceError(ChakrasimError):
    """A trace, or a set of them, that can't be read or makes no sense."""


class ConfigError(ChakrasimError):
    """A machine file, an option or an argument that can't be right."""


class PluginError(ChakrasimError):
    """A part of another package that can't be used: it can't be loaded, or its name is taken."""


class UnknownName(ConfigError):
    """A name that isn't in a registry; the message offers the nearest one that is.

    >>> str(UnknownName("compute model", "rofline", ["measured", "roofline"]))
    "no compute model 'rofline'; did you mean 'roofline'? (known: measured, roofline)"
    >>> str(UnknownName("compute model", "mine", ["measured", "roofline"]))
    "no compute model 'mine' (known: measured, roofline)"
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        guess = nearest(name, known)
        hint = f"; did you mean {guess!r}?" if guess else ""
        super().__init__(f"no {what} {name!r}{hint} (known: {', '.join(known)})")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The entry of `known` spelt most like `name`, if one is close.

    >>> nearest("bandwith", ["bandwidth", "latency"])
    'bandwidth'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
