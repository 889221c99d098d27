"""Recorded durations of messages and collectives; what has none takes the time of idle links.

A recorded duration holds waiting for the others. Where the ranks' clocks are known it is split into waiting,
which the replay makes anew, and transfer (`engine/recorded_rendezvous.py`). Elsewhere the shortest recording
of its members is taken, since the last to arrive doesn't wait.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.engine.kernel import SEND
from chakrasim.replay.network.analytical import Analytical
from chakrasim.replay.network.interface import ASK_PS, Priced
from chakrasim.replay.network.messages import plays_messages
from chakrasim.traces.graph import NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.traces.graph import ExecutionGraph, Ints
    from chakrasim.traces.workload import Workload

UNRECORDED_PS = np.iinfo(np.int64).max
"""Recorded duration of a node that has none."""


class Measured(Analytical):
    """Recorded durations."""

    summary = "as long as recorded"
    needs_recording = True

    def plays_collectives(self, workload: Workload, machine: Machine) -> bool:
        """If any has no recording."""
        return machine.scheduling is not None and any(map(_lacks_recording, workload.graphs.values()))

    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """The shortest recording among members, and of both ends of a message."""
        program = traffic.program
        is_recorded = (program.column("durations_ps") > 0) | (program.column("starts_ps") >= 0)
        recorded_ps = np.where(is_recorded, traffic.recorded_ps, UNRECORDED_PS)
        notes: Counter[str] = Counter()
        collective_ps = self._collectives_ps(traffic, machine, recorded_ps, notes)
        return Priced(_messages_ps(traffic, machine, recorded_ps, notes), collective_ps, notes)

    def _collectives_ps(
        self, traffic: Traffic, machine: Machine, recorded_ps: Ints, notes: Counter[str]
    ) -> Ints:
        matched = traffic.program.matched
        offsets, members = traffic.program.members()
        if not len(matched.collectives):
            return np.empty(0, dtype=np.int64)
        collective_ps: Ints = np.minimum.reduceat(recorded_ps[members], offsets[:-1])
        is_priced = collective_ps == UNRECORDED_PS
        if is_priced.any():
            text = "collectives without a recorded duration are costed by the network"
            notes[text] = int(matched.collective_weights[is_priced].sum())
            scheduled = machine.scheduling is not None
            collective_ps[is_priced] = (
                ASK_PS if scheduled else traffic.idle_collectives_ps(machine, is_priced)
            )
        return collective_ps


def _messages_ps(traffic: Traffic, machine: Machine, recorded_ps: Ints, notes: Counter[str]) -> Ints:
    program, nodes = traffic.program, traffic.nodes
    # Each side's recording holds its waiting for the other.
    partners = program.partners[nodes]
    message_ps: Ints = np.minimum(
        recorded_ps[nodes], np.where(partners >= 0, recorded_ps[partners], UNRECORDED_PS)
    )
    is_priced = message_ps == UNRECORDED_PS
    message_ps[is_priced] = (
        ASK_PS if plays_messages(machine) else traffic.idle_messages_ps(machine, is_priced)
    )
    unrecorded = np.zeros(len(program), dtype=np.bool_)
    unrecorded[nodes[is_priced]] = True
    unrecorded &= program.roles == SEND
    if unrecorded.any():
        notes["messages without a recorded duration are costed by the network"] = program.count(unrecorded)
    return message_ps


def _lacks_recording(graph: ExecutionGraph) -> bool:
    is_collective = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0)
    return bool((is_collective & (graph.durations_ps <= 0) & (graph.starts_ps < 0)).any())
