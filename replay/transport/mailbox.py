"""Messages matched with the receives that wait for them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from chakrasim.replay.engine.event_queue import Clock, Event

Transmit = Callable[[int, int, int, int, Event], None]
"""`Transport.send`: source, destination, bytes, tag, what to do on arrival."""

CONTROL_BYTES = 8192
"""Size of the message by which a receiver asks for another, from ASTRA-sim's rendezvous protocol."""

Key = tuple[int, int, int, int]
"""Source, destination, bytes, tag."""


class Mailbox:
    """Joins messages with receives by source, destination, bytes and tag, first come first served.

    With `rendezvous`, a receive first sends a control message to the source, and the data leaves when that
    has come.
    """

    def __init__(self, clock: Clock, transmit: Transmit, *, rendezvous: bool = False) -> None:
        self.clock, self.transmit, self.rendezvous = clock, transmit, rendezvous
        self.arrived: dict[Key, int] = defaultdict(int)
        self.waiting: dict[Key, deque[Event]] = defaultdict(deque)
        self.asked_for: dict[Key, int] = defaultdict(int)
        self.held_back: dict[Key, deque[Event | None]] = defaultdict(deque)

    def send(self, key: Key, landed: Event | None = None) -> None:
        """Send a message; `landed` runs when it arrives, before whoever waits for it goes on."""
        if not self.rendezvous:
            self._transmit(key, landed)
        elif self.asked_for[key]:
            self.asked_for[key] -= 1
            self.clock.at(self.clock.now_ps, lambda: self._transmit(key, landed))
        else:
            self.held_back[key].append(landed)

    def receive(self, key: Key, received: Event) -> None:
        """Wait for a message; one that is there already is received later in this tick."""
        if not self.rendezvous:
            self._wait(key, received)
            return
        source, destination, _, tag = key

        def asked() -> None:
            self._wait(key, received)
            if self.held_back[key]:
                self._transmit(key, self.held_back[key].popleft())
            else:
                self.asked_for[key] += 1

        self.transmit(destination, source, CONTROL_BYTES, tag, asked)

    def _transmit(self, key: Key, landed: Event | None) -> None:
        def arrive() -> None:
            if landed is not None:
                landed()
            if self.waiting[key]:
                self.waiting[key].popleft()()
            else:
                self.arrived[key] += 1

        self.transmit(*key, arrive)

    def _wait(self, key: Key, received: Event) -> None:
        if self.arrived[key]:
            self.arrived[key] -= 1
            self.clock.at(self.clock.now_ps, received)
        else:
            self.waiting[key].append(received)
