"""Phase times on an idle network: the end of each member from the starts of all.

Nothing else decides it, so it is worked out once, when the last member has started, and kept for starts that
are the same but for a shift. Members that start together and lie alike take a closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Shift, Step
from chakrasim.replay.collectives.execution.endpoint import Operation, PlainEndpoint
from chakrasim.replay.collectives.execution.schedule import Program
from chakrasim.replay.collectives.execution.task_graph import RECEIVE, Task
from chakrasim.replay.collectives.execution.windowed import TokenRun
from chakrasim.replay.collectives.layout import Line
from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces.graph import CommKind, Ints
from chakrasim.traces.units import whole_ps_of

KEPT_STARTS = 1024
"""Maximum number of combinations of starts whose ends are kept, for each phase: some megabytes at most."""


Order = tuple[int, ...]
"""What breaks ties between phases of one member that end together: minus how long before its end it set its
last timer, the one before that if it reduced, and when the message left whose arrival did. The longer ago,
the sooner it is its turn."""


class Run(Protocol):
    """A phase that is played message by message."""

    def start(self, member: int) -> None:
        """A member, by its place in the line, comes to this phase."""


Play = Callable[[Clock, Mailbox, Callable[[int], None]], Run]
"""Makes a run of a phase from the clock, the mailbox, and what to do when a member has ended it."""


class Pace:
    """Ends of one phase on one line. With `together`, all members end with the last of them."""

    def __init__(self, line: Line, orders: Sequence[Order], *, together: bool = False) -> None:
        """`orders` are the members' own, or one for all."""
        self.line, self.orders, self.together = line, orders, together
        self._kept: dict[tuple[int, ...], tuple[int, ...]] = {}

    def order(self, place: int) -> Order:
        """Tie-breaking key of a member."""
        return self.orders[place % len(self.orders)]

    def ends(self, starts_ps: list[int]) -> tuple[int, ...]:
        """Starts and ends by place in the line. O(messages of one member) for the first equal starts."""
        first = min(starts_ps)
        shifted = tuple([start - first for start in starts_ps])
        kept = self._kept.get(shifted)
        if kept is None:
            if len(self._kept) == KEPT_STARTS:
                self._kept.clear()
            kept = self._work_out(np.array(shifted, dtype=np.int64))
            if self.together:
                kept = (max(kept),) * len(kept)
            self._kept[shifted] = kept
        return tuple([first + end for end in kept])

    def _work_out(self, starts_ps: Ints) -> tuple[int, ...]:
        raise NotImplementedError

    def played(self, play: Play, starts_ps: Ints, load: int = 1) -> tuple[int, ...]:
        """Ends found by playing all messages on a clock of their own. O(messages log messages).

        Each takes as long as `load` times its bytes.
        """
        clock, ends_ps = Clock(), [-1] * len(starts_ps)
        ranks = self.line.ranks
        known: dict[tuple[int, int, int], int] = {}

        def transmit(source: int, destination: int, size_bytes: int, _tag: int, arrived: Event) -> None:
            key = source, destination, size_bytes
            if key not in known:
                known[key] = self.line.between_ps(source, destination, size_bytes * load)
            clock.at(clock.now_ps + known[key], arrived)

        def ended(member: int) -> None:
            ends_ps[member] = clock.now_ps

        run = play(clock, Mailbox(clock, transmit), ended)
        for member in range(len(ranks)):
            clock.at(int(starts_ps[member]), lambda member=member: run.start(member))  # type: ignore[misc]
        clock.run()
        return tuple(ends_ps)


class TokenPace(Pace):
    """Phase times of an algorithm whose members all do the same."""

    def __init__(self, line: Line, program: Program, *, together: bool = False) -> None:
        self.program, self.line = program, line
        self.loads = self._loads()
        operation, message_ps = program.operations[-1], int(self._message_ps(len(program) - 1).max())
        order: Order = (-operation.takes_ps, -operation.takes_ps - message_ps)
        if operation.reduces:
            order = (-operation.reduction_ps, *order)
        super().__init__(line, (order,), together=together)

    def _work_out(self, starts_ps: Ints) -> tuple[int, ...]:
        program = self.program
        alike = None if starts_ps.any() else self._alike_ps()
        if alike is not None:
            # Every member does the same at the same time.
            self._check_total(float(alike.sum(dtype=np.float64)))
            one_ps = int(alike.sum() + program.operations_ps.sum())
            if program.window > 1:
                one_ps = self._one_for_all(alike)
            return (one_ps,) * len(self.line)
        if program.window == 1:
            return self._one_after_the_other(starts_ps)

        def play(clock: Clock, mailbox: Mailbox, ended: Callable[[int], None]) -> Run:
            return TokenRun(program, self.line.ranks, PlainEndpoint(clock), mailbox, ended)

        return self.played(play, starts_ps, self.loads[0])

    def _loads(self) -> list[int]:
        """Messages that share the busiest link in each step."""
        program, line = self.program, self.line
        if program.window == 1:
            return [line.load(step.sources, step.destinations) for step in program.steps]
        # Of the messages to all the others, as many as fit into the window.
        half = program.steps[: program.n - 1]
        sources = np.concatenate([step.sources for step in half])
        destinations = np.concatenate([step.destinations for step in half])
        all_at_once = line.load(sources, destinations)
        return [-(-all_at_once * program.window // (program.n - 1))] * len(program.steps)

    def _message_ps(self, message: int) -> Ints:
        """int64[n]: what the message of each source costs, in the order of the step."""
        index = int(self.program.step_of[message])
        step = self.program.steps[index]
        return self.line.message_ps(step.sources, step.destinations, step.size_bytes * self.loads[index])

    def _alike_ps(self) -> Ints | None:
        """int64[messages]: what each message costs, if that is the same for all members; else None."""
        program, line = self.program, self.line
        costs = np.empty(len(program.steps), dtype=np.int64)
        known: dict[tuple[int, int], int] = {}
        for index, step in enumerate(program.steps):
            distance = line.distance(step.sources, step.destinations)
            if distance is None:
                return None
            key = distance, step.size_bytes * self.loads[index]
            if key not in known:
                known[key] = int(line.message_ps(step.sources[:1], step.destinations[:1], key[1])[0])
            costs[index] = known[key]
        return costs[program.step_of]

    def _one_after_the_other(self, starts_ps: Ints) -> tuple[int, ...]:
        """A window of 1: each message goes out after the one before has come. O(messages), in columns."""
        program, operations = self.program, self.program.operations_ps.tolist()
        ready = starts_ps + operations[0]
        last_step, cost = -1, np.empty(0, dtype=np.int64)
        sources = destinations = cost
        messages_ps = 0.0
        for message, step in enumerate(program.step_of.tolist()):
            if step != last_step:
                sources, destinations = program.steps[step].sources, program.steps[step].destinations
                cost, last_step = self._message_ps(message), step
                messages_ps += float(cost.max()) * program.steps[step].times
                self._check_total(messages_ps)
            arrived = np.empty_like(ready)
            arrived[destinations] = ready[sources] + cost
            ready = np.maximum(arrived, ready) + operations[message + 1]
        return tuple(ready.tolist())

    def _check_total(self, messages_ps: float) -> None:
        """Refuse a phase whose messages and operations add up to more than any time."""
        what = f"one phase of a collective over {len(self.line)} ranks on {self.line.machine.name!r}"
        whole_ps_of(messages_ps + float(self.program.operations_ps.sum(dtype=np.float64)), lambda: what)

    def _one_for_all(self, costs_ps: Ints) -> int:
        """One member that receives from itself what it sends, at the time at which the others would."""
        clock = Clock()
        ends_ps: list[int] = []
        sent = iter(costs_ps.tolist())

        def transmit(_source: int, _destination: int, _size_bytes: int, _tag: int, arrived: Event) -> None:
            clock.at(clock.now_ps + next(sent), arrived)

        run = TokenRun(
            self.program,
            self.line.ranks[:1],
            PlainEndpoint(clock),
            Mailbox(clock, transmit),
            lambda _: ends_ps.append(clock.now_ps),
        )
        run.start(0)
        clock.run()
        return ends_ps[0]


class TaskPace(Pace):
    """Phase times of a tree."""

    def __init__(
        self, line: Line, play: Play, tasks: Sequence[Sequence[Task]], *, together: bool = False
    ) -> None:
        orders = [self._order(line, place, own) for place, own in enumerate(tasks)]
        super().__init__(line, orders, together=together)
        self.play = play

    def _order(self, line: Line, place: int, tasks: Sequence[Task]) -> Order:
        operation, from_ = Operation(0), place
        for task in tasks:
            operation = task.operation or operation
            from_ = task.peer if task.kind == RECEIVE else from_
        arrival_ps = line.between_ps(line.ranks[from_], line.ranks[place], operation.size_bytes)
        order = (-operation.takes_ps, -operation.takes_ps - arrival_ps)
        return (-operation.reduction_ps, *order) if operation.reduces else order

    def _work_out(self, starts_ps: Ints) -> tuple[int, ...]:
        return self.played(self.play, starts_ps)


class StepPace(Pace):
    """Phase times of an algorithm whose members do different things, step by step; they end together.

    As `step_tasks` says it: a member sends when what came before is done and its earlier messages have
    landed.
    """

    def __init__(
        self,
        line: Line,
        found: Algorithm,
        kind: CommKind,
        size_bytes: int,
        endpoint_ps: int,
        reduction_ps: Callable[[int], int],
    ) -> None:
        super().__init__(line, ((-endpoint_ps,),), together=True)
        self.found, self.endpoint_ps, self.reduction_ps = found, endpoint_ps, reduction_ps
        self.kind, self.size_bytes = kind, size_bytes
        self._shifts: dict[tuple[int, int], Ints] = {}

    def _work_out(self, starts_ps: Ints) -> tuple[int, ...]:
        """O(messages), in columns."""
        free, has_begun = starts_ps.copy(), np.zeros(len(starts_ps), dtype=np.bool_)
        for sources, destinations, costs_ps, operation_ps in self._rounds():
            free[sources[~has_begun[sources]]] += self.endpoint_ps
            has_begun[sources] = has_begun[destinations] = True
            landed = free[sources] + costs_ps
            done = np.maximum(landed, free[destinations]) + operation_ps
            np.maximum.at(free, sources, landed)
            np.maximum.at(free, destinations, done)
        return tuple(free.tolist())

    def _rounds(self) -> Iterator[tuple[Ints, Ints, Ints, int]]:
        """Messages at once: who sends, who receives, what each costs, and what each does to its receiver."""
        for steps, window in self.found.halves(self.kind, len(self.line), self.size_bytes):
            shared = 0
            if window > 1:
                sources, destinations = _joined(steps)
                shared = -(-self._load(sources, destinations) * window // len(steps))
            for at in range(0, len(steps), window):
                together = steps[at : at + window]
                step, (sources, destinations) = together[0], _joined(together)
                if isinstance(step.messages, Shift) and len(together) == 1:
                    costs_ps = self._shifted(step.messages.distance, step.size_bytes)[sources]
                else:
                    load = shared or (1 if self.found.is_tree else self._load(sources, destinations))
                    costs_ps = self.line.message_ps(sources, destinations, step.size_bytes * load)
                operation_ps = self.endpoint_ps + (self.reduction_ps(step.size_bytes) if step.reduces else 0)
                yield from [(sources, destinations, costs_ps, operation_ps)] * step.times

    def _load(self, sources: Ints, destinations: Ints) -> int:
        """Messages on the busiest link; on a flat line a member has one link for all that it sends or
        receives."""
        if not self.line.is_flat:
            return self.line.load(sources, destinations)
        return int(max(np.bincount(sources).max(), np.bincount(destinations).max()))

    def _shifted(self, distance: int, size_bytes: int) -> Ints:
        """int64[n]: what a message from each place costs while all others send as far."""
        key = distance, size_bytes
        if key not in self._shifts:
            whole = Shift(len(self.line), distance)
            load = self.line.load(whole.sources, whole.destinations)
            self._shifts[key] = self.line.message_ps(whole.sources, whole.destinations, size_bytes * load)
        return self._shifts[key]


def _joined(steps: Sequence[Step]) -> tuple[Ints, Ints]:
    sources = np.concatenate([step.sources for step in steps])
    return sources, np.concatenate([step.destinations for step in steps])
