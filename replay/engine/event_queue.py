"""Event queue of the networks that are simulated message by message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from chakrasim.replay.engine.kernel import NEVER_PS
from chakrasim.traces.units import beyond_time

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
        self._timers: dict[tuple[int, int], deque[Event]] = {}
        self._rest: deque[Event] = deque()
        self._fresh: list[Event] = []
        """Events appended by the event being executed."""
        self._running: tuple[int, int] | None = None
        """Rank and time of the timers that are being executed."""

    def at(self, time_ps: int, event: Event, order: tuple[int, ...] = ()) -> None:
        """Run `event` then. Within a tick, lower `order` goes first, then what was scheduled first.

        Raises TraceError for a time that the replay can't reach.
        """
        if time_ps >= NEVER_PS:
            raise beyond_time(NEVER_PS)
        heappush(self._queue, (time_ps, order, self._sequence, event))
        self._sequence += 1

    def ticket(self) -> int:
        """A number above all that were given before, for an `order` of one's own."""
        self._sequence += 1
        return self._sequence

    def timer(self, rank: int, time_ps: int, event: Event) -> None:
        """Queue a timer like `at`, next to the rank's other timers for that tick."""
        key = rank, time_ps
        if key not in self._timers:
            self._timers[key] = deque()
            self.at(time_ps, lambda: self._begin(key))
        self._timers[key].append(event)

    def _begin(self, key: tuple[int, int]) -> None:
        self._running = key

    def then(self, event: Event) -> None:
        """Run `event` right after the one that is running, once nodes that this one ended have led on."""
        self._fresh.append(event)

    def next_ps(self) -> int:
        """Time of the next event; `NEVER_PS` without events."""
        if self._rest or self._running is not None:
            return self.now_ps
        return self._queue[0][0] if self._queue else NEVER_PS

    def step(self) -> None:
        """Run the next event."""
        if self._rest:
            self._rest.popleft()()
        else:
            self._step()
        self._rest.extendleft(reversed(self._fresh))
        self._fresh.clear()

    def _step(self) -> None:
        if self._running is None:
            self.now_ps, _, _, event = heappop(self._queue)
            event()
        if self._running is not None:
            # One timer at a time; those that it sets for this tick join the others.
            key = self._running
            event = self._timers[key].popleft()
            event()
            if not self._timers[key]:
                del self._timers[key]
                self._running = None

    def run(self) -> None:
        """Run until nothing is left."""
        while self.next_ps() < NEVER_PS:
            self.step()
