"""What every network model makes of scheduling, shared memory, and ranks without a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from replay_cases import rank, recv

from chakrasim.replay.machine.machine import Dimension, Machine, RemoteMemory
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.plugins import NETWORKS
from chakrasim.replay.simulate import simulate
from chakrasim.replay.testing.network import all_reduce, message
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload

NS = 1000
EVERY = NETWORKS.names()
WAITING = tuple(name for name in EVERY if NETWORKS.get(name).waits)


def machine(topology: str = "fully_connected", algorithm: str = "ring", **options: object) -> Machine:
    """Eight ranks and links of 1 byte a ns and 100 ns."""
    dimension = Dimension("d", topology, 8, 1e9, 100 * NS)
    algorithms = dict.fromkeys(CommKind, ("ring",)) | {CommKind.ALL_REDUCE: (algorithm,)}
    return Machine("test", "nowhere", None, (dimension,), algorithms, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", WAITING)
def test_every_network_plays_the_algorithm_and_the_chunks_of_a_scheduling_block(network: str) -> None:
    def step_time_ps(algorithm: str, chunks: int) -> int | None:
        scheduled = machine(algorithm=algorithm, scheduling=Scheduling(chunks=chunks))
        return simulate(all_reduce(), scheduled, network=network).step_time_ps

    # A ring of 8 sends 14 messages of a chunk's eighth one after the other, 4 times: whole bytes of each.
    assert step_time_ps("ring", 4) == 4 * 14 * (100 + 31_250) * NS
    assert step_time_ps("ring", 1) == 14 * (100 + 125_000) * NS
    # Down and up two trees of 3 levels in four chunks: what shares a link or a port only makes it slower.
    idle_ps = simulate(
        all_reduce(), machine(algorithm="double-binary-tree", scheduling=Scheduling(chunks=4))
    ).step_time_ps
    tree_ps = step_time_ps("double-binary-tree", 4)
    assert idle_ps is not None
    assert tree_ps is not None
    assert tree_ps >= idle_ps
    assert tree_ps != step_time_ps("ring", 4)


def test_recorded_durations_hold_whatever_the_scheduling_and_say_so() -> None:
    result = simulate(all_reduce(), machine(scheduling=Scheduling(chunks=4)), network="recorded")
    assert "scheduling and shared memory play no part" in " ".join(result.notes)


def test_a_recorded_collective_keeps_its_duration_and_the_others_are_scheduled() -> None:
    def build(builder: GraphBuilder) -> None:
        options = {"comm_kind": CommKind.ALL_REDUCE, "comm_bytes": 8_000}
        first = builder.add(NodeKind.COLL, "recorded", duration_ps=7 * NS, **options)
        builder.add(NodeKind.COLL, "not recorded", after=(first,), **options)

    workload = Workload.from_graphs([rank(number, build) for number in range(8)])
    result = simulate(workload, machine(scheduling=Scheduling(chunks=2)), network="measured")
    assert result.ends_ps.tolist() == [7 * NS, (7 + 2 * 14 * (100 + 500)) * NS] * 8


@pytest.mark.parametrize("network", WAITING)
def test_ranks_that_share_a_pool_of_memory_wait_for_each_other(network: str) -> None:
    def build(builder: GraphBuilder) -> None:
        builder.add(NodeKind.MEM_LOAD, "load", tensor_bytes=10**7)

    workload = Workload.from_graphs([rank(number, build) for number in range(4)])
    pooled = machine(remote_memory=RemoteMemory(10e9, 0, "pool"))
    assert simulate(workload, pooled, network=network).step_time_ps == 4_000_000 * NS


@pytest.mark.parametrize("network", WAITING)
@pytest.mark.parametrize("topology", ["ring", "fully_connected", "switch"])
def test_a_message_alone_takes_the_same_on_every_network(topology: str, network: str) -> None:
    workload = message(10**8)
    took_ps = simulate(workload, machine(topology), network=network).step_time_ps
    hops = {"ring": 1, "fully_connected": 1, "switch": 2}[topology]
    assert took_ps == (hops * 100 + 10**8) * NS


BUS = Bus(latency_ns=1, overhead_ns=1, gap_ns=1, ns_per_byte=0.1, reduction_ns_per_100_bytes=1)


@pytest.mark.parametrize("network", WAITING)
@pytest.mark.parametrize("scheduling", [None, Scheduling(), Scheduling(rendezvous=True), Scheduling(bus=BUS)])
def test_a_receive_from_a_rank_without_a_trace_takes_the_time_of_its_message(
    scheduling: Scheduling | None, network: str
) -> None:
    workload = Workload.from_graphs([rank(0, lambda b: recv(b, 5))], world_size=8)
    result = simulate(workload, machine("switch", scheduling=scheduling), network=network)
    assert result.step_time_ps == (200 + 500) * NS


def test_a_send_without_a_tag_and_a_receive_with_tag_0_pair_everywhere() -> None:
    def pair(tag_of_send: int) -> Callable[[GraphBuilder], object]:
        return lambda b: b.add(NodeKind.SEND, "send", peer=1, comm_bytes=500, tag=tag_of_send)

    workload = Workload.from_graphs([rank(0, pair(-1)), rank(1, lambda b: recv(b, 0))])
    for network in WAITING:
        for scheduling in (None, Scheduling(rendezvous=True)):
            small = machine(scheduling=scheduling)
            two = replace(small, dimensions=(replace(small.dimensions[0], size=2),))
            assert simulate(workload, two, network=network).deadlock is None
