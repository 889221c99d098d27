"""The replay's rules written down as plainly as possible, to compare the engine with; quadratic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from chakrasim.traces.graph import NodeKind
from chakrasim.traces.workload import Workload

Key = tuple[int, int]


def naive_replay(
    workload: Workload,
    collective_ps: Callable[[Key], int],
    message_ps: Callable[[Key], int],
) -> dict[Key, tuple[int, int]]:
    """Start and end of each (rank, row). Edges must lead to higher rows; every rank must be there."""
    graphs = workload.graphs
    meetings: dict[tuple[int, ...], list[Key]] = defaultdict(list)
    sends: dict[tuple[int, ...], list[Key]] = defaultdict(list)
    receives: dict[tuple[int, ...], list[Key]] = defaultdict(list)
    meeting_of, place = {}, defaultdict(int)
    for rank, graph in graphs.items():
        for row in range(len(graph)):
            message = int(graph.tags[row]), int(graph.comm_bytes[row])
            if graph.kinds[row] == NodeKind.COLL:
                group = int(workload.group_index(rank)[row])
                meeting = (group, place[rank, group])
                place[rank, group] += 1
                meeting_of[rank, row] = meeting
                meetings[meeting].append((rank, row))
            elif graph.kinds[row] == NodeKind.SEND:
                sends[(rank, int(graph.peers[row]), *message)].append((rank, row))
            elif graph.kinds[row] == NodeKind.RECV:
                receives[(int(graph.peers[row]), rank, *message)].append((rank, row))
    receive_of = {s: r for key in sends for s, r in zip(sends[key], receives[key], strict=True)}
    send_of = {r: s for s, r in receive_of.items()}
    starts: dict[Key, int] = {}
    ends: dict[Key, int] = {}
    events: list[tuple[int, Key]] = []

    def at(time_ps: int, key: Key) -> None:
        events.append((time_ps, key))

    def lane_of(rank: int, row: int) -> str | None:
        graph, kind = graphs[rank], graphs[rank].kinds[row]
        if kind in (NodeKind.METADATA, NodeKind.INVALID) or graph.lanes[row] == -2:
            return None
        if graph.lanes[row] >= 0:
            return "named " + graph.lane_name(row)
        if kind == NodeKind.RECV:
            return None
        if kind in (NodeKind.COLL, NodeKind.SEND):
            return "comm"
        if graph.is_cpu[row]:
            return "cpu"
        return "compute" if kind == NodeKind.COMP else "comm"

    def start_what_can(rank: int, now_ps: int) -> None:
        graph = graphs[rank]
        busy = {lane_of(*key) for key in starts if key[0] == rank and key not in ends}
        for row in range(len(graph)):
            key, lane = (rank, row), lane_of(rank, row)
            if key in starts or (lane and lane in busy):
                continue
            if any((rank, int(parent)) not in ends for parent in graph.parents_of(row)):
                continue
            starts[key] = now_ps
            busy.add(lane)
            if key in meeting_of:
                members = meetings[meeting_of[key]]
                if all(member in starts for member in members):
                    for member in members:
                        at(now_ps + collective_ps(key), member)
            elif key in receive_of:
                at(now_ps + message_ps(key), key)
            elif key in send_of:
                if send_of[key] in ends:
                    at(now_ps, key)
            else:
                is_marker = graph.kinds[row] in (NodeKind.METADATA, NodeKind.INVALID)
                at(now_ps + (0 if is_marker else int(graph.durations_ps[row])), key)

    for rank in graphs:
        start_what_can(rank, 0)
    while events:
        now_ps = min(time_ps for time_ps, _ in events)
        ending = [key for time_ps, key in events if time_ps == now_ps]
        events = [event for event in events if event[1] not in ending]
        ends.update((key, now_ps) for key in ending)
        for key in ending:
            if receive_of.get(key) in starts:
                at(now_ps, receive_of[key])
        for rank in graphs:
            start_what_can(rank, now_ps)
    return {key: (starts[key], ends.get(key, -1)) for key in starts}
