"""Start and end times of a replay, and where the time of each rank went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.engine.deadlock import Deadlock, find_deadlock
from chakrasim.replay.engine.kernel import COLLECTIVE, RECEIVE
from chakrasim.replay.engine.program import Program, WholeProgram
from chakrasim.replay.results.intervals import covered_ps
from chakrasim.traces.graph import NO_LANE, ExecutionGraph, Ints, NodeKind
from chakrasim.traces.shared.pickling import FieldsOnly
from chakrasim.traces.units import format_time

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.symmetry.classes import RankClasses
    from chakrasim.traces.workload import Workload

HOST_GAP = "host gap"
"""Name of nodes that stand for host time between the recorded operators."""


@dataclass(frozen=True)
class RankTimes:
    """Where one rank's time went. A node's time runs from its start to its end.

    compute + exposed communication + idle = finish, to the picosecond. By ASTRA-sim's rules compute is the
    sum of the durations of the device's compute nodes, and all the rest is exposed communication.
    """

    rank: int
    finish_ps: int
    """When its last node ended."""
    compute_ps: int
    """Some compute or memory node of the device ran; on a rank without any, of the host but for host gaps."""
    communication_ps: int
    """It was in some collective, send or receive, waiting for the others included."""
    exposed_communication_ps: int
    """Communication while no compute ran."""
    waiting_ps: int
    """Part of communication: in a collective before its last member came, or in a receive before its send."""
    idle_ps: int
    """Neither compute nor communication."""
    host_ps: int
    """Some compute or memory node of the host ran, host gaps included."""


@dataclass(frozen=True)
class Recorded:
    """The recording's own span of a rank beside the replay's, over the same nodes."""

    rank: int
    over: str
    """Which nodes: "device" or, where the trace has none, "host"."""
    span_ps: int
    replayed_ps: int

    @property
    def error_percent(self) -> float:
        """How much longer the replay took, in per cent of the recorded span."""
        return 100 * (self.replayed_ps - self.span_ps) / self.span_ps if self.span_ps else 0.0


@dataclass(frozen=True)
class LaneTimes:
    """One lane of a rank. Nodes on a lane never overlap."""

    rank: int
    name: str
    nodes: int
    busy_ps: int


@dataclass(frozen=True, eq=False)
class Replayed(FieldsOnly):
    """What the loop ran: all ranks, or one of each class. N nodes."""

    program: Program
    starts_ps: Ints
    """int64[N], -1 for a node that never started."""
    ends_ps: Ints
    """int64[N], -1 for a node that never ended."""

    def times_of(self, rank: int) -> tuple[Ints, Ints]:
        """Starts and ends of a rank that was run."""
        rows = self.program.rows(rank)
        return self.starts_ps[rows], self.ends_ps[rows]

    @cached_property
    def arrivals_ps(self) -> Ints:
        """int64[C]: when the last member of each collective arrived; -1 if not all did."""
        offsets, members = self.program.members()
        if not len(self.program.collectives):
            return np.empty(0, dtype=np.int64)
        starts_ps = self.starts_ps[members]
        last_ps = np.maximum.reduceat(starts_ps, offsets[:-1])
        is_complete = np.minimum.reduceat(starts_ps, offsets[:-1]) >= 0
        is_complete &= np.diff(offsets) == self.program.expected
        return np.where(is_complete, last_ps, -1)

    @cached_property
    def waits_ps(self) -> Ints:
        """int64[N]: how long each collective waited for its last member, and each receive for its send."""
        program = self.program
        waits_ps = np.zeros(len(program), dtype=np.int64)
        members = np.flatnonzero((program.roles == COLLECTIVE) & (self.ends_ps >= 0))
        # who only gives may have ended before the last one came
        last_ps = np.minimum(self.arrivals_ps[program.partners[members]], self.ends_ps[members])
        waits_ps[members] = np.maximum(last_ps - self.starts_ps[members], 0)
        receives = np.flatnonzero((program.roles == RECEIVE) & (self.ends_ps >= 0))
        sent_ps = self.starts_ps[program.partners[receives]]
        waits_ps[receives] = np.maximum(sent_ps - self.starts_ps[receives], 0)
        return waits_ps


@dataclass(frozen=True, eq=False, repr=False)
class Result(FieldsOnly):
    """Start and end of every node, and what follows from them, worked out when asked for.

    Columns have all ranks' nodes one after the other, N of them; `rows` finds a rank's.
    """

    replayed: Replayed
    classes: RankClasses
    """Which ranks were replayed for which."""
    whole: WholeProgram
    """All ranks laid out, which those that weren't replayed need."""
    machine: Machine
    compute: str
    network: str
    waits: bool = True
    """Ranks waited for each other."""
    notes: tuple[str, ...] = ()
    """What was assumed, for people."""
    has_meetings: bool = False
    """Whether recorded communication was split into waiting and transfer, see `recorded_rendezvous.py`."""
    extrapolated: int = 0
    """How many nodes weren't replayed, since what they belong to repeats exactly, see `repetition.py`."""

    @property
    def workload(self) -> Workload:
        """What was replayed."""
        return self.classes.workload

    @cached_property
    def everybody(self) -> Replayed:
        """All ranks, each with the times of its class. O(nodes) the first time."""
        if self.classes.is_whole:
            return self.replayed
        found = {rank: self.replayed.times_of(rank) for rank in self.classes.representatives}
        of = self.classes.representative_of
        times = (np.concatenate([found[of[rank]][at] for rank in self.workload.ranks]) for at in (0, 1))
        return Replayed(self.whole.program, *times)

    @property
    def program(self) -> Program:
        """All ranks' nodes, and what they meet in."""
        return self.everybody.program

    @property
    def starts_ps(self) -> Ints:
        """int64[N], -1 for a node that never started."""
        return self.everybody.starts_ps

    @property
    def ends_ps(self) -> Ints:
        """int64[N], -1 for a node that never ended."""
        return self.everybody.ends_ps

    def __repr__(self) -> str:
        step_time_ps = self.step_time_ps
        outcome = "deadlock" if step_time_ps is None else format_time(step_time_ps)
        return f"<Result {self.workload.name!r} on {self.machine.name!r}: {outcome}>"

    def equals(self, other: Result) -> bool:
        """Whether both found the same: every start and end, notes, and the models they were found by.

        Results are equal by `==` only to themselves, so that what is worked out of one can be kept with it.
        """
        return (
            (self.machine, self.compute, self.network, self.notes)
            == (other.machine, other.compute, other.network, other.notes)
            and self.workload.ranks == other.workload.ranks
            and np.array_equal(self.starts_ps, other.starts_ps)
            and np.array_equal(self.ends_ps, other.ends_ps)
        )

    def rows(self, rank: int) -> slice:
        """A rank's part of the columns, in the order of its graph: `result.ends_ps[result.rows(3)]`."""
        return self.program.rows(rank)

    @cached_property
    def deadlock(self) -> Deadlock | None:
        """Why the replay couldn't go on, or None if every node ended."""
        if self.step_time_ps is not None:
            return None
        return find_deadlock(self.program, self.starts_ps, self.ends_ps)

    @property
    def step_time_ps(self) -> int | None:
        """When the last node of all ranks ended; None after a deadlock."""
        ends_ps = self.replayed.ends_ps
        return None if (ends_ps < 0).any() else int(ends_ps.max(initial=0))

    def has_finished(self, rank: int) -> bool:
        """Whether every node of a rank ended."""
        return bool((self.replayed.times_of(self.classes.representative_of[rank])[1] >= 0).all())

    @property
    def arrivals_ps(self) -> Ints:
        """int64[C]: when the last member of each collective arrived; -1 if not all did."""
        return self.everybody.arrivals_ps

    @property
    def waits_ps(self) -> Ints:
        """int64[N]: how long each collective waited for its last member, and each receive for its send."""
        return self.everybody.waits_ps

    def times(self, rank: int) -> RankTimes:
        """Where a rank's time went; of a rank that didn't finish, as far as it came."""
        return replace(self._times[self.classes.representative_of[rank]], rank=rank)

    @cached_property
    def _times(self) -> dict[int, RankTimes]:
        return {rank: self._times_of(rank) for rank in self.classes.representatives}

    def _times_of(self, rank: int) -> RankTimes:
        """Of a rank that was replayed."""
        rows, graph = self.replayed.program.rows(rank), self.workload.graphs[rank]
        starts_ps, ends_ps = self.replayed.times_of(rank)
        has_ended = ends_ps >= 0
        is_compute, is_host = compute_and_host(graph)
        is_communication = graph.is_communication

        def covered(chosen: NDArray[np.bool_]) -> int:
            chosen = chosen & has_ended
            return covered_ps(starts_ps[chosen], ends_ps[chosen])

        compute_ps, either_ps = covered(is_compute), covered(is_compute | is_communication)
        finish_ps = int(ends_ps.max(initial=0))
        if self.machine.system.rules.exposes_idle_time:
            is_counted = (graph.kinds == NodeKind.COMP) & ~graph.is_cpu & has_ended
            compute_ps = min(int((ends_ps - starts_ps)[is_counted].sum()), finish_ps)
            either_ps = finish_ps
        waits_ps = self.replayed.waits_ps[rows]
        waited = (waits_ps > 0) & has_ended
        return RankTimes(
            rank=rank,
            finish_ps=finish_ps,
            compute_ps=compute_ps,
            communication_ps=covered(is_communication),
            exposed_communication_ps=either_ps - compute_ps,
            waiting_ps=covered_ps(starts_ps[waited], starts_ps[waited] + waits_ps[waited]),
            idle_ps=finish_ps - either_ps,
            host_ps=covered(is_host),
        )

    @cached_property
    def ranks(self) -> tuple[RankTimes, ...]:
        """Where each rank's time went, in order of rank."""
        return tuple(self.times(rank) for rank in self.workload.ranks)

    @cached_property
    def lanes(self) -> tuple[LaneTimes, ...]:
        """Every lane that has nodes, by rank, in the order of the trace."""
        program = self.program
        chosen = np.flatnonzero((program.lanes >= 0) & (self.ends_ps >= 0))
        lanes = program.lanes[chosen]
        count = len(program.lane_names)
        nodes = np.bincount(lanes, minlength=count)
        busy_ps = np.zeros(count, dtype=np.int64)
        np.add.at(busy_ps, lanes, self.ends_ps[chosen] - self.starts_ps[chosen])
        return tuple(
            LaneTimes(int(program.lane_ranks[i]), program.lane_names[i], int(nodes[i]), int(busy_ps[i]))
            for i in np.flatnonzero(nodes)
        )

    @cached_property
    def recorded(self) -> tuple[Recorded, ...]:
        """For each finished rank whose trace has start times, how long the recording took and the replay did.

        Both spans run from the first start to the last end over the nodes with a recorded start: the device's
        or, on a rank without any, the host's.
        """
        found = []
        for rank, graph in self.workload.graphs.items():
            has_start = (graph.starts_ps >= 0) & (graph.durations_ps > 0)
            on_device = has_start & ~graph.is_cpu
            chosen, over = (on_device, "device") if on_device.any() else (has_start, "host")
            if not chosen.any() or not self.has_finished(rank):
                continue
            begun_ps, rows = graph.starts_ps[chosen], self.rows(rank)
            ended_ps = begun_ps + graph.durations_ps[chosen]
            replayed = self.starts_ps[rows][chosen], self.ends_ps[rows][chosen]
            spans = int(ended_ps.max() - begun_ps.min()), int(replayed[1].max() - replayed[0].min())
            found.append(Recorded(rank, over, *spans))
        return tuple(found)


def compute_and_host(graph: ExecutionGraph) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool[n] twice: nodes that count as compute, and nodes of the host. Latencies are neither."""
    is_work = (graph.kinds >= NodeKind.MEM_LOAD) & (graph.kinds <= NodeKind.COMP) & (graph.lanes != NO_LANE)
    is_host, is_device = is_work & graph.is_cpu, is_work & ~graph.is_cpu
    if is_device.any() or HOST_GAP not in graph.names:
        return (is_device if is_device.any() else is_host), is_host
    return is_host & (graph.name_ids != graph.names.index(HOST_GAP)), is_host
