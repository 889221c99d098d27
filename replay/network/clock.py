"""A queue of events for what happens message by message."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from chakrasim.replay.kernel import NEVER_PS

Event = Callable[[], None]


class Clock:
    """Runs events in order of time and, within a tick, in the order in which they were scheduled.

    The timers that one rank sets for one tick run together, at the place of the first of them. That is
    ASTRA-sim's order; any fixed one would do. O(log events) each.
    """

    def __init__(self) -> None:
        self.now_ps = 0
        self._queue: list[tuple[int, tuple[int, ...], int, Event]] = []
        self._sequence = 0
        self._timers: dict[tuple[int, int], list[Event]] = {}

    def at(self, time_ps: int, event: Event, order: tuple[int, ...] = ()) -> None:
        """Run `event` then. Within a tick, lower `order` goes first, then what was scheduled first."""
        heappush(self._queue, (time_ps, order, self._sequence, event))
        self._sequence += 1

    def timer(self, rank: int, time_ps: int, event: Event) -> None:
        """As `at`, with the rank's other timers for that tick."""
        batch = self._timers.get((rank, time_ps))
        if batch is not None:
            batch.append(event)
            return
        self._timers[rank, time_ps] = [event]
        self.at(time_ps, lambda: self._run_timers(rank, time_ps))

    def _run_timers(self, rank: int, time_ps: int) -> None:
        # A timer set for this very tick while they run starts another batch.
        for event in self._timers.pop((rank, time_ps)):
            event()

    def next_ps(self) -> int:
        """When the next event is due; `NEVER_PS` without events."""
        return self._queue[0][0] if self._queue else NEVER_PS

    def advance(self, to_ps: int) -> None:
        """Run all events up to and including `to_ps`, those that they schedule included."""
        queue = self._queue
        while queue and queue[0][0] <= to_ps:
            self.now_ps, _, _, event = heappop(queue)
            event()

    def run(self) -> None:
        """Run until nothing is left."""
        self.advance(NEVER_PS)
