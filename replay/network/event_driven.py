"""What the replay loop asks where collectives are scheduled, or messages share links or memory.

A `SharedNetwork`: members of collectives, and where messages meet also sends and receives, and memory
nodes that share a link, are handed over when they start and handed back when they end.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.custom import custom_tasks
from chakrasim.replay.collectives.cost import NCCL, collective_ps, phase_kinds
from chakrasim.replay.collectives.execution.bus import BusEndpoint
from chakrasim.replay.collectives.execution.endpoint import PlainEndpoint
from chakrasim.replay.collectives.execution.phase_executor import Played, Players
from chakrasim.replay.collectives.execution.scheduler import Collective, Scheduler
from chakrasim.replay.collectives.execution.task_graph import TaskRun
from chakrasim.replay.collectives.layout import Layout, lay_out
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.transport.fifo_links import FifoLinks
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.matching import message_labels

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Event
    from chakrasim.replay.engine.program import Program
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.graph import Ints


@dataclass(frozen=True, eq=False)
class _Together:
    """A collective that isn't played: it ends for all so long after the last has come."""

    waiting: list[Event]
    present: int
    cost_ps: int


def _as_rings(machine: Machine) -> Machine:
    """The machine with rings where it has `nccl`, which is a cost and states no messages."""
    algorithms = {
        kind: tuple("ring" if name == NCCL else name for name in names)
        for kind, names in machine.algorithms.items()
    }
    return replace(machine, algorithms=algorithms, nccl=None)


class SystemNetwork:
    """One for each replay, of a sized machine. With `shares_links` messages queue for the links.

    `timers_ps` are durations of nodes that are only to end in order with the others, -1 for the rest.
    """

    def __init__(
        self, program: Program, machine: Machine, *, shares_links: bool, timers_ps: Ints | None = None
    ) -> None:
        self.notes: dict[str, None] = {}
        """What was assumed, each once."""
        if shares_links and any(NCCL in names for names in machine.algorithms.values()):
            machine = _as_rings(machine)
            self.notes[
                "collectives are played as rings over the full bandwidth of the links, not as NCCL's"
            ] = None
        self.program, self.machine = program, machine
        self.timers = timers_ps.tolist() if timers_ps is not None else None
        self.clock = Clock()
        self.scheduling = machine.system
        self.ended: list[int] = []
        transmit = None
        if plays_messages(machine, shares_links=shares_links):
            transmit = FifoLinks(self.clock, machine).transmit if shares_links else self._idle
        bus = BusEndpoint(self.clock, self.scheduling.bus) if self.scheduling.bus else None
        players = Players(machine, self.clock, transmit=transmit, endpoint=bus)
        self.scheduler = Scheduler(machine, self.clock, players)
        self.transmit = transmit or self._idle
        self.mailbox = Mailbox(self.clock, self.transmit, rendezvous=self.scheduling.rendezvous)
        self._custom: dict[int, Played] = {}
        self._layouts: dict[tuple[CommKind, int, int], Layout | None] = {}
        self._together: dict[int, _Together] = {}
        self._labels: dict[int, tuple[Ints, Ints]] = {}
        self._memory_links: dict[int, deque[Event]] = defaultdict(deque)
        self._idle_ps: dict[tuple[int, int, int], int] = {}

    def start(self, now_ps: int, event: int, sequence: int) -> None:
        """A node starts."""
        self.clock.now_ps = now_ps
        program = self.program
        rank, row = program.locate(event)
        graph = program.workload.graphs[rank]
        kind = NodeKind(graph.kinds[row])

        def ended() -> None:
            self.ended.append(event)

        if self.timers is not None and self.timers[event] >= 0:
            end_ps = now_ps + self.timers[event]
            if kind == NodeKind.SEND:
                self.clock.at(end_ps, ended)
            else:
                self.clock.timer(rank, end_ps, ended)
            return
        if kind == NodeKind.COLL:
            self._start_collective(int(program.partners[event]), rank, row, ended)
            return
        if kind in (NodeKind.SEND, NodeKind.RECV):
            if id(graph) not in self._labels:
                self._labels[id(graph)] = message_labels(graph)
            tags, sizes = self._labels[id(graph)]
            peer, label = int(graph.peers[row]), (int(sizes[row]), int(tags[row]))
            if kind == NodeKind.SEND:
                self.mailbox.send((rank, peer, *label), ended)
            else:
                self.mailbox.receive((peer, rank, *label), ended)
        else:
            self._start_memory(rank, int(graph.tensor_bytes[row]), ended)

    def next_ps(self) -> int:
        """When the next event is due."""
        return self.clock.next_ps()

    def advance(self, to_ps: int) -> list[tuple[int, int]]:
        """Run what is due; (time_ps, event) of the nodes that ended, in order.

        Where messages are played it stops as soon as a node ends: what that leads to comes before the rest of
        the tick. Else the whole tick is run, so that it has the same order for every rank.
        """
        clock = self.clock
        while clock.next_ps() <= to_ps and not (self.ended and self.timers is not None):
            clock.step()
        ended = [(to_ps, node) for node in self.ended]
        self.ended.clear()
        return ended

    def _idle(self, source: int, destination: int, size_bytes: int, arrived: Event) -> None:
        from chakrasim.replay.transport.uncontended import message_ps

        key = source, destination, size_bytes
        if key not in self._idle_ps:
            self._idle_ps[key] = message_ps(self.machine, *key)
        self.clock.at(self.clock.now_ps + self._idle_ps[key], arrived)

    def _start_memory(self, rank: int, size_bytes: int, ended: Event) -> None:
        """One request after the other on each link to remote memory."""
        memory = self.machine.remote_memory
        assert memory is not None
        link = rank // memory.ranks_per_node if memory.sharing == "per-node" else 0
        queue = self._memory_links[link]

        def serve() -> None:
            takes_ps = memory.access_ps(size_bytes, self.machine.cycle_ps)
            self.clock.timer(rank, self.clock.now_ps + takes_ps, served)

        def served() -> None:
            ended()
            self.clock.then(serve_next)

        def serve_next() -> None:
            queue.popleft()
            if queue:
                queue[0]()

        queue.append(serve)
        if len(queue) == 1:
            serve()

    def _start_collective(self, number: int, rank: int, row: int, ended: Event) -> None:
        matching = self.program.collectives
        graph = self.program.workload.graphs[rank]
        kind, group = CommKind(matching.kind[number]), int(matching.group[number])
        if kind == CommKind.REDUCE_SCATTER_BLOCK:
            kind = CommKind.REDUCE_SCATTER
        key = kind, group, int(graph.involved_dims[row])
        scheduling = self.scheduling
        path = scheduling.custom_by_node.get(int(graph.ids[row]), scheduling.custom.get(kind))
        if path is not None:
            self._start_custom(number, rank, path, ended)
            return
        if not scheduling.rules.runs(kind) or NCCL in self.machine.algorithms[kind]:
            self._wait_together(number, kind, ended)
            return
        ranks = self.program.workload.groups[group].ranks
        if key not in self._layouts:
            self._layouts[key] = self._lay_out(kind, ranks, key[2])
        layout = self._layouts[key]
        if layout is None:
            self.clock.at(self.clock.now_ps, ended)
            return

        def collective() -> Collective:
            present = self.program.workload.graphs.keys() & set(ranks)
            size_bytes = 0 if kind == CommKind.BARRIER else max(0, int(matching.size_bytes[number]))
            root = int(matching.root[number])
            return Collective(kind, size_bytes, ranks, present, layout, root if root in ranks else min(ranks))

        self.scheduler.start(number, collective, rank, int(graph.priorities[row]), ended)

    def _start_custom(self, number: int, rank: int, path: str, ended: Event) -> None:
        """One run over all members, whatever the chunks: a graph states its own messages."""
        matching, workload = self.program.collectives, self.program.workload
        ranks = tuple(sorted(workload.groups[int(matching.group[number])].ranks))
        flight = self._custom.get(number)
        if flight is None:
            kind, size_bytes = CommKind(matching.kind[number]), max(0, int(matching.size_bytes[number]))
            tasks = custom_tasks(self.machine, path, kind, len(ranks), size_bytes)
            flight = self._custom[number] = Played(
                lambda clock, mailbox, done: TaskRun(
                    clock, tasks, ranks, PlainEndpoint(clock), mailbox, done
                ),
                self.clock,
                Mailbox(self.clock, self.transmit, rendezvous=self.scheduling.rendezvous),
                [place for place, member in enumerate(ranks) if member in workload.graphs],
                len(ranks),
            )
        flight.start(ranks.index(rank), ended)

    def _wait_together(self, number: int, kind: CommKind, ended: Event) -> None:
        matching, workload = self.program.collectives, self.program.workload
        ranks = workload.groups[int(matching.group[number])].ranks
        flight = self._together.get(number)
        if flight is None:
            if not self.scheduling.rules.has_all_kinds:
                what = f"ASTRA-sim can't run {kind.label}: it is costed as a whole, over the machine's links"
                self.notes[what] = None
            cost_ps = collective_ps(self.machine, kind, max(0, int(matching.size_bytes[number])), ranks)
            flight = self._together[number] = _Together([], int(self.program.expected[number]), cost_ps)
        flight.waiting.append(ended)
        if len(flight.waiting) == flight.present:
            del self._together[number]
            for event in flight.waiting:
                self.clock.at(self.clock.now_ps + flight.cost_ps, event)

    def _lay_out(self, kind: CommKind, ranks: tuple[int, ...], involved: int) -> Layout | None:
        """As `lay_out`, for algorithms that there are and that can run the collective."""
        machine = self.machine
        if not machine.algorithms[kind]:
            raise ConfigError(
                f"machine {machine.name!r} ({machine.source}) names no algorithm for {kind.label}, which the "
                f"trace needs; in ASTRA-sim's system file the key is {kind.label}-implementation"
            )
        layout = lay_out(machine, kind, ranks, involved)
        if layout is not None:
            for index, (name, n) in enumerate(zip(layout.algorithms, layout.sizes, strict=True)):
                for phase in phase_kinds(self.scheduling, kind, index, len(layout.dims)):
                    self._check(name, phase, n)
        elif len(ranks) > 1:
            what = f"{kind.label} of {len(ranks)} ranks: no dimension is involved, and it takes no time"
            self.notes[what] = None
        return layout

    def _check(self, name: str, kind: CommKind, n: int) -> None:
        """Refuse what an algorithm can't do; where ASTRA-sim does something else instead, say so."""
        found = algorithm(name)
        why = found.refusal(kind, n)
        if why is None:
            return
        is_odd = kind in found.any_size_in_astra_sim or (found.is_tree and not n & (n - 1))
        if not (self.scheduling.rules.runs_odd_algorithms and is_odd):
            machine = self.machine
            raise ConfigError(
                f"machine {machine.name!r} ({machine.source}): {why}; choose another algorithm for that "
                "dimension"
            )
        self.notes[f"{why}: what ASTRA-sim does instead is costed, which is no {kind.label}"] = None


def plays_messages(machine: Machine, *, shares_links: bool) -> bool:
    """Whether every message has to be played: they share links or a bus, or are asked for, or the rules want
    it for shared memory (`Rules.plays_for_shared_memory`)."""
    system, memory = machine.system, machine.remote_memory
    shares_memory = memory is not None and memory.sharing != "per-rank"
    shares_memory = shares_memory and system.rules.plays_for_shared_memory
    return shares_links or shares_memory or system.bus is not None or system.rendezvous
