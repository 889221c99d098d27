"""Execution of a windowed algorithm message by message; `schedule.py` has the rules of its tokens."""

from __future__ import annotations

from collections.abc import Callable

from chakrasim.replay.collectives.execution.endpoint import Endpoint
from chakrasim.replay.collectives.execution.schedule import Program
from chakrasim.replay.transport.mailbox import Mailbox


class TokenRun:
    """One phase of one chunk over the members of a line. O(messages log messages)."""

    def __init__(
        self,
        program: Program,
        ranks: tuple[int, ...],
        endpoint: Endpoint,
        mailbox: Mailbox,
        ended: Callable[[int], None],
    ) -> None:
        self.program, self.ranks = program, ranks
        self.endpoint, self.mailbox, self.ended = endpoint, mailbox, ended
        n = len(ranks)
        self.made, self.fired, self.credits, self.received = [0] * n, [0] * n, [0] * n, [0] * n
        # One member alone stands for all of them: it receives what it sends.
        self.is_alone = n == 1 < program.n

    def start(self, member: int) -> None:
        """A member, by its place in the line, comes to this phase."""
        for _ in range(self.program.window):
            self._make(member)

    def _make(self, member: int) -> None:
        operation = self.program.operations[self.made[member]]
        self.made[member] += 1
        self.endpoint.operate(self.ranks[member], operation, lambda: self._operated(member))

    def _operated(self, member: int) -> None:
        program = self.program
        self.credits[member] += 1
        if program.barrier and len(program) - self.fired[member] <= program.barrier:
            if self.received[member] >= program.barrier:
                for _ in range(program.window):
                    self._fire(member)
        else:
            self._fire(member)
        if self.fired[member] == len(program) and self.credits[member] == program.window:
            self.ended(member)

    def _fire(self, member: int) -> None:
        program, message = self.program, self.fired[member]
        if message == len(program) or not self.credits[member] or message >= self.made[member]:
            return
        self.fired[member] += 1
        self.credits[member] -= 1
        size_bytes = program.operations[message].size_bytes
        to = from_ = self.ranks[member]
        if not self.is_alone:
            to = self.ranks[program.destinations[message][member]]
            from_ = self.ranks[program.sources[message][member]]
        self.mailbox.send((self.ranks[member], to, size_bytes, 0))
        self.mailbox.receive((from_, self.ranks[member], size_bytes, 0), lambda: self._received(member))

    def _received(self, member: int) -> None:
        self.received[member] += 1
        self._make(member)
