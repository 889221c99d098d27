"""Messages and collectives of a program as columns, and their times on an idle network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.collectives.cost import collective_ps
from chakrasim.replay.engine.kernel import PLAIN, SEND
from chakrasim.replay.engine.program import Program
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.uncontended import message_ps
from chakrasim.traces.graph import CommKind, Ints, NodeKind


@dataclass(frozen=True, eq=False)
class Traffic:
    """Traffic that a network model prices: M messages and C collectives of a program of N nodes."""

    program: Program
    recorded_ps: Ints
    """int64[N]: recorded durations, scaled as the user asked."""
    nodes: Ints
    """int64[M]: the sends, and then receives without a duration from ranks that aren't replayed."""
    sources: Ints
    """int64[M]"""
    destinations: Ints
    """int64[M]"""
    sizes_bytes: Ints
    """int64[M]"""

    @classmethod
    def of(cls, program: Program, recorded_ps: Ints) -> Traffic:
        """All traffic of a program."""
        sends = np.flatnonzero(program.roles == SEND)
        is_lone = (program.kinds == NodeKind.RECV) & (program.roles == PLAIN) & (recorded_ps == 0)
        nodes = np.concatenate([sends, np.flatnonzero(is_lone)])
        own, peers, sizes_bytes = (column[nodes] for column in endpoints(program))
        is_send = program.kinds[nodes] == NodeKind.SEND
        sources, destinations = np.where(is_send, own, peers), np.where(is_send, peers, own)
        return cls(program, recorded_ps, nodes, sources, destinations, sizes_bytes)

    def idle_messages_ps(self, machine: Machine, chosen: NDArray[np.bool_] | None = None) -> Ints:
        """Times of some of the messages, bool[M], or of all, on an idle network."""
        at = slice(None) if chosen is None else np.flatnonzero(chosen)
        sources = self.sources[at]
        if not len(sources):
            return np.empty(0, dtype=np.int64)
        sized = machine.sized_for(self.program.workload.world_size)
        return message_ps(sized, sources, self.destinations[at], self.sizes_bytes[at])

    def idle_collectives_ps(self, machine: Machine, chosen: NDArray[np.bool_] | None = None) -> Ints:
        """Times of some of the collectives, bool[C], or of all, on an idle network; each distinct one is
        priced once."""
        matching, workload = self.program.collectives, self.program.workload
        at = slice(None) if chosen is None else np.flatnonzero(chosen)
        keys = np.stack([matching.kind, matching.size_bytes, matching.group], axis=1)[at]
        if not len(keys):
            return np.empty(0, dtype=np.int64)
        sized = machine.sized_for(workload.world_size)
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        costs = [
            collective_ps(sized, CommKind(kind), max(size, 0), workload.groups[group].ranks)
            for kind, size, group in distinct.tolist()
        ]
        return np.array(costs, dtype=np.int64)[inverse.reshape(-1)]


def endpoints(program: Program) -> tuple[Ints, Ints, Ints]:
    """For each node int64[N]: its rank, its peer's rank, and its bytes, absent ones as 0."""
    return (
        program.ranks.astype(np.int64),
        program.column("peers"),
        np.maximum(program.column("comm_bytes"), 0),
    )
