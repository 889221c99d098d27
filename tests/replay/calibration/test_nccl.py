"""Collectives and messages as NCCL runs them: worked by hand, and beside published measurements."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.collectives import collective_ps
from chakrasim.replay.machine.files.write import machine_yaml
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.machine.nccl_parameters import LL, LL128, SIMPLE, Calibration, InSwitch, Links, Protocol
from chakrasim.replay.report.machine.machines import describe_machine
from chakrasim.replay.simulate import simulate
from chakrasim.replay.transport.uncontended import message_ps
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import PS_PER_US

AR, RS, AG, A2A = (
    CommKind.ALL_REDUCE,
    CommKind.REDUCE_SCATTER,
    CommKind.ALL_GATHER,
    CommKind.ALL_TO_ALL,
)
TEXT = """
name: made up
source: made up
network:
  - {name: inner, source: x, topology: switch, size: 4, bandwidth_GBps: 100, latency_ns: 500}
  - {name: outer, source: x, topology: switch, size: any, bandwidth_GBps: 10, latency_ns: 2000}
collectives: {default: nccl}
nccl:
  source: made up
  protocols: {Simple: {overhead_us: 10}}
  tree_efficiency: 0.5
  ring_ends: 0
  peer_us: 3
  links:
    inner: {hop_us: {Simple: 1}, message_us: 7,
      efficiency: 0.5, message_efficiency: 0.8, exchange_efficiency: 0.4}
    outer: {hop_us: {Simple: 5}, message_us: 20,
      efficiency: 0.8, message_efficiency: 0.5, exchange_efficiency: 0.25}
"""


def read(folder: Path, text: str = TEXT) -> Machine:
    path = folder / "m.yaml"
    path.write_text(text)
    return load_machine(str(path))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Hosts of four: 50 GB/s inside, 8 GB/s an adapter; hops of 1 us and 5 us."""
    return read(tmp_path).sized_for(16)


def calibration(machine: Machine) -> Calibration:
    assert machine.nccl is not None
    return machine.nccl


def us(machine: Machine, kind: CommKind, size_bytes: int, ranks: tuple[int, ...]) -> float:
    return collective_ps(machine, kind, size_bytes, ranks) / PS_PER_US


class TestAllReduce:
    def test_in_a_host_it_is_a_ring_over_its_links(self, machine: Machine) -> None:
        # 10 + 6 hops of 1 us + 1 MB / 4 * 6 / 50 GB/s
        assert us(machine, AR, 10**6, (0, 1, 2, 3)) == 10 + 6 + 30

    def test_on_two_hosts_one_ring_uses_all_adapters(self, machine: Machine) -> None:
        # 10 + 2 * (6 * 1 us + 1 * 5 us) + 100 MB / 8 * 14 / (4 * 8 GB/s); no phase for each dimension
        assert us(machine, AR, 10**8, tuple(range(8))) == 10 + 22 + 5468.75

    def test_a_small_one_takes_the_tree(self, machine: Machine) -> None:
        # On four hosts: 10 + 2 * (3 * 1 us + 2 * 5 us) + 2 * 16 kB / (32 GB/s / 2); the ring has 12 + 3 hops
        assert us(machine, AR, 16_000, tuple(range(16))) == 10 + 26 + 2

    def test_one_rank_a_host_has_one_adapter(self, machine: Machine) -> None:
        # 10 + 6 hops of 5 us + 80 MB / 4 * 6 / 8 GB/s
        assert us(machine, AR, 80_000_000, (0, 4, 8, 12)) == 10 + 30 + 15_000

    def test_the_host_with_fewest_ranks_bounds_the_ring(self, machine: Machine) -> None:
        # Hosts with 3 and 1: 2 hops inside, 1 between, and one adapter.
        assert us(machine, AR, 80_000_000, (0, 1, 2, 4)) == 10 + 2 * (2 + 5) + 15_000

    def test_a_slow_host_bounds_fast_adapters(self, machine: Machine) -> None:
        nccl = calibration(machine)
        slow = replace(nccl, links=(replace(nccl.links[0], efficiency=0.08), nccl.links[1]))
        # 8 GB/s inside, 4 * 8 GB/s between.
        ranks = tuple(range(8))
        assert us(replace(machine, nccl=slow), AR, 80_000_000, ranks) == 10 + 22 + 17_500

    def test_the_ends_of_a_ring_are_steps_more(self, machine: Machine) -> None:
        nccl = replace(calibration(machine), ring_ends=2.0)
        assert us(replace(machine, nccl=nccl), AR, 10**6, (0, 1, 2, 3)) == 10 + 6 + 40

    def test_the_switch_can_add_up(self, machine: Machine) -> None:
        nccl = replace(calibration(machine), in_switch=InSwitch(4 * PS_PER_US, 0.625))
        adding = replace(machine, nccl=nccl)
        # 4 + 1 MB * (1 + 1/4) / (100 GB/s * 0.625)
        assert us(adding, AR, 10**6, (0, 1, 2, 3)) == 4 + 20
        for ranks in ((0, 1), tuple(range(8))):  # not for two, and not over hosts
            assert us(adding, AR, 10**6, ranks) == us(machine, AR, 10**6, ranks)


class TestProtocols:
    @pytest.fixture
    def three(self, machine: Machine) -> Machine:
        protocols = {
            LL: Protocol(PS_PER_US, 5e9),
            LL128: Protocol(4 * PS_PER_US),
            SIMPLE: Protocol(10 * PS_PER_US),
        }
        hop_ps = dict.fromkeys(protocols, PS_PER_US)
        links = tuple(replace(link, hop_ps=hop_ps) for link in calibration(machine).links)
        return replace(machine, nccl=replace(calibration(machine), protocols=protocols, links=links))

    @pytest.mark.parametrize(
        ("size_bytes", "expected"),
        [
            (10_000, 1 + 6 + 3),  # 1.5 * 10 kB at LL's limit of 5 GB/s
            (100_000, 4 + 6 + 3.2),  # 1.5 * 100 kB at 15/16 of 50 GB/s
            (10**7, 10 + 6 + 300),
        ],
    )
    def test_the_fastest_one_is_taken(self, three: Machine, size_bytes: int, expected: float) -> None:
        assert us(three, AR, size_bytes, (0, 1, 2, 3)) == expected

    def test_flags_take_their_share_of_a_slow_link(self, three: Machine) -> None:
        # LL: 1 + 2 hops + 1 kB / (8 GB/s / 2), under its limit
        assert us(three, AR, 1000, (0, 4)) == 1 + 2 + 0.25


class TestOtherKinds:
    def test_reduce_scatter_and_all_gather_are_a_ring_once_around(self, machine: Machine) -> None:
        ranks = tuple(range(8))
        expected = 10 + (6 + 5) + 5468.75 / 2
        assert us(machine, RS, 10**8, ranks) == expected
        assert us(machine, CommKind.REDUCE_SCATTER_BLOCK, 10**8, ranks) == expected
        # A rank gives one part of eight.
        assert us(machine, AG, 10**8 // 8, ranks) == expected

    def test_broadcast_and_reduce_pass_all_bytes_everywhere(self, machine: Machine) -> None:
        for kind in (CommKind.BROADCAST, CommKind.REDUCE):
            assert us(machine, kind, 32_000_000, tuple(range(8))) == 10 + 11 + 1000

    def test_all_to_all_waits_for_the_busiest_link(self, machine: Machine) -> None:
        # To 3 in the host at 40 GB/s, to 4 outside at 2.5 GB/s, 1 MB each; 20 us and 6 further peers
        assert us(machine, A2A, 8 * 10**6, tuple(range(8))) == 20 + 6 * 3 + 1600
        # In the host: 7 us and 2 further peers
        assert us(machine, A2A, 4 * 10**6, (0, 1, 2, 3)) == 7 + 2 * 3 + 75

    def test_gather_and_scatter_wait_for_the_links_of_the_root(self, machine: Machine) -> None:
        assert us(machine, CommKind.SCATTER, 8 * 10**6, tuple(range(8))) == 20 + 18 + 1600
        assert us(machine, CommKind.GATHER, 10**6, tuple(range(8))) == 20 + 18 + 1600

    def test_a_barrier_is_an_all_reduce_of_almost_nothing(self, machine: Machine) -> None:
        ranks = tuple(range(8))
        assert collective_ps(machine, CommKind.BARRIER, 0, ranks) == collective_ps(machine, AR, 4, ranks)

    def test_one_member_has_nobody_to_wait_for(self, machine: Machine) -> None:
        assert {collective_ps(machine, kind, 10**9, (3,)) for kind in CommKind} == {0}

    def test_costs_are_whole_cycles(self, machine: Machine) -> None:
        coarse = replace(machine, cycle_ps=1000)
        cost_ps = collective_ps(machine, AR, 12_345, (0, 1, 4))
        assert cost_ps % 1000
        assert collective_ps(coarse, AR, 12_345, (0, 1, 4)) == cost_ps - cost_ps % 1000


def test_fully_connected_ranks_use_a_link_to_each_other(tmp_path: Path) -> None:
    machine = read(tmp_path, TEXT.replace("switch, size: 4", "fully_connected, size: 4")).sized_for(8)
    assert us(machine, AR, 10**6, (0, 1, 2, 3)) == 10 + 6 + 10  # three rings at 50 GB/s
    assert us(machine, AR, 10**6, (0, 3)) == 10 + 2 + 20  # one
    assert us(machine, A2A, 4 * 10**6, (0, 1, 2, 3)) == 7 + 2 * 3 + 25
    assert message_ps(machine, 0, 1, 80_000) == 8 * PS_PER_US  # a message takes one link


def test_three_dimensions_have_hops_of_their_own(tmp_path: Path) -> None:
    spine = "topology: switch, size: any, bandwidth_GBps: 8, latency_ns: 1}"
    text = TEXT.replace("size: any", "size: 2")
    text = text.replace("collectives:", f"  - {{name: spine, source: x, {spine}\ncollectives:")
    shares = "efficiency: 0.5, message_efficiency: 1, exchange_efficiency: 1"
    text += f"    spine: {{hop_us: {{Simple: 9}}, message_us: 1, {shares}}}\n"
    machine = read(tmp_path, text).sized_for(16)
    # Of 15 steps once around 12 stay in a host, 2 pass the outer switch, 1 the spine; 4 * 4 GB/s there.
    assert us(machine, RS, 16 * 10**8, tuple(range(16))) == 10 + 12 + 2 * 5 + 9 + 15 * 10**8 / 16e3


def test_messages_take_what_sends_reach(machine: Machine) -> None:
    assert message_ps(machine, 0, 1, 80_000) == 8 * PS_PER_US  # 7 us + 80 kB / 80 GB/s
    # Over the network the slower of both links and its own latency, which holds that of the way before it.
    assert message_ps(machine, 1, 6, 50_000) == 30 * PS_PER_US
    assert message_ps(machine, 5, 5, 10**12) == 0


def test_without_a_block_nothing_is_calibrated(machine: Machine) -> None:
    algorithms = dict.fromkeys(CommKind, ("ring", "ring"))
    plain = replace(machine, algorithms=algorithms, nccl=None)
    assert message_ps(plain, 0, 1, 100_000) == 2 * PS_PER_US  # two links of 500 ns + 100 kB / 100 GB/s
    assert us(plain, AR, 10**6, (0, 1, 2, 3)) == 6 * (1 + 2.5)
    # With one, kinds that name another algorithm have its closed form.
    mixed = replace(machine, algorithms=machine.algorithms | {AR: ("ring", "ring")})
    assert us(mixed, AR, 10**6, (0, 1, 2, 3)) == 6 * (1 + 2.5)
    assert us(mixed, RS, 10**6, (0, 1, 2, 3)) == us(machine, RS, 10**6, (0, 1, 2, 3))


@given(
    kind=st.sampled_from(list(CommKind)),
    name=st.sampled_from(["dgx-a100", "hgx-h100"]),
    members=st.sets(st.integers(0, 39), min_size=2),
    size=st.integers(0, 2**36),
    more=st.integers(0, 2**36),
)
def test_more_bytes_never_take_less_time(
    kind: CommKind, name: str, members: set[int], size: int, more: int
) -> None:
    sized, ranks = load_machine(name).sized_for(40), tuple(members)
    cost_ps = collective_ps(sized, kind, size, ranks)
    assert 0 < cost_ps <= collective_ps(sized, kind, size + more, ranks)


@given(
    members=st.sets(st.integers(0, 39), min_size=2),
    size=st.integers(1, 2**36),
    parts=st.integers(1, 64),
)
def test_cutting_a_collective_never_helps(members: set[int], size: int, parts: int) -> None:
    sized, ranks = load_machine("dgx-a100").sized_for(40), tuple(members)
    whole, part = (collective_ps(sized, AR, total, ranks) for total in (size, -(-size // parts)))
    assert whole <= parts * (part + 1)


def two_ranks(size_bytes: int) -> Workload:
    builders = [GraphBuilder(0), GraphBuilder(1)]
    for builder in builders:
        builder.add(NodeKind.COLL, "sum", comm_kind=AR, comm_bytes=size_bytes)
    return Workload.from_graphs({builder.rank: builder.build() for builder in builders})


def test_a_replay_costs_collectives_so(machine: Machine) -> None:
    result = simulate(two_ranks(10**6), machine)
    assert result.ends_ps.max() == (10 + 2 + 20) * PS_PER_US
    assert result.notes == ()


def test_played_messages_are_those_of_rings(machine: Machine) -> None:
    result = simulate(two_ranks(10**6), machine, network="congestion-aware")
    rings = replace(machine, algorithms=dict.fromkeys(CommKind, ("ring", "ring")), nccl=None)
    plain = simulate(two_ranks(10**6), rings, network="congestion-aware")
    assert result.ends_ps.tolist() == plain.ends_ps.tolist()
    assert any("played as rings" in note for note in result.notes)
    assert plain.notes == ()


def test_beside_shared_memory_collectives_are_costed_as_a_whole(tmp_path: Path) -> None:
    text = TEXT + "remote_memory: {source: x, bandwidth_GBps: 1, latency_ns: 5, sharing: pool}\n"
    result = simulate(two_ranks(10**6), read(tmp_path, text))
    assert result.ends_ps.max() == (10 + 2 + 20) * PS_PER_US


class TestTheBlock:
    def test_is_read(self, tmp_path: Path) -> None:
        both = "{LL: {overhead_us: 1, most_Bps: 3}, Simple: {overhead_us: 2}}"
        text = TEXT.replace("{Simple: {overhead_us: 10}}", both)
        text = text.replace("hop_us: {Simple", "hop_us: {LL: 0.5, Simple")
        text += "  nvls: {overhead_us: 9, efficiency: 1}\n"
        nccl = calibration(read(tmp_path, text))
        assert nccl.protocols == {LL: Protocol(PS_PER_US, 3.0), SIMPLE: Protocol(2 * PS_PER_US)}
        hops = {LL: PS_PER_US // 2, SIMPLE: 5 * PS_PER_US}
        assert nccl.links[1] == Links(0.8, hops, 20 * PS_PER_US, 0.5, 0.25)
        assert nccl.in_switch == InSwitch(9 * PS_PER_US, 1.0)
        assert (nccl.tree_efficiency, nccl.ring_ends, nccl.peer_ps) == (0.5, 0.0, 3 * PS_PER_US)

    @pytest.mark.parametrize("name", ["dgx-a100", "hgx-h100"])
    def test_is_written_as_it_was_read(self, name: str, tmp_path: Path) -> None:
        first = load_machine(name)
        again = read(tmp_path, machine_yaml(first))
        assert vars(calibration(again)) == vars(calibration(first))
        assert set(again.algorithms.values()) == {("nccl", "nccl")}
        assert describe_machine(again)["nccl"] == describe_machine(first)["nccl"]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("  peer_us: 3\n", "", r"m.yaml: nccl lacks the key 'peer_us'"),
            ("  source: made up\n  prot", "  prot", r"nccl lacks the key 'source'"),
            ("peer_us: 3", "peer_us: 3\n  peer: 4", r"unknown key 'peer'; did you mean 'peer_us'"),
            ("peer_us: 3", "peer_us: -3", r"has peer_us: -3; expected a number of 0 or more"),
            ("tree_efficiency: 0.5", "tree_efficiency: 1.5", r"tree_efficiency: 1.5; expected a share"),
            ("ring_ends: 0", "ring_ends: 11", r"ring_ends: 11; expected a number of at most 10"),
            ("    outer:", "    other:", r"nccl links has an unknown key 'other'; did you mean 'outer'"),
            ("hop_us: {Simple: 5}", "hop_us: {LL: 5}", r"nccl links outer hop_us.*'LL'"),
            ("{Simple: {over", "{LL: {over", r"nccl protocols lacks the key 'Simple'"),
            ("{Simple: {over", "{simple: {over", r"nccl protocols.*did you mean 'Simple'"),
            ("overhead_us: 10", "overhead_us: 10, most_GBps: 1, most_Bps: 1", r"both most_GBps and most_Bps"),
            ("name: outer", "name: inner", r"nccl.*which are inner, inner; expected each once"),
            ("default: nccl", "default: ncl", r"no collective algorithm 'ncl'; did you mean 'nccl'"),
            ("default: nccl", "default: [nccl, ring]", r"names nccl beside .*; expected it alone"),
            ("nccl:\n", "scheduling: {}\nnccl:\n", r"an nccl block and a scheduling block; expected one"),
        ],
    )  # fmt: skip
    def test_mistakes_are_named(self, old: str, new: str, message: str, tmp_path: Path) -> None:
        assert TEXT.count(old) == 1
        with pytest.raises(ConfigError, match=message):
            read(tmp_path, TEXT.replace(old, new))

    def test_nccl_without_a_block_says_how_to_get_one(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"needs an nccl block .* chakrasim calibrate fits one"):
            read(tmp_path, TEXT[: TEXT.index("nccl:\n")])


def test_time_over_size_is_a_chain_of_ever_flatter_lines() -> None:
    machine = load_machine("dgx-a100").sized_for(64)
    sizes = np.linspace(0, 2**28, 200)
    costs = [collective_ps(machine, AR, int(size), tuple(range(64))) for size in sizes]
    slopes = [(b - a) for a, b in pairwise(costs)]
    assert all(later <= earlier * 1.0001 for earlier, later in pairwise(slopes))
    assert slopes[-1] < slopes[0] / 4
