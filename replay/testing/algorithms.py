"""Contract tests of collective algorithms.

```python
from chakrasim.replay.testing.algorithms import AlgorithmContract

class TestMine(AlgorithmContract):
    algorithm = MINE
```

pytest then proves block by block that its steps carry out each of its collectives, and that they cost what
playing their messages on an idle network takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import ALL_KINDS, ONE_BLOCK, ROOTED, Algorithm, Step
from chakrasim.replay.collectives.cost import phase_ps, terms
from chakrasim.replay.collectives.execution.phase_executor import How, Players
from chakrasim.replay.collectives.layout import Layout
from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.machine.algorithm_names import is_algorithm
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.plugins import ALGORITHMS
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_S

SIZES = (2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
"""Numbers of members: powers of two, odd ones, and others."""
BLOCK_BYTES = 64

Buffers = list[dict[int, frozenset[int]]]
"""For each member: block to the members whose data are in it."""


def buffers_before(kind: CommKind, n: int) -> Buffers:
    """Contents of the members' buffers when a collective starts; place 0 is the root."""
    if kind == CommKind.ALL_TO_ALL:
        return [{me * n + to: frozenset([me]) for to in range(n)} for me in range(n)]
    if kind in ONE_BLOCK:
        return [{me: frozenset([me])} for me in range(n)]
    if kind in (CommKind.BROADCAST, CommKind.SCATTER):
        return [dict.fromkeys(range(n), frozenset([0])), *({} for _ in range(n - 1))]
    return [{block: frozenset([me]) for block in range(n)} for me in range(n)]


def buffers_promised(kind: CommKind, n: int) -> Buffers:
    """Contents that the members must have, at least, when it has ended."""
    everyone = frozenset(range(n))
    nothing: Buffers = [{} for _ in range(n - 1)]
    if kind == CommKind.ALL_REDUCE:
        return [dict.fromkeys(range(n), everyone) for _ in range(n)]
    if kind == CommKind.REDUCE_SCATTER:
        return [{me: everyone} for me in range(n)]
    if kind == CommKind.ALL_GATHER:
        return [{block: frozenset([block]) for block in range(n)} for _ in range(n)]
    if kind == CommKind.BROADCAST:
        return [dict.fromkeys(range(n), frozenset([0])) for _ in range(n)]
    if kind == CommKind.REDUCE:
        return [dict.fromkeys(range(n), everyone), *nothing]
    if kind == CommKind.GATHER:
        return [{block: frozenset([block]) for block in range(n)}, *nothing]
    if kind == CommKind.SCATTER:
        return [{me: frozenset([0])} for me in range(n)]
    assert kind == CommKind.ALL_TO_ALL, kind
    return [{from_ * n + me: frozenset([from_]) for from_ in range(n)} for me in range(n)]


def replay_blocks(steps: Iterable[Step], buffers: Buffers, block_bytes: int) -> Buffers:
    """Send the blocks of each step, all of it at once, and add up or keep what comes."""
    for step in steps:
        for repetition in range(step.times):
            blocks = step.blocks(repetition)
            assert len(step.sources) == len(step.destinations) == len(blocks)
            assert step.size_bytes == blocks.shape[1] * block_bytes, "bytes are not those of the blocks"
            messages = zip(step.sources.tolist(), step.destinations.tolist(), blocks.tolist(), strict=True)
            came = [(to, b, buffers[from_][b]) for from_, to, sent in messages for b in sent]
            for to, block, data in came:
                have = buffers[to].get(block, frozenset())
                if step.reduces:
                    assert not have & data, "something is added twice"
                    data = have | data
                buffers[to][block] = data
    return buffers


def hears_from_all(steps: Iterable[Step], n: int) -> bool:
    """After these steps each member has heard, directly or by way of others, that each has begun."""
    heard = [{me} for me in range(n)]
    for step in steps:
        for _ in range(step.times):
            before = [set(known) for known in heard]
            for from_, to in zip(step.sources.tolist(), step.destinations.tolist(), strict=True):
                heard[to] |= before[from_]
    return all(len(known) == n for known in heard)


def idle_machine(topology: str, n: int) -> Machine:
    """One dimension of n ranks: 1 us a link, and 1 ps a byte."""
    dimension = Dimension("line", topology, n, float(PS_PER_S), 10**6)
    return Machine("contract", "made up", None, (dimension,), dict.fromkeys(CommKind, ("ring",)))


def played_ps(found: Algorithm, kind: CommKind, topology: str, n: int, size_bytes: int) -> int:
    """Time until the last member ends, of messages played on an idle network from starts at 0."""
    machine, clock = idle_machine(topology, n), Clock()
    line = Layout(machine, tuple(range(n)), (0,), (found.name,)).line(0, 0)
    how = How(found.name, kind, size_bytes)
    player = Players(machine, clock).make(line, how, range(n))
    ends_ps: list[int] = []
    for member in range(n):
        player.start(member, lambda: ends_ps.append(clock.now_ps))
    clock.run()
    assert len(ends_ps) == n
    return max(ends_ps)


class AlgorithmContract:
    """Tests that every collective algorithm passes; a subclass names its `algorithm`."""

    algorithm: Algorithm

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        """The algorithm under its name, for as long as a test takes if it isn't installed."""
        is_known = is_algorithm(self.algorithm.name)
        if not is_known:
            ALGORITHMS.register(self.algorithm.name, self.algorithm)
        yield
        if not is_known:
            ALGORITHMS.unregister(self.algorithm.name)
            algorithm.cache_clear()
            terms.cache_clear()

    def cases(self, sizes: Iterable[int] = SIZES) -> list[tuple[CommKind, int]]:
        """Collectives and numbers of members that the algorithm can carry out."""
        return [
            (kind, n)
            for kind in sorted(self.algorithm.kinds)
            for n in sizes
            if self.algorithm.refusal(kind, n) is None
        ]

    def test_its_collectives_are_known_ones(self) -> None:
        """`kinds` are out of `ALL_KINDS`, and there is at least one."""
        assert self.algorithm.kinds
        assert self.algorithm.kinds <= ALL_KINDS

    def test_it_says_what_it_does(self) -> None:
        """`summary` and `source` are for the list of algorithms."""
        assert self.algorithm.summary
        assert self.algorithm.source

    def test_every_block_is_where_it_belongs(self) -> None:
        """The steps, replayed block by block, do what the collective promises."""
        for kind, n in self.cases():
            if kind == CommKind.BARRIER:
                steps = list(self.algorithm.steps(kind, n, n * BLOCK_BYTES))
                assert hears_from_all(steps, n), (kind.label, n)
                assert not any(step.size_bytes for step in steps), "a barrier has no bytes"
                continue
            size_bytes = BLOCK_BYTES * (1 if kind in ONE_BLOCK else n)
            after = replay_blocks(
                self.algorithm.steps(kind, n, size_bytes), buffers_before(kind, n), BLOCK_BYTES
            )
            for have, must in zip(after, buffers_promised(kind, n), strict=True):
                assert {block: have.get(block) for block in must} == must, (kind.label, n)

    def test_other_numbers_of_members_are_refused_by_name(self) -> None:
        """An algorithm for powers of two says so."""
        for kind in self.algorithm.kinds:
            why = self.algorithm.refusal(kind, 6)
            assert (why is not None) == self.algorithm.needs_power_of_two
            assert why is None or self.algorithm.name in why

    def test_other_collectives_are_refused_by_name(self) -> None:
        """It names itself and the collective."""
        for kind in ALL_KINDS - self.algorithm.kinds:
            why = self.algorithm.refusal(kind, 4)
            assert why is not None
            assert self.algorithm.name in why
            assert kind.label in why

    @pytest.mark.parametrize("topology", ["fully_connected", "switch", "ring"])
    def test_it_costs_what_playing_its_messages_takes(self, topology: str) -> None:
        """To the picosecond, for members that start together on an idle network.

        A root's messages meet those of others on a ring in ways that steps in lockstep don't show, and a
        window moves on before the slowest of its messages there: these are compared where all places are
        equally far.
        """
        found = self.algorithm
        for kind, n in self.cases((2, 3, 4, 5, 8, 16)):
            if topology == "ring" and (kind in ROOTED or found.is_tree or (found.window or 1) > 1):
                continue
            size_bytes = 5040 * n
            span = Layout(idle_machine(topology, n), tuple(range(n)), (0,), (found.name,)).spans[0]
            cost_ps = phase_ps(found.name, kind, size_bytes, span)
            assert int(cost_ps) == played_ps(found, kind, topology, n, size_bytes), (kind.label, n)

    def test_more_bytes_never_take_less_time(self) -> None:
        """Cost rises with the size."""
        for kind, n in self.cases((2, 4, 8)):
            span = Layout(idle_machine("switch", n), tuple(range(n)), (0,), (self.algorithm.name,)).spans[0]
            costs = [phase_ps(self.algorithm.name, kind, size, span) for size in (0, 1, 1000, 10**9)]
            assert costs == sorted(costs), (kind.label, n)
