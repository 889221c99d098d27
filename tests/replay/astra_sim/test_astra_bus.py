"""The shared bus of a rank: cases worked by hand, for the model and for the slow referee.

In all of them L is 5 ns, o 10 ns, g 100 ns and every move one byte, so that a move over an idle bus leaves
its side after 10 ns and lands after 25 ns, and a side that has just sent waits until 100 ns after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import astra_reference_bus as referee
import pytest

from chakrasim.replay.collectives.execution.bus import BusEndpoint
from chakrasim.replay.collectives.execution.endpoint import INBOUND, OUTBOUND, SENT_BACK, Operation
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.machine.scheduling import Bus
from chakrasim.traces.units import PS_PER_NS

RANK = 0


def by_the_model(roles: Sequence[int]) -> list[int]:
    clock = Clock()
    endpoint = BusEndpoint(clock, Bus(5, 10, 100, 0, 0))
    ends_ns = [-1] * len(roles)

    def done(index: int) -> None:
        ends_ns[index] = clock.now_ps // PS_PER_NS

    for index, role in enumerate(roles):
        endpoint.operate(RANK, Operation(size_bytes=1, role=role), partial(done, index))
    clock.run()
    return ends_ns


def by_the_referee(roles: Sequence[int]) -> list[int]:
    clock = referee.Clock()
    system = {"L": 5, "o": 10, "g": 100, "G": 0, "local-reduction-delay": 0}
    bus = referee.build_bus(system, lambda: clock.now, partial(clock.timer, RANK))
    ends_ns = [-1] * len(roles)

    def done(index: int) -> None:
        ends_ns[index] = clock.now

    for index, role in enumerate(roles):
        if role == OUTBOUND:
            bus.outbound(1, partial(done, index))
        else:
            bus.inbound(1, False, role == SENT_BACK, partial(done, index))
    clock.run()
    return ends_ns


@pytest.mark.parametrize("ends_ns", [by_the_model, by_the_referee])
class TestBothSides:
    def test_a_lone_move_passes_both_buses(self, ends_ns) -> None:
        assert ends_ns([OUTBOUND]) == [50]
        assert ends_ns([INBOUND]) == [50]

    def test_a_message_to_memory_keeps_no_gap_to_one_that_memory_sent(self, ends_ns) -> None:
        # 0: the inbound one leaves the adapter, the outbound one leaves memory; both land at 25.
        # 25: the first waits for the inner bus, which receives until the second has landed there; then both
        # go on, the first to memory, the second to the adapter, neither after a send of the same side.
        assert ends_ns([INBOUND, OUTBOUND]) == [50, 50]

    def test_a_message_to_memory_waits_while_the_inner_bus_receives(self, ends_ns) -> None:
        # 0: the inbound one leaves the adapter, the first outbound one leaves memory.
        # 10: memory has sent; the second outbound one is to leave at 110 and land at 125.
        # 25: the first outbound one goes on to the adapter, there at 50; the inbound one waits.
        # 125: the second goes on (90 ns after the first has left the outer bus's side: 10 ns more for the
        # gap, as many as its overhead), and the inbound one goes to memory. Both land at 150.
        assert ends_ns([INBOUND, OUTBOUND, OUTBOUND]) == [150, 50, 150]

    def test_a_message_that_is_sent_back_queues_behind_what_memory_sends(self, ends_ns) -> None:
        # 0: the inbound one leaves the adapter and lands at 25; the outbound one leaves memory at 10.
        # 25: the outbound one goes on, there at 50; the inbound one goes to memory, there at 50.
        # 50: memory sends it back; it sent at 10 but has received since, so without a gap: landed at 75.
        # 75: the outer bus's side sent until 35, 40 ns ago: it starts 60 ns later and lands 15 ns after that.
        assert ends_ns([SENT_BACK, OUTBOUND]) == [150, 50]
