"""The system layer: collectives in flight, their chunks, and the queues in which those wait for a dimension.

Each rank has queues in every dimension. A chunk passes its phases one after the other, in each of them in a
queue that works on a few chunks at once. What a phase itself takes is worked out from when its members start
it while messages don't meet, or played message by message on links that they share (`phase_executor.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import ROOTED
from chakrasim.replay.collectives.execution.phase_executor import How, Player, Players
from chakrasim.replay.collectives.layout import Layout, Line
from chakrasim.replay.collectives.phases import Phase, baseline_order, phases
from chakrasim.replay.collectives.themis import Themis
from chakrasim.traces.graph import CommKind

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Clock, Event
    from chakrasim.replay.machine.machine import Machine

UNLIMITED = 2**62
"""Active chunks of a machine without a scheduling block."""

QueueName = tuple[int, int, int]
"""Rank, dimension, number of the queue."""


@dataclass(frozen=True)
class Collective:
    """One collective of a group, as its members state it."""

    kind: CommKind
    size_bytes: int
    """Bytes that a member puts in."""
    ranks: tuple[int, ...]
    present: Collection[int]
    """Members that are replayed. The others come with the last of these."""
    layout: Layout
    root: int = -1
    """Rank of the root, where there is one."""


@dataclass(frozen=True)
class _Place:
    """Queue and direction of one rank's chunk in one phase."""

    queue: QueueName
    clockwise: bool
    is_min_tree: bool


@dataclass(eq=False)
class _Work:
    """One chunk of one collective on one rank."""

    flight: _Flight
    rank: int
    chunk: int
    places: list[_Place]
    priority: int
    at: int = 0
    """The phase that it is in."""

    @property
    def phase(self) -> Phase:
        return self.flight.chunks[self.chunk][self.at]


@dataclass(eq=False)
class _Queue:
    running: int = 0
    waiting: list[_Work] = field(default_factory=list)


@dataclass(eq=False)
class _Flight:
    """A collective between its first start and its last end."""

    collective: Collective
    chunks: list[list[Phase]]
    """The phases of each chunk."""
    left: dict[int, int] = field(default_factory=dict)
    """Chunks that each rank hasn't finished."""
    ended: dict[int, Event] = field(default_factory=dict)
    players: dict[tuple[int, int, Line], Player] = field(default_factory=dict)
    through: dict[tuple[int, int], list[_Work]] = field(default_factory=lambda: defaultdict(list))
    """With a root: by chunk and phase those that have ended it and wait for the others."""


class Scheduler:
    """Carries out collectives on a sized machine. O(ranks * chunks * phases) events a collective."""

    def __init__(self, machine: Machine, clock: Clock, players: Players) -> None:
        self.machine, self.clock, self.players = machine, clock, players
        self.scheduling = machine.system
        self.active = -(-self.scheduling.active_chunks // self.scheduling.queues)
        if machine.scheduling is None:
            self.active = UNLIMITED
        self._flights: dict[int, _Flight] = {}
        self._queues: dict[QueueName, _Queue] = defaultdict(_Queue)
        self._turns: dict[tuple[int, int, str], int] = defaultdict(int)
        self._trees: dict[tuple[int, int, CommKind], int] = defaultdict(int)
        self._issued: dict[int, int] = defaultdict(int)
        self.themis: Themis | None = None
        self._balanced_ps = -1

    def start(
        self,
        number: int,
        collective: Callable[[], Collective],
        rank: int,
        priority: int,
        ended: Event,
    ) -> None:
        """A member comes to collective `number`; `ended` runs when it has finished its part.

        `collective` is asked when the first member comes.
        """
        flight = self._flights.get(number)
        if flight is None:
            flight = self._flights[number] = self._take_off(collective())
        flight.ended[rank] = ended
        flight.left[rank] = len(flight.chunks)
        if len(flight.ended) == len(flight.collective.present):
            del self._flights[number]
        priority = self._priority(rank, priority)
        for chunk, passed in enumerate(flight.chunks):
            places = [self._place(flight.collective, rank, phase) for phase in passed]
            work = _Work(flight, rank, chunk, places, priority)
            self._enter(work)
            self._serve(work.places[0].queue)

    def _take_off(self, collective: Collective) -> _Flight:
        layout, kind = collective.layout, collective.kind
        world_size = self.machine.size or len(collective.ranks)
        sizes = self.scheduling.rules.chunk_bytes(
            kind, collective.size_bytes, self.scheduling.chunks, world_size
        )
        orders = self._orders(collective, sizes)
        keeping = {index for index, name in enumerate(layout.algorithms) if algorithm(name).is_tree}
        chunks = [
            phases(self.scheduling, kind, size, layout.sizes, order, keeping)
            for size, order in zip(sizes, orders, strict=True)
        ]
        return _Flight(collective, chunks)

    def _orders(self, collective: Collective, sizes: list[int]) -> list[tuple[int, ...]]:
        """For each chunk positions in the layout's dimensions, in the order in which it visits them."""
        dims = collective.layout.dims
        is_fixed = collective.kind in ROOTED or collective.kind == CommKind.BARRIER
        if self.scheduling.dimension_order != "themis" or len(dims) == 1 or is_fixed:
            return [baseline_order(collective.kind, len(dims))] * len(sizes)
        if self.themis is None:
            dimensions = self.machine.dimensions
            widths_Bps = [dimension.injection_Bps(dimension.size or 1) for dimension in dimensions]
            self.themis = Themis([dimension.size or 1 for dimension in dimensions], widths_Bps)
        if self.clock.now_ps != self._balanced_ps:
            self.themis.reset()
            self._balanced_ps = self.clock.now_ps
        orders = self.themis.orders(collective.kind, sizes, max(sizes), dims)
        return [tuple(dims.index(dim) for dim in order) for order in orders]

    def _priority(self, rank: int, stated: int) -> int:
        """LIFO rises and FIFO falls with a rank's collectives; what a node states counts in any case."""
        self._issued[rank] += 1
        if stated or self.scheduling.priority == "explicit":
            return stated
        return self._issued[rank] * (1 if self.scheduling.priority == "lifo" else -1)

    def _place(self, collective: Collective, rank: int, phase: Phase) -> _Place:
        """The next of a rank's queues in turn.

        A hierarchical all-reduce goes outwards in the lower half of them, clockwise, and back in the upper
        half, anticlockwise. Everything else takes all of them, the upper half anticlockwise.
        """
        layout, queues = collective.layout, self.scheduling.queues
        dimension = layout.dims[phase.at]
        half = queues // 2
        if collective.kind == CommKind.ALL_REDUCE and self.scheduling.all_reduce == "hierarchical":
            first, count = (half, queues - half) if phase.is_return else (0, max(1, half))
            which, clockwise = "back" if phase.is_return else "out", not phase.is_return
        else:
            first, count, which, clockwise = 0, queues, "any", True
        turn = self._turns[rank, dimension, which]
        self._turns[rank, dimension, which] += 1
        number = first + turn % count
        if which == "any":
            clockwise = queues == 1 or number < half
        is_min_tree = False
        if algorithm(layout.algorithms[phase.at]).is_tree:
            key = rank, dimension, collective.kind
            is_min_tree = self._trees[key] % 2 == 1
            self._trees[key] += 1
        return _Place((rank, dimension, number), clockwise, is_min_tree)

    def _enter(self, work: _Work) -> None:
        """Wait behind what came before with the same or a higher priority.

        Where the smallest go first, a chunk waits behind smaller ones only; but the phases of an all-reduce
        or an all-to-all stand by priority in any case.
        """
        waiting = self._queues[work.places[work.at].queue].waiting
        phase = work.phase
        by_size = self.scheduling.queue_order == "smallest-first" and phase.kind in (
            CommKind.REDUCE_SCATTER,
            CommKind.ALL_GATHER,
        )
        if by_size:
            behind = (i for i, other in enumerate(waiting) if other.phase.size_bytes >= phase.size_bytes)
        else:
            behind = (i for i, other in enumerate(waiting) if other.priority < work.priority)
        at = next(behind, len(waiting))
        waiting.insert(at, work)

    def _serve(self, name: QueueName) -> None:
        """Start what waits in a queue while it has room."""
        queue = self._queues[name]
        while queue.waiting and queue.running < self.active:
            queue.running += 1
            self._begin(queue.waiting.pop(0))

    def _begin(self, work: _Work) -> None:
        flight, place = work.flight, work.places[work.at]
        layout = flight.collective.layout
        line = self._line(work)
        if line is None:
            self._finish_together(work)
            return
        player = flight.players.get((work.chunk, work.at, line))
        if player is None:
            how = How(
                layout.algorithms[work.phase.at],
                work.phase.kind,
                work.phase.size_bytes,
                layout.is_subgroup,
                place.clockwise,
                place.is_min_tree,
            )
            present = [at for at, rank in enumerate(line.ranks) if rank in flight.collective.present]
            player = self.players.make(line, how, present)
            flight.players[work.chunk, work.at, line] = player
        finish = self._finish_together if work.phase.kind in ROOTED else self._finish
        player.start(line.position[work.rank], lambda: finish(work))

    def _line(self, work: _Work) -> Line | None:
        """The line on which a rank is in its phase; None if no message of a rooted collective passes there.

        What comes from the root is only on lines that have the root's place in the dimensions of later
        phases, what goes to it on those that have it in the dimensions of earlier ones. Where messages don't
        meet all lines take part, which changes nothing but that all members end together.
        """
        collective = work.flight.collective
        layout, kind, root = collective.layout, collective.kind, collective.root
        line = layout.line(work.phase.at, work.rank)
        if kind not in ROOTED:
            return line
        if self.players.transmit is not None:
            order = [phase.at for phase in work.flight.chunks[work.chunk]]
            is_outward = kind in (CommKind.BROADCAST, CommKind.SCATTER)
            aligned = order[work.at + 1 :] if is_outward else order[: work.at]
            if any(layout.moved(at, work.rank, root) != work.rank for at in aligned):
                return None
        return line.starting_at(layout.moved(work.phase.at, work.rank, root))

    def _finish_together(self, work: _Work) -> None:
        """A member has ended its part of a rooted phase, which ends for all with the last of them.

        So ranks that do the same come to their next collectives in the same order, whichever is the root.
        """
        flight = work.flight
        through = flight.through[work.chunk, work.at]
        through.append(work)
        if len(through) == len(flight.collective.present):
            for ended in through:
                self.clock.at(self.clock.now_ps, lambda ended=ended: self._finish(ended))  # type: ignore[misc]

    def _finish(self, work: _Work) -> None:
        """A chunk has ended a phase: it tells its collective, or queues for the next; then others start."""
        flight, queue = work.flight, work.places[work.at].queue
        if work.at + 1 < len(work.places):
            work.at += 1
            self._enter(work)
            self._leave(queue)
            self._serve(work.places[work.at].queue)
            return
        flight.left[work.rank] -= 1
        if flight.left[work.rank]:
            self._leave(queue)
        else:
            # What the rank does next may enter the queues before this chunk has left its own.
            flight.ended[work.rank]()
            self.clock.then(lambda: self._leave(queue))

    def _leave(self, name: QueueName) -> None:
        self._queues[name].running -= 1
        self._serve(name)
