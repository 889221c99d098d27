"""Topologies count hops, routes and loads in agreement with each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.machine.topology import SWITCH, TOPOLOGIES, FullyConnected, Ring, Switch, Topology

KINDS = st.sampled_from([*TOPOLOGIES.values()])


def counted(topology: Topology, messages: list[tuple[int, int]]) -> int:
    """Messages on the busiest link, link by link."""
    passed = Counter(link for source, to in messages for link in topology.route(source, to))
    return max(passed.values())


def test_routes_by_hand() -> None:
    assert Ring(6).route(5, 1) == ((5, 0), (0, 1))
    assert Ring(6).route(1, 5) == ((1, 0), (0, 5))
    assert Ring(4).route(3, 1) == ((3, 0), (0, 1))  # of two equal ways the ascending
    assert FullyConnected(6).route(1, 5) == ((1, 5),)
    assert Switch(6).route(1, 5) == ((1, SWITCH), (SWITCH, 5))


@given(KINDS, st.integers(2, 12), st.data())
def test_a_route_has_as_many_links_as_there_are_hops(
    kind: type[Topology], size: int, data: st.DataObject
) -> None:
    source, to = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    hops = kind(size).hops(np.array([source]), np.array([to]))
    assert len(kind(size).route(source, to)) == int(hops[0])


@given(KINDS, st.integers(2, 12), st.data())
def test_the_load_is_that_of_the_busiest_link(kind: type[Topology], size: int, data: st.DataObject) -> None:
    pair = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(
        lambda ends: ends[0] != ends[1]
    )
    messages = data.draw(st.lists(pair, min_size=1, max_size=20))
    sources, destinations = np.array(messages).T
    assert kind(size).load(sources, destinations) == counted(kind(size), messages)


@given(KINDS, st.integers(2, 12), st.data())
def test_what_all_members_send_equally_far_loads_links_as_counted(
    kind: type[Topology], size: int, data: st.DataObject
) -> None:
    distances = data.draw(st.lists(st.integers(1, size - 1), min_size=1, max_size=size))
    messages = [(me, (me + distance) % size) for me in range(size) for distance in distances]
    assert kind(size).shift_load(distances, size) == counted(kind(size), messages)


def test_a_part_of_a_ring_keeps_the_rings_distances() -> None:
    # Every second place of a ring of 8: place 3 is 6 links from place 0 one way, 2 the other.
    part = Ring(4, links=8, stride=2)
    assert part.hops(np.array([0, 0, 0]), np.array([1, 2, 3])).tolist() == [2, 4, 2]


@pytest.mark.parametrize(("kind", "links"), [(Ring, 1), (FullyConnected, 7), (Switch, 1)])
def test_only_a_fully_connected_rank_has_a_link_for_every_other(kind: type[Topology], links: int) -> None:
    assert kind.injection_links(8) == links
