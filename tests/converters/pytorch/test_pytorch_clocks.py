"""Ranks that began to record later begin later, on clocks aligned by the ends of collectives."""

from __future__ import annotations

from pathlib import Path

import pytest

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.pytorch.graph.rank_clocks import align_starts
from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.edits.parts.start import LATER_START, delay_start, is_start_delay
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import CLOCK, CommKind, NodeKind
from chakrasim.traces.testing import graph
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import load_workload, save_workload

US = 10**6


def recorded(begins_us: list[int], clock_errors_us: list[int], ends_us: list[int]) -> Workload:
    """Ranks that compute and then meet in all-reduces which end at `ends_us`, as their own clocks saw it."""
    graphs = []
    for rank, (begin, error) in enumerate(zip(begins_us, clock_errors_us, strict=True)):
        builder = GraphBuilder(rank)
        last: list[int] = []
        at = begin
        for end in ends_us:
            compute = builder.add(
                NodeKind.COMP, "gemm", duration_ps=US, start_ps=(at + error) * US, after=last
            )
            last = [
                builder.add(
                    NodeKind.COLL,
                    "all-reduce",
                    comm_kind=CommKind.ALL_REDUCE,
                    comm_bytes=64,
                    start_ps=(at + 1 + error) * US,
                    duration_ps=(end - at - 1) * US,
                    after=[compute],
                )
            ]
            at = end
        graphs.append(builder.build())
    return Workload.from_graphs(graphs)


def delays_us(workload: Workload) -> list[int]:
    """How much later than the first each rank begins."""
    return [int(g.durations_ps[is_start_delay(g)].sum()) // US for g in workload.graphs.values()]


def test_a_rank_begins_as_much_later_as_its_recording_did() -> None:
    assert delays_us(align_starts(recorded([0, 30, 10], [0, 0, 0], [100, 200, 300]))) == [0, 30, 10]


def test_a_clock_that_is_wrong_is_set_right_by_the_ends_of_collectives() -> None:
    # The middle of three clocks counts; the third one is 5 ms ahead.
    found = align_starts(recorded([0, 30, 10], [0, 0, 5000], [100, 200, 300]))
    assert delays_us(found) == [0, 30, 10]
    (note,) = found.notes
    assert "up to 30 us after the first" in note
    assert "3 collectives" in note


def test_one_odd_collective_moves_nothing() -> None:
    ranks = recorded([0, 30, 10], [0, 0, 0], [100, 200, 300])
    ranks.graphs[1].durations_ps[-1] += 50 * US
    assert delays_us(align_starts(ranks)) == [0, 30, 10]


def test_without_a_common_collective_nothing_is_known() -> None:
    lone = recorded([0], [0], [100])
    assert align_starts(lone) is lone
    apart = Workload.from_graphs([graph("a:1"), graph("b:1", rank=1)])
    assert align_starts(apart) is apart


def exchanged(sent_us: list[tuple[int, int]], received_us: list[tuple[int, int]]) -> Workload:
    """Rank 0 sends messages and rank 1 receives them, at (start, end) by their own clocks."""
    graphs = []
    for rank, (kind, times) in enumerate(((NodeKind.SEND, sent_us), (NodeKind.RECV, received_us))):
        builder = GraphBuilder(rank)
        for start, end in times:
            builder.add(
                kind,
                "message",
                peer=1 - rank,
                comm_bytes=64,
                start_ps=start * US,
                duration_ps=(end - start) * US,
            )
        graphs.append(builder.build())
    return Workload.from_graphs(graphs)


def test_ranks_that_only_share_messages_keep_their_clocks() -> None:
    found = align_starts(exchanged([(10, 12)], [(3, 12)]))
    assert [g.metadata[CLOCK] for g in found.graphs.values()] == [0, 0]
    assert delays_us(found) == [7, 0]


def test_no_message_arrives_before_it_was_sent() -> None:
    # the receiver's clock is 8 us behind at least
    found = align_starts(exchanged([(10, 12), (20, 21)], [(1, 2), (11, 14)]))
    assert [g.metadata[CLOCK] // US for g in found.graphs.values()] == [0, -8]
    assert delays_us(found) == [1, 0]


def test_clocks_that_count_from_different_moments_say_nothing() -> None:
    apart = exchanged([(10, 12)], [(3, 12)])
    assert align_starts(apart, is_one_clock=False) is apart


def test_a_later_start_is_a_node_that_the_first_ones_wait_for() -> None:
    before = graph("a:10 -> c:5, b:3 -> c")
    later = delay_start(before, 7)
    assert [later.name(row) for row in range(4)] == [*(before.name(row) for row in range(3)), LATER_START]
    for row in range(3):
        added = [3] if len(before.parents_of(row)) == 0 else []
        assert later.parents_of(row).tolist() == [*before.parents_of(row), *added]
    assert later.parents_of(3).tolist() == []
    result = simulate(Workload.from_graphs([later]), load_machine("ethernet-10g"))
    # One compute lane: a, b and c one after the other, after the delay.
    assert result.step_time_ps == 7 + 18 * US
    times = result.times(0)
    assert (times.compute_ps, times.idle_ps) == (18 * US, 7)


def test_it_survives_a_round_trip_and_is_not_scaled_with_the_host(tmp_path: Path) -> None:
    found = align_starts(recorded([0, 30], [0, 0], [100]))
    save_workload(found, tmp_path, "t")
    read = load_workload(tmp_path)
    assert delays_us(read) == [0, 30]
    machine = load_machine("ethernet-10g")
    fast = simulate(read, machine, network="measured", scales=Scales(cpu=0.0, device=0.0))
    assert int(fast.ends_ps[fast.rows(1)].max()) >= 30 * US


JOBS = [
    *(f"real_traces/{name}" for name in ("megatron_tp2_v100", "megatron_tp8_a100")),
    *(f"own_traces/out_{name}" for name in ("colls", "ddp", "fsdp2", "fsdp2_tp", "pp", "pp_batch")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_all_ranks_of_a_real_job_take_as_long_as_they_did(shared: Path, name: str) -> None:
    workload = convert_pytorch(shared / name)
    result = simulate(workload, load_machine("ethernet-10g"), network="measured")
    assert len(result.recorded) == len(workload.graphs) > 1
    for rank in result.recorded:
        assert abs(rank.error_percent) < 0.1
