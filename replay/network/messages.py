"""Sends and receives of the trace while the replay runs."""

from __future__ import annotations

from chakrasim.replay.engine.event_queue import Event
from chakrasim.replay.engine.program import Program
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.matching import message_labels

_SEND = int(NodeKind.SEND)


class NodeMessages:
    """Gives sends to the transport, and receives what arrives."""

    def __init__(self, program: Program, transport: Transport, mailbox: Mailbox) -> None:
        self.program, self.transport, self.mailbox = program, transport, mailbox
        self._labels: dict[int, list[list[int]]] = {}

    def start(self, node: int, ended: Event) -> None:
        """A send or a receive starts.

        The other end of a send that isn't replayed is taken to be ready for it. A receive from a rank that
        isn't replayed takes the time of the message, as if that were sent at its start.
        """
        program = self.program
        rank, row = program.locate(node)
        graph = program.workload.graphs[rank]
        if id(graph) not in self._labels:
            columns = graph.kinds, graph.peers, *message_labels(graph)
            self._labels[id(graph)] = [column.tolist() for column in columns]
        kinds, peers, tags, sizes_bytes = self._labels[id(graph)]
        peer = peers[row]
        source, destination = (rank, peer) if kinds[row] == _SEND else (peer, rank)
        key = source, destination, sizes_bytes[row], tags[row]
        if peer not in program.workload.graphs:
            self.transport.send(*key, ended)
        elif source == rank:
            self.mailbox.send(key, ended)
        else:
            self.mailbox.receive(key, ended)


def plays_messages(machine: Machine) -> bool:
    """Whether a machine has every message played, whatever its network: over a bus, asked for by its
    receiver, or where the simulator whose rules it follows does so for shared memory."""
    system, memory = machine.system, machine.remote_memory
    plays_for_memory = memory is not None and memory.is_shared and system.rules.plays_for_shared_memory
    return plays_for_memory or system.bus is not None or system.rendezvous
