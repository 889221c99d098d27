"""Driver of the replay loop: interpreted or compiled, optionally coupled to a network or watched."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np

from chakrasim.replay.engine.coupled import CoupledNetwork
from chakrasim.replay.engine.kernel import (
    ASKED,
    ASKING,
    ENDED,
    HORIZON,
    NEVER_PS,
    NO_MARK,
    NOW_PS,
    ORDERED,
    QUEUED,
    SEQUENCE,
    State,
    advance,
)
from chakrasim.traces.graph import Ints
from chakrasim.traces.shared import jit
from chakrasim.traces.units import beyond_time

Loop = Callable[[State, int, int, bool], int]
"""`kernel.advance`, interpreted or compiled."""

COMPILE_FROM_NODES = 200_000
"""Below this an interpreted run ends before numba and its cached code are loaded (half a second)."""

WITH_NUMBA_FROM_NODES = 20_000
"""The same where something else has loaded numba."""


def compiles(node_count: int) -> bool:
    """True if it pays to compile the loop for so many nodes."""
    least = WITH_NUMBA_FROM_NODES if jit.is_loaded() else COMPILE_FROM_NODES
    return node_count >= least and not jit.is_off()


@cache
def compiled() -> Loop:
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
    network: CoupledNetwork | None = None,
    one_by_one: bool = False,
    is_compiled: bool | None = None,
    watch: Watch | None = None,
) -> tuple[Ints, Ints]:
    """Replay to the end and return the starts and ends of all N nodes, int64 ps; -1 is never.

    `network` carries the nodes whose duration is -1; for `one_by_one` see `kernel.advance`. By default the
    loop is compiled if that pays. `watch` may look on where no network is and nodes end together. `state`
    holds arrays, and isn't to be used again.
    """
    node_count = len(state.roles)
    may_compile = is_compiled is None and not jit.is_off()
    if is_compiled is None:
        is_compiled = compiles(node_count) and watch is None
    if jit.is_off():
        is_compiled = False
    arrays = state
    loop, state = _arranged(state, is_compiled=is_compiled, is_watched=watch is not None)
    if not is_compiled and watch is not None:
        arrays = State(*(np.asarray(column) for column in state))
    counters = state.counters

    tick_ps = -1
    while True:
        # The loop ends a tick that it has begun, or was given nodes of, before the network goes on with it.
        horizon_ps = max(network.next_ps(_next_own_ps(state)), tick_ps + 1) if network else NEVER_PS
        mark = NO_MARK if watch is None else watch.mark
        reason = loop(state, horizon_ps, mark, one_by_one)
        if reason == ASKING:
            now_ps = tick_ps = int(counters[NOW_PS])
            for i in range(counters[ASKED]):
                assert network is not None, "a node without a duration"
                network.start(now_ps, int(state.asked_events[i]), int(state.asked_sequences[i]))
        elif network and network.next_ps(_next_own_ps(state)) < NEVER_PS:
            tick_ps = _queue(state, _next_ended(network, _next_own_ps(state)))
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
    if counters[QUEUED] or (network and network.next_ps(NEVER_PS) > NEVER_PS):
        # A single cost is far below NEVER_PS, so that times don't overflow before they are found here.
        raise beyond_time(NEVER_PS)
    return np.array(state.starts_ps, dtype=np.int64), np.array(state.ends_ps, dtype=np.int64)


def _arranged(state: State, *, is_compiled: bool, is_watched: bool) -> tuple[Loop, State]:
    """The loop, and the state in the form that it is fastest on."""
    if is_compiled:
        return compiled(), state
    if is_watched:
        # Slower than lists by half, but the watch sees, and changes, the arrays themselves.
        return advance, State(*(np.ascontiguousarray(column).data for column in state))
    return advance, State(*(column.tolist() for column in state))


def _next_ended(network: CoupledNetwork, own_ps: int) -> list[tuple[int, int]]:
    """Nodes that the network ends next, (time_ps, event) each; none if the loop's own next event is first.

    A network that can't look ahead goes no further than that.
    """
    ended: list[tuple[int, int]] = []
    while not ended and (next_ps := network.next_ps(own_ps)) <= own_ps and next_ps < NEVER_PS:
        ended = network.advance(next_ps)
    return ended


def _queue(state: State, ended: list[tuple[int, int]]) -> int:
    """Queue nodes that the network has ended, as (time_ps, event); returns their time, -1 without any."""
    counters, time_ps = state.counters, -1
    for time_ps, event in ended:
        at, sequence = counters[QUEUED], counters[SEQUENCE]
        state.queue_ps[at], state.queue_sequences[at] = time_ps, sequence
        state.queue_events[at] = event
        counters[QUEUED], counters[SEQUENCE] = at + 1, sequence + 1
    return time_ps


def _next_own_ps(state: State) -> int:
    """Time of the loop's next event, of those that it knows without the network; NEVER_PS without any."""
    ordered, queued = state.counters[ORDERED], state.counters[QUEUED]
    if ordered == queued:
        return int(state.queue_ps[0]) if queued else NEVER_PS
    # Events behind the heap haven't risen to their places yet.
    first = state.queue_ps[0] if ordered else NEVER_PS
    return min((int(first), *(int(state.queue_ps[at]) for at in range(ordered, queued))))
