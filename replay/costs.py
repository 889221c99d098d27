"""How long everything takes, on whole columns, before the loop starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.compute import compute_model
from chakrasim.replay.engine.kernel import COLLECTIVE, PLAIN, RECEIVE, SEND
from chakrasim.replay.engine.program import Program, is_marker
from chakrasim.replay.engine.recorded_rendezvous import Meetings, recorded_meetings
from chakrasim.replay.network.event_driven import plays_messages
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, Ints, NodeKind, Rows
from chakrasim.traces.patterns import matches

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine

NETWORKS = ("analytical", "congestion-aware", "measured", "recorded", "shared-ports")
"""What costs collectives and messages: the machine's links without contention; those links, one message at a
time, every message played (`network/links.py`); recorded durations; recorded durations with nobody waiting
for anybody; or as the first, but with messages that share their ranks' ports (`network/shared_ports.py`)."""

UNHEARD_PS = np.iinfo(np.int64).max
"""Recorded duration of what has none."""
ASK_PS = -1
"""Cost of what the loop has to ask for."""


@dataclass(frozen=True, eq=False)
class Costs:
    """What the loop needs to know of time. N nodes, C collectives."""

    durations_ps: Ints
    """int64[N]: of nodes that end by themselves, and of sends from start to landing."""
    collectives_ps: Ints
    """int64[C]: from the last arrival to the end."""
    roles: NDArray[np.int8]
    """int8[N]: what ends each node, `program.roles` but where the network ends more, or nobody waits."""
    notes: tuple[str, ...]
    lanes: Rows | None = None
    """int32[N]: instead of `program.lanes`."""
    meetings: Meetings | None = None
    """Instead of the program's collectives and messages, and of the columns above."""
    timers_ps: Ints | None = None
    """int64[N]: durations, or -1, of nodes whose end the network only keeps in order with others."""


def needs_system(machine: Machine, network: str) -> bool:
    """Whether the loop has to ask `network/system.py`: nothing shorter tells how long things take."""
    if network not in ("analytical", "congestion-aware"):
        return False
    memory = machine.remote_memory
    shares_memory = memory is not None and memory.sharing != "per-rank"
    return network == "congestion-aware" or machine.scheduling is not None or shares_memory


def cost(program: Program, machine: Machine, compute: str, network: str, scales: Scales) -> Costs:
    """Cost every node and collective. All costs are rounded down to whole cycles of the machine.

    Raises UnknownName for an unknown model, ConfigError if the machine is too small for the workload.
    """
    if network not in NETWORKS:
        raise UnknownName("network model", network, NETWORKS)
    notes: Counter[str] = Counter()
    durations_ps, recorded_ps = _node_durations(program, machine, compute, scales, notes)
    if network == "recorded":
        return _as_recorded(program, machine, recorded_ps)
    if needs_system(machine, network):
        return _asked(program, machine, compute, network, durations_ps, recorded_ps, notes)
    pricing = _Pricing(program, machine)
    is_measured = network == "measured"
    has_recording = (_joined(program, "durations_ps") > 0) | (_joined(program, "starts_ps") >= 0)
    heard_ps = np.where(has_recording & is_measured, recorded_ps, UNHEARD_PS)
    collectives_ps = _collectives(program, pricing, heard_ps, is_measured, notes)
    _messages(program, pricing, durations_ps, heard_ps, is_measured, notes)
    cycle_ps = machine.cycle_ps
    durations_ps -= durations_ps % cycle_ps
    collectives_ps -= collectives_ps % cycle_ps
    if network == "shared-ports":
        durations_ps[program.roles == SEND] = ASK_PS
    lines = [f"{text} ({count:,} of them)" for text, count in notes.items()]
    lines += _idle_scales(program, scales)
    if compute == "roofline" and not ((program.kinds == NodeKind.COMP) & ~program.is_cpu).any():
        lines.append("the roofline costs nodes of a device, of which the trace has none")
    if restricted := program.count(_joined(program, "involved_dims") >= 0):
        lines.append(
            f"{restricted:,} collective nodes state an involved_dim, which only a machine with a scheduling "
            "uses: they run over every dimension that their group spans"
        )
    notes_ = tuple(lines)
    meetings = None
    if is_measured:
        meetings = recorded_meetings(program, recorded_ps, durations_ps, collectives_ps, cycle_ps)
    return Costs(durations_ps, collectives_ps, program.roles, notes_, meetings=meetings)


def _as_recorded(program: Program, machine: Machine, recorded_ps: Ints) -> Costs:
    """Every node takes what was recorded, but a cycle at least, and nobody waits for another rank."""
    durations_ps = np.maximum(recorded_ps - recorded_ps % machine.cycle_ps, machine.cycle_ps)
    rules = machine.system.rules
    if not rules.markers_use_the_network:
        durations_ps[is_marker(program.kinds)] = 0
    return Costs(
        durations_ps,
        np.zeros(len(program.collectives), dtype=np.int64),
        np.full(len(program), PLAIN, dtype=np.int8),
        ("every node takes its recorded duration, and no rank waits for another",),
        lanes=_with_markers_on_a_lane(program) if rules.markers_use_the_network else None,
    )


def _with_markers_on_a_lane(program: Program) -> Rows:
    """int32[N]: ASTRA-sim issues an INVALID node, which ends at once, when the communication unit is free."""
    return np.where(program.kinds == NodeKind.INVALID, program.default_lane("comm"), program.lanes)


def _asked(
    program: Program,
    machine: Machine,
    compute: str,
    network: str,
    durations_ps: Ints,
    recorded_ps: Ints,
    notes: Counter[str],
) -> Costs:
    """What ends by itself is costed, the rest is left to `network/system.py`."""
    sized = machine.sized_for(program.workload.world_size)
    if sized.size != program.workload.world_size and (_joined(program, "involved_dims") >= 0).any():
        raise ConfigError(
            f"the trace's collectives say which dimensions take part (involved_dim), for a network of "
            f"{program.workload.world_size} ranks; {sized.name} has {sized.size}"
        )
    rules = sized.system.rules
    cycle_ps, kinds, roles = sized.cycle_ps, program.kinds, program.roles.copy()
    durations_ps -= durations_ps % cycle_ps
    is_memory = (kinds == NodeKind.MEM_LOAD) | (kinds == NodeKind.MEM_STORE)
    if rules.min_compute_is_a_cycle:
        is_replayed = kinds == NodeKind.COMP
        if compute != "measured":
            is_replayed &= program.is_cpu
        durations_ps[is_replayed] = np.maximum(durations_ps[is_replayed], cycle_ps)
    if rules.broadcasts_are_recorded:
        is_broadcast = (kinds == NodeKind.COLL) & (_joined(program, "comm_kinds") == CommKind.BROADCAST)
        roles[is_broadcast] = PLAIN
        durations_ps[is_broadcast] = np.maximum(recorded_ps - recorded_ps % cycle_ps, cycle_ps)[is_broadcast]
        notes["broadcasts take their recorded duration, as in ASTRA-sim"] += program.count(is_broadcast)
    if not rules.memory_is_remote:
        is_memory &= (_joined(program, "durations_ps") == 0) & (_joined(program, "tensor_bytes") > 0)
    if (memory := sized.remote_memory) is not None:
        sizes = _joined(program, "tensor_bytes")
        for node in np.flatnonzero(is_memory):
            durations_ps[node] = memory.access_ps(max(int(sizes[node]), 0), cycle_ps)
        if memory.sharing != "per-rank":
            durations_ps[is_memory] = ASK_PS
    elif rules.memory_is_remote and is_memory.any():
        rank, row = program.locate(int(np.flatnonzero(is_memory)[0]))
        raise ConfigError(
            f"rank {rank} node {program.workload.graphs[rank].ids[row]} uses remote memory; "
            f"{sized.name} has none"
        )
    is_member = roles == COLLECTIVE
    roles[is_member] = PLAIN
    durations_ps[is_member] = ASK_PS
    timers_ps = None
    is_send, is_receive = kinds == NodeKind.SEND, program.roles == RECEIVE
    plays = plays_messages(sized, shares_links=network == "congestion-aware")
    if plays:
        roles[is_send | is_receive] = PLAIN
        durations_ps[is_send | is_receive] = ASK_PS
    if plays or (durations_ps[is_memory] == ASK_PS).any():
        # The network also keeps the time of what ends by itself: all that ends in one tick has one order.
        timers_ps = durations_ps.copy()
        durations_ps[timers_ps > 0] = ASK_PS
    if not plays:
        pricing = _Pricing(program, sized)
        _messages(program, pricing, durations_ps, np.full(len(program), UNHEARD_PS), False, notes)
    lines = [f"{text} ({count:,} of them)" for text, count in notes.items() if count]
    collectives_ps = np.zeros(len(program.collectives), dtype=np.int64)
    return Costs(
        durations_ps,
        collectives_ps,
        roles,
        tuple(lines),
        lanes=_with_markers_on_a_lane(program) if rules.markers_use_the_network else None,
        timers_ps=timers_ps,
    )


def _joined(program: Program, column: str) -> Ints:
    """A column of all ranks' graphs, one after the other."""
    columns = [getattr(graph, column) for graph in program.workload.graphs.values()]
    return np.concatenate(columns).astype(np.int64)


def _idle_scales(program: Program, scales: Scales) -> list[str]:
    """What of the scales changes nothing, since there is no such node."""
    is_compute = (program.kinds >= NodeKind.MEM_LOAD) & (program.kinds <= NodeKind.COMP)
    idle = [
        f"the scale of the {what} changes nothing: the trace has no compute or memory node there"
        for what, factor, is_cpu in (("host", scales.cpu, True), ("device", scales.device, False))
        if factor != 1.0 and not (is_compute & (program.is_cpu == is_cpu)).any()
    ]
    names = {name for graph in program.workload.graphs.values() for name in graph.names}
    return idle + [
        f"the scale of {pattern!r} changes nothing: no node has such a name"
        for pattern, _ in scales.patterns
        if not any(matches(pattern, name) for name in names)
    ]


def _node_durations(
    program: Program, machine: Machine, compute: str, scales: Scales, notes: Counter[str]
) -> tuple[Ints, Ints]:
    """Durations by the compute model, and as recorded; both int64[N], scaled."""
    model = compute_model(compute)
    columns: dict[int, tuple[Ints, Ints, Counter[str]]] = {}
    weights = program.matched.rank_weights.tolist()
    for graph, weight in zip(program.workload.graphs.values(), weights, strict=True):
        if id(graph) not in columns:
            costs = model(graph, machine)
            recorded_ps = scales.apply(graph, graph.durations_ps)
            modelled_ps = scales.apply(graph, costs.durations_ps)
            durations_ps = np.where(graph.is_communication, recorded_ps, modelled_ps)
            durations_ps[is_marker(graph.kinds)] = 0
            columns[id(graph)] = durations_ps, recorded_ps, Counter(costs.notes)
        notes.update({text: count * weight for text, count in columns[id(graph)][2].items()})
    both = [columns[id(graph)] for graph in program.workload.graphs.values()]
    return np.concatenate([c[0] for c in both]), np.concatenate([c[1] for c in both])


class _Pricing:
    """The machine's analytical costs; its size is checked only when one is asked for."""

    def __init__(self, program: Program, machine: Machine) -> None:
        self.workload = program.workload
        self.unsized = machine
        self.program = program

    @cached_property
    def machine(self) -> Machine:
        return self.unsized.sized_for(self.workload.world_size)

    def collectives_ps(self, chosen: Ints) -> Ints:
        """Costs of these collectives; each distinct one is priced once."""
        from chakrasim.replay.collectives import collective_ps

        matching = self.program.collectives
        keys = np.stack([matching.kind, matching.size_bytes, matching.group], axis=1)[chosen]
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        costs = [
            collective_ps(self.machine, CommKind(kind), max(size, 0), self.workload.groups[group].ranks)
            for kind, size, group in distinct.tolist()
        ]
        return np.array(costs, dtype=np.int64)[inverse.reshape(-1)]

    def messages_ps(self, nodes: Ints) -> Ints:
        """Costs of the messages of these send or receive nodes."""
        from chakrasim.replay.transport.uncontended import message_ps

        own, peers, sizes = endpoints(self.program)
        is_send = self.program.kinds[nodes] == NodeKind.SEND
        own, peers, sizes = own[nodes], peers[nodes], sizes[nodes]
        sources, destinations = np.where(is_send, own, peers), np.where(is_send, peers, own)
        return np.array(message_ps(self.machine, sources, destinations, sizes), dtype=np.int64)


def endpoints(program: Program) -> tuple[Ints, Ints, Ints]:
    """For each node int64[N]: its rank, its peer's rank, and its bytes, absent ones as 0."""
    graphs = program.workload.graphs.values()
    peers = np.concatenate([graph.peers for graph in graphs]).astype(np.int64)
    sizes = np.concatenate([graph.comm_bytes for graph in graphs])
    return program.ranks.astype(np.int64), peers, np.maximum(sizes, 0)


def _collectives(
    program: Program, pricing: _Pricing, heard_ps: Ints, is_measured: bool, notes: Counter[str]
) -> Ints:
    """int64[C]. Measured: the shortest recording of its members, since the last to arrive doesn't wait."""
    count = len(program.collectives)
    costs_ps = np.zeros(count, dtype=np.int64)
    unpriced = np.ones(count, dtype=np.bool_)
    if is_measured:
        offsets, members = program.members()
        if count:
            costs_ps = np.minimum.reduceat(heard_ps[members], offsets[:-1])
        unpriced = costs_ps == UNHEARD_PS
        count = int(program.matched.collective_weights[unpriced].sum())
        _note(notes, count, "collectives without a recorded duration are costed by the network")
    chosen = np.flatnonzero(unpriced)
    if len(chosen):
        costs_ps[chosen] = pricing.collectives_ps(chosen)
    return costs_ps


def _messages(
    program: Program,
    pricing: _Pricing,
    durations_ps: Ints,
    heard_ps: Ints,
    is_measured: bool,
    notes: Counter[str],
) -> None:
    """Fill in the durations of sends, and of receives whose sender isn't in the workload."""
    sends = np.flatnonzero(program.roles == SEND)
    priced = np.zeros(len(sends), dtype=np.bool_)
    if is_measured:
        partners = program.partners[sends]
        # Each side's recording holds its waiting for the other.
        both = np.minimum(heard_ps[sends], np.where(partners >= 0, heard_ps[partners], UNHEARD_PS))
        priced = both < UNHEARD_PS
        durations_ps[sends[priced]] = both[priced]
        left = np.zeros(len(program), dtype=np.bool_)
        left[sends[~priced]] = True
        text = "messages without a recorded duration are costed by the network"
        _note(notes, program.count(left), text)
    rest = sends[~priced]
    is_lone = (program.kinds == NodeKind.RECV) & (program.roles == PLAIN) & (heard_ps == UNHEARD_PS)
    lone = np.flatnonzero(is_lone & (durations_ps == 0))
    for nodes in (rest, lone):
        if len(nodes):
            durations_ps[nodes] = pricing.messages_ps(nodes)


def _note(notes: Counter[str], count: int, text: str) -> None:
    if count:
        notes[text] += count
