"""A bus between a rank's network side and its memory, which all its chunks share.

What goes out passes an inner bus (memory to bus) and then the outer one (bus to network); what comes in
passes the outer one, and then the inner one once for what stays, and there and back for what is worked on or
sent out again. A move over an idle bus takes o + (S - 1) * G + L + o for S bytes, as in LogGP; while one side
sends, the other receives. The rules are those of ASTRA-sim's `model-shared-bus`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from math import floor

from chakrasim.replay.collectives.execution.endpoint import OUTBOUND, SENT_BACK, Operation
from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.scheduling import Bus
from chakrasim.traces.units import PS_PER_NS

INNER_NS_PER_BYTE = 0.0038
"""G of the inner bus; its L, o and g are those of the outer one."""
FREE, SENDING, RECEIVING = 0, 1, 2
MAX_IN_A_ROW = 8
"""Sends in a row after which a side yields to the other, if that one waits to send."""
REDUCTION_START_NS = 50


@dataclass(eq=False)
class _Side:
    """One end of a wire."""

    state: int = FREE
    before: int = FREE
    """The state before the current one began."""
    waiting: deque[tuple[int, Event]] = field(default_factory=deque)
    """Queue of moves that start here: bytes, and the event at the other end."""
    underway: deque[Event] = field(default_factory=deque)
    """Events of the moves that are on their way here, in the order in which they left."""
    finished_ps: int = 0
    """End of its last send or receive."""
    in_a_row: int = 0
    """Sends that have ended since the last receive began."""

    def enter(self, state: int) -> None:
        self.before, self.state = self.state, state


class _Wire:
    """Two sides that send to each other."""

    def __init__(self, clock: Clock, rank: int, bus: Bus) -> None:
        self.clock, self.rank, self.bus = clock, rank, bus
        self.sides = (_Side(), _Side())

    def move(self, side: int, size_bytes: int, landed: Event) -> None:
        """Queue a move from a side to the other one."""
        self.sides[side].waiting.append((size_bytes, landed))
        self.go_on(side)

    def there_and_back(self, size_bytes: int, done: Event) -> None:
        """A move from side 0 to side 1 whose answer waits behind what side 1 has to send."""
        # It lands before side 1 goes on, which is when the answer can leave.
        self.move(0, size_bytes, lambda: self.sides[1].waiting.append((size_bytes, done)))

    def go_on(self, side: int) -> None:
        """Start the next send of a side that is free."""
        here, there = self.sides[side], self.sides[1 - side]
        if here.state != FREE or not here.waiting:
            return
        if here.in_a_row > MAX_IN_A_ROW and there.waiting and there.in_a_row <= MAX_IN_A_ROW:
            self.go_on(1 - side)
            return
        bus, now_ps = self.bus, self.clock.now_ps
        offset_ns = bus.overhead_ns
        if here.before == SENDING:
            idle_ns = (now_ps - here.finished_ps) / PS_PER_NS
            if bus.overhead_ns + idle_ns <= bus.gap_ns:
                offset_ns = bus.gap_ns - idle_ns
        size_bytes, landed = here.waiting.popleft()
        serial_ns = offset_ns + (size_bytes - 1) * bus.ns_per_byte
        there.enter(RECEIVING)
        there.in_a_row = 0
        there.underway.append(landed)
        here.state = SENDING
        self._after(serial_ns + bus.latency_ns + bus.overhead_ns, lambda: self._landed(1 - side))
        self._after(serial_ns, lambda: self._sent(side))

    def _after(self, time_ns: float, event: Event) -> None:
        self.clock.timer(self.rank, self.clock.now_ps + floor(time_ns) * PS_PER_NS, event)

    def _sent(self, side: int) -> None:
        here = self.sides[side]
        here.finished_ps = self.clock.now_ps
        here.enter(FREE)
        here.in_a_row += 1
        self.go_on(side)

    def _landed(self, side: int) -> None:
        here = self.sides[side]
        here.finished_ps = self.clock.now_ps
        here.before = here.state
        landed = here.underway.popleft()
        if not here.underway:
            here.state = FREE
        landed()
        self.clock.then(lambda: self.go_on(side))


class _RankBus:
    """The buses of one rank, and its one reduction at a time."""

    def __init__(self, clock: Clock, rank: int, bus: Bus) -> None:
        self.clock, self.rank, self.bus = clock, rank, bus
        self.outer = _Wire(clock, rank, bus)
        self.inner = _Wire(clock, rank, replace(bus, ns_per_byte=INNER_NS_PER_BYTE))
        self.reductions: deque[tuple[int, Event]] = deque()

    def send(self, size_bytes: int, done: Event) -> None:
        # Memory hands the bytes over, so they wait in the memory side's queue of the inner bus, side 1.
        self.inner.move(1, size_bytes, lambda: self.outer.move(0, size_bytes, done))

    def receive(self, size_bytes: int, *, reduces: bool, sent_back: bool, done: Event) -> None:
        def dispose() -> None:
            if sent_back:
                self.inner.there_and_back(size_bytes, lambda: self.outer.move(0, size_bytes, done))
            else:
                self.inner.move(0, size_bytes, deliver)

        def deliver() -> None:
            done()
            self.clock.then(lambda: self.outer.go_on(0))

        def landed() -> None:
            if reduces:
                self.inner.there_and_back(size_bytes, lambda: self._reduce(size_bytes, dispose))
            else:
                dispose()

        self.outer.move(1, size_bytes, landed)

    def _reduce(self, size_bytes: int, done: Event) -> None:
        self.reductions.append((size_bytes, done))
        if len(self.reductions) == 1:
            self._start_reduction()
        self.outer.go_on(0)

    def _start_reduction(self) -> None:
        size_bytes, _ = self.reductions[0]
        takes_ns = size_bytes // 100 * self.bus.reduction_ns_per_100_bytes + REDUCTION_START_NS
        self.clock.timer(self.rank, self.clock.now_ps + takes_ns * PS_PER_NS, self._reduced)

    def _reduced(self) -> None:
        self.reductions.popleft()[1]()
        if self.reductions:
            self._start_reduction()
        self.outer.go_on(0)


class BusEndpoint:
    """Operations that share their rank's bus; an `Endpoint`."""

    def __init__(self, clock: Clock, bus: Bus) -> None:
        self.clock, self.bus = clock, bus
        self._ranks: dict[int, _RankBus] = {}

    def operate(self, rank: int, operation: Operation, done: Event) -> None:
        """See `Endpoint`. A reduction's memory traffic comes after the moves."""
        buses = self._ranks.get(rank)
        if buses is None:
            buses = self._ranks[rank] = _RankBus(self.clock, rank, self.bus)
        size_bytes, role, _, reduces, reduction_ps = operation
        if role == OUTBOUND:
            buses.send(size_bytes, done)
            return
        ended = done
        if reduces:
            ended = lambda: self.clock.timer(rank, self.clock.now_ps + reduction_ps, done)  # noqa: E731
        buses.receive(size_bytes, reduces=reduces, sent_back=role == SENT_BACK, done=ended)
