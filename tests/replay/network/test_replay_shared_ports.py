"""Messages that share ports. Each alone drains in 100 ps and lands 10 ps later, unless said otherwise."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import comp, durations, rank, recv, send

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.engine.kernel import NEVER_PS, SEND
from chakrasim.replay.engine.program import build_program
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.network.coupled import NodeNetwork
from chakrasim.replay.network.shared_ports import SharedPorts
from chakrasim.replay.transport.fair_share import FairShare
from chakrasim.traces import CommKind, GraphBuilder, Workload
from chakrasim.traces.units import PS_PER_S


def machine(drain_ps: int = 100) -> Machine:
    """Ten ranks that are joined in pairs; messages of 500 bytes drain in so long."""
    dimension = Dimension("d", "fully_connected", 10, 500 * PS_PER_S / drain_ps, 10)
    return Machine("test", "nowhere", None, (dimension,), dict.fromkeys(CommKind, ("ring",)))


def landings(*messages: tuple[int, int, int], size_bytes: int = 500) -> list[int]:
    """When each of (start, source, destination) lands; starts must ascend."""
    clock = Clock()
    network = FairShare(clock, machine())
    landed: dict[int, int] = {}

    def until(time_ps: int) -> None:
        while (next_ps := network.next_ps(time_ps)) <= time_ps and next_ps < NEVER_PS:
            clock.now_ps = next_ps
            network.advance(next_ps)

    for number, (start_ps, source, destination) in enumerate(messages):
        until(start_ps)
        clock.now_ps = start_ps

        def arrived(number: int = number) -> None:
            landed[number] = clock.now_ps

        network.send(source, destination, size_bytes, 0, arrived)
    until(NEVER_PS)
    return [landed[number] for number in range(len(messages))]


def test_a_message_alone_takes_its_analytical_time() -> None:
    assert landings((5, 0, 1)) == [115]


def test_two_messages_leaving_one_rank_take_twice_as_long() -> None:
    # Half the rate each: drained at 200.
    assert landings((0, 0, 1), (0, 0, 2)) == [210, 210]


def test_three_messages_entering_one_rank_take_three_times_as_long() -> None:
    assert landings((0, 1, 0), (0, 2, 0), (0, 3, 0)) == [310, 310, 310]


def test_sends_and_receives_of_one_rank_do_not_disturb_each_other() -> None:
    assert landings((0, 0, 1), (0, 1, 0)) == [110, 110]


def test_a_late_joiner_slows_the_first_and_is_then_alone() -> None:
    # At 60 the first has 40 left; at half rate it drains at 140. By then the second has drained 40; the
    # other 60 take it to 200.
    assert landings((0, 0, 1), (60, 0, 2)) == [150, 210]


def test_a_message_goes_at_the_rate_of_its_busier_end() -> None:
    # 0→1 and 0→2 share the port out of 0; 0→3, too. All three at a third: drained at 300. 4→3 shares the
    # port into 3 with 0→3 alone: half rate, drained at 200, when 0→3 stays at a third.
    assert landings((0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 4, 3)) == [310, 310, 310, 210]


def test_messages_without_bytes_only_have_latency() -> None:
    assert landings((0, 0, 1), (0, 0, 2), size_bytes=0) == [10, 10]


def replay(workload: Workload, *, is_shared: bool, is_compiled: bool = False) -> list[int]:
    """Ends of all nodes; messages drain in 20 ps and land 10 ps later."""
    program = build_program(workload)
    network = None
    costs_ps = durations(program)
    if is_shared:
        network = NodeNetwork(program, machine(20), SharedPorts())
        costs_ps[program.roles == SEND] = -1
    state = program.state(costs_ps, np.empty(0, dtype=np.int64))
    ends_ps = run(state, network=network, is_compiled=is_compiled)[1]
    return ends_ps[: len(program)].tolist()


def test_the_loop_and_the_network_take_turns() -> None:
    # Two sends on lanes of their own leave rank 0 at 0 and 10. At 10 the first has 10 left, drains at 30
    # and lands at 40. By then the second has drained 10, drains at 40 and lands at 50. Compute on rank 1
    # follows each.
    def sender(b: GraphBuilder) -> None:
        send(b, 1, lane="a")
        send(b, 1, comp(b, 10), lane="b", tag=1)

    def receiver(b: GraphBuilder) -> None:
        comp(b, 3, recv(b, 0))
        comp(b, 3, recv(b, 0, tag=1))

    workload = Workload.from_graphs([rank(0, sender), rank(1, receiver)])
    assert replay(workload, is_shared=True) == [40, 10, 50, 40, 43, 50, 53]
    assert replay(workload, is_shared=True, is_compiled=True) == [40, 10, 50, 40, 43, 50, 53]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=6))
def test_messages_that_never_meet_replay_as_without_sharing(steps: list[tuple[int, int]]) -> None:
    # One lane of communication a rank: the messages from 0 to 1 follow each other.
    def sender(b: GraphBuilder) -> None:
        for before_ps, _ in steps:
            send(b, 1, comp(b, before_ps))

    def receiver(b: GraphBuilder) -> None:
        for _, before_ps in steps:
            recv(b, 0, comp(b, before_ps))

    workload = Workload.from_graphs([rank(0, sender), rank(1, receiver)])
    assert replay(workload, is_shared=True) == replay(workload, is_shared=False)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)
)
def test_sharing_never_speeds_a_message_up_and_ports_never_carry_too_much(
    messages: list[tuple[int, int, int]],
) -> None:
    messages = sorted((start, source, 5 + destination) for start, source, destination in messages)
    ends = landings(*messages)
    assert all(end >= start + 110 for end, (start, _, _) in zip(ends, messages, strict=True))
    for port in (1, 2):
        for number in range(9):
            chosen = [i for i, message in enumerate(messages) if message[port] == number]
            if chosen:
                busy_ps = max(ends[i] for i in chosen) - 10 - min(messages[i][0] for i in chosen)
                # Ends are rounded to a ps, once for each change of rate.
                assert busy_ps >= 100 * len(chosen) - 2 * len(messages)
