"""What a rank does between its memory and the network before and after each message."""

from __future__ import annotations

from typing import Protocol

from chakrasim.replay.network.clock import Clock, Event

OUTBOUND, INBOUND, SENT_BACK = 0, 1, 2
"""Roles of an operation: from memory to the network; from the network; the same and out again."""


class Endpoint(Protocol):
    """Carries out operations of ranks."""

    def operate(
        self, rank: int, size_bytes: int, role: int, operation_ps: int, reduction_ps: int, done: Event
    ) -> None:
        """Begin an operation; `reduction_ps` is the part of it that adds up what came, 0 for none."""


class PlainEndpoint:
    """Operations that take their time and don't disturb each other."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def operate(
        self, rank: int, size_bytes: int, role: int, operation_ps: int, reduction_ps: int, done: Event
    ) -> None:
        """See `Endpoint`."""
        self.clock.timer(rank, self.clock.now_ps + operation_ps, done)
