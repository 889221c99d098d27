"""Streams of nodes, and their order on the device, where the records make it certain."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from chakrasim.traces.doctor.draft import Change, Draft, find_attribute, set_attribute, value_of
from chakrasim.traces.doctor.kernels import TENSOR
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.order import find_cycle, program_order

_IN_PLACE = (CommKind.ALL_REDUCE, CommKind.BROADCAST, CommKind.REDUCE)
"""Collectives that write what they are given; the others write a tensor that the node need not name."""

NO_STREAM = "neither a stream attribute nor a tid of its own says which stream it runs on"
NO_PLACE = "neither tensors nor a stream say what must come before it, or after"


def streams_of(draft: Draft) -> dict[int, str]:
    """For nodes of the device, by id, the stream they run on.

    The `stream` attribute says it. Where no node of the device has one, `tid` does if no node of the host
    has any of the same: early converters put the stream there, later ones the launching thread.
    """
    device = [node for node in draft.nodes if _runs_on_device(node)]
    streams = {node.id: value_of(node, "stream") for node in device}
    if all(stream is None for stream in streams.values()):
        host_tids = {value_of(node, "tid") for node in draft.nodes if value_of(node, "is_cpu_op")}
        streams = {node.id: value_of(node, "tid") for node in device}
        if not host_tids or host_tids & set(streams.values()):
            return {}
    return {node_id: f"stream {stream}" for node_id, stream in streams.items() if stream is not None}


def _runs_on_device(node: Any) -> bool:
    return node.type >= NodeKind.MEM_LOAD and value_of(node, "is_cpu_op") is False


def name_lanes(draft: Draft) -> Iterator[Change]:
    """Nodes that name no `lane` get `stream N` on the device and `thread N`, of their `tid`, on the host.

    Nodes without either keep none, and the replay runs them on one lane of their kind.
    """
    streams = streams_of(draft)
    for node in draft.nodes:
        if find_attribute(node, "lane") is not None or node.type == NodeKind.METADATA:
            continue
        lane = streams.get(node.id)
        if value_of(node, "is_cpu_op"):
            tid = value_of(node, "tid")
            lane = None if tid is None else f"thread {tid}"
        if lane is not None:
            set_attribute(node, "lane", string_val=lane)
            yield Change("lane", node.id, node.name, "no lane", lane, "its stream or tid says so")
        elif find_attribute(node, "tid") is not None:  # a converted trace, whose device has streams
            yield Change("lane", node.id, node.name, "no lane", None, NO_STREAM)


def order_streams(draft: Draft) -> Iterator[Change]:
    """Neighbours on a stream get a control dependency, in order of id as far as dependencies allow.

    A graph with a cycle of data is left alone.
    """
    streams = streams_of(draft)
    if not streams or find_cycle(draft.graph()):
        return
    nodes = draft.nodes_by_row()
    place = program_order(draft.graph()).tolist()
    last: dict[str, Any] = {}
    for row in sorted(range(len(nodes)), key=place.__getitem__):
        node = nodes[row]
        stream = streams.get(node.id)
        if stream is None:
            continue
        before = last.get(stream)
        last[stream] = node
        if before is not None and before.id not in node.data_deps and before.id not in node.ctrl_deps:
            node.ctrl_deps.append(before.id)
            what = f"after node {before.id} (control)"
            yield Change(
                "stream", node.id, node.name, f"no order on {stream}", what, "a stream keeps its order"
            )


def order_collectives(draft: Draft) -> Iterator[Change]:
    """Collectives of the device come after the kernels that their tensors are from, before those they go to.

    A kernel launched before the collective that writes its input, or touches what the collective overwrites,
    comes before it; a kernel launched after it that touches what it wrote comes after it: anything else would
    be a race in the program. Which kernel waits without having the tensor, the records don't tell.
    """
    graph = draft.graph()
    if not ((graph.kinds == NodeKind.COLL) & ~graph.is_cpu).any() or find_cycle(graph):
        return
    nodes = draft.nodes_by_row()
    wanted, loose = _tensor_order(draft, nodes)
    while wanted:
        place = program_order(draft.graph()).tolist()
        possible = [(first, second) for first, second in wanted if place[first] < place[second]]
        for first, second in possible or wanted:
            child, parent_id = nodes[second], nodes[first].id
            if possible:
                child.ctrl_deps.append(parent_id)
                after, why = f"after node {parent_id} (control)", "both have the tensor"
            else:
                after, why = None, "other dependencies contradict the tensor that both have"
            yield Change("order", child.id, child.name, f"no order with node {parent_id}", after, why)
        wanted = [pair for pair in wanted if pair not in set(possible)] if possible else []
    for row, sides in loose:
        yield Change("order", nodes[row].id, nodes[row].name, f"no kernel known {sides} it", None, NO_PLACE)


def _tensor_order(draft: Draft, nodes: list[Any]) -> tuple[list[tuple[int, int]], list[tuple[int, str]]]:
    """Pairs of rows that the tensors put in order and nothing links yet; collectives they don't place.

    Of each known stream only the nearest kernel is linked. From a collective the search goes to the next one
    that has the tensor and no further than where the tensor's memory is allocated anew: recorders use the
    number of a freed storage again. So each use of a tensor is looked at twice.
    """
    streams = streams_of(draft)
    launch = _launch_order(nodes)
    uses = _tensor_uses(nodes, launch)
    stream = {row: streams.get(node.id) for row, node in enumerate(nodes)}
    found: dict[tuple[int, bool, object], int] = {}
    for rows, writers, births in uses:
        for at, row in enumerate(rows):
            if nodes[row].type != NodeKind.COLL:
                continue
            birth = bisect_right(births, launch[row])
            for is_before, others in ((True, reversed(rows[:at])), (False, iter(rows[at + 1 :]))):
                for other in others:
                    if nodes[other].type == NodeKind.COLL:
                        break
                    if is_before and birth > 0 and launch[other] < births[birth - 1]:
                        break
                    if not is_before and birth < len(births) and launch[other] >= births[birth]:
                        break
                    if row in writers or (is_before and other in writers):
                        key = (row, is_before, stream[other] or other)
                        nearest = max if is_before else min
                        found[key] = nearest(found.get(key, other), other, key=launch.__getitem__)
    pairs: dict[tuple[int, int], None] = {}
    sides: dict[int, set[bool]] = defaultdict(set)
    for (row, is_before, where), other in sorted(found.items(), key=_by_place):
        sides[row].add(is_before)
        first, second = (other, row) if is_before else (row, other)
        linked = (*nodes[second].data_deps, *nodes[second].ctrl_deps)
        if where != stream[row] and nodes[first].id not in linked:
            pairs[first, second] = None
    busy = {stream[row] for row, node in enumerate(nodes) if node.type <= NodeKind.COMP} - {None}
    loose = [
        (
            row,
            " or ".join(side for side, key in (("before", True), ("after", False)) if key not in sides[row]),
        )
        for row, node in enumerate(nodes)
        if node.type == NodeKind.COLL
        and _runs_on_device(node)
        and len(sides[row]) < 2
        and stream[row] not in busy
    ]
    return list(pairs), loose


def _by_place(found: tuple[tuple[int, bool, object], int]) -> tuple[int, bool, int]:
    (row, is_before, _), other = found
    return row, not is_before, other


TensorUse = tuple[list[int], set[int], list[tuple[int, int]]]


def _tensor_uses(nodes: list[Any], launch: list[tuple[int, int]]) -> list[TensorUse]:
    """Uses of each storage: the device's rows that have it, in order of launch; those of them that write it;
    the launches that allocate it, which are those that put it out without having been given it."""
    uses: dict[str, TensorUse] = {}
    for row in sorted(range(len(nodes)), key=launch.__getitem__):
        node = nodes[row]
        given, written = _storages(node.inputs), _storages(node.outputs)
        in_place = node.type == NodeKind.COLL and value_of(node, "comm_type") in _IN_PLACE
        on_device = _runs_on_device(node)
        for storage in given | written:
            rows, writers, births = uses.setdefault(storage, ([], set(), []))
            if on_device:
                rows.append(row)
                if storage in written or in_place:
                    writers.add(row)
            if storage not in given:
                births.append(launch[row])
    return list(uses.values())


def _launch_order(nodes: list[Any]) -> list[tuple[int, int]]:
    """For each row the row of its launch, then its own: what starts in the same call keeps the order of ids.

    The device's are launched by the latest row of the host that they wait for, the host's by themselves.
    """
    row_of = {node.id: row for row, node in enumerate(nodes)}
    is_host = [bool(value_of(node, "is_cpu_op")) for node in nodes]
    launch = []
    for row, node in enumerate(nodes):
        hosts = [row_of[p] for p in (*node.data_deps, *node.ctrl_deps) if is_host[row_of[p]]]
        launch.append((row if is_host[row] else max(hosts, default=row), row))
    return launch


def _storages(tensors: Any) -> set[str]:
    """The storages of the tensors that a node's inputs or outputs list."""
    return {f"{storage} {device}" for _, storage, _, _, _, device in TENSOR.findall(tensors.values)}
