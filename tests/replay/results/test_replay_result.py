"""What a result derives from starts and ends."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import random_workload
from replay_cases import coll, comp, rank, recv, result_of, send

from chakrasim.replay.analysis.communication import communication_times
from chakrasim.replay.report.result.document import json_document, ranks_dataframe
from chakrasim.replay.results.intervals import covered_ps
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.errors import ConfigError


def test_time_is_split_into_compute_exposed_communication_and_idle() -> None:
    # Rank 0 computes 0-10, enters the collective at 10 and computes 10-60 beside it. Rank 1 comes at 40;
    # both leave at 140. Then rank 0's host works alone, 140-145, and the device 145-150.
    def build(b: GraphBuilder) -> None:
        first = comp(b, 10)
        reduced = coll(b, first)
        comp(b, 50, first)
        host = b.add(NodeKind.COMP, "host", duration_ps=5, is_cpu=True, after=[reduced])
        comp(b, 5, host)

    graphs = [rank(0, build), rank(1, lambda b: coll(b, comp(b, 40)))]
    result = result_of(Workload.from_graphs(graphs))
    first, second = result.ranks
    assert first.finish_ps == 150
    assert first.compute_ps == 60 + 5
    assert first.communication_ps == 130
    assert first.exposed_communication_ps == 80
    assert first.waiting_ps == 30
    assert first.host_ps == 5
    assert first.idle_ps == 5
    assert (second.finish_ps, second.waiting_ps, second.idle_ps) == (140, 0, 0)
    assert result.step_time_ps == 150


def test_a_receive_waits_until_its_message_is_sent() -> None:
    # Posted at 0, sent at 20, landed at 50.
    graphs = [rank(0, lambda b: send(b, 1, comp(b, 20))), rank(1, lambda b: recv(b, 0))]
    result = result_of(Workload.from_graphs(graphs))
    assert (result.times(1).communication_ps, result.times(1).waiting_ps) == (50, 20)
    (messages,) = communication_times(result)
    assert (messages.kind, messages.count, messages.size_bytes) == ("send", 1, 500)
    assert (messages.time_ps, messages.waiting_ps) == (30, 20)


def test_host_gaps_are_no_compute_but_host_time() -> None:
    # A rank without a device: operators of 10 and 5, a gap of 20 between them.
    def build(b: GraphBuilder) -> None:
        first = comp(b, 10, is_cpu=True)
        gap = b.add(NodeKind.COMP, "host gap", duration_ps=20, is_cpu=True, after=[first])
        comp(b, 5, gap, is_cpu=True)

    times = result_of(Workload.from_graphs([rank(0, build)])).times(0)
    assert (times.compute_ps, times.host_ps, times.idle_ps, times.finish_ps) == (15, 35, 20, 35)


def test_collectives_are_added_up_by_group_and_kind() -> None:
    def build(number: int):  # type: ignore[no-untyped-def]
        def nodes(b: GraphBuilder) -> None:
            first = coll(b, comp(b, 10 * number))
            second = coll(b, first)
            coll(b, second, comm_kind=CommKind.ALL_GATHER, comm_bytes=50, group=f"pair{number // 2}")

        groups = {"pair0": [0, 1], "pair1": [2, 3]}
        return rank(number, nodes, groups=groups)

    result = result_of(Workload.from_graphs([build(i) for i in range(4)]))
    found = {(entry.group, entry.kind): entry for entry in communication_times(result)}
    assert set(found) == {("world", "all-reduce"), ("pair0", "all-gather"), ("pair1", "all-gather")}
    world = found["world", "all-reduce"]
    # Arrivals at 0, 10, 20 and 30: waits of 30 + 20 + 10. The second needs no waiting.
    assert (world.count, world.size_bytes, world.time_ps, world.waiting_ps) == (2, 2000, 200, 60)
    assert world.bandwidth_Bps == 2000 / 200e-12
    assert found["pair1", "all-gather"].size_bytes == 50
    groups = {entry["name"]: entry for entry in json_document(result)["groups"]}
    assert groups["pair0"] == {
        "name": "pair0",
        "ranks": [0, 1],
        "count": 1,
        "bytes": 50,
        "time_ns": 0.1,
        "waiting_ns": 0,
    }


def test_a_collective_that_was_not_understood_keeps_its_duration() -> None:
    # Of no known kind: each rank takes its own 70 or 90, nobody waits.
    graphs = [
        rank(i, lambda b: b.add(NodeKind.COLL, "nccl?", duration_ps=70 + 20 * b.rank)) for i in range(2)
    ]
    result = result_of(Workload.from_graphs(graphs))
    assert [times.finish_ps for times in result.ranks] == [70, 90]
    (entry,) = communication_times(result)
    assert (entry.kind, entry.count, entry.time_ps) == ("not understood", 2, 160)


def test_lanes_say_how_busy_they_were() -> None:
    def build(b: GraphBuilder) -> None:
        comp(b, 10, lane="stream 7")
        comp(b, 5, lane="stream 7")
        coll(b)

    lanes = result_of(Workload.from_graphs([rank(0, build)])).lanes
    assert [(lane.name, lane.nodes, lane.busy_ps) for lane in lanes] == [
        ("stream 7", 2, 15),
        ("comm", 1, 100),
    ]


def test_the_recorded_span_is_compared_over_the_device() -> None:
    # Recorded: device from 100 to 150. Replayed: 7 ps of host, then 10 and 20 back to back, 7 to 37.
    def build(b: GraphBuilder) -> None:
        host = comp(b, 7, is_cpu=True, start_ps=0)
        first = comp(b, 10, host, start_ps=100)
        comp(b, 20, first, start_ps=130)

    (recorded,) = result_of(Workload.from_graphs([rank(0, build)])).recorded
    assert (recorded.over, recorded.span_ps, recorded.replayed_ps) == ("device", 50, 30)
    assert recorded.error_percent == -40


def test_the_document_has_its_keys_and_whole_nanoseconds_where_exact() -> None:
    graphs = [rank(i, lambda b: coll(b, comp(b, 10_900))) for i in range(2)]
    document = json_document(result_of(Workload.from_graphs(graphs, name="two ranks")))
    assert document["workload"] == "two ranks"
    assert document["machine"] == "test machine"
    assert document["ranks"][1] == {
        "rank": 1,
        "stands_for": 1,
        "finish_ns": 11,
        "compute_ns": 10.9,
        "communication_ns": 0.1,
        "exposed_communication_ns": 0.1,
        "waiting_ns": 0,
        "idle_ns": 0,
        "host_ns": 0,
    }
    assert isinstance(document["step_time_ns"], int)
    assert "deadlock" not in document


def test_a_data_frame_has_a_row_a_rank() -> None:
    pytest.importorskip("pandas")
    frame = ranks_dataframe(
        result_of(Workload.from_graphs([rank(i, lambda b: comp(b, 1000)) for i in range(3)]))
    )
    assert frame["rank"].tolist() == [0, 1, 2]
    assert frame["compute_ns"].tolist() == [1, 1, 1]


def test_without_pandas_the_data_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    result = result_of(Workload.from_graphs([rank(0, lambda b: comp(b, 1))]))
    with pytest.raises(ConfigError, match="pip install pandas"):
        ranks_dataframe(result)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 4))
def test_compute_exposed_and_idle_time_make_up_the_whole(data: st.DataObject, ranks: int) -> None:
    for times in result_of(random_workload(data, ranks)).ranks:
        parts = times.compute_ps + times.exposed_communication_ps + times.idle_ps
        assert parts == times.finish_ps
        assert times.waiting_ps <= times.communication_ps
        assert times.exposed_communication_ps <= times.communication_ps


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12))
def test_a_union_of_intervals_is_as_long_as_its_points(spans: list[tuple[int, int]]) -> None:
    import numpy as np

    points = {p for start, length in spans for p in range(start, start + length)}
    starts = np.array([start for start, _ in spans], dtype=np.int64)
    lengths = np.array([length for _, length in spans], dtype=np.int64)
    assert covered_ps(starts, starts + lengths) == len(points)
