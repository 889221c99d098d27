"""Work in a process of its own: its result or its error comes back, and nothing else changes."""

from __future__ import annotations

import os

import pytest

from chakrasim.replay.cli.fork_task import beside
from chakrasim.traces.errors import TraceError


def test_the_result_comes_back_from_another_process() -> None:
    seen: list[int] = []

    def task() -> tuple[int, list[int]]:
        seen.append(1)
        return os.getpid(), [k * k for k in range(100_000)]

    wait = beside(task)
    number, squares = wait()
    assert squares[-1] == 99_999**2
    if (os.cpu_count() or 1) > 1:
        assert number != os.getpid()
        assert seen == []


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def task() -> None:
        raise TraceError("t.0.et: no room")

    wait = beside(task)
    with pytest.raises(TraceError, match=r"t\.0\.et: no room"):
        wait()


def test_a_task_that_ends_without_a_word_is_noticed() -> None:
    wait = beside(lambda: os._exit(3) if (os.cpu_count() or 1) > 1 else None)
    if (os.cpu_count() or 1) > 1:
        with pytest.raises(RuntimeError, match="ended before it was done"):
            wait()


def test_on_one_core_the_task_is_done_when_its_result_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert beside(os.getpid)() == os.getpid()
