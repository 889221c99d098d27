"""Interface of what carries messages between ranks while the replay runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from chakrasim.replay.engine.event_queue import Event
from chakrasim.replay.engine.kernel import NEVER_PS


class Transport(ABC):
    """Carries messages whose times depend on what else is under way.

    A transport either puts its events into the clock that it was given, and then `send` is all that it needs,
    or keeps a time of its own, and then it also has `next_ps` and `advance`. It is deterministic: the same
    messages at the same times land at the same times.
    """

    notes: Collection[str] = ()
    """Assumptions that were made, for people."""

    @abstractmethod
    def send(self, source: int, destination: int, size_bytes: int, tag: int, arrived: Event) -> None:
        """Start a message now, the clock's `now_ps`; `arrived` runs when its last byte has landed."""

    def next_ps(self, limit_ps: int) -> int:
        """Time before which no message lands if none is sent; NEVER_PS if none is under way.

        The caller has nothing to send before `limit_ps`. A transport that can't look ahead without going
        there, such as another simulator, goes no further than that and returns `limit_ps + 1` if nothing has
        landed by then.
        """
        return NEVER_PS

    def advance(self, to_ps: int) -> None:  # noqa: B027
        """Go on to a time that is at most `next_ps`, and run what has arrived by then."""
