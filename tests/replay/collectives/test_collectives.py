"""Messages and collectives on an idle network: by hand, and against a replay of every single message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.converters.synthetic.micro.collective import generate_collective
from chakrasim.replay.collectives import collective_ps
from chakrasim.replay.machine.machine import Accelerator, Dimension, Machine
from chakrasim.replay.transport.uncontended import message_ps
from chakrasim.traces import CommKind
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError

LATENCY_PS = 1000
PS_PER_BYTE = 10  # 100 GB/s


def machine(*dimensions: tuple[str, int], algorithm: str = "ring", cycle_ps: int = 1) -> Machine:
    """Every link: 1,000 ps and 10 ps a byte in the first dimension, ten times that in the next."""
    return Machine(
        name="test",
        source="",
        accelerator=Accelerator("chip", {"fp32": 1e12}, 1e12, 10**9, 0),
        dimensions=tuple(
            Dimension(f"d{i}", topology, size, 1e12 / (PS_PER_BYTE * 10**i), LATENCY_PS * 10**i)
            for i, (topology, size) in enumerate(dimensions)
        ),
        algorithms={kind: (algorithm,) * len(dimensions) for kind in CommKind},
        cycle_ps=cycle_ps,
    )


class TestMessages:
    def test_hops_follow_the_topology(self) -> None:
        ring, full, switch = (machine((t, 8)) for t in ("ring", "fully_connected", "switch"))
        # Rank 1 to 6 on a ring of 8: three hops backwards. 100 bytes at 10 ps.
        assert message_ps(ring, 1, 6, 100) == 3 * 1000 + 1000
        assert message_ps(full, 1, 6, 100) == 1000 + 1000
        assert message_ps(switch, 1, 6, 100) == 2 * 1000 + 1000

    def test_latencies_add_up_and_the_narrowest_link_counts_once(self) -> None:
        m = machine(("ring", 4), ("switch", 2))
        # Rank 0 is (0, 0), rank 6 is (2, 1): two hops, then up and down; 5 bytes at 100 ps.
        assert message_ps(m, 0, 6, 5) == 2 * 1000 + 2 * 10_000 + 500

    def test_the_narrowest_link_counts_wherever_it_is_on_the_way(self) -> None:
        for widths_Bps in ((1e9, 1e12), (1e12, 1e9)):
            dimensions = tuple(
                Dimension(f"d{i}", "fully_connected", 2, width_Bps, 0)
                for i, width_Bps in enumerate(widths_Bps)
            )
            m = replace(machine(("ring", 4)), dimensions=dimensions)
            assert message_ps(m, 0, 3, 1000) == 1_000_000

    def test_a_message_to_oneself_is_free(self) -> None:
        assert message_ps(machine(("ring", 4)), 2, 2, 10**12) == 0

    def test_costs_are_rounded_down_to_cycles(self) -> None:
        assert message_ps(machine(("ring", 4), cycle_ps=1000), 0, 1, 99) == 1000

    @given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23), st.integers(0, 2**40)), min_size=1))
    def test_arrays_and_numbers_agree(self, rows: list[tuple[int, int, int]]) -> None:
        m = machine(("ring", 4), ("switch", 3), ("fully_connected", 2))
        table = np.array(rows, dtype=np.int64)
        assert message_ps(m, table[:, 0], table[:, 1], table[:, 2]).tolist() == [
            message_ps(m, *r) for r in rows
        ]


Steps = Iterator[list[tuple[int, int, int]]]
"""For each step the messages (source, destination, block); blocks are numbered."""


def ring_reduce_scatter(n: int) -> Steps:
    for step in range(n - 1):
        yield [(rank, (rank + 1) % n, (rank - step - 1) % n) for rank in range(n)]


def ring_all_gather(n: int) -> Steps:
    for step in range(n - 1):
        yield [(rank, (rank + 1) % n, (rank - step) % n) for rank in range(n)]


def ring_broadcast(n: int) -> Steps:
    """From rank 0, in n pieces one behind the other."""
    for step in range(2 * (n - 1)):
        yield [(rank, rank + 1, step - rank) for rank in range(n - 1) if 0 <= step - rank < n]


def direct_exchange(n: int) -> Steps:
    yield [(source, to, to) for source in range(n) for to in range(n) if source != to]


def step_ps(topology: str, n: int, messages: list[tuple[int, int, int]], block_bytes: Fraction) -> Fraction:
    """A step's messages, each cut through on its way, while those that cross one link share it."""
    crossing: dict[object, int] = {}
    longest = 0
    for source, to, _ in messages:
        links: list[object] = [(source, to)]
        if topology == "switch":
            links = [("up", source), ("down", to)]
        elif topology == "ring":
            ahead = (to - source) % n
            sign, hops = (1, ahead) if 2 * ahead <= n else (-1, n - ahead)
            links = [((source + sign * hop) % n, sign) for hop in range(hops)]
        longest = max(longest, len(links))
        for link in links:
            crossing[link] = crossing.get(link, 0) + 1
    return longest * LATENCY_PS + max(crossing.values(), default=0) * block_bytes * PS_PER_BYTE


TOPOLOGIES = ("ring", "fully_connected", "switch")


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
class TestAgainstEveryMessage:
    SIZE = 8 * 3 * 5 * 7

    def total(self, topology: str, n: int, steps: Steps, block: Fraction) -> int:
        return int(sum(step_ps(topology, n, step, block) for step in steps))

    def cost(self, topology: str, n: int, kind: CommKind, algorithm: str) -> int:
        return collective_ps(machine((topology, n), algorithm=algorithm), kind, self.SIZE, tuple(range(n)))

    def test_ring(self, topology: str, n: int) -> None:
        part, whole = Fraction(self.SIZE, n), Fraction(self.SIZE)
        scatter = self.total(topology, n, ring_reduce_scatter(n), part)
        assert self.cost(topology, n, CommKind.REDUCE_SCATTER, "ring") == pytest.approx(scatter, abs=1)
        gather = self.total(topology, n, ring_all_gather(n), whole)
        assert self.cost(topology, n, CommKind.ALL_GATHER, "ring") == pytest.approx(gather, abs=1)
        broadcast = self.total(topology, n, ring_broadcast(n), part)
        assert self.cost(topology, n, CommKind.BROADCAST, "ring") == pytest.approx(broadcast, abs=1)

    def test_direct(self, topology: str, n: int) -> None:
        part = self.total(topology, n, direct_exchange(n), Fraction(self.SIZE, n))
        assert self.cost(topology, n, CommKind.ALL_TO_ALL, "direct") == pytest.approx(part, abs=1)
        assert self.cost(topology, n, CommKind.REDUCE_SCATTER, "direct") == pytest.approx(part, abs=1)
        whole = self.total(topology, n, direct_exchange(n), Fraction(self.SIZE))
        assert self.cost(topology, n, CommKind.ALL_GATHER, "direct") == pytest.approx(whole, abs=1)
        fan = [[(0, to, 0) for to in range(1, n)]]
        once = self.total(topology, n, iter(fan), Fraction(self.SIZE))
        assert self.cost(topology, n, CommKind.BROADCAST, "direct") == pytest.approx(once, abs=1)

    def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather_of_the_parts(
        self, topology: str, n: int
    ) -> None:
        for algorithm in ("ring", "direct"):
            m = machine((topology, n), algorithm=algorithm)
            ranks, size = tuple(range(n)), 1000 * n
            both = collective_ps(m, CommKind.REDUCE_SCATTER, size, ranks)
            both += collective_ps(m, CommKind.ALL_GATHER, size // n, ranks)
            assert collective_ps(m, CommKind.ALL_REDUCE, size, ranks) == pytest.approx(both, abs=1)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_ring_steps_leave_every_block_where_it_belongs(n: int) -> None:
    summed = [[{rank} for _ in range(n)] for rank in range(n)]
    for step in ring_reduce_scatter(n):
        sent = [(to, block, set(summed[source][block])) for source, to, block in step]
        for to, block, parts in sent:
            summed[to][block] |= parts
    assert all(summed[rank][rank] == set(range(n)) for rank in range(n))
    held = [{rank} for rank in range(n)]
    for step in ring_all_gather(n):
        assert all(block in held[source] for source, _, block in step)
        for _, to, block in step:
            held[to].add(block)
    assert held == [set(range(n))] * n
    got = [set(range(n)), *(set() for _ in range(n - 1))]
    for step in ring_broadcast(n):
        assert all(block in got[source] for source, _, block in step)
        for _, to, block in step:
            got[to].add(block)
    assert got == [set(range(n))] * n


class TestByHand:
    def test_every_kind_on_a_ring_of_four(self) -> None:
        m, ranks = machine(("ring", 4)), (0, 1, 2, 3)
        cost = {kind: collective_ps(m, kind, 400, ranks) for kind in CommKind}
        step, whole = 1000 + 100 * 10, 1000 + 400 * 10
        assert cost[CommKind.REDUCE_SCATTER] == cost[CommKind.REDUCE_SCATTER_BLOCK] == 3 * step
        assert cost[CommKind.ALL_REDUCE] == cost[CommKind.BROADCAST] == cost[CommKind.REDUCE] == 6 * step
        assert cost[CommKind.ALL_GATHER] == cost[CommKind.GATHER] == 3 * whole
        assert cost[CommKind.SCATTER] == 3 * step
        # Blocks of 100 bytes travel 1, 2 and 3 hops: 3, 2 and 1 of them cross a link in the three steps.
        assert cost[CommKind.ALL_TO_ALL] == 3 * 1000 + (3 + 2 + 1) * 100 * 10
        assert cost[CommKind.BARRIER] == 6 * 1000

    def test_an_all_reduce_over_two_dimensions_shrinks_on_its_way_out(self) -> None:
        m = machine(("ring", 4), ("switch", 2))
        inner = 2 * 3 * (1000 + 200 * 10)  # out and back, 800 / 4 bytes a step
        outer = 2 * 1 * (20_000 + 100 * 100)  # 200 / 2 bytes a step
        assert collective_ps(m, CommKind.ALL_REDUCE, 800, tuple(range(8))) == inner + outer

    def test_a_group_on_one_dimension_uses_only_that(self) -> None:
        m = machine(("ring", 4), ("switch", 2))
        assert collective_ps(m, CommKind.ALL_REDUCE, 100, (1, 5)) == 2 * (20_000 + 50 * 100)
        assert collective_ps(m, CommKind.ALL_REDUCE, 100, (4, 5, 6, 7)) == 6 * (1000 + 25 * 10)

    def test_every_second_rank_of_a_ring_is_two_hops_away(self) -> None:
        m = machine(("ring", 8))
        assert collective_ps(m, CommKind.ALL_GATHER, 100, (0, 2, 4, 6)) == 3 * (2 * 1000 + 1000)

    def test_a_group_that_is_no_grid_is_one_ring_over_its_slowest_way(self) -> None:
        m = machine(("ring", 4), ("switch", 2))
        slowest = 1000 + 20_000  # from rank 1 = (1, 0) to rank 4 = (0, 1)
        assert collective_ps(m, CommKind.ALL_GATHER, 10, (0, 1, 4)) == 2 * (slowest + 10 * 100)

    def test_one_member_has_nothing_to_do(self) -> None:
        assert collective_ps(machine(("ring", 4)), CommKind.ALL_REDUCE, 10**9, (2,)) == 0


@given(
    st.sampled_from(list(CommKind)),
    st.sampled_from(["ring", "direct"]),
    st.sampled_from(TOPOLOGIES),
    st.sets(st.integers(0, 15), min_size=2),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_more_bytes_never_take_less_time(
    kind: CommKind, algorithm: str, topology: str, ranks: set[int], size: int, more: int
) -> None:
    m = machine((topology, 4), ("switch", 4), algorithm=algorithm)
    members = tuple(sorted(ranks))
    assert collective_ps(m, kind, size, members) <= collective_ps(m, kind, size + more, members)


class TestGenerator:
    def test_all_ranks_share_one_graphs_columns(self) -> None:
        w = generate_collective(CommKind.ALL_REDUCE, 64, ranks=1000, repeat=2, compute_us=1.5)
        assert check_workload(w) == []
        assert w.graphs[0].ids is w.graphs[999].ids
        assert (w.graphs[999].rank, w.world_size) == (999, 1000)
        assert w.graphs[0].durations_ps.tolist() == [1_500_000, 0, 1_500_000, 0]

    @pytest.mark.parametrize("kind", list(CommKind))
    def test_every_kind_makes_a_sound_workload(self, kind: CommKind) -> None:
        assert check_workload(generate_collective(kind, 64, ranks=3)) == []

    @pytest.mark.parametrize(
        ("arguments", "what"), [((-1, 2), "size"), ((1, 0), "ranks"), ((1, 2, 0), "repeat")]
    )
    def test_impossible_numbers_are_refused(self, arguments: tuple[int, ...], what: str) -> None:
        with pytest.raises(ConfigError, match=f"^{what} is"):
            generate_collective(CommKind.ALL_REDUCE, *arguments)
