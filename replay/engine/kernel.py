"""The replay loop: one function over columns, run as it stands or compiled by numba.

`advance` is plain Python. Small workloads run it interpreted on lists, large ones compiled on arrays, with
results that are the same to the bit. numba's cache doesn't notice an edit in another file, so everything
that is compiled stands here. `event_loop.py` drives it and answers what it asks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """int64[C]: from the last arrival to the end; or OWN_PS."""
    ready_offsets: Any
    """int64[L + 1]: where in `ready` the heap of each lane lies."""
    ready: Any
    """int32: per lane a binary heap of the nodes that wait for it, lowest first."""
    ready_counts: Any
    """int32[L]"""
    lane_is_busy: Any
    """int8[L]"""
    touched: Any
    """int32: scratch, lanes that were freed or given work."""
    starting: Any
    """int64: scratch, nodes to start, and receives whose message has landed."""
    asked_events: Any
    """int64: nodes whose end `run` has to say, `counters[ASKED]` of them."""
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


def advance(state: State, horizon_ps: int, mark: int, one_by_one: bool) -> int:
    """Process events in the order of time until one of the reasons above to return.

    `mark` is a node after whose end to return, or NO_MARK.

    What ends at one instant ends together: each frees its lane and counts down its children; those without
    parents left join their lane's heap, or start if they occupy none. Then lanes that are free take their
    lowest node. What takes no time ends in the instant's next round. So no rank has precedence over another:
    ranks that do the same do it at the same times.

    With `one_by_one` every end of a node is a round of its own, in the order in which those ends became
    known, as in ASTRA-sim's queue. What starts then does so in ascending order.
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
    # Members of a collective that ends: those from `position` on are still to be seen to.
    position, end = 0, 0
    while True:
        if position == end:
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
            now_ps = queue_ps[0]
        touched_count, starting_count = 0, 0
        while True:
            if position < end:
                node = members[position]
                position += 1
            else:
                # The first event leaves the heap; the last one sinks from the top to its place.
                node = queue_events[0]
                queued -= 1
                ordered = queued
                last_ps, last_sequence = queue_ps[queued], queue_sequences[queued]
                hole = 0
                down = 1
                while down < queued:
                    if down + 1 < queued and (
                        queue_ps[down + 1] < queue_ps[down]
                        or (
                            queue_ps[down + 1] == queue_ps[down]
                            and queue_sequences[down + 1] < queue_sequences[down]
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
                if node >= node_count:
                    position, end = member_offsets[node - node_count], member_offsets[node - node_count + 1]
                    node = members[position]
                    position += 1
            ends_ps[node] = now_ps
            ended += 1
            if node == mark:
                horizon_ps = 0
            lane = lanes[node]
            if lane >= 0:
                lane_is_busy[lane] = 0
                if ready_counts[lane] > 0:
                    touched[touched_count] = lane
                    touched_count += 1
            if roles[node] == SEND:
                receive = partners[node]
                if receive >= 0 and starts_ps[receive] >= 0:
                    starting[starting_count] = receive
                    starting_count += 1
            landed_count = starting_count
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
                # A free lane has nothing waiting between rounds, so each lane is noted once.
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
            if one_by_one or (position == end and (queued == 0 or queue_ps[0] != now_ps)):
                break
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
            while one_by_one and at > landed_count and starting[at - 1] > lowest:
                starting[at] = starting[at - 1]
                at -= 1
            starting[at] = lowest
            starting_count += 1
        for i in range(starting_count):
            starter = starting[i]
            role = roles[starter]
            if role == RECEIVE:
                if starts_ps[starter] < 0:
                    starts_ps[starter] = now_ps
                send = partners[starter]
                if send >= 0 and ends_ps[send] >= 0:
                    queue_ps[queued], queue_sequences[queued] = now_ps, sequence
                    queue_events[queued] = starter
                    queued += 1
                    sequence += 1
                continue
            starts_ps[starter] = now_ps
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
