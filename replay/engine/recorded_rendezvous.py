"""Recorded collectives and messages, each split into waiting for the others and transfer.

A recorded duration holds both. On the ranks' common clock the two come apart: a member waited until the last
one had arrived, and what is left to its own end is its transfer. So a replay makes the waiting anew, from
when the others arrive there, and adds the transfer. A member that had ended before the last one came, such
as the root of a broadcast or a sender whose message was buffered, waits for nobody: it is eager.
"""

from __future__ import annotations

from typing import NamedTuple

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
    int64[N] and `collectives_ps` int64[C] what those take that were not recorded by all of their members.
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

    groups = _rendezvous(program)
    is_split = groups.sizes > 1
    is_split[groups.of[~has_times[groups.nodes]]] = False
    if not is_split.any():
        return None
    last_ps = np.full(len(is_split), np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(last_ps, groups.of, begun_ps[groups.nodes])

    kept = is_split | (np.arange(len(is_split)) < len(collectives_ps))
    number = np.cumsum(kept) - 1
    roles, partners = roles.copy(), program.partners.copy()
    durations_ps = durations_ps.copy()
    split = is_split[groups.of]
    nodes, of = groups.nodes[split], groups.of[split]
    is_eager = _may_be_eager(program, of, nodes, len(collectives_ps)) & (
        begun_ps[nodes] + lengths_ps[nodes] <= last_ps[of]
    )
    roles[nodes] = np.where(is_eager, EAGER, COLLECTIVE)
    partners[nodes] = number[of]
    after_last_ps = np.maximum(begun_ps[nodes] + lengths_ps[nodes] - last_ps[of], 0)
    transfer_ps = np.where(is_eager, lengths_ps[nodes], after_last_ps)
    transfer_ps = _scaled(transfer_ps, lengths_ps[nodes], recorded_ps[nodes])
    durations_ps[nodes] = transfer_ps - transfer_ps % cycle_ps
    costs_ps = np.zeros(len(is_split), dtype=np.int64)
    costs_ps[: len(collectives_ps)] = collectives_ps
    costs_ps[is_split] = OWN_PS
    return RecordedRendezvous(
        roles=roles,
        partners=partners,
        durations_ps=durations_ps,
        costs_ps=costs_ps[kept],
        offsets=np.concatenate([[0], np.cumsum(groups.counts[kept])]),
        members=groups.nodes[kept[groups.of]],
        expected=groups.expected[kept],
    )


class _Rendezvous(NamedTuple):
    """Collectives of a program, then its matched messages. K of them, with P members in all."""

    counts: Ints
    """int64[K]: replayed members."""
    sizes: Ints
    """int64[K]: members in the job."""
    expected: Rows
    """int32[K]: members that have to arrive."""
    nodes: Rows
    """int32[P]"""
    of: Ints
    """int64[P]: where each of `nodes` belongs."""


def _rendezvous(program: Program) -> _Rendezvous:
    offsets, members = program.members()
    sends = np.flatnonzero((program.roles == SEND) & (program.partners >= 0))
    pairs = np.stack([sends, program.partners[sends]], axis=1).reshape(-1)
    twos = np.full(len(sends), 2)
    counts = np.concatenate([np.diff(offsets), twos])
    return _Rendezvous(
        counts=counts,
        sizes=np.concatenate([program.matched.sizes, twos]),
        expected=np.concatenate([program.expected, twos.astype(np.int32)]),
        nodes=np.concatenate([members, pairs]).astype(np.int32),
        of=np.repeat(np.arange(len(counts)), counts),
    )


def _scaled(transfer_ps: Ints, lengths_ps: Ints, scaled_ps: Ints) -> Ints:
    """Transfers by the factors that recorded durations were scaled by."""
    factors = scaled_ps / np.maximum(lengths_ps, 1)
    return np.where(scaled_ps != lengths_ps, np.rint(transfer_ps * factors).astype(np.int64), transfer_ps)


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
