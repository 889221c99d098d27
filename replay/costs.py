"""Times of nodes, messages and collectives on whole columns, before the loop starts.

The compute model has costed nodes (`compute/durations.py`), the network model prices messages and collectives
(`network/interface.py`); this puts the two together and says what ends each node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.kernel import COLLECTIVE, PLAIN
from chakrasim.replay.engine.program import is_marker
from chakrasim.replay.engine.recorded_rendezvous import recorded_rendezvous
from chakrasim.replay.network.interface import ASK_PS
from chakrasim.replay.network.messages import plays_messages
from chakrasim.replay.network.traffic import Traffic
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, Ints, NodeKind, Rows

if TYPE_CHECKING:
    from chakrasim.replay.compute.durations import NodeDurations
    from chakrasim.replay.compute.interface import ComputeModel
    from chakrasim.replay.engine.program import Program, RecordedRendezvous
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.interface import NetworkModel, Priced


@dataclass(frozen=True, eq=False)
class Costs:
    """Times that the loop is given. N nodes, C collectives."""

    durations_ps: Ints
    """int64[N]: of nodes that end by themselves, and of sends from start to landing; ASK_PS asks the
    network."""
    collectives_ps: Ints
    """int64[C]: from the last arrival to the end."""
    roles: NDArray[np.int8]
    """int8[N]: completion rule of each node. Overrides `program.roles` where the network completes it, or
    where nobody waits."""
    notes: tuple[str, ...]
    lanes: Rows | None = None
    """int32[N]: instead of `program.lanes`."""
    rendezvous: RecordedRendezvous | None = None
    """Recorded collectives and messages split into waiting and transfer, instead of the columns above."""
    timers_ps: Ints | None = None
    """int64[N]: durations, or -1, of nodes whose end the network only keeps in order with others."""


def cost(
    program: Program, machine: Machine, network: NetworkModel, durations: NodeDurations, asks: bool
) -> Costs:
    """Cost every node and collective. All costs are rounded down to whole cycles of the machine.

    `asks` says that the replay has to ask the network while it runs (`network.interface.asks_network`).

    Raises ConfigError if the machine is too small for the workload.
    """
    of_ranks = [durations.by_rank[rank] for rank in program.workload.graphs]
    durations_ps = np.concatenate([one.modelled_ps for one in of_ranks])
    recorded_ps = np.concatenate([one.recorded_ps for one in of_ranks])
    if not network.waits:
        return _as_recorded(program, machine, recorded_ps)
    if asks:
        machine = machine.sized_for(program.workload.world_size)
    notes, roles, cycle_ps = durations.notes(), program.roles.copy(), machine.cycle_ps
    durations_ps -= durations_ps % cycle_ps
    if asks:
        _follow_rules(program, machine, durations.model, durations_ps, roles, recorded_ps, notes)
        _use_remote_memory(program, machine, durations_ps)
    traffic = Traffic.of(program, recorded_ps)
    priced = network.price(traffic, machine)
    notes.update(priced.notes)
    collectives_ps = _collectives(program, machine, priced, durations_ps, roles)
    plays = plays_messages(machine)
    keeps_order = plays or (machine.system.rules.ends_one_by_one and not network.prices_ahead)
    is_asked = priced.message_ps == ASK_PS
    if plays and not network.needs_recording:
        is_asked[:] = True
    _messages(traffic, priced, is_asked, cycle_ps, durations_ps)
    if keeps_order:
        _join_messages(traffic, is_asked, durations_ps, roles)
    timers_ps = None
    if keeps_order or (_is_memory(program) & (durations_ps == ASK_PS)).any():
        # The network also keeps the time of what ends by itself: all that ends in one tick has one order.
        timers_ps = np.where((roles == PLAIN) & (durations_ps > 0), durations_ps, -1)
        durations_ps[timers_ps > 0] = ASK_PS
    lines = [f"{text} ({count:,} of them)" for text, count in notes.items() if count]
    lines += durations.idle_scales()
    if durations.model.device_only and not ((program.kinds == NodeKind.COMP) & ~program.is_cpu).any():
        name = type(durations.model).__name__.lower()
        lines.append(f"the {name} costs nodes of a device, of which the trace has none")
    restricted = program.count(program.column("involved_dims") >= 0)
    if restricted and machine.scheduling is None and not (priced.collective_ps == ASK_PS).any():
        lines.append(
            f"{restricted:,} collective nodes state an involved_dim, which only a machine with a scheduling "
            "uses: they run over every dimension that their group spans"
        )
    rendezvous = None
    if network.splits_recording:
        rendezvous = recorded_rendezvous(program, roles, recorded_ps, durations_ps, collectives_ps, cycle_ps)
    markers = _with_markers_on_a_lane(program) if asks else None
    if not machine.system.rules.markers_use_the_network:
        markers = None
    return Costs(durations_ps, collectives_ps, roles, tuple(lines), markers, rendezvous, timers_ps)


def _as_recorded(program: Program, machine: Machine, recorded_ps: Ints) -> Costs:
    """Every node takes its recorded duration, but a cycle at least, and nobody waits for another rank."""
    durations_ps = np.maximum(recorded_ps - recorded_ps % machine.cycle_ps, machine.cycle_ps)
    rules = machine.system.rules
    if not rules.markers_use_the_network:
        durations_ps[is_marker(program.kinds)] = 0
    note = "every node takes its recorded duration, and no rank waits for another"
    memory = machine.remote_memory
    if rules.has_all_kinds and (machine.scheduling is not None or (memory is not None and memory.is_shared)):
        note += ": the machine's scheduling and shared memory play no part"
    return Costs(
        durations_ps,
        np.zeros(len(program.collectives), dtype=np.int64),
        np.full(len(program), PLAIN, dtype=np.int8),
        (note,),
        lanes=_with_markers_on_a_lane(program) if rules.markers_use_the_network else None,
    )


def _with_markers_on_a_lane(program: Program) -> Rows:
    """int32[N]: ASTRA-sim issues an INVALID node, which ends at once, when the communication unit is free."""
    return np.where(program.kinds == NodeKind.INVALID, program.default_lane("comm"), program.lanes)


def _follow_rules(
    program: Program,
    machine: Machine,
    compute: ComputeModel,
    durations_ps: Ints,
    roles: NDArray[np.int8],
    recorded_ps: Ints,
    notes: Counter[str],
) -> None:
    """Durations of nodes that the machine's rules decide otherwise; changes the columns."""
    rules, cycle_ps, kinds = machine.system.rules, machine.cycle_ps, program.kinds
    if rules.min_compute_is_a_cycle:
        is_replayed = kinds == NodeKind.COMP
        if not compute.uses_recorded:
            is_replayed &= program.is_cpu
        durations_ps[is_replayed] = np.maximum(durations_ps[is_replayed], cycle_ps)
    if rules.broadcasts_are_recorded:
        is_broadcast = (kinds == NodeKind.COLL) & (program.column("comm_kinds") == CommKind.BROADCAST)
        roles[is_broadcast] = PLAIN
        durations_ps[is_broadcast] = np.maximum(recorded_ps - recorded_ps % cycle_ps, cycle_ps)[is_broadcast]
        notes["broadcasts take their recorded duration, as in ASTRA-sim"] += program.count(is_broadcast)


def _is_memory(program: Program) -> NDArray[np.bool_]:
    """bool[N]: memory nodes."""
    return np.isin(program.kinds, (NodeKind.MEM_LOAD, NodeKind.MEM_STORE))


def _use_remote_memory(program: Program, machine: Machine, durations_ps: Ints) -> None:
    """Times of memory nodes by the machine's remote memory; those that share a link ask for it."""
    is_memory, rules, memory = _is_memory(program), machine.system.rules, machine.remote_memory
    sizes_bytes = program.column("tensor_bytes")
    if not rules.memory_is_remote:
        is_memory &= (program.column("durations_ps") == 0) & (sizes_bytes > 0)
    if memory is not None:
        for node in np.flatnonzero(is_memory):
            durations_ps[node] = memory.access_ps(max(int(sizes_bytes[node]), 0), machine.cycle_ps)
        if memory.is_shared:
            durations_ps[is_memory] = ASK_PS
    elif rules.memory_is_remote and is_memory.any():
        rank, row = program.locate(int(np.flatnonzero(is_memory)[0]))
        raise ConfigError(
            f"rank {rank} node {program.workload.graphs[rank].ids[row]} uses remote memory; "
            f"{machine.name} has none"
        )


def _collectives(
    program: Program, machine: Machine, priced: Priced, durations_ps: Ints, roles: NDArray[np.int8]
) -> Ints:
    """int64[C]: prices in whole cycles. Members of collectives without one ask the network."""
    is_asked = priced.collective_ps == ASK_PS
    if is_asked.any():
        world_size = program.workload.world_size
        if machine.size != world_size and (program.column("involved_dims") >= 0).any():
            raise ConfigError(
                f"the trace's collectives say which dimensions take part (involved_dim), for a network of "
                f"{world_size} ranks; {machine.name} has {machine.size}"
            )
        members = np.flatnonzero(roles == COLLECTIVE)
        members = members[is_asked[program.partners[members]]]
        roles[members] = PLAIN
        durations_ps[members] = ASK_PS
    prices_ps: Ints = priced.collective_ps - priced.collective_ps % machine.cycle_ps
    return np.where(is_asked, 0, prices_ps)


def _messages(
    traffic: Traffic, priced: Priced, is_asked: NDArray[np.bool_], cycle_ps: int, durations_ps: Ints
) -> None:
    """Prices of messages in whole cycles; those that are left to the network ask it."""
    prices_ps = priced.message_ps
    durations_ps[traffic.nodes] = np.where(is_asked, ASK_PS, prices_ps - prices_ps % cycle_ps)


def _join_messages(
    traffic: Traffic, is_asked: NDArray[np.bool_], durations_ps: Ints, roles: NDArray[np.int8]
) -> None:
    """Leave it to the network to join sends and receives, where it keeps the order of all nodes that end in a
    tick: where they end one by one, or a machine has every message played."""
    nodes = traffic.nodes[is_asked]
    receives = traffic.program.partners[nodes]
    ends = np.concatenate([nodes, receives[receives >= 0]])
    roles[ends] = PLAIN
    durations_ps[ends] = ASK_PS
