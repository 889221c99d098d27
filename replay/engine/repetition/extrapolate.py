"""Iterations that repeat in time are replayed until they do, and the rest of them is copied.

`periods.py` finds rows that repeat. While the loop runs, it is stopped a few times at the same node of
different repetitions. Once everything that matters to the future is what it was some repetitions before, but
for the time and for the number of the repetition, the future is, too: by induction over the events, as long
as they only touch rows that repeat. So starts and ends of the repetitions to come are those of the last one
and a multiple of the time that it took, to the picosecond, and the loop goes on behind them.

What matters is the queue, and of every node how many parents it waits for and whether it has
started and ended: lanes, what waits for them, and arrivals at collectives follow from that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.event_loop import compiles
from chakrasim.replay.engine.kernel import (
    ENDED,
    NO_MARK,
    NOW_PS,
    PLAIN,
    QUEUED,
    State,
)
from chakrasim.replay.engine.repetition.periods import (
    MIN_NODES,
    MIN_PERIODS,
    Periods,
    distinct,
    find_periods,
    is_member,
    members_of,
)
from chakrasim.traces.graph import Ints, Rows
from chakrasim.traces.shared import jit

log = logging.getLogger(__name__)

MIN_STRIDE_NODES = 1000
"""Nodes between two looks at the state: a look takes as long as a hundred."""
LOOKS = 12
"""Number of looks that are kept."""
STARTED, HAS_ENDED, PARENT = 2, 1, 4


@dataclass(frozen=True, eq=False)
class Look:
    """The state at the end of a marked node."""

    mark: int
    now_ps: int
    queue: tuple[bytes, ...]
    """Events to come relative to the time and to the repetition, sorted."""
    progress: Rows | None = None
    """int32[N + R]: of each node STARTED, HAS_ENDED, and PARENT times the parents that haven't ended."""


class Repetition:
    """Watches a run for states that repeat, and skips what follows from them; see `kernel.Watch`."""

    def __init__(self, state: State, leader: int, stretches: Sequence[tuple[int, int, Periods]]) -> None:
        self.mark = NO_MARK
        self.skipped = 0
        """Nodes whose times were copied."""
        self._fixed = state
        self._expected = state.arrivals_left.copy()
        self._leader = leader
        self._stretches = deque(stretches)
        self._periods = stretches[0][2]
        self._length = self._stride = 1
        self._delay = 0
        self._looks: deque[Look] = deque(maxlen=LOOKS)
        self._to_confirm: Look | None = None
        self._origin = 0
        self._begin(state)

    def look(self, state: State) -> None:
        """Compare the state with earlier ones."""
        repetition = (self.mark - self._origin) // self._length
        look = Look(self.mark, int(state.counters[NOW_PS]), self._queue(state, repetition))
        if self._to_confirm is not None:
            before, self._to_confirm = self._to_confirm, None
            if before.queue == look.queue and self._skip(state, before, look):
                self._delay = 0
            else:
                # The queue alone repeats: comparing everything takes long, so the next times come later.
                self._delay = 2 * self._delay + LOOKS
            self._begin(state)
            return
        if self.skipped == 0 and 2 * int(state.counters[ENDED]) > len(self._fixed.roles):
            self.mark = NO_MARK  # too late
            return
        for earlier in reversed(self._looks):
            if earlier.queue == look.queue:
                following = 2 * look.mark - earlier.mark
                if self._try(state, following):
                    self._to_confirm = Look(look.mark, look.now_ps, look.queue, _progress(state))
                    return
        self._looks.append(look)
        if not self._try(state, look.mark + self._stride * self._length):
            self._begin(state)

    def finish(self) -> int:
        """Number of skipped nodes, told to the log."""
        if self.skipped:
            count = int(self._periods.bases[-1])
            log.debug(
                "%s of %s nodes were extrapolated from a state that repeats",
                f"{self.skipped:,}",
                f"{count:,}",
            )
        return self.skipped

    def _try(self, state: State, node: int) -> bool:
        """Mark the node, if it is among what repeats and hasn't ended."""
        if node >= self._stretches[0][1] or state.ends_ps[node] >= 0:
            return False
        self.mark = node
        return True

    def _begin(self, state: State) -> None:
        """Look anew, in one of the stretches that are left: from its first node that hasn't ended, and later
        by the delay."""
        self._looks.clear()
        self.mark = NO_MARK
        while self._stretches:
            first, end, periods = self._stretches.popleft()
            first = _first_waiting(state, first, end)
            self._periods, self._length = periods, int(periods.lengths[self._leader])
            at_once = int(periods.lengths.sum())
            self._stride = max(1, min(MIN_STRIDE_NODES // at_once, (end - first) // self._length // 32))
            delayed = first + self._delay * self._stride * self._length
            delayed = _first_waiting(state, delayed, end)
            # What waits for other ranks may do so for long.
            own = slice(delayed, min(delayed + self._length, end))
            is_steady = (self._fixed.roles[own] == PLAIN) & (state.ends_ps[own] < 0)
            delayed += int(np.argmax(is_steady)) if is_steady.any() else 0
            if delayed + MIN_PERIODS * self._length <= end:
                self._stretches.appendleft((first, end, periods))
                self._origin = self.mark = delayed
                return
            # Behind it, whatever follows.
            self._delay = 0

    def _queue(self, state: State, repetition: int) -> tuple[bytes, ...]:
        """The queue relative to now and to the repetition, whatever the order of what ends at one time."""
        queued = int(state.counters[QUEUED])
        times_ps = state.queue_ps[:queued]
        nodes, is_collective = self._nodes(state.queue_events[:queued])
        nodes = nodes - repetition * np.append(self._periods.lengths, 0)[self._periods.ranks_of(nodes)]
        order = np.lexsort((is_collective, nodes, times_ps))
        columns = times_ps - int(state.counters[NOW_PS]), nodes, is_collective
        return tuple(column[order].tobytes() for column in columns)

    def _nodes(self, events: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """The node of each event, of a collective its first member, and which are collectives."""
        count = len(self._fixed.roles)
        is_collective = events >= count
        nodes = events.copy()
        firsts = self._fixed.member_offsets[events[is_collective] - count]
        nodes[is_collective] = self._fixed.members[firsts]
        return nodes, is_collective

    def _skip(self, state: State, before: Look, after: Look) -> bool:
        """Copy what follows if the states are the same but for the repetition; whether they were."""
        assert before.progress is not None
        fixed, periods = self._fixed, self._periods
        then, now = before.progress, _progress(state)
        repetitions = (after.mark - before.mark) // self._length
        took_ps = after.now_ps - before.now_ps
        everything = np.flatnonzero(then != now)
        is_sink = np.isin(everything, periods.sinks)
        changed, sinks = everything[~is_sink], everything[is_sink]
        reached = self._reached(changed)
        if len(reached) == 0 or reached[-1] >= periods.bases[-1]:
            return False
        ranks = distinct(periods.ranks_of(reached))[0]
        lows = reached[np.searchsorted(reached, periods.bases[ranks])]
        tops = reached[np.searchsorted(reached, periods.bases[ranks + 1]) - 1] + 1
        # What all repetitions lead to must not start on the way.
        counted = then[sinks] - now[sinks]
        if (counted % PARENT != 0).any():
            return False
        times = int(((now[sinks] // PARENT - 1) // (counted // PARENT)).min(initial=len(now)))
        for rank, low, top in zip(ranks.tolist(), lows.tolist(), tops.tolist(), strict=True):
            end, shift = periods.end_of(low), repetitions * int(periods.lengths[rank])
            if end - top < shift:
                return False
            unlike = np.flatnonzero(then[low : end - shift] != now[low + shift : end])
            if len(unlike):
                end = low + shift + int(unlike[0])
            times = min(times, (end - top) // shift)
        if times < 1:
            return False
        for rank, low, top in zip(ranks.tolist(), lows.tolist(), tops.tolist(), strict=True):
            length = int(periods.lengths[rank])
            end = top + times * repetitions * length
            if ((sinks >= low) & (sinks < end)).any() or not _are_alike(fixed, low, end, length, sinks):
                return False
        self._replace_times(state, then, now, changed, repetitions, times, took_ps)
        for rank, low, top in zip(ranks.tolist(), lows.tolist(), tops.tolist(), strict=True):
            # What is `times` shifts later is now as it was here; what was passed, as the first shift's rows.
            shift = repetitions * int(periods.lengths[rank])
            was = now[low:top] // PARENT
            skipped = times * shift
            state.parents_left[low : low + skipped] = np.tile(now[low : low + shift] // PARENT, times)
            state.parents_left[low + skipped : top + skipped] = was
        state.parents_left[sinks] = now[sinks] // PARENT - times * (counted // PARENT)
        self._replace_lanes(state)
        self._replace_events(state, repetitions * times, took_ps * times)
        ended = int(((now[changed] & HAS_ENDED) > (then[changed] & HAS_ENDED)).sum()) * times
        state.counters[ENDED] += ended
        state.counters[NOW_PS] += took_ps * times
        self.skipped += ended
        log.debug("skipped %d x %d repetitions of %d nodes", times, repetitions, self._length)
        return True

    def _reached(self, changed: Ints) -> Ints:
        """Nodes that changed and those whose progress the loop looked at for them, ascending."""
        fixed = self._fixed
        own = changed[(fixed.partners[changed] >= 0) & (fixed.roles[changed] != PLAIN)]
        roles = fixed.roles[own]
        members = members_of(fixed, distinct(fixed.partners[own[is_member(roles)]])[0])
        return distinct(np.concatenate([changed, fixed.partners[own[~is_member(roles)]], members]))[0]

    def _replace_times(
        self, state: State, then: Rows, now: Rows, changed: Ints, repetitions: int, times: int, took_ps: int
    ) -> None:
        periods = self._periods
        repeated = np.arange(1, times + 1, dtype=np.int64)[:, None]
        for column, flag in ((state.starts_ps, STARTED), (state.ends_ps, HAS_ENDED)):
            nodes = changed[(now[changed] & flag) > (then[changed] & flag)]
            ranks = periods.ranks_of(nodes)
            for rank in distinct(ranks)[0].tolist():
                own = nodes[ranks == rank]
                places = own + repeated * (repetitions * int(periods.lengths[rank]))
                column[places] = column[own] + repeated * took_ps

    def _replace_lanes(self, state: State) -> None:
        """Rebuild lane queues and counts of absent members from the nodes that have started."""
        fixed = self._fixed
        has_started = state.starts_ps >= 0
        is_waiting = (state.parents_left == 0) & ~has_started & (fixed.lanes >= 0)
        nodes = np.flatnonzero(is_waiting)
        lanes = fixed.lanes[nodes]
        counts = np.bincount(lanes, minlength=len(fixed.ready_counts))
        nodes = nodes[np.argsort(lanes, kind="stable")]
        state.ready_counts[:] = counts
        first = 0
        for lane in np.flatnonzero(counts).tolist():
            # Ascending nodes are a heap.
            base = fixed.ready_offsets[lane]
            state.ready[base : base + counts[lane]] = nodes[first : first + counts[lane]]
            first += counts[lane]
        arrived = has_started[fixed.members] & is_member(fixed.roles[fixed.members])
        sums = np.concatenate([[0], np.cumsum(arrived)])
        state.arrivals_left[:] = self._expected - np.diff(sums[fixed.member_offsets])

    def _replace_events(self, state: State, repetitions: int, took_ps: int) -> None:
        """The events to come are those of later repetitions."""
        queued, count = int(state.counters[QUEUED]), len(self._fixed.roles)
        nodes, is_collective = self._nodes(state.queue_events[:queued])
        nodes = nodes + repetitions * np.append(self._periods.lengths, 0)[self._periods.ranks_of(nodes)]
        nodes[is_collective] = count + self._fixed.partners[nodes[is_collective]]
        state.queue_events[:queued] = nodes
        state.queue_ps[:queued] += took_ps


def _progress(state: State) -> Rows:
    progress: Rows = np.array(state.parents_left, dtype=np.int32)
    progress *= PARENT
    progress += STARTED * (state.starts_ps >= 0) + HAS_ENDED * (state.ends_ps >= 0)
    return progress


def _first_waiting(state: State, first: int, last: int) -> int:
    """The first node of these that hasn't ended, or `last`."""
    while first < last:
        waiting = np.flatnonzero(state.ends_ps[first : min(first + 4096, last)] < 0)
        if len(waiting):
            return first + int(waiting[0])
        first += 4096
    return last


def _are_alike(state: State, first: int, last: int, length: int, sinks: Ints) -> bool:
    """True if nodes until `last` are exactly as those a period before, but for partners (see `periods.py`).

    Their children are, too, or the same `sinks`.
    """
    early, late = slice(first, last - length), slice(first + length, last)
    if any(
        not np.array_equal(column[early], column[late])
        for column in (state.roles, state.lanes, state.durations_ps)
    ):
        return False
    offsets = state.child_offsets
    counts = np.diff(offsets[first : last + 1])
    if not np.array_equal(counts[:-length], counts[length:]):
        return False
    edges, later = offsets[first], offsets[first + length]
    total = offsets[last] - later
    children = state.children[edges : edges + total]
    unlike = children + length != state.children[later : later + total]
    same = children[unlike]
    return np.array_equal(same, state.children[later : later + total][unlike]) and bool(
        np.isin(same, sinks).all()
    )


def watch_for(state: State, sizes: Sequence[int]) -> Repetition | None:
    """A watch for a run of this fresh state, whose ranks have so many nodes.

    None if nothing repeats, or if looking for that takes longer than replaying everything: the compiled loop,
    once it is there, does.
    """
    count = sum(sizes)
    if count < MIN_NODES or (jit.is_loaded() and compiles(count)):
        return None
    return repetition_in(state, sizes)


def repetition_in(state: State, sizes: Sequence[int]) -> Repetition | None:
    """A watch if anything repeats."""
    leader, stretches = find_periods(state, sizes)
    return Repetition(state, leader, stretches) if stretches else None
