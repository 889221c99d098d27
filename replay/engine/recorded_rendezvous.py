"""Recorded collectives and messages, each split into waiting for the others and transfer.

A recorded duration holds both. On the ranks' common clock the two come apart: a member waited until the last
one had arrived, and what is left to its own end is its transfer. So a replay makes the waiting anew, from
when the others arrive there, and adds the transfer. A member that had ended before the last one came, such
as the root of a broadcast or a sender whose message was buffered, waits for nobody: it is eager.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.kernel import COLLECTIVE, EAGER, OWN_PS, SEND
from chakrasim.replay.engine.program import Program, RecordedRendezvous
from chakrasim.traces.graph import CLOCK, CommKind, Ints, Rows


def recorded_rendezvous(
    program: Program,
    roles: NDArray[np.int8],
    recorded_ps: Ints,
    durations_ps: Ints,
    collectives_ps: Ints,
    cycle_ps: int,
) -> RecordedRendezvous | None:
    """Split what was recorded on ranks with a common clock; None where nothing was. O(nodes).

    `roles` int8[N] hold for all other nodes, `recorded_ps` int64[N] are scaled durations, `durations_ps`
    int64[N] and `collectives_ps` int64[C] what meetings take that were not recorded by all of their members.
    """
    graphs = program.workload.graphs.values()
    clocks = [int(graph.metadata[CLOCK]) for graph in graphs if isinstance(graph.metadata.get(CLOCK), int)]
    if program.matched.rank_weights.sum() < 2 or len(clocks) < len(graphs):
        return None
    begun_ps = np.concatenate(
        [np.where(g.starts_ps >= 0, g.starts_ps - c, -1) for g, c in zip(graphs, clocks, strict=True)]
    )
    lengths_ps = np.concatenate([graph.durations_ps for graph in graphs])
    has_times = np.concatenate([graph.starts_ps for graph in graphs]) >= 0

    offsets, members = program.members()
    sends = np.flatnonzero((program.roles == SEND) & (program.partners >= 0))
    pairs = np.stack([sends, program.partners[sends]], axis=1).reshape(-1)
    counts = np.concatenate([np.diff(offsets), np.full(len(sends), 2)])
    members = np.concatenate([members, pairs]).astype(np.int32)
    of = np.repeat(np.arange(len(counts)), counts)
    ended_ps = begun_ps + lengths_ps
    is_split = np.ones(len(counts), dtype=np.bool_)
    is_split[of[~has_times[members]]] = False
    is_split &= np.concatenate([program.matched.sizes, np.full(len(sends), 2)]) > 1
    if not is_split.any():
        return None
    last_ps = np.full(len(counts), np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(last_ps, of, begun_ps[members])
    expected = np.concatenate([program.expected, np.full(len(sends), 2, dtype=np.int32)])

    kept = is_split | (np.arange(len(counts)) < len(collectives_ps))
    number = np.cumsum(kept) - 1
    chosen = kept[of]
    of, members = of[chosen], members[chosen]
    roles, partners = roles.copy(), program.partners.copy()
    durations_ps = durations_ps.copy()
    split = is_split[of]
    nodes, meeting = members[split], of[split]
    is_eager = _may_be_eager(program, meeting, nodes, len(collectives_ps)) & (
        ended_ps[nodes] <= last_ps[meeting]
    )
    roles[nodes] = np.where(is_eager, EAGER, COLLECTIVE)
    partners[nodes] = number[meeting]
    transfer_ps = np.where(is_eager, lengths_ps[nodes], np.maximum(ended_ps[nodes] - last_ps[meeting], 0))
    is_scaled = recorded_ps[nodes] != lengths_ps[nodes]
    factors = recorded_ps[nodes] / np.maximum(lengths_ps[nodes], 1)
    transfer_ps = np.where(is_scaled, np.rint(transfer_ps * factors).astype(np.int64), transfer_ps)
    durations_ps[nodes] = transfer_ps - transfer_ps % cycle_ps
    costs_ps = np.concatenate([collectives_ps, np.zeros(len(sends), dtype=np.int64)])
    costs_ps[is_split] = OWN_PS
    kept_counts = counts[kept]
    return RecordedRendezvous(
        roles=roles,
        partners=partners,
        durations_ps=durations_ps,
        costs_ps=costs_ps[kept],
        offsets=np.concatenate([[0], np.cumsum(kept_counts)]),
        members=members,
        expected=expected[kept],
    )


def _may_be_eager(program: Program, meeting: Ints, nodes: Rows, collectives: int) -> NDArray[np.bool_]:
    """bool[members]: senders, roots that only give, and members that only give to a root."""
    is_message = meeting >= collectives
    matching = program.collectives
    kinds = np.append(matching.kind, -1)[np.minimum(meeting, collectives)]
    roots = np.append(matching.root, -1)[np.minimum(meeting, collectives)]
    peers = np.concatenate([graph.peers for graph in program.workload.graphs.values()])[nodes]
    is_root = (program.ranks[nodes] == roots) | (program.ranks[nodes] == peers)
    gives = np.isin(kinds, (CommKind.BROADCAST, CommKind.SCATTER)) & is_root
    gives |= np.isin(kinds, (CommKind.REDUCE, CommKind.GATHER)) & ~is_root & (roots >= 0)
    is_sender: NDArray[np.bool_] = program.roles[nodes] == SEND
    return np.where(is_message, is_sender, gives)
