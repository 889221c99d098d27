"""Chunks, queues and priorities of collectives, by our own rules, on machines small enough for hand work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from chakrasim.converters.synthetic.micro.collective import generate_collective
from chakrasim.replay.collectives.phases import baseline_order, phases
from chakrasim.replay.machine.machine import Dimension, Machine, RemoteMemory
from chakrasim.replay.machine.rules import ASTRA_SIM_1, ASTRA_SIM_2, CHAKRASIM
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

AR, AG = CommKind.ALL_REDUCE, CommKind.ALL_GATHER
A2A, RS = CommKind.ALL_TO_ALL, CommKind.REDUCE_SCATTER
NS = 1000
GBPS = 10**9
"""A byte a nanosecond."""


def machine(
    *sizes: int,
    topology: str = "fully_connected",
    scheduling: Scheduling | None = None,
    latency_ns: int = 100,
    algorithm: str = "ring",
    **rest: object,
) -> Machine:
    """Dimensions of 1 byte a ns; rank r of 4 x 2 is in column r % 4 of row r // 4."""
    dimensions = tuple(
        Dimension(f"d{index}", topology, size, GBPS, latency_ns * NS) for index, size in enumerate(sizes)
    )
    algorithms = {kind: (algorithm,) * len(sizes) for kind in CommKind}
    made = Machine("test", "nowhere", None, dimensions, algorithms, scheduling=scheduling or Scheduling())
    return replace(made, **rest)  # type: ignore[arg-type]


def two_collectives(priorities: tuple[int, int] = (0, 0), sizes: tuple[int, int] = (8000, 8000)) -> Workload:
    """On two ranks an all-reduce, and a second one 100 ns later, both free to be under way at once."""
    builder = GraphBuilder(0)
    for number, (priority, size) in enumerate(zip(priorities, sizes, strict=True)):
        before = builder.add(NodeKind.COMP, "wait", duration_ps=100 * NS * number, lane=f"{number}")
        builder.add(
            NodeKind.COLL,
            f"c{number}",
            comm_kind=AR,
            comm_bytes=size,
            lane="",
            priority=priority,
            after=[before],
        )
    graph = builder.build()
    return Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(2)})


def ends_ns(result: Result, kind: NodeKind = NodeKind.COLL, rank: int = 0) -> list[int]:
    """When a rank's nodes of a kind end."""
    rows = result.rows(rank)
    chosen = result.program.kinds[rows] == kind
    return [int(end) // NS for end in result.ends_ps[rows][chosen]]


class TestChunksAndPhases:
    def test_a_collective_is_cut_into_as_many_pieces_as_asked_for(self) -> None:
        assert CHAKRASIM.chunk_bytes(AR, 1000, 4, world_size=8) == [250] * 4
        assert CHAKRASIM.chunk_bytes(AR, 1003, 4, world_size=8) == [251, 251, 251, 250]
        assert CHAKRASIM.chunk_bytes(AR, 7, 4, world_size=8) == [2, 2, 2, 1]
        assert CHAKRASIM.chunk_bytes(AR, 10, 3, world_size=8) == [4, 3, 3]
        assert CHAKRASIM.chunk_bytes(AR, 127, 64, world_size=8) == [2] * 63 + [1]

    def test_no_piece_is_empty_unless_the_collective_is(self) -> None:
        assert CHAKRASIM.chunk_bytes(AR, 3, 4, world_size=8) == [1, 1, 1]
        assert CHAKRASIM.chunk_bytes(AR, 0, 4, world_size=8) == [0]

    def test_by_the_rules_of_astra_sim_1_a_remainder_is_a_chunk_more(self) -> None:
        assert ASTRA_SIM_1.chunk_bytes(AR, 1003, 4, world_size=8) == [250, 250, 250, 250, 3]
        assert ASTRA_SIM_1.chunk_bytes(AR, 3, 4, world_size=8) == [3]
        assert ASTRA_SIM_1.chunk_bytes(AR, 0, 4, world_size=8) == [0]

    def test_by_astra_sims_rules_all_chunks_are_full_and_none_is_tiny(self) -> None:
        assert ASTRA_SIM_2.chunk_bytes(AR, 1003, 4, world_size=8) == [250] * 5
        assert ASTRA_SIM_2.chunk_bytes(AR, 0, 4, world_size=8) == [8] * 4
        assert ASTRA_SIM_2.chunk_bytes(AG, 3, 4, world_size=8) == [3]

    def test_a_hierarchical_all_reduce_goes_out_and_comes_back(self) -> None:
        found = phases(Scheduling(), AR, 2400, (4, 3, 2), baseline_order(AR, 3))
        assert [(phase.at, phase.kind, phase.size_bytes) for phase in found] == [
            (0, RS, 2400),
            (1, RS, 600),
            (2, AR, 200),
            (1, AG, 200),
            (0, AG, 600),
        ]

    def test_other_collectives_pass_each_dimension_once(self) -> None:
        def way(kind: CommKind, **settings: object) -> list[tuple[int, int]]:
            scheduling = Scheduling(**settings)  # type: ignore[arg-type]
            order = baseline_order(kind, 2)
            return [(phase.at, phase.size_bytes) for phase in phases(scheduling, kind, 1200, (4, 3), order)]

        assert way(RS) == [(0, 1200), (1, 300)]
        assert way(AG) == [(1, 1200), (0, 3600)]
        assert way(A2A) == [(0, 1200), (1, 1200)]
        assert way(AR, all_reduce="per-dimension") == [(0, 1200), (1, 1200)]

    def test_with_an_order_of_its_own_a_chunk_scatters_and_gathers_everywhere(self) -> None:
        found = phases(Scheduling(dimension_order="themis"), AR, 1200, (4, 3), (1, 0))
        assert [(phase.at, phase.kind) for phase in found] == [(1, RS), (0, RS), (0, AG), (1, AG)]


class TestPipelining:
    def test_chunks_of_one_dimension_go_one_after_the_other(self) -> None:
        # Two steps of a message of half a chunk: 2 * (100 + 1000) ns for each of 4 chunks of 2000 bytes.
        result = simulate(generate_collective(AR, 8000, 2), machine(2, scheduling=Scheduling(chunks=4)))
        assert ends_ns(result) == [4 * 2200]

    def test_or_several_at_once(self) -> None:
        scheduling = Scheduling(chunks=4, active_chunks=2)
        result = simulate(generate_collective(AR, 8000, 2), machine(2, scheduling=scheduling))
        assert ends_ns(result) == [2 * 2200]

    def test_while_one_chunk_is_in_the_second_dimension_the_next_is_in_the_first(self) -> None:
        # A reduce-scatter of 2 chunks: 100 + 2000 ns in the first dimension, 100 + 1000 in the second.
        result = simulate(generate_collective(RS, 8000, 4), machine(2, 2, scheduling=Scheduling(chunks=2)))
        assert ends_ns(result) == [2100 + 2100 + 1100]

    def test_endpoints_and_reductions_cost_what_they_say(self) -> None:
        # 30 ns before the message and after it, and three passes over 4000 bytes at 4 bytes a ns.
        scheduling = Scheduling(endpoint_ps=30 * NS, reduction_Bps=4 * GBPS)
        result = simulate(generate_collective(RS, 8000, 2), machine(2, scheduling=scheduling))
        assert ends_ns(result) == [30 + 100 + 4000 + 30 + 3000]


class TestQueues:
    CHUNK_NS = 2 * (100 + 1000)

    def ends(self, priorities: tuple[int, int] = (0, 0), **settings: object) -> list[int]:
        scheduling = Scheduling(chunks=4, **settings)  # type: ignore[arg-type]
        return ends_ns(simulate(two_collectives(priorities), machine(2, scheduling=scheduling)))

    def test_lifo_lets_the_later_collective_overtake(self) -> None:
        # One chunk of the first is under way when the second comes.
        assert self.ends(priority="lifo") == [8 * self.CHUNK_NS, 5 * self.CHUNK_NS]

    def test_fifo_does_not(self) -> None:
        assert self.ends(priority="fifo") == [4 * self.CHUNK_NS, 8 * self.CHUNK_NS]

    def test_explicit_goes_by_what_nodes_state(self) -> None:
        assert self.ends((1, 2), priority="explicit") == [8 * self.CHUNK_NS, 5 * self.CHUNK_NS]
        assert self.ends((2, 1), priority="explicit") == [4 * self.CHUNK_NS, 8 * self.CHUNK_NS]
        assert self.ends(priority="explicit") == [4 * self.CHUNK_NS, 8 * self.CHUNK_NS]

    def test_two_queues_in_a_dimension_share_its_active_chunks(self) -> None:
        result = simulate(
            generate_collective(A2A, 8000, 2),
            machine(2, scheduling=Scheduling(chunks=4, queues=2, active_chunks=2)),
        )
        assert ends_ns(result) == [2 * (100 + 1000)]

    def test_the_smallest_can_go_first(self) -> None:
        def ends(order: str) -> list[int]:
            builder = GraphBuilder(0)
            for name, size in (("first", 8000), ("large", 8000), ("small", 400)):
                builder.add(NodeKind.COLL, name, comm_kind=RS, comm_bytes=size, lane="")
            graph = builder.build()
            workload = Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(2)})
            scheduling = Scheduling(queue_order=order, priority="fifo")
            return ends_ns(simulate(workload, machine(2, scheduling=scheduling)))

        assert ends("fifo") == [4100, 8200, 8500]
        assert ends("smallest-first") == [4100, 8500, 4400]


class TestGroups:
    def time_ns(self, ranks: list[int], size_bytes: int = 1200, **settings: object) -> int:
        graphs: Mapping[int, GraphBuilder] = {rank: GraphBuilder(rank) for rank in range(8)}
        for rank, builder in graphs.items():
            if rank in ranks:
                builder.add(NodeKind.COLL, "c", comm_kind=AG, comm_bytes=size_bytes, group="g")
            else:
                builder.add(NodeKind.COMP, "nothing")
        workload = Workload.from_graphs({r: b.build() for r, b in graphs.items()}, groups={"g": ranks})
        scheduling = Scheduling(**settings)  # type: ignore[arg-type]
        rings = machine(4, 2, topology="ring", scheduling=scheduling)
        result = simulate(workload, rings)
        return max(ends_ns(result, rank=rank)[0] for rank in ranks)

    def test_a_group_on_one_dimension_is_that_dimensions_collective(self) -> None:
        assert self.time_ns([0, 1, 2, 3]) == 3 * (100 + 1200)
        assert self.time_ns([1, 5]) == 100 + 1200

    def test_a_group_on_two_dimensions_runs_along_both(self) -> None:
        # First between the rows, then two neighbours exchange what both rows had.
        assert self.time_ns([0, 1, 4, 5]) == (100 + 1200) + (100 + 2400)

    def test_neighbours_in_a_group_may_be_far_apart_on_the_ring(self) -> None:
        assert self.time_ns([0, 2]) == 200 + 1200

    def test_what_fills_no_grid_is_one_ring_in_order_of_rank(self) -> None:
        # 0 to 1, 1 to 6 (one row up and one column on), 6 back to 0: the farthest is 3 links.
        assert self.time_ns([6, 0, 1]) == 2 * 1200 + 200 + 300

    def test_as_a_ring_every_group_is_one_in_list_order(self) -> None:
        in_order = self.time_ns([0, 1, 4, 5], subgroup="ring")
        other = self.time_ns([0, 5, 1, 4], subgroup="ring")
        # Three messages each; the longest way a block takes, in links: 1 + 2 + 1 and 2 + 1 + 2.
        assert (in_order, other) == (3 * 1200 + 500, 3 * 1200 + 500)
        assert self.time_ns([0, 1, 2, 3], subgroup="ring") == self.time_ns([0, 1, 2, 3])

    def test_some_dimensions_only(self) -> None:
        graph = GraphBuilder(0)
        graph.add(NodeKind.COLL, "c", comm_kind=AG, comm_bytes=1200, involved_dims=0b10)
        workload = Workload.from_graphs({rank: replace(graph.build(), rank=rank) for rank in range(8)})
        assert ends_ns(simulate(workload, machine(4, 2))) == [1300]


@pytest.mark.parametrize("topology", ["ring", "fully_connected", "switch"])
@pytest.mark.parametrize("name", ["ring", "direct"])
@pytest.mark.parametrize("kind", [AR, AG, A2A, RS])
@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_one_chunk_takes_what_the_closed_forms_say(
    topology: str, name: str, kind: CommKind, size: int
) -> None:
    workload = generate_collective(kind, size * 2 * 840, 2 * size)
    played = machine(size, 2, topology=topology, algorithm=name)
    whole = replace(played, scheduling=None)
    assert simulate(workload, played).step_time_ps == simulate(workload, whole).step_time_ps


def test_algorithms_that_can_t_run_a_collective_are_refused() -> None:
    with pytest.raises(ConfigError, match="halving-doubling needs a power of two, not 6 members"):
        simulate(generate_collective(AR, 64, 6), machine(6, algorithm="halving-doubling"))
    with pytest.raises(ConfigError, match="double-binary-tree can't run all-gather"):
        simulate(generate_collective(AG, 64, 4), machine(4, algorithm="double-binary-tree"))


def test_a_member_that_never_comes_is_named() -> None:
    builders = [GraphBuilder(rank) for rank in range(2)]
    for builder in builders:
        builder.add(NodeKind.COLL, "c", comm_kind=AR, comm_bytes=64)
    builders[1].add(NodeKind.RECV, "r", peer=0, comm_bytes=8, tag=1)
    builders[1].add_edge(1, 0)
    workload = Workload.from_graphs([builder.build() for builder in builders])
    for network in ("analytical", "congestion-aware"):
        deadlock = simulate(workload, machine(2), network=network).deadlock
        assert deadlock is not None
        assert "rank 1" in str(deadlock)


def test_ranks_that_come_to_two_collectives_in_different_orders_hold_each_other_up() -> None:
    graphs = []
    for rank in range(2):
        builder = GraphBuilder(rank)
        for number in range(2):
            wait_ps = 100 * NS * (number ^ rank)
            before = builder.add(NodeKind.COMP, "wait", duration_ps=wait_ps, lane=f"{number}")
            builder.add(NodeKind.COLL, f"c{number}", comm_kind=AR, comm_bytes=64, lane="", after=[before])
        graphs.append(builder.build())
    workload = Workload.from_graphs(graphs)
    for network in ("analytical", "congestion-aware"):
        held_up = simulate(workload, machine(2), network=network).deadlock
        assert held_up is not None
        assert "wait for each other in the queues" in str(held_up)
        both = machine(2, scheduling=Scheduling(active_chunks=2))
        assert simulate(workload, both, network=network).deadlock is None


def test_a_send_that_nobody_asks_for_is_told() -> None:
    builders = [GraphBuilder(rank) for rank in range(2)]
    builders[0].add(NodeKind.SEND, "s", peer=1, comm_bytes=8, tag=1)
    builders[1].add(NodeKind.COLL, "c", comm_kind=AR, comm_bytes=64)
    builders[1].add(NodeKind.RECV, "r", peer=0, comm_bytes=8, tag=1, after=[0])
    builders[0].add(NodeKind.COLL, "c", comm_kind=AR, comm_bytes=64, after=[0])
    workload = Workload.from_graphs([builder.build() for builder in builders])
    asked = simulate(workload, machine(2, scheduling=Scheduling(rendezvous=True))).deadlock
    assert asked is not None
    assert asked.is_circle
    assert "its receive, rank 1 node 1" in str(asked)
    assert simulate(workload, machine(2)).deadlock is None


def test_remote_memory_that_ranks_share_serves_one_after_the_other() -> None:
    builder = GraphBuilder(0)
    builder.add(NodeKind.MEM_LOAD, "load", tensor_bytes=500)
    graph = builder.build()
    workload = Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(4)})

    def ends(sharing: str) -> list[int]:
        memory = RemoteMemory(GBPS, 100 * NS, sharing, 2)
        result = simulate(workload, machine(4, remote_memory=memory, scheduling=None))
        return [int(end) // NS for end in result.ends_ps]

    assert ends("per-rank") == [600] * 4
    assert ends("per-node") == [600, 1200, 600, 1200]
    assert ends("pool") == [600, 1200, 1800, 2400]


def test_as_recorded_nobody_waits_for_anybody() -> None:
    builders = [GraphBuilder(rank) for rank in range(2)]
    for rank, builder in enumerate(builders):
        builder.add(NodeKind.COLL, "c", comm_kind=AR, comm_bytes=64, duration_ps=(rank + 1) * 700)
    workload = Workload.from_graphs([builder.build() for builder in builders])
    result = simulate(workload, machine(2), network="recorded")
    assert result.ends_ps.tolist() == [700, 1400]
