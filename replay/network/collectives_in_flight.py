"""Collectives between their first member's start and their last member's end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.custom import custom_tasks
from chakrasim.replay.collectives.cost import collective_ps, phase_kinds
from chakrasim.replay.collectives.execution.bus import BusEndpoint
from chakrasim.replay.collectives.execution.endpoint import PlainEndpoint
from chakrasim.replay.collectives.execution.phase_executor import Played, Players
from chakrasim.replay.collectives.execution.scheduler import Collective, Scheduler
from chakrasim.replay.collectives.execution.task_graph import TaskRun
from chakrasim.replay.collectives.layout import Layout, lay_out
from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.engine.program import Program
from chakrasim.replay.machine.machine import NCCL, Machine
from chakrasim.replay.transport.idle_links import IdleLinks
from chakrasim.replay.transport.interface import Transport
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind


@dataclass(frozen=True, eq=False)
class _AsAWhole:
    """A collective that isn't played: it ends for all a time after its last member has come."""

    waiting: list[Event]
    present: int
    cost_ps: int


class CollectivesInFlight:
    """The collectives of one replay on a sized machine.

    With a transport every message of them is played on it; without one phases take the time of idle links.
    """

    def __init__(self, program: Program, machine: Machine, clock: Clock, transport: Transport | None) -> None:
        self.notes: dict[str, None] = {}
        """Assumptions, each once."""
        if transport is not None and any(NCCL in names for names in machine.algorithms.values()):
            machine = _as_rings(machine)
            self._note("collectives are played as rings over the full bandwidth of the links, not as NCCL's")
        self.program, self.machine, self.clock = program, machine, clock
        self.scheduling = machine.system
        self.transport = transport or IdleLinks(clock, machine)
        players = Players(
            machine,
            clock,
            transmit=None if transport is None else transport.send,
            endpoint=BusEndpoint(clock, self.scheduling.bus) if self.scheduling.bus else None,
        )
        self._scheduler = Scheduler(machine, clock, players)
        self._custom: dict[int, Played] = {}
        self._layouts: dict[tuple[CommKind, int, int], Layout | None] = {}
        self._as_a_whole: dict[int, _AsAWhole] = {}

    def start(self, node: int, ended: Event) -> None:
        """A member comes to its collective; `ended` runs when it has finished its part."""
        program, matching, scheduling = self.program, self.program.collectives, self.scheduling
        rank, row = program.locate(node)
        number, graph = int(program.partners[node]), program.workload.graphs[rank]
        kind, group = CommKind(matching.kind[number]), int(matching.group[number])
        if kind == CommKind.REDUCE_SCATTER_BLOCK:
            kind = CommKind.REDUCE_SCATTER
        path = scheduling.custom_by_node.get(int(graph.ids[row]), scheduling.custom.get(kind))
        if path is not None:
            self._start_custom(number, rank, path, ended)
            return
        if not scheduling.rules.runs(kind) or NCCL in self.machine.algorithms[kind]:
            self._wait_together(number, kind, ended)
            return
        key = kind, group, int(graph.involved_dims[row])
        ranks = program.workload.groups[group].ranks
        if key not in self._layouts:
            self._layouts[key] = self._lay_out(kind, ranks, key[2])
        layout = self._layouts[key]
        if layout is None:
            self.clock.at(self.clock.now_ps, ended)
            return

        def collective() -> Collective:
            present = program.workload.graphs.keys() & set(ranks)
            size_bytes = 0 if kind == CommKind.BARRIER else max(0, int(matching.size_bytes[number]))
            root = int(matching.root[number])
            return Collective(kind, size_bytes, ranks, present, layout, root if root in ranks else min(ranks))

        self._scheduler.start(number, collective, rank, int(graph.priorities[row]), ended)

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
                Mailbox(self.clock, self.transport.send, rendezvous=self.scheduling.rendezvous),
                [place for place, member in enumerate(ranks) if member in workload.graphs],
                len(ranks),
            )
        flight.start(ranks.index(rank), ended)

    def _wait_together(self, number: int, kind: CommKind, ended: Event) -> None:
        matching, workload = self.program.collectives, self.program.workload
        ranks = workload.groups[int(matching.group[number])].ranks
        flight = self._as_a_whole.get(number)
        if flight is None:
            if not self.scheduling.rules.has_all_kinds:
                self._note(
                    f"ASTRA-sim can't run {kind.label}: it is costed as a whole, over the machine's links"
                )
            cost_ps = collective_ps(self.machine, kind, max(0, int(matching.size_bytes[number])), ranks)
            present = int(self.program.expected[number])
            flight = self._as_a_whole[number] = _AsAWhole([], present, cost_ps)
        flight.waiting.append(ended)
        if len(flight.waiting) == flight.present:
            del self._as_a_whole[number]
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
            self._note(f"{kind.label} of {len(ranks)} ranks: no dimension is involved, and it takes no time")
        return layout

    def _check(self, name: str, kind: CommKind, n: int) -> None:
        """Refuse a phase that an algorithm can't run; where ASTRA-sim does something else instead, say so."""
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
        self._note(f"{why}: what ASTRA-sim does instead is costed, which is no {kind.label}")

    def _note(self, text: str) -> None:
        self.notes[text] = None


def _as_rings(machine: Machine) -> Machine:
    """The machine with rings where it has `nccl`, which is a cost and states no messages."""
    algorithms = {
        kind: tuple("ring" if name == NCCL else name for name in names)
        for kind, names in machine.algorithms.items()
    }
    return replace(machine, algorithms=algorithms, nccl=None)
