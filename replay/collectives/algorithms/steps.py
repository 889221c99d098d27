"""Algorithms as steps of messages: the vocabulary in which each is written.

Members are places 0 to n - 1; of a collective with a root, place 0 is the root. A buffer is n blocks, one for
each member; in an all-to-all, block s * n + d goes from s to d. The size of a collective is what a member
puts in: one block for an all-gather or a gather, all n (the root's, for a broadcast or a scatter) for the
others. Whole bytes are divided, as the messages of a simulator have to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np

from chakrasim.traces.graph import CommKind, Ints

ROOTED = frozenset((CommKind.BROADCAST, CommKind.REDUCE, CommKind.GATHER, CommKind.SCATTER))
"""Collectives with a root."""
ONE_BLOCK = frozenset((CommKind.ALL_GATHER, CommKind.GATHER))
"""Collectives into which a member puts one block of the n."""
ALL_KINDS = frozenset(CommKind) - {CommKind.REDUCE_SCATTER_BLOCK}
"""Every collective; a reduce-scatter-block is carried out as a reduce-scatter."""


class Messages(Protocol):
    """Messages under way at the same time, by the places of their ends."""

    @property
    def sources(self) -> Ints:
        """int64[messages]: who sends."""

    @property
    def destinations(self) -> Ints:
        """int64[messages]: who receives."""


class Pairs(NamedTuple):
    """Messages listed one by one."""

    sources: Ints
    destinations: Ints


@dataclass(frozen=True)
class Shift:
    """Members `first` to `first + count - 1` each send to the place `distance` further on, modulo n.

    All n of them if no count is given. What it costs is worked out from the distance alone.
    """

    n: int
    distance: int
    first: int = 0
    count: int | None = None

    @cached_property
    def sources(self) -> Ints:
        """See `Messages`."""
        return (self.first + everyone(self.n if self.count is None else self.count)) % self.n

    @cached_property
    def destinations(self) -> Ints:
        """See `Messages`."""
        return (self.sources + self.distance) % self.n


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a schedule: messages at the same place in their members' programs, `times` in a row.

    A member sends its messages of a step when it has received what the steps before bring it, and its own of
    those have landed. What doesn't wait for anything of the step before belongs into that step.
    """

    messages: Messages
    size_bytes: int
    """Of each message."""
    blocks: Callable[[int], Ints]
    """int64[messages, b]: which blocks of the buffer each message of repetition i carries."""
    reduces: bool = False
    """The destination adds what it receives to what it has; otherwise it keeps it as it is."""
    times: int = 1

    @property
    def sources(self) -> Ints:
        """int64[messages]: who sends."""
        return self.messages.sources

    @property
    def destinations(self) -> Ints:
        """int64[messages]: who receives."""
        return self.messages.destinations

    def is_exchange(self, n: int) -> bool:
        """Each of the n members sends one message and receives one."""
        if isinstance(self.messages, Shift):
            return self.messages.count in (None, n)
        return all(len(ends) == n == len(np.unique(ends)) for ends in (self.sources, self.destinations))

    def reversed(self) -> Step:
        """The step with its messages going the other way around the line."""
        return replace(self, messages=Pairs(self.destinations, self.sources))


def everyone(n: int) -> Ints:
    """Places 0..n-1."""
    return np.arange(n, dtype=np.int64)


@dataclass(frozen=True)
class Algorithm:
    """A collective algorithm on one dimension, or over all ranks."""

    name: str
    steps: Callable[[CommKind, int, int], Iterator[Step]]
    """(kind, n members, bytes that a member puts in) to its steps."""
    kinds: frozenset[CommKind]
    """Collectives that it can carry out, out of `ALL_KINDS`."""
    summary: str = ""
    """A line for the list of algorithms."""
    source: str = ""
    """The paper that describes it."""
    astra_sim: str = ""
    """Its name in ASTRA-sim's files, if it has one."""
    needs_power_of_two: bool = False
    any_size_in_astra_sim: frozenset[CommKind] = frozenset()
    """Collectives for which ASTRA-sim runs something else where the members are no power of two."""
    is_windowed: bool = False
    """Messages don't need each other, but for the two halves of an all-reduce: as many as `window` allows are
    under way at once. `NAME:k` sets it."""
    window: int | None = None
    """Messages of a member under way at once; None is all of a half."""
    is_flat: bool = False
    """One dimension over all ranks, whatever the network is."""
    is_tree: bool = False
    """Members do different things, a reduce-scatter leaves everyone the whole buffer, and messages of one
    step are taken not to share links."""
    other_steps: Callable[[CommKind, int, int], Iterator[Step]] | None = None
    """Steps of every second chunk of an all-reduce, if they differ."""
    relays_blocks: bool = False
    """In an all-to-all blocks are passed on from member to member."""
    next_bytes: Callable[[CommKind, int], int] = lambda _kind, size_bytes: size_bytes
    """Bytes of the message that would follow a member's last one, which what it does after its last receive
    is charged for."""
    cycle: Callable[[int, int], int] = lambda n, window: n - 1
    """(n, window) to the tokens of a cycle beyond the window, of which `docs/astra-sim.md` has the rule."""

    def refusal(self, kind: CommKind, n: int) -> str | None:
        """Why it can't carry out a collective of n members; None if it can."""
        if kind not in self.kinds:
            return f"{self.name} can't run {kind.label}"
        if self.needs_power_of_two and n & (n - 1):
            return f"{self.name} needs a power of two, not {n} members"
        return None

    def halves(self, kind: CommKind, n: int, size_bytes: int) -> Iterator[tuple[list[Step], int]]:
        """Its steps in groups, each with how many of the group are under way at once."""
        steps = self.steps(kind, n, size_bytes)
        if not self.is_windowed:
            yield from (([step], 1) for step in steps)
            return
        for _, group in groupby(steps, key=lambda step: step.reduces):
            half = list(group)
            # Who has one message to send doesn't have to wait for a place in a window.
            is_limited = kind not in (CommKind.REDUCE, CommKind.GATHER)
            yield half, min(self.window, len(half)) if self.window and is_limited else len(half)
