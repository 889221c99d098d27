"""One phase of one chunk on one line: worked out from its starts, or played on links that messages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import ROOTED
from chakrasim.replay.collectives.execution.endpoint import Endpoint, PlainEndpoint
from chakrasim.replay.collectives.execution.phase_time import Pace, Play, Run, StepPace, TaskPace, TokenPace
from chakrasim.replay.collectives.execution.schedule import Program, endpoint_ps, make_program, reduction_ps
from chakrasim.replay.collectives.execution.task_graph import Task, TaskRun, step_tasks
from chakrasim.replay.collectives.execution.windowed import TokenRun
from chakrasim.replay.collectives.layout import Line
from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.transport.mailbox import Mailbox, Transmit
from chakrasim.traces.graph import CommKind


class Player(Protocol):
    """A phase of a chunk while its members are in it."""

    def start(self, member: int, ended: Event) -> None:
        """A member, by its place in the line, starts; `ended` runs when it has ended."""


class Worked:
    """Ends follow from the starts, once all members that are replayed have started."""

    def __init__(self, clock: Clock, pace: Pace, present: Sequence[int], order: tuple[int, ...] = ()) -> None:
        """With `order`, ties with other phases are broken by that instead of by the pace's own."""
        self.clock, self.pace, self.present, self.order = clock, pace, present, order
        self.started: dict[int, tuple[int, Event, int]] = {}

    def start(self, member: int, ended: Event) -> None:
        """See `Player`."""
        self.started[member] = self.clock.now_ps, ended, self.clock.ticket()
        if len(self.started) < len(self.present):
            return
        # Members that aren't replayed come with the last one.
        last_ps = self.clock.now_ps
        starts_ps = [last_ps] * len(self.pace.line)
        for place, (start_ps, _, _) in self.started.items():
            starts_ps[place] = start_ps
        ends_ps = self.pace.ends(starts_ps)
        for place, (_, event, ticket) in self.started.items():
            # What a member started first goes on first, whoever it was that made the phase complete.
            order = (*(self.order or self.pace.order(place)), ticket)
            self.clock.at(ends_ps[place], event, order)


class Played:
    """Every message on its way, one by one."""

    def __init__(self, play: Play, clock: Clock, mailbox: Mailbox, present: Sequence[int], n: int) -> None:
        self.ended: dict[int, Event] = {}
        self.missing = sorted(set(range(n)) - set(present))
        self.present = present
        self.run: Run = play(clock, mailbox, self._end)

    def start(self, member: int, ended: Event) -> None:
        """See `Player`."""
        self.ended[member] = ended
        self.run.start(member)
        if len(self.ended) == len(self.present):
            for place in self.missing:
                self.run.start(place)

    def _end(self, member: int) -> None:
        if member in self.ended:
            self.ended[member]()


class How(NamedTuple):
    """What a phase does on its line."""

    name: str
    """Of the algorithm."""
    kind: CommKind
    size_bytes: int
    """What each member puts in."""
    is_subgroup: bool = False
    """The line is a ring of some ranks in list order."""
    clockwise: bool = True
    is_min_tree: bool = False


class Players:
    """Makes players. With `transmit`, phases are played on that network and with that endpoint."""

    def __init__(
        self,
        machine: Machine,
        clock: Clock,
        *,
        transmit: Transmit | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.machine, self.clock = machine, clock
        self.scheduling = machine.system
        self.transmit, self.endpoint = transmit, endpoint
        self._paces: dict[tuple[object, How], Pace] = {}

    def make(self, line: Line, how: How, present: Sequence[int]) -> Player:
        """A player for one phase; `present` are the places in the line that are replayed."""
        if self.transmit is not None:
            # A ring of some ranks doesn't go over the bus.
            play = self._play(line, how, None if how.is_subgroup else self.endpoint)
            mailbox = Mailbox(self.clock, self.transmit, rendezvous=self.scheduling.rendezvous)
            return Played(play, self.clock, mailbox, present, len(line))
        key = line.likeness, how
        if key not in self._paces:
            self._paces[key] = self._pace(line, how)
        order = (line.dimension,) if self.scheduling.rules.ties_by_dimension else ()
        return Worked(self.clock, self._paces[key], present, order)

    def _pace(self, line: Line, how: How) -> Pace:
        together = self.scheduling.rules.members_end_together
        found = algorithm(how.name)
        if not self._is_tree(how) and not self._is_alike(line, how):
            return StepPace(
                line,
                found,
                how.kind,
                how.size_bytes,
                endpoint_ps(self.machine, is_subgroup=False),
                lambda size_bytes: reduction_ps(self.machine, size_bytes),
            )
        if found.is_tree:
            return TaskPace(line, self._play(line, how, None), self._tasks(line, how), together=together)
        return TokenPace(line, self._program(line, how), together=together)

    def _is_tree(self, how: How) -> bool:
        """A tree's own collective, in which a member sends as soon as it has what it needs."""
        return algorithm(how.name).is_tree and how.kind not in ROOTED

    def _is_alike(self, line: Line, how: How) -> bool:
        """Every member sends and receives one message in each step: one list of tokens serves all."""
        n = len(line)
        return all(step.is_exchange(n) for step in algorithm(how.name).steps(how.kind, n, how.size_bytes))

    def _play(self, line: Line, how: How, endpoint: Endpoint | None) -> Play:
        ranks = line.ranks
        if self._is_tree(how) or not self._is_alike(line, how):
            tasks = self._tasks(line, how)
            return lambda clock, mailbox, ended: TaskRun(
                clock, tasks, ranks, endpoint or PlainEndpoint(clock), mailbox, ended
            )
        program = self._program(line, how)
        return lambda clock, mailbox, ended: TokenRun(
            program, ranks, endpoint or PlainEndpoint(clock), mailbox, ended
        )

    def _program(self, line: Line, how: How) -> Program:
        return make_program(
            self.machine,
            algorithm(how.name),
            how.kind,
            len(line),
            how.size_bytes,
            is_subgroup=how.is_subgroup,
            clockwise=how.clockwise,
        )

    def _tasks(self, line: Line, how: How) -> Sequence[Sequence[Task]]:
        found = algorithm(how.name)
        if how.is_min_tree and found.other_steps is not None:
            found = replace(found, steps=found.other_steps)
        rounds = [
            steps[at : at + window]
            for steps, window in found.halves(how.kind, len(line), how.size_bytes)
            for at in range(0, len(steps), window)
            for _ in range(steps[at].times)
        ]
        return step_tasks(
            rounds,
            len(line),
            endpoint_ps(self.machine, is_subgroup=how.is_subgroup),
            lambda size_bytes: reduction_ps(self.machine, size_bytes),
            reduces_downwards=self.scheduling.rules.reduces_by_token,
            awaits_sends=not self._is_tree(how),
        )
