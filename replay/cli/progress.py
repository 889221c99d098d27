"""A progress bar on standard error, for work that takes long enough to wonder about."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY_S = 2.0
"""Shorter work shows nothing."""

Report = Callable[[int, int, str], None]
"""Takes what is done, of how much (0: unknown), and what is being done now."""


def show_log() -> None:
    """Print on standard error what the library logs for people, such as that it compiles its loop."""
    logging.basicConfig(format="chakrasim: %(message)s")
    logging.getLogger("chakrasim").setLevel(logging.INFO)


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Within the block, the function given is called to report progress.

    A bar appears on standard error once `DELAY_S` have passed, if that is a terminal, and disappears at the
    end. Work that never reports gets a bar without end.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, now: None
        return
    bar = _DelayedBar(what)
    try:
        yield bar.report
    finally:
        bar.close()


class _DelayedBar:
    """The state that the timer's thread and the working thread share."""

    def __init__(self, what: str) -> None:
        self._lock = threading.Lock()
        self._latest = (0, 0, what)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._is_closed = False
        self._timer = threading.Timer(DELAY_S, self._show)
        self._timer.daemon = True
        self._timer.start()

    def report(self, done: int, total: int, now: str) -> None:
        with self._lock:
            self._latest = (done, total, now)
            self._update()

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._is_closed = True
            if self._bar is not None:
                self._bar.stop()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._is_closed:
                return
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._latest[2], total=None)
            self._update()
            self._bar.start()

    def _update(self) -> None:
        if self._bar is None or self._task is None:
            return
        done, total, now = self._latest
        self._bar.update(self._task, completed=done, total=total or None, description=now)
