"""Doing two things at once on two cores, where one of them needs nothing back but its result."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def beside(task: Callable[[], Result]) -> Callable[[], Result]:
    """Start a task in a process of its own and return a function that waits for its result.

    The task sees everything as it is now and can change nothing of it; what it raises is raised by the
    function. On one core, and where processes can't be forked, or not safely beside other threads, the
    function does the task itself.
    """
    if not hasattr(os, "fork") or (os.cpu_count() or 1) < 2 or threading.active_count() > 1:
        return task
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _do(task, writing)
    os.close(writing)

    def result() -> Result:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        if not data:
            raise RuntimeError("the process that did part of the work ended before it was done")
        outcome, has_failed = pickle.loads(data)
        if has_failed:
            raise outcome
        return outcome  # type: ignore[no-any-return]

    return result


def _do(task: Callable[[], Any], writing: int) -> None:
    """In the child: do the task, send its outcome and end, whatever happens."""
    try:
        try:
            outcome: tuple[Any, bool] = task(), False
        except Exception as error:
            outcome = error, True
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
    finally:
        os._exit(0)
