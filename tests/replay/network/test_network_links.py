"""Links that carry one message at a time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.engine.event_queue import Clock
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.rules import ASTRA_SIM_2, Rules
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.simulate import simulate
from chakrasim.replay.transport.fifo_links import FifoLinks
from chakrasim.replay.transport.uncontended import message_ps
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

NS = 1000
TOPOLOGIES = ("ring", "fully_connected", "switch")


def machine(*dimensions: tuple[str, int], cycle_ps: int = 1, rules: Rules | None = None) -> Machine:
    """Links of 1 byte a ns and 100 ns."""
    made = tuple(
        Dimension(f"d{index}", topology, size, 1e9, 100 * NS)
        for index, (topology, size) in enumerate(dimensions)
    )
    algorithms = {kind: ("ring",) * len(made) for kind in CommKind}
    scheduling = None if rules is None else Scheduling(rules=rules)
    return Machine("test", "nowhere", None, made, algorithms, cycle_ps=cycle_ps, scheduling=scheduling)


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


def test_a_message_is_cut_through_and_pays_its_bytes_once() -> None:
    assert landings_ns(machine(("fully_connected", 4)), (0, 0, 3, 50)) == [150]
    assert landings_ns(machine(("switch", 4)), (0, 0, 3, 50)) == [250]
    assert landings_ns(machine(("ring", 8)), (0, 0, 3, 50)) == [350]
    assert landings_ns(machine(("ring", 8)), (0, 1, 7, 50)) == [250]
    assert landings_ns(machine(("switch", 2), ("switch", 2)), (0, 0, 3, 50)) == [450]


def test_by_astra_sims_rules_a_message_is_stored_and_forwarded_whole() -> None:
    def landing(topology: str, size: int, to: int) -> list[int]:
        return landings_ns(machine((topology, size), rules=ASTRA_SIM_2), (0, 0, to, 50))

    assert landing("fully_connected", 4, 3) == [150]
    assert landing("switch", 4, 3) == [300]
    assert landing("ring", 8, 3) == [450]


def test_a_ring_of_two_has_links_both_ways() -> None:
    assert landings_ns(machine(("ring", 2)), (0, 0, 1, 50), (0, 1, 0, 50)) == [150, 150]


def test_dimensions_are_passed_from_the_inside_outwards() -> None:
    links = FifoLinks(Clock(), machine(("ring", 4), ("switch", 3), ("fully_connected", 2)))
    # From (3, 0, 0) to (1, 2, 1): two links up the ring, through a switch, over to the other half.
    assert links.route(3, 1 + 2 * 4 + 12) == [(0, 3, 0), (0, 0, 1), (1, 1, -1), (1, -1, 9), (2, 9, 21)]


def test_a_link_serves_one_message_at_a_time_in_order_of_arrival() -> None:
    # The second leaves when the first has left the link, 50 ns after it, and not when it has arrived.
    assert landings_ns(machine(("fully_connected", 2)), (0, 0, 1, 50), (10, 0, 1, 30)) == [150, 180]
    # Two senders meet at the receiver's link from the switch: the second passes it from 150 to 200.
    assert landings_ns(machine(("switch", 3)), (0, 0, 2, 50), (0, 1, 2, 50)) == [250, 300]


def test_a_message_waits_for_its_turn_from_when_its_first_packet_is_there() -> None:
    links = machine(("switch", 3))

    # The first of 500 bytes is at the link to rank 2 at 100, its first packet at 400 or 110. Two bytes from
    # rank 1 are there at 152: before a packet of 300, after one of 10.
    def packets(size_bytes: int) -> Machine:
        return replace(links, dimensions=(replace(links.dimensions[0], packet_bytes=size_bytes),))

    messages = (0, 0, 2, 500), (50, 1, 2, 2)
    # The short one passes from 150 to 152; the long one follows it and takes 500.
    assert landings_ns(packets(300), *messages) == [752, 252]
    # The long one passes from 100 to 600, the short one from 600 to 602.
    assert landings_ns(packets(10), *messages) == [700, 702]


def test_what_waits_on_its_way_lands_when_its_last_byte_has_passed() -> None:
    links = machine(("switch", 3))
    slow = replace(links.dimensions[0], name="slow", topology="fully_connected", size=2, bandwidth_Bps=0.5e9)
    both = replace(links, dimensions=(*links.dimensions, slow))
    # Up and down the switch and over a slow link: the head is there at 200, and 50 bytes take 100.
    assert landings_ns(both, (0, 0, 5, 50)) == [400]
    # Another one waits for the link down until 150, is at the slow link at 250 and passes it from 300 on.
    assert landings_ns(both, (0, 0, 5, 50), (0, 1, 5, 50)) == [400, 500]


def test_a_message_to_its_own_rank_arrives_at_once() -> None:
    assert landings_ns(machine(("switch", 3)), (7, 1, 1, 50)) == [7]


def test_opposite_directions_and_other_lines_don_t_meet() -> None:
    grid = machine(("ring", 4), ("ring", 4))
    assert landings_ns(grid, (0, 0, 1, 50), (0, 1, 0, 50), (0, 4, 5, 50), (0, 0, 4, 50)) == [150] * 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TOPOLOGIES),
            st.integers(2, 5),
            st.floats(1e8, 1e12),
            st.integers(0, 10**7),
            st.integers(1, 10**4),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 10**9),
    st.sampled_from([1, 1000]),
    st.data(),
)
def test_alone_a_message_takes_what_the_idle_network_says_to_the_picosecond(
    dimensions: list[tuple[str, int, float, int, int, int]],
    size_bytes: int,
    cycle_ps: int,
    data: st.DataObject,
) -> None:
    grid = machine(*(dimension[:2] for dimension in dimensions), cycle_ps=cycle_ps)
    made = tuple(
        replace(
            known,
            bandwidth_Bps=bandwidth,
            latency_ps=latency,
            packet_bytes=packet,
            # A part of a larger ring, whose ranks lie one or two links apart.
            ring_size=2 * size + more if more and topology == "ring" else None,
            ring_stride=2 if more == 1 and topology == "ring" else 1,
        )
        for known, (topology, size, bandwidth, latency, packet, more) in zip(
            grid.dimensions, dimensions, strict=True
        )
    )
    grid = replace(grid, dimensions=made)
    ranks = st.integers(0, (grid.size or 1) - 1)
    source, destination = data.draw(ranks), data.draw(ranks)
    clock, landed = Clock(), []
    FifoLinks(clock, grid).send(source, destination, size_bytes, 0, lambda: landed.append(clock.now_ps))
    clock.run()
    assert landed == [message_ps(grid, source, destination, size_bytes)]


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
