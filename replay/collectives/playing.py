"""One phase of one chunk on one line: worked out from its starts, or played on links that messages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.endpoint import Endpoint, PlainEndpoint
from chakrasim.replay.collectives.lines import Line
from chakrasim.replay.collectives.pace import Pace, Play, Run, TokenPace, TreePace
from chakrasim.replay.collectives.program import endpoint_ps, make_program, reduction_ps
from chakrasim.replay.collectives.tasks import TaskRun, tree_tasks
from chakrasim.replay.collectives.tokens import TokenRun
from chakrasim.replay.machine import Machine
from chakrasim.replay.network.clock import Clock, Event
from chakrasim.replay.network.mailbox import Mailbox, Transmit
from chakrasim.replay.scheduling import ASTRA_SIM_1, CHAKRASIM, Scheduling
from chakrasim.traces.graph import CommKind


class Player(Protocol):
    """A phase of a chunk while its members are in it."""

    def start(self, member: int, ended: Event) -> None:
        """A member, by its place in the line, starts; `ended` runs when it has ended."""


class Worked:
    """Ends follow from the starts, once all members that are replayed have started."""

    def __init__(self, clock: Clock, pace: Pace, present: Sequence[int], rank_in_tie: tuple[int, ...]) -> None:
        self.clock, self.pace, self.present = clock, pace, present
        self.rank_in_tie = rank_in_tie
        self.started: dict[int, tuple[int, Event]] = {}

    def start(self, member: int, ended: Event) -> None:
        """See `Player`."""
        self.started[member] = self.clock.now_ps, ended
        if len(self.started) < len(self.present):
            return
        # Members that aren't replayed come with the last one.
        last_ps = self.clock.now_ps
        starts_ps = [last_ps] * len(self.pace.line)
        for place, (start_ps, _) in self.started.items():
            starts_ps[place] = start_ps
        ends_ps, order = self.pace.ends(starts_ps)
        for place, (_, event) in self.started.items():
            self.clock.at(ends_ps[place], event, self.rank_in_tie or order)


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
        self.scheduling = machine.scheduling or Scheduling()
        self.transmit, self.endpoint = transmit, endpoint
        self._paces: dict[tuple[object, ...], Pace] = {}

    def make(
        self,
        line: Line,
        name: str,
        kind: CommKind,
        size_bytes: int,
        present: Sequence[int],
        *,
        is_subgroup: bool,
        clockwise: bool,
        is_min_tree: bool,
    ) -> Player:
        """A player for one phase of `size_bytes` given by each member; `present` are places in the line."""
        key = line.likeness, name, kind, size_bytes, is_subgroup, clockwise, is_min_tree
        if self.transmit is None:
            if key not in self._paces:
                self._paces[key] = self._pace(line, *key[1:])  # type: ignore[arg-type]
            by_dimension = self.scheduling.rules == ASTRA_SIM_1
            return Worked(self.clock, self._paces[key], present, (line.dimension,) if by_dimension else ())
        play = self._play(line, *key[1:])  # type: ignore[arg-type]
        mailbox = Mailbox(self.clock, self.transmit, rendezvous=self.scheduling.rendezvous)
        return Played(play, self.clock, mailbox, present, len(line))

    def _pace(
        self,
        line: Line,
        name: str,
        kind: CommKind,
        size_bytes: int,
        is_subgroup: bool,
        clockwise: bool,
        is_min_tree: bool,
    ) -> Pace:
        found, n = algorithm(name), len(line)
        together = self.scheduling.rules == ASTRA_SIM_1
        if found.is_tree:
            play = self._play(line, name, kind, size_bytes, is_subgroup, clockwise, is_min_tree)
            return TreePace(line, play, endpoint_ps(self.machine, is_subgroup=is_subgroup), together=together)
        program = make_program(
            self.machine, found, kind, n, size_bytes, is_subgroup=is_subgroup, clockwise=clockwise
        )
        return TokenPace(line, program, together=together)

    def _play(
        self,
        line: Line,
        name: str,
        kind: CommKind,
        size_bytes: int,
        is_subgroup: bool,
        clockwise: bool,
        is_min_tree: bool,
    ) -> Play:
        found, n = algorithm(name), len(line)
        # A ring of some ranks doesn't go over the bus.
        endpoint = None if is_subgroup else self.endpoint
        if found.is_tree:
            steps = tuple(found.steps(kind, n, size_bytes, is_min=is_min_tree))  # type: ignore[call-arg]
            tasks = tree_tasks(
                steps,
                n,
                endpoint_ps(self.machine, is_subgroup=is_subgroup),
                reduction_ps(self.machine, size_bytes),
                reduces_downwards=self.scheduling.rules != CHAKRASIM,
            )
            return lambda clock, mailbox, ended: TaskRun(
                clock, tasks, line.ranks, endpoint or PlainEndpoint(clock), mailbox, ended
            )
        program = make_program(
            self.machine, found, kind, n, size_bytes, is_subgroup=is_subgroup, clockwise=clockwise
        )
        return lambda clock, mailbox, ended: TokenRun(
            program, line.ranks, endpoint or PlainEndpoint(clock), mailbox, ended
        )


