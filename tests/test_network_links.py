"""Links that carry one message at a time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.simulate import simulate
from chakrasim.replay.transport.fifo_links import FifoLinks
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

NS = 1000
TOPOLOGIES = ("ring", "fully_connected", "switch")


def machine(*dimensions: tuple[str, int], cycle_ps: int = 1) -> Machine:
    """Links of 1 byte a ns and 100 ns."""
    made = tuple(
        Dimension(f"d{index}", topology, size, 1e9, 100 * NS)
        for index, (topology, size) in enumerate(dimensions)
    )
    algorithms = {kind: ("ring",) * len(made) for kind in CommKind}
    return Machine("test", "nowhere", None, made, algorithms, cycle_ps=cycle_ps)


def landings_ns(links_of: Machine, *messages: tuple[int, int, int, int]) -> list[int]:
    """When each of (start ns, source, destination, bytes) arrives."""
    clock = Clock()
    links = FifoLinks(clock, links_of)
    landed: dict[int, int] = {}
    for number, (start_ns, source, destination, size_bytes) in enumerate(messages):

        def arrived(number: int = number) -> None:
            landed[number] = clock.now_ps // NS

        clock.at(
            start_ns * NS,
            lambda s=source, d=destination, z=size_bytes, a=arrived: links.send(s, d, z, 0, a),  # type: ignore[misc]
        )
    clock.run()
    return [landed[number] for number in range(len(messages))]


def test_a_message_is_stored_and_forwarded_whole() -> None:
    assert landings_ns(machine(("fully_connected", 4)), (0, 0, 3, 50)) == [150]
    assert landings_ns(machine(("switch", 4)), (0, 0, 3, 50)) == [300]
    assert landings_ns(machine(("ring", 8)), (0, 0, 3, 50)) == [450]
    assert landings_ns(machine(("ring", 8)), (0, 1, 7, 50)) == [300]


def test_a_ring_of_two_has_links_both_ways() -> None:
    assert landings_ns(machine(("ring", 2)), (0, 0, 1, 50), (0, 1, 0, 50)) == [150, 150]


def test_dimensions_are_passed_from_the_inside_outwards() -> None:
    links = FifoLinks(Clock(), machine(("ring", 4), ("switch", 3), ("fully_connected", 2)))
    # From (3, 0, 0) to (1, 2, 1): two links up the ring, through a switch, over to the other half.
    assert links.route(3, 1 + 2 * 4 + 12) == [(0, 3, 0), (0, 0, 1), (1, 1, -1), (1, -1, 9), (2, 9, 21)]


def test_a_link_serves_one_message_at_a_time_in_order_of_arrival() -> None:
    # The second leaves when the first has left the link, 50 ns after it, and not when it has arrived.
    assert landings_ns(machine(("fully_connected", 2)), (0, 0, 1, 50), (10, 0, 1, 30)) == [150, 180]
    # Two senders meet at the receiver's link from the switch.
    assert landings_ns(machine(("switch", 3)), (0, 0, 2, 50), (0, 1, 2, 50)) == [300, 350]


def test_opposite_directions_and_other_lines_don_t_meet() -> None:
    grid = machine(("ring", 4), ("ring", 4))
    assert landings_ns(grid, (0, 0, 1, 50), (0, 1, 0, 50), (0, 4, 5, 50), (0, 0, 4, 50)) == [150] * 4


@given(
    st.lists(st.tuples(st.sampled_from(TOPOLOGIES), st.integers(2, 5)), min_size=1, max_size=3),
    st.integers(0, 10**6),
    st.data(),
)
def test_alone_a_message_takes_the_sum_of_its_links(
    dimensions: list[tuple[str, int]], size_bytes: int, data: st.DataObject
) -> None:
    grid = machine(*dimensions, cycle_ps=NS)
    ranks = st.integers(0, (grid.size or 1) - 1)
    source, destination = data.draw(ranks), data.draw(ranks)
    count = len(FifoLinks(Clock(), grid).route(source, destination))
    assert landings_ns(grid, (0, source, destination, size_bytes)) == [count * (100 + size_bytes)]


def test_two_collectives_on_the_same_links_slow_each_other_down() -> None:
    builder = GraphBuilder(0)
    for name in ("a", "b"):
        builder.add(NodeKind.COLL, name, comm_kind=CommKind.ALL_GATHER, comm_bytes=1000, lane="")
    graph = builder.build()
    workload = Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(2)})
    pair = machine(("fully_connected", 2))
    alone_ns, together_ns = (
        (simulate(workload, pair, network=network).ends_ps // NS).tolist()
        for network in ("analytical", "congestion-aware")
    )
    assert alone_ns == [1100, 1100, 1100, 1100]
    assert together_ns == [1100, 2100, 1100, 2100]
