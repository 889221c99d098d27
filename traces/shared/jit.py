"""Functions compiled by numba, which is loaded only where it pays: that takes a third of a second."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal

log = logging.getLogger(__name__)


def is_off() -> bool:
    """True if the user wants nothing compiled, by numba's own variable."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def is_loaded() -> bool:
    """True if numba is there already, so that using it costs next to nothing."""
    return "numba" in sys.modules and not is_off()


def compiled(
    function: Callable[..., Any], *, is_inlined: bool = False, calls: Sequence[ModuleType] = ()
) -> Callable[..., Any]:
    """The function compiled at its first call; kept on disk, so that only a computer's first run compiles.

    While it runs, other threads do. `calls` are other modules with functions that it calls: what is kept is
    of no more use when they change, which numba by itself sees of the function's own file only.
    """
    import numba

    inline: Literal["always", "never"] = "always" if is_inlined else "never"
    dispatcher: Callable[..., Any]
    try:
        dispatcher = numba.njit(cache=True, nogil=True, inline=inline)(function)
    except RuntimeError:  # neither the function's folder nor the user's cache can be written to
        return numba.njit(nogil=True, inline=inline)(function)
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if calls and file is not None:
        file._source_stamp = (file._source_stamp, *map(_stamp, calls))
    return dispatcher


def _stamp(module: ModuleType) -> tuple[float, int]:
    """Time of a module file's last change, and its size: another one is another module."""
    status = os.stat(str(module.__file__))
    return status.st_mtime, status.st_size


def announce(dispatcher: Any, what: str) -> None:
    """Say so, if the first call of a compiled function will compile it."""
    if not _is_cached(dispatcher):
        log.info("compiling %s (only this first time, about 5 s) ...", what)


def _is_cached(dispatcher: Any) -> bool:
    """True if numba has an index of compiled code for this very file."""
    try:
        index = os.path.join(dispatcher._cache.cache_path, dispatcher._cache._cache_file._index_name)
        with open(index, "rb"):
            return True
    except (AttributeError, OSError):
        return False
