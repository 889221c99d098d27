"""The replay loop: one function over columns, run as it stands or compiled by numba.

`advance` is plain Python. Small workloads run it interpreted on lists, large ones compiled on arrays, with
results that are the same to the bit. numba's cache doesn't notice an edit in another file, so everything
that is compiled stands here. `run` drives it and answers what it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from chakrasim.replay.shared_network import SharedNetwork
from chakrasim.traces import jit
from chakrasim.traces.graph import Ints

COMPILE_FROM_NODES = 200_000
"""Below this an interpreted run ends before numba and its cached code are loaded (half a second)."""

WITH_NUMBA_FROM_NODES = 20_000
"""The same where something else has loaded numba."""

NEVER_PS = 2**62
"""Later than any event."""

PLAIN, COLLECTIVE, SEND, RECEIVE, EAGER = 0, 1, 2, 3, 4
"""Roles: what ends a node. Its duration; its collective; its own landing; its partner's landing; its
duration, though others of its collective wait for it."""

OWN_PS = -2
"""Cost of a collective whose members take their own durations after the last arrival."""

FINISHED, ASKING, HORIZON = 0, 1, 2
"""Why `advance` returned: no events are left; `asked` holds questions; the next event lies at or past the
horizon, or the marked node has ended."""

NO_MARK = -1

SEQUENCE, ENDED, ASKED, NOW_PS, QUEUED, ORDERED = 0, 1, 2, 3, 4, 5
"""Places in `State.counters`."""


class State(NamedTuple):
    """Everything the loop reads and writes; numpy arrays when compiled, lists when interpreted.

    N nodes of all ranks one after the other, the last R of them one `begin` a rank; C collectives, L lanes.
    An event is a node that ends (its number) or a collective that ends (N + its number).
    """

    child_offsets: Any
    """int64[N + 1]: the children of node i are `children[child_offsets[i]:child_offsets[i + 1]]`."""
    children: Any
    """int32[m]"""
    parents_left: Any
    """int32[N]: parents that haven't ended."""
    lanes: Any
    """int32[N]: the lane a node occupies, -1 for none."""
    roles: Any
    """int8[N]"""
    partners: Any
    """int64[N]: the collective of a member, the receive of a send, the send of a receive; -1 for none."""
    durations_ps: Any
    """int64[N]: of PLAIN and EAGER nodes and of sends; -1 asks for the landing of a send. Of members of a
    collective of cost OWN_PS: from its last arrival to their own end."""
    member_offsets: Any
    """int64[C + 1]"""
    members: Any
    """int32: nodes of each collective, in order of rank."""
    arrivals_left: Any
    """int32[C]: members that haven't started."""
    costs_ps: Any
    """int64[C]: from the last arrival to the end; -1 asks; or OWN_PS."""
    ready_offsets: Any
    """int64[L + 1]: where in `ready` the heap of each lane lies."""
    ready: Any
    """int32: per lane a binary heap of the nodes that wait for it, lowest first."""
    ready_counts: Any
    """int32[L]"""
    lane_is_busy: Any
    """int8[L]"""
    touched: Any
    """int32: scratch, lanes that an event freed or gave work."""
    starting: Any
    """int64: scratch, nodes that an event starts."""
    asked_events: Any
    """int64: events whose time `run` has to say, `counters[ASKED]` of them."""
    asked_sequences: Any
    """int64: the sequence numbers reserved for them."""
    queue_ps: Any
    """int64: times of the events to come. With the two columns after it a binary heap by (time, sequence) in
    its first `counters[ORDERED]` entries; those up to `counters[QUEUED]` were appended since."""
    queue_sequences: Any
    """int64"""
    queue_events: Any
    """int64"""
    counters: Any
    """int64[6]: see SEQUENCE, ENDED, ASKED, NOW_PS, QUEUED, ORDERED."""
    starts_ps: Any
    """int64[N], -1 until a node starts."""
    ends_ps: Any
    """int64[N], -1 until a node ends."""


def advance(state: State, horizon_ps: int, mark: int) -> int:
    """Process events in the order of (time, sequence) until one of the reasons above to return.

    `mark` is a node after whose end to return, or NO_MARK.

    Each end of a node, one by one: free its lane; count down its children; those without parents left join
    their lane's heap, or start if they occupy none; lanes that are free take their lowest node. What starts
    at one event starts in ascending order.
    """
    child_offsets, children, parents_left = state.child_offsets, state.children, state.parents_left
    lanes, roles, partners = state.lanes, state.roles, state.partners
    durations_ps, costs_ps = state.durations_ps, state.costs_ps
    member_offsets, members = state.member_offsets, state.members
    arrivals_left = state.arrivals_left
    ready_offsets, ready, ready_counts = state.ready_offsets, state.ready, state.ready_counts
    lane_is_busy, touched, starting = state.lane_is_busy, state.touched, state.starting
    asked_events, asked_sequences = state.asked_events, state.asked_sequences
    queue_ps, queue_sequences, queue_events = state.queue_ps, state.queue_sequences, state.queue_events
    counters, starts_ps, ends_ps = state.counters, state.starts_ps, state.ends_ps
    node_count = len(roles)
    sequence, ended, asked, now_ps = counters[SEQUENCE], counters[ENDED], 0, counters[NOW_PS]
    queued, ordered = counters[QUEUED], counters[ORDERED]
    while True:
        # Events that were appended rise to their places in the heap.
        while ordered < queued:
            hole = ordered
            new_ps, new_sequence, event = queue_ps[hole], queue_sequences[hole], queue_events[hole]
            while hole > 0:
                up = (hole - 1) >> 1
                up_ps = queue_ps[up]
                if up_ps < new_ps or (up_ps == new_ps and queue_sequences[up] < new_sequence):
                    break
                queue_ps[hole], queue_sequences[hole] = up_ps, queue_sequences[up]
                queue_events[hole] = queue_events[up]
                hole = up
            queue_ps[hole], queue_sequences[hole], queue_events[hole] = new_ps, new_sequence, event
            ordered += 1
        if asked > 0:
            reason = ASKING
            break
        if queued == 0:
            reason = FINISHED
            break
        if queue_ps[0] >= horizon_ps:
            reason = HORIZON
            break
        # The first event leaves the heap; the last one sinks from the top to its place.
        now_ps, event = queue_ps[0], queue_events[0]
        queued -= 1
        ordered = queued
        last_ps, last_sequence = queue_ps[queued], queue_sequences[queued]
        hole = 0
        down = 1
        while down < queued:
            if down + 1 < queued and (
                queue_ps[down + 1] < queue_ps[down]
                or (
                    queue_ps[down + 1] == queue_ps[down] and queue_sequences[down + 1] < queue_sequences[down]
                )
            ):
                down += 1
            down_ps = queue_ps[down]
            if last_ps < down_ps or (last_ps == down_ps and last_sequence < queue_sequences[down]):
                break
            queue_ps[hole], queue_sequences[hole] = down_ps, queue_sequences[down]
            queue_events[hole] = queue_events[down]
            hole = down
            down = 2 * hole + 1
        queue_ps[hole], queue_sequences[hole] = last_ps, last_sequence
        queue_events[hole] = queue_events[queued]

        first, last = 0, 1
        if event >= node_count:
            first, last = member_offsets[event - node_count], member_offsets[event - node_count + 1]
        for position in range(first, last):
            node = members[position] if event >= node_count else event
            ends_ps[node] = now_ps
            ended += 1
            if node == mark:
                horizon_ps = 0
            touched_count = 0
            starting_count = 0
            lane = lanes[node]
            if lane >= 0:
                lane_is_busy[lane] = 0
                if ready_counts[lane] > 0:
                    touched[0] = lane
                    touched_count = 1
            if roles[node] == SEND:
                receive = partners[node]
                if receive >= 0 and starts_ps[receive] >= 0:
                    queue_ps[queued], queue_sequences[queued] = now_ps, sequence
                    queue_events[queued] = receive
                    queued += 1
                    sequence += 1
            for edge in range(child_offsets[node], child_offsets[node + 1]):
                child = children[edge]
                left = parents_left[child] - 1
                parents_left[child] = left
                if left > 0:
                    continue
                lane = lanes[child]
                if lane < 0:
                    starting[starting_count] = child
                    starting_count += 1
                    continue
                hole = ready_counts[lane]
                ready_counts[lane] = hole + 1
                # A free lane has nothing waiting between events, so each lane is noted once.
                if hole == 0 and not lane_is_busy[lane]:
                    touched[touched_count] = lane
                    touched_count += 1
                base = ready_offsets[lane]
                while hole > 0:
                    up = (hole - 1) >> 1
                    if ready[base + up] < child:
                        break
                    ready[base + hole] = ready[base + up]
                    hole = up
                ready[base + hole] = child
            for i in range(touched_count):
                lane = touched[i]
                base = ready_offsets[lane]
                count = ready_counts[lane] - 1
                ready_counts[lane] = count
                lane_is_busy[lane] = 1
                lowest = ready[base]
                moved = ready[base + count]
                hole = 0
                down = 1
                while down < count:
                    if down + 1 < count and ready[base + down + 1] < ready[base + down]:
                        down += 1
                    if moved < ready[base + down]:
                        break
                    ready[base + hole] = ready[base + down]
                    hole = down
                    down = 2 * hole + 1
                ready[base + hole] = moved
                at = starting_count
                while at > 0 and starting[at - 1] > lowest:
                    starting[at] = starting[at - 1]
                    at -= 1
                starting[at] = lowest
                starting_count += 1
            for i in range(starting_count):
                starter = starting[i]
                starts_ps[starter] = now_ps
                role = roles[starter]
                if role == RECEIVE:
                    send = partners[starter]
                    if send >= 0 and ends_ps[send] >= 0:
                        queue_ps[queued], queue_sequences[queued] = now_ps, sequence
                        queue_events[queued] = starter
                        queued += 1
                        sequence += 1
                    continue
                what = starter
                cost_ps = durations_ps[starter]
                if role in (COLLECTIVE, EAGER):
                    collective = partners[starter]
                    arrivals_left[collective] -= 1
                    if role == EAGER:
                        queue_ps[queued], queue_sequences[queued] = now_ps + cost_ps, sequence
                        queue_events[queued] = starter
                        queued += 1
                        sequence += 1
                    if arrivals_left[collective] > 0:
                        continue
                    cost_ps = costs_ps[collective]
                    if cost_ps == OWN_PS:
                        for place in range(member_offsets[collective], member_offsets[collective + 1]):
                            member = members[place]
                            if roles[member] == COLLECTIVE:
                                queue_ps[queued] = now_ps + durations_ps[member]
                                queue_sequences[queued], queue_events[queued] = sequence, member
                                queued += 1
                                sequence += 1
                        continue
                    what = node_count + collective
                if cost_ps >= 0:
                    queue_ps[queued], queue_sequences[queued] = now_ps + cost_ps, sequence
                    queue_events[queued] = what
                    queued += 1
                else:
                    asked_events[asked] = what
                    asked_sequences[asked] = sequence
                    asked += 1
                sequence += 1
    counters[SEQUENCE], counters[ENDED], counters[ASKED] = sequence, ended, asked
    counters[NOW_PS], counters[QUEUED], counters[ORDERED] = now_ps, queued, ordered
    return reason


def compiles(node_count: int) -> bool:
    """Whether it pays to compile the loop for so many nodes."""
    least = WITH_NUMBA_FROM_NODES if jit.is_loaded() else COMPILE_FROM_NODES
    return node_count >= least and not jit.is_off()


@cache
def compiled() -> Callable[[State, int, int], int]:
    """`advance` compiled by numba."""
    loop = jit.compiled(advance)
    jit.announce(loop, "the replay loop")
    return loop


class Watch(Protocol):
    """Stops the loop at nodes of its choice and looks at the state."""

    mark: int
    """The next one, or NO_MARK."""
    skipped: int
    """Nodes that it has brought to their ends itself."""

    def look(self, state: State) -> None:
        """The mark has ended: choose another. May change the state, which are arrays."""


def run(
    state: State,
    *,
    network: SharedNetwork | None = None,
    cost_collective: Callable[[int, int], int] | None = None,
    is_compiled: bool | None = None,
    watch: Watch | None = None,
) -> tuple[Ints, Ints]:
    """Replay to the end and return the starts and ends of all N nodes, int64 ps; -1 is never.

    `network` carries the nodes whose duration is -1; `cost_collective(collective, last_arrival_ps)` says in
    ps how long a collective of cost -1 takes. By default the loop is compiled if that pays. `watch` may look
    on where no network is. `state` holds arrays, and isn't to be used again.
    """
    node_count = len(state.roles)
    may_compile = is_compiled is None and not jit.is_off()
    if is_compiled is None:
        is_compiled = compiles(node_count) and watch is None
    if jit.is_off():
        is_compiled = False
    loop: Callable[[State, int, int], int] = advance
    arrays = state
    if is_compiled:
        loop = compiled()
    elif watch is not None:
        # Slower than lists by half, but the watch sees, and changes, the arrays themselves.
        arrays = State(*(np.ascontiguousarray(column) for column in state))
        state = State(*(memoryview(column) for column in arrays))
    else:
        state = State(*(column.tolist() for column in state))
    counters = state.counters

    def answer(time_ps: int, sequence: int, event: int) -> None:
        at = counters[QUEUED]
        state.queue_ps[at], state.queue_sequences[at], state.queue_events[at] = time_ps, sequence, event
        counters[QUEUED] += 1

    tick_ps = -1
    while True:
        # The loop ends a tick that it has begun, or was given nodes of, before the network goes on with it.
        horizon_ps = max(network.next_ps(), tick_ps + 1) if network else NEVER_PS
        reason = loop(state, horizon_ps, NO_MARK if watch is None else watch.mark)
        if reason == ASKING:
            now_ps = tick_ps = int(counters[NOW_PS])
            for i in range(counters[ASKED]):
                event, sequence = int(state.asked_events[i]), int(state.asked_sequences[i])
                if event >= node_count:
                    assert cost_collective is not None, "a collective without a cost"
                    answer(now_ps + cost_collective(event - node_count, now_ps), sequence, event)
                else:
                    assert network is not None, "a node without a duration"
                    network.start(now_ps, event, sequence)
        elif network and (next_ps := network.next_ps()) < NEVER_PS:
            tick_ps = -1
            for time_ps, event in network.advance(next_ps):
                answer(time_ps, counters[SEQUENCE], event)
                counters[SEQUENCE] += 1
                tick_ps = time_ps
        elif watch is not None and reason == HORIZON:
            watch.look(arrays)
            left = node_count - counters[ENDED]
            is_slow = watch.mark == NO_MARK or counters[ENDED] - watch.skipped > COMPILE_FROM_NODES
            if may_compile and is_slow and compiles(left):
                # What repeats has been skipped, or doesn't repeat in time.
                loop, state, counters, watch = compiled(), arrays, arrays.counters, None
            elif not is_compiled and watch.mark == NO_MARK and 4 * left > node_count:
                state, watch = State(*(column.tolist() for column in arrays)), None
                counters = state.counters
        else:
            break
    return np.array(state.starts_ps, dtype=np.int64), np.array(state.ends_ps, dtype=np.int64)
