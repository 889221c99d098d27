"""Contract of network models.

class TestJitter(NetworkContract):
    model = Jitter
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.network.interface import NetworkModel
from chakrasim.replay.plugins import NETWORKS
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

NAME = "under-test"
LATENCY_PS = 1_000
RANKS = 8


class NetworkContract:
    """Promises of every network model, checked on a small machine."""

    model: ClassVar[type[NetworkModel]]

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        NETWORKS.register(NAME, self.model)
        yield
        NETWORKS.unregister(NAME)

    def machine(self, algorithm: str = "ring", scheduling: Scheduling | None = None) -> Machine:
        """Eight ranks behind switches of two kinds."""
        dimensions = (
            Dimension("inner", "switch", 4, 400e9, LATENCY_PS // 4),
            Dimension("outer", "switch", 2, 50e9, LATENCY_PS // 2),
        )
        algorithms = dict.fromkeys(CommKind, ("ring",) * 2)
        algorithms[CommKind.ALL_REDUCE] = (algorithm,) * 2
        return Machine(NAME, "made up", None, dimensions, algorithms, scheduling=scheduling)

    def replay(self, workload: Workload, machine: Machine | None = None, *, classes: bool = True) -> Result:
        """A workload by the model under test."""
        return simulate(workload, machine or self.machine(), network=NAME, classes=classes)

    def test_the_same_replay_gives_the_same_times(self) -> None:
        first, second = (self.replay(neighbours()) for _ in range(2))
        assert first.starts_ps.tolist() == second.starts_ps.tolist()
        assert first.ends_ps.tolist() == second.ends_ps.tolist()

    def test_a_lone_message_takes_its_latency_at_least_and_more_bytes_no_less(self) -> None:
        if not self.model.waits:
            pytest.skip("nodes take their recorded durations")
        times_ps = [self.replay(message(size)).step_time_ps for size in (0, 1, 5_000, 5_001, 10**8)]
        assert None not in times_ps
        assert times_ps[0] is not None
        assert times_ps[0] >= LATENCY_PS
        assert times_ps == sorted(times_ps)  # type: ignore[type-var]

    def test_every_message_lands_and_no_time_is_negative(self) -> None:
        result = self.replay(neighbours())
        assert result.deadlock is None
        assert result.starts_ps.min() >= 0
        assert (result.ends_ps >= result.starts_ps).all()

    def test_rank_classes_change_nothing(self) -> None:
        for workload in (neighbours(), all_reduce()):
            classed, whole = self.replay(workload), self.replay(workload, classes=False)
            assert classed.ends_ps.tolist() == whole.ends_ps.tolist()

    def test_the_scheduling_of_a_machine_is_honoured_or_refused(self) -> None:
        def time_ps(algorithm: str, chunks: int) -> int | None:
            machine = self.machine(algorithm, Scheduling(chunks=chunks, all_reduce="per-dimension"))
            return self.replay(all_reduce(), machine).step_time_ps

        if not self.model.waits:
            assert "scheduling" in " ".join(
                self.replay(all_reduce(), self.machine("ring", Scheduling(chunks=4))).notes
            )
            return
        try:
            ring = time_ps("ring", 4)
        except ConfigError as error:
            assert "scheduling" in str(error)  # noqa: PT017
            return
        assert ring is not None
        assert ring != time_ps("double-binary-tree", 4)
        assert ring != time_ps("ring", 1)


def message(size_bytes: int) -> Workload:
    """One message from the first rank to the last."""
    builders = [GraphBuilder(rank) for rank in range(RANKS)]
    builders[0].add(NodeKind.SEND, "send", peer=RANKS - 1, comm_bytes=size_bytes, tag=1)
    builders[-1].add(NodeKind.RECV, "receive", peer=0, comm_bytes=size_bytes, tag=1)
    return _workload(builders)


def neighbours() -> Workload:
    """Every rank computes, sends to the next one twice, receives, and joins an all-reduce."""
    builders = [GraphBuilder(rank) for rank in range(RANKS)]
    for rank, builder in enumerate(builders):
        start = builder.add(NodeKind.COMP, "compute", duration_ps=500)
        ends = []
        for tag, size_bytes in enumerate((3_000, 70_000)):
            ends.append(
                builder.add(
                    NodeKind.SEND,
                    "send",
                    after=(start,),
                    peer=(rank + 1) % RANKS,
                    comm_bytes=size_bytes,
                    tag=tag,
                    lane=f"out {tag}",
                )
            )
            ends.append(
                builder.add(NodeKind.RECV, "receive", peer=(rank - 1) % RANKS, comm_bytes=size_bytes, tag=tag)
            )
        builder.add(NodeKind.COLL, "all_reduce", after=ends, comm_kind=CommKind.ALL_REDUCE, comm_bytes=10**6)
    return _workload(builders)


def all_reduce() -> Workload:
    """One all-reduce of all ranks."""
    builders = [GraphBuilder(rank) for rank in range(RANKS)]
    for builder in builders:
        builder.add(NodeKind.COLL, "all_reduce", comm_kind=CommKind.ALL_REDUCE, comm_bytes=10**6)
    return _workload(builders)


def _workload(builders: list[GraphBuilder]) -> Workload:
    return Workload.from_graphs([builder.build() for builder in builders])
