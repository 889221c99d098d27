"""Messages that share ports. Each alone drains in 100 ps and lands 10 ps later, unless said otherwise."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import comp, durations, rank, recv, send

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import NEVER_PS, SEND
from chakrasim.replay.engine.program import lower
from chakrasim.replay.network.shared_ports import Message, SharedPorts
from chakrasim.traces import GraphBuilder, Workload


def landings(*messages: tuple[int, int, int], drain_ps: int = 100) -> list[int]:
    """When each of (start, source, destination) lands; starts must ascend."""
    network = SharedPorts({i: Message(m[1], m[2], drain_ps, 10) for i, m in enumerate(messages)})
    landed: dict[int, int] = {}

    def until(time_ps: int) -> None:
        while network.next_ps() <= time_ps and network.next_ps() < NEVER_PS:
            for at_ps, event in network.advance(network.next_ps()):
                landed[event] = at_ps

    for i, (start_ps, _, _) in enumerate(messages):
        until(start_ps)
        network.start(start_ps, i, i)
    until(NEVER_PS)
    return [landed[i] for i in range(len(messages))]


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
    assert landings((0, 0, 1), (0, 0, 2), drain_ps=0) == [10, 10]


def replay(workload: Workload, *, is_shared: bool, is_compiled: bool = False) -> list[int]:
    """Ends of all nodes; messages drain in 20 ps and land 10 ps later."""
    program = lower(workload)
    network = None
    costs_ps = durations(program)
    if is_shared:
        sends = np.flatnonzero(program.roles == SEND).tolist()
        peers = [int(workload.graphs[r].peers[row]) for r, row in map(program.locate, sends)]
        network = SharedPorts(
            {n: Message(int(program.ranks[n]), p, 20, 10) for n, p in zip(sends, peers, strict=True)}
        )
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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)
)
def test_sharing_never_speeds_a_message_up_and_ports_never_carry_too_much(
    messages: list[tuple[int, int, int]],
) -> None:
    messages = sorted(messages)
    ends = landings(*messages)
    assert all(end >= start + 110 for end, (start, _, _) in zip(ends, messages, strict=True))
    for port in (1, 2):
        for number in range(4):
            chosen = [i for i, message in enumerate(messages) if message[port] == number]
            if chosen:
                busy_ps = max(ends[i] for i in chosen) - 10 - min(messages[i][0] for i in chosen)
                # Ends are rounded to a ps, once for each change of rate.
                assert busy_ps >= 100 * len(chosen) - 2 * len(messages)
