"""Playing an algorithm that is a graph of tasks: the double binary tree, and graphs that users bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chakrasim.replay.collectives.algorithms.steps import Step
from chakrasim.replay.collectives.execution.endpoint import INBOUND, SENT_BACK, Endpoint, Operation
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.transport.mailbox import Mailbox

SEND, RECEIVE, OPERATE, WAIT = 0, 1, 2, 3


@dataclass(frozen=True)
class Task:
    """Something that one member does when what it needs is done."""

    kind: int
    """Send a message; receive one; an operation of the endpoint; let time pass."""
    needs: tuple[int, ...] = ()
    """Positions of tasks of the same member."""
    peer: int = -1
    """The other end of a message, by its place in the line."""
    size_bytes: int = 0
    tag: int = 0
    duration_ps: int = 0
    """Of passing time."""
    operation: Operation | None = None
    step: int = -1
    """Of operations of which the last to begin sends out again what the step adds up to: which step."""
    is_awaited: bool = True
    """A send is done when its message has landed; otherwise as soon as it is under way."""


class TaskRun:
    """One phase of one chunk, each member with its tasks. O(tasks log tasks)."""

    def __init__(
        self,
        clock: Clock,
        tasks: Sequence[Sequence[Task]],
        ranks: tuple[int, ...],
        endpoint: Endpoint,
        mailbox: Mailbox,
        ended: Callable[[int], None],
    ) -> None:
        self.clock, self.tasks, self.ranks = clock, tasks, ranks
        self.endpoint, self.mailbox, self.ended = endpoint, mailbox, ended
        self.missing = [[len(task.needs) for task in own] for own in tasks]
        self.left = [len(own) for own in tasks]
        self.expected = [Counter(task.step for task in own) for own in tasks]
        self.children: list[list[list[int]]] = []
        for own in tasks:
            children: list[list[int]] = [[] for _ in own]
            for index, task in enumerate(own):
                for parent in task.needs:
                    children[parent].append(index)
            self.children.append(children)

    def start(self, member: int) -> None:
        """A member, by its place in the line, comes to this phase."""
        if not self.tasks[member]:
            self.ended(member)
        for index, task in enumerate(self.tasks[member]):
            if not task.needs:
                self._issue(member, index)

    def _issue(self, member: int, index: int) -> None:
        task = self.tasks[member][index]
        rank = self.ranks[member]

        def done() -> None:
            self._done(member, index)

        if task.kind == SEND:
            key = rank, self.ranks[task.peer], task.size_bytes, task.tag
            self.mailbox.send(key, done if task.is_awaited else None)
            if not task.is_awaited:
                done()
        elif task.kind == RECEIVE:
            self.mailbox.receive((self.ranks[task.peer], rank, task.size_bytes, task.tag), done)
        elif task.kind == OPERATE:
            assert task.operation is not None
            operation = task.operation
            if task.step >= 0:
                self.expected[member][task.step] -= 1
                if not self.expected[member][task.step]:
                    operation = operation._replace(role=SENT_BACK)
            self.endpoint.operate(rank, operation, done)
        else:
            self.clock.timer(rank, self.clock.now_ps + task.duration_ps, done)

    def _done(self, member: int, index: int) -> None:
        self.left[member] -= 1
        if not self.left[member]:
            self.ended(member)
        for child in self.children[member][index]:
            self.missing[member][child] -= 1
            if not self.missing[member][child]:
                self._issue(member, child)


def step_tasks(
    rounds: Sequence[Sequence[Step]],
    n: int,
    endpoint_ps: int,
    reduction_ps: Callable[[int], int],
    *,
    reduces_downwards: bool,
    awaits_sends: bool,
) -> list[list[Task]]:
    """Each member's tasks, by place, for steps of which those of one round are under way at once.

    A member sends in a round when all that came to it in earlier ones is done, and with `awaits_sends` also
    when its own messages of those have landed. It operates before its first message if nothing comes to it
    before, and on everything that comes. `reduces_downwards` charges a reduction also where a member hands on
    what came from its parent.
    """
    tasks: list[list[Task]] = [[] for _ in range(n)]
    ready: list[tuple[int, ...]] = [()] * n
    last_send = {
        member: index
        for index, steps in enumerate(rounds)
        for step in steps
        for member in step.sources.tolist()
    }
    for index, steps in enumerate(rounds):
        done: dict[int, tuple[int, ...]] = {}
        for step in steps:
            for source, destination in zip(step.sources.tolist(), step.destinations.tolist(), strict=True):
                own, theirs = tasks[source], tasks[destination]
                if not own:
                    first = Operation(step.size_bytes, takes_ps=endpoint_ps)
                    own.append(Task(OPERATE, operation=first))
                    ready[source] = (0,)
                own.append(Task(SEND, ready[source], destination, step.size_bytes, is_awaited=awaits_sends))
                if awaits_sends:
                    done[source] = (*done.get(source, ()), len(own) - 1)
                theirs.append(Task(RECEIVE, ready[destination], source, step.size_bytes))
                is_sent_on = last_send.get(destination, -1) > index
                reduces = step.reduces or (reduces_downwards and is_sent_on)
                takes_ps = reduction_ps(step.size_bytes) if reduces else 0
                operation = Operation(
                    step.size_bytes,
                    INBOUND,
                    takes_ps=endpoint_ps + takes_ps,
                    reduces=reduces,
                    reduction_ps=takes_ps,
                )
                sends_on = index if is_sent_on else -1
                theirs.append(Task(OPERATE, (len(theirs) - 1,), operation=operation, step=sends_on))
                done[destination] = (*done.get(destination, ()), len(theirs) - 1)
        for member, last in done.items():
            ready[member] = last
    return tasks
