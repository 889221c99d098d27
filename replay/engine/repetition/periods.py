"""Repetition in a workload: equal iterations, micro-batches or layers, as equal stretches of rows.

Each rank has a length, of a period. A node is like the one a period later if the loop can't tell them apart:
the same role, lane and duration, children at the same places after it, and the same partners, as many periods
of their ranks later. Nodes for which that isn't so are breaks; what lies between two breaks repeats.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.kernel import COLLECTIVE, EAGER, RECEIVE, SEND, State
from chakrasim.traces.graph import Ints

MIN_NODES = 20_000
"""Fewer are replayed before anything is found."""
MIN_SHARE = 0.2
"""Minimum share of nodes in repeating stretches; below it, extrapolation doesn't pay."""
SAMPLE = 24
"""Rows that have to recur somewhere, else nothing is looked for."""
BUCKETS = 1 << 14
MIN_PERIODS = 4
"""Minimum number of periods in a stretch."""
MAX_LENGTHS = 4
MAX_SAMPLED = 1 << 16
"""Rows of the middle in which a length is looked for first."""
WIDE = 8
"""Minimum in-degree of a node treated as a common sink."""
MAX_RECURRENCES = 12
"""Maximum recurrences of a row within one period; beyond it, other rows are tried."""
LEVELS = 4
"""Maximum depth of nested repetition: layers, micro-batches, iterations."""
MAX_FACTOR = 64
MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


@dataclass(frozen=True, eq=False)
class Periods:
    """One way in which a program of N nodes on R ranks repeats. Ranks are numbered in the order of nodes."""

    bases: Ints
    """int64[R + 1]: the first node of each rank, and N."""
    lengths: Ints
    """int64[R]: nodes of a period; all ranks go through their periods together."""
    firsts: Ints
    """Ascending: where stretches begin within which each node is like the one a period later, of
    `MIN_PERIODS` at least."""
    ends: Ints
    """Ends of the stretches."""
    sinks: Ints
    """Ascending: nodes of many parents, of which some are alike but wait in the same one."""

    def ranks_of(self, nodes: Ints) -> Ints:
        """int64: the ranks of nodes."""
        return np.searchsorted(self.bases, nodes, side="right") - 1

    def end_of(self, node: int) -> int:
        """The end of the stretch in which this node is, or the node itself."""
        at = int(np.searchsorted(self.firsts, node, side="right")) - 1
        return max(int(self.ends[at]), node) if at >= 0 else node


def find_periods(state: State, sizes: Sequence[int]) -> tuple[int, list[tuple[int, int, Periods]]]:
    """The rank with the most nodes, and its stretches that repeat: first, end, and how all ranks do then.

    `state` is a fresh one whose ranks have so many nodes. There are no stretches if they aren't worth it.
    O(nodes + edges); where nothing repeats, mostly a look at one column.
    """
    bases = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n, leader = int(bases[-1]), int(np.argmax(sizes))
    base, last = int(bases[leader]), int(bases[leader + 1])
    if not _recurs(state.durations_ps[base:last]):
        return leader, []
    wide = _WideEdges.of(state, n)
    signatures = _signatures(state, wide, n)
    stretches: list[tuple[int, int, Periods]] = []
    saved, left = 0, (base, last)
    for _ in range(MAX_LENGTHS):
        length = _period(signatures[slice(*left)])
        if length == 0:
            break
        periods = _periods(state, signatures, wide, bases, leader, length)
        spans = zip(periods.firsts.tolist(), periods.ends.tolist(), strict=True)
        stretches += [(*span, periods) for span in spans if left[0] <= span[0] < left[1]]
        stretches.sort(key=lambda stretch: stretch[0])
        inner = np.maximum(
            periods.ends - periods.firsts - 3 * periods.lengths[periods.ranks_of(periods.firsts)], 0
        )
        saved = max(saved, int(inner.sum()))
        # Another length, where there is the most room left.
        edges = [base, *(edge for stretch in stretches for edge in stretch[:2]), last]
        left = max(zip(edges[::2], edges[1::2], strict=True), key=lambda pair: pair[1] - pair[0])
        if left[1] - left[0] < MIN_SHARE * (last - base):
            break
    return leader, stretches if saved >= MIN_SHARE * n else []


def _periods(
    state: State, signatures: Ints, wide: _WideEdges, bases: Ints, leader: int, length: int
) -> Periods:
    """Periods of all ranks, given the leader's length."""
    lengths = _followed(state, signatures, bases, leader, length)
    lengths *= _factor(signatures, bases, lengths)
    is_break = np.ones(int(bases[-1]) + 1, dtype=np.bool_)
    for base, last, own in zip(bases[:-1].tolist(), bases[1:].tolist(), lengths.tolist(), strict=True):
        if own < last - base:
            inner = signatures[base : last - own] != signatures[base + own : last]
            is_break[base : last - own] = inner
    is_break[_communication_breaks(state, bases, lengths)] = True
    wide_breaks, sinks = wide.breaks_and_sinks(state, bases, lengths)
    is_break[wide_breaks] = True
    breaks = np.flatnonzero(is_break)
    before = np.concatenate([[-1], breaks[:-1]])
    own = lengths[np.minimum(np.searchsorted(bases, before + 1, side="right"), len(lengths)) - 1]
    is_long = breaks - before - 1 >= (MIN_PERIODS - 1) * own
    return Periods(bases, lengths, before[is_long] + 1, breaks[is_long] + own[is_long], sinks)


def _recurs(durations_ps: Ints) -> bool:
    """True if some rows at one of three places recur elsewhere, by their durations."""
    n = len(durations_ps) - SAMPLE
    for first in (n // 2, n // 4, 3 * n // 4):
        if first < 0:
            return False
        places = np.flatnonzero(durations_ps[:n] == durations_ps[first])
        for offset in range(1, SAMPLE):
            if len(places) < 2:
                break
            places = places[durations_ps[places + offset] == durations_ps[first + offset]]
            if len(places) > 1000:
                middle = int(np.searchsorted(places, first))
                places = places[max(middle - 500, 0) : middle + 500]
        if len(places) >= 2:
            return True
    return False


@dataclass(frozen=True, eq=False)
class _WideEdges:
    """Edges to nodes of many parents: those may be the same node for every period."""

    edges: Ints
    """Their places in `children`."""
    parents: Ints

    @classmethod
    def of(cls, state: State, n: int) -> _WideEdges:
        is_wide = state.parents_left >= WIDE
        if not is_wide.any():
            return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        edges = np.flatnonzero(is_wide[state.children[: int(state.child_offsets[n])]])
        return cls(edges, np.searchsorted(state.child_offsets, edges, side="right") - 1)

    def breaks_and_sinks(self, state: State, bases: Ints, lengths: Ints) -> tuple[Ints, Ints]:
        """Parents unlike those a period later, and the children that both have."""
        later = _a_period_later(self.parents, bases, lengths)
        firsts = np.searchsorted(self.parents, self.parents)
        places = np.searchsorted(self.parents, later) + np.arange(len(firsts)) - firsts
        is_there = (later >= 0) & (places < len(firsts))
        places = np.where(is_there, places, 0)
        is_there &= self.parents[places] == later
        children = state.children[self.edges].astype(np.int64)
        steps = children[places] - children
        is_same = is_there & (steps == 0)
        sinks, _ = distinct(children[is_same])
        # A node that some come back to isn't like others.
        is_moved = is_there & (steps == later - self.parents)
        is_moved &= ~np.isin(children, sinks) & ~np.isin(children[places], sinks)
        return self.parents[~(is_same | is_moved)], sinks


def _a_period_later(nodes: Ints, bases: Ints, lengths: Ints) -> Ints:
    """The node, or -1 where its rank has none."""
    ranks = np.searchsorted(bases, nodes, side="right") - 1
    later = nodes + lengths[ranks]
    found: Ints = np.where(later < bases[ranks + 1], later, -1)
    return found


def _signatures(state: State, wide: _WideEdges, n: int) -> Ints:
    """int64[n]: equal for nodes that are alike on their own rank, and mostly different for others."""
    offsets = state.child_offsets[: n + 1]
    counts = np.diff(offsets)
    sums = np.zeros(int(offsets[-1]) + 1, dtype=np.int64)
    sums[1:] = state.children[: int(offsets[-1])]
    sums[wide.edges + 1] = 0
    np.cumsum(sums, out=sums)
    mixers = MIXERS.astype(np.int64)
    signatures: Ints = np.diff(sums[offsets])
    others = counts
    if len(wide.edges):
        others = counts - np.bincount(wide.parents, minlength=n)
    signatures -= others * np.arange(n)
    signatures *= mixers[0]
    signatures += state.durations_ps[:n]
    signatures *= mixers[1]
    signatures += state.lanes[:n]
    signatures *= mixers[2]
    signatures += counts
    if others is not counts:
        signatures += others * mixers[1]
    signatures *= mixers[0]
    signatures += state.roles[:n]
    signatures *= mixers[3]
    members = np.flatnonzero(is_member(state.roles[:n]))
    collectives = state.partners[members]
    signatures[members] += state.costs_ps[collectives] * mixers[1]
    signatures[members] += np.diff(state.member_offsets)[collectives] * mixers[0]
    signatures ^= signatures >> 29
    return signatures


def distinct(values: Ints) -> tuple[Ints, Ints]:
    """The values in order, and how often each occurs. As numpy's, whose first call takes 10 ms and more."""
    values = np.sort(values)
    firsts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    return values[firsts], np.diff(firsts, append=len(values))


def is_member(roles: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Mask of members of collectives."""
    return np.equal(roles, COLLECTIVE) | np.equal(roles, EAGER)


def _local_breaks(signatures: Ints, length: int) -> Ints:
    """Rows unlike those a period later, of the last period only the first."""
    n = len(signatures)
    if n <= length:
        return np.zeros(min(n, 1), dtype=np.int64)
    return np.append(np.flatnonzero(signatures[:-length] != signatures[length:]), n - length)


def _saved(signatures: Ints, length: int) -> int:
    """Rows that a period of this length could skip, about."""
    gaps = np.diff(_local_breaks(signatures, length), prepend=-1) - 1
    return int(np.maximum(gaps - 3 * length, 0).sum())


def _period(signatures: Ints) -> int:
    """A length that could skip many rows, 0 for none."""
    rest = len(signatures) - max(MAX_SAMPLED, len(signatures) // 4)
    found = _best_length(signatures[rest // 2 : len(signatures) - rest // 2]) if rest > 1 else 0
    return found or _best_length(signatures)


def _best_length(signatures: Ints) -> int:
    """The length that could skip the most rows, 0 for none.

    Where the rows of layers recur, those that don't fit in are what recurs in micro-batches, and so on.
    """
    best, most = 0, 0
    rows = np.arange(len(signatures))
    tried: set[int] = set()
    for _ in range(LEVELS):
        found = 0
        for length in sorted(_distances(signatures[rows], rows) - tried):
            tried.add(length)
            saved = _saved(signatures, length)
            # A longer one isn't worth it for a few rows.
            if saved > most + len(signatures) // 50:
                best, most, found = length, saved, length
        if not found:
            break
        rows = _local_breaks(signatures, best)
    return best


def _distances(signatures: Ints, rows: Ints) -> set[int]:
    """Distances between equal rows: of those that recur as most others do, and of the rarest."""
    buckets = ((signatures * MIXERS.astype(np.int64)[0]) >> 40) & (BUCKETS - 1)
    recurrences = np.bincount(buckets, minlength=BUCKETS)
    weights = np.bincount(recurrences, weights=recurrences)
    weights[:4] = 0
    often = np.argsort(-weights, kind="stable")[:4].tolist()
    rare = np.flatnonzero(weights)[:4].tolist()
    distances: set[int] = set()
    for count in dict.fromkeys(often + rare):
        for bucket in np.flatnonzero(recurrences == count)[:2] if weights[count] else ():
            places = rows[buckets == bucket]
            middle = len(places) // 2
            distances |= _usual_distances(places[max(middle - 500, 0) : middle + 500])
    return distances


def _usual_distances(places: Ints) -> set[int]:
    """The two most frequent ones from one to the next, and the most regular one to a later one: some rows
    recur several times in a period."""
    found: set[int] = set()
    most = 0.0
    for later in range(1, min(MAX_RECURRENCES, len(places) - 1) + 1):
        steps, times = distinct(places[later:] - places[:-later])
        if later == 1:
            found.update(steps[np.argsort(-times, kind="stable")[:2]].tolist())
        share = float(times.max() / times.sum())
        if share > most + 0.1:
            most, regular = share, int(steps[np.argmax(times)])
    return found | {regular} if most else found


def _followed(state: State, signatures: Ints, bases: Ints, leader: int, length: int) -> Ints:
    """int64[R]: how far each rank goes while the leader does a period, by what they exchange."""
    ranks = len(bases) - 1
    lengths = np.zeros(ranks, dtype=np.int64)
    lengths[leader] = length
    waiting = deque([leader])
    while waiting and not lengths.all():
        rank = waiting.popleft()
        own = int(lengths[rank])
        base, last = int(bases[rank]), int(bases[rank + 1])
        breaks = _local_breaks(signatures[base:last], own)
        gaps = np.diff(breaks, prepend=-1)
        widest = int(np.argmax(gaps))
        # At three places, of which one may be where partners change.
        steps_back = int(gaps[widest]) * np.array([3, 2, 1]) // 4
        places = (base + int(breaks[widest]) - steps_back[:, None] + np.arange(own)).reshape(-1)
        nodes = places[(places >= base) & (places < last - own)]
        roles = state.roles[nodes]
        nodes = nodes[(state.partners[nodes] >= 0) & (roles == state.roles[nodes + own])]
        roles = state.roles[nodes]
        later = state.partners[nodes + own]
        messages = ((roles == SEND) | (roles == RECEIVE)) & (later >= 0)
        collectives = state.partners[nodes[is_member(roles)]]
        then = later[is_member(roles)]
        sizes = np.diff(state.member_offsets)
        fits = sizes[collectives] == sizes[then]
        here, there = (members_of(state, chosen[fits]) for chosen in (collectives, then))
        ends = np.concatenate([state.partners[nodes[messages]], here])
        steps = np.concatenate([later[messages], there]) - ends
        others = np.searchsorted(bases, ends, side="right") - 1
        is_new = (lengths[others] == 0) & (steps > 0)
        others, steps = others[is_new], steps[is_new]
        order = np.lexsort((steps, others))
        new, often = distinct(others)
        lengths[new] = steps[order[np.cumsum(often) - often + often // 2]]
        waiting.extend(new.tolist())
    for rank in np.flatnonzero(lengths == 0).tolist():
        lengths[rank] = _period(signatures[bases[rank] : bases[rank + 1]]) or 1
    return lengths


def members_of(state: State, collectives: Ints) -> Ints:
    """Members of these collectives, one collective after the other."""
    first, last = state.member_offsets[collectives], state.member_offsets[collectives + 1]
    sizes = last - first
    shifts = np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    members: Ints = state.members[np.arange(int(sizes.sum())) + shifts].astype(np.int64)
    return members


def _factor(signatures: Ints, bases: Ints, lengths: Ints) -> int:
    """Number of the leader's periods until all ranks repeat: some may do so less often."""
    factor = 1
    for rank, length in enumerate(lengths.tolist()):
        own = signatures[bases[rank] : bases[rank + 1]]
        if _saved(own, length) < len(own) // 4 and (shortest := _period(own)):
            factor = lcm(factor, shortest // gcd(shortest, length))
    return factor if factor <= MAX_FACTOR else 1


def _communication_breaks(state: State, bases: Ints, lengths: Ints) -> Ints:
    """Nodes whose partners aren't those of the node a period later, a period of their ranks later."""
    n = int(bases[-1])
    roles, partners = state.roles[:n], state.partners[:n]

    nodes = np.flatnonzero((roles == SEND) | (roles == RECEIVE))
    later = _a_period_later(nodes, bases, lengths)
    expected = np.where(
        partners[nodes] >= 0, _a_period_later(np.maximum(partners[nodes], 0), bases, lengths), -1
    )
    is_broken = (later < 0) | (partners[later] != expected) | ((partners[nodes] >= 0) & (expected < 0))
    messages: Ints = nodes[is_broken]

    sizes = np.diff(state.member_offsets)
    count = len(sizes)
    if count == 0 or len(state.members) == 0:
        return messages
    of = np.repeat(np.arange(count), sizes)
    members = state.members.astype(np.int64)
    later = _a_period_later(members, bases, lengths)
    then = np.where(is_member(roles[later]) & (later >= 0), partners[later], -1)
    # All members of a collective have to be in one and the same a period later, at the same places.
    places = np.arange(len(members)) - state.member_offsets[of] + state.member_offsets[then]
    firsts = np.minimum(state.member_offsets[:-1], len(members) - 1)
    fits = (then >= 0) & (sizes[of] == sizes[then]) & (then == then[firsts][of])
    fits &= state.members[np.where(fits, places, 0)] == later
    fits &= (state.costs_ps[of] == state.costs_ps[then]) & (
        state.arrivals_left[of] == state.arrivals_left[then]
    )
    is_broken_collective = np.zeros(count, dtype=np.bool_)
    is_broken_collective[of[~fits]] = True
    broken: Ints = members[is_broken_collective[of] & is_member(roles[members])]
    return np.concatenate([messages, broken])
