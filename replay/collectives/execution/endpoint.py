"""Endpoint operations: the work of a rank between its memory and the network for each message."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from chakrasim.replay.engine.event_queue import Clock, Event

OUTBOUND, INBOUND, SENT_BACK = 0, 1, 2
"""Roles of an operation: from memory to the network; from the network; the same and out again."""


class Operation(NamedTuple):
    """One operation of a rank's endpoint."""

    size_bytes: int
    role: int = OUTBOUND
    takes_ps: int = 0
    """Duration on an idle rank, its reduction included."""
    reduces: bool = False
    """It adds the received bytes to those that are there."""
    reduction_ps: int = 0
    """Duration of the memory traffic of that reduction."""


class Endpoint(Protocol):
    """Carries out operations of ranks."""

    def operate(self, rank: int, operation: Operation, done: Event) -> None:
        """Begin an operation; `done` runs at its end."""


class PlainEndpoint:
    """Operations that take their time and don't disturb each other."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def operate(self, rank: int, operation: Operation, done: Event) -> None:
        """See `Endpoint`. A reduction comes after the rest."""
        clock, end_ps = self.clock, self.clock.now_ps + operation.takes_ps
        if operation.reduces:
            begin_ps = end_ps - operation.reduction_ps
            clock.timer(rank, begin_ps, lambda: clock.timer(rank, end_ps, done))
        else:
            clock.timer(rank, end_ps, done)
