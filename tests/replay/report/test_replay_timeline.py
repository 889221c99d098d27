"""The timeline keeps to the rules of the Trace Event Format."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_workloads import random_workload
from replay_cases import coll, comp, rank, recv, result_of, send

from chakrasim.replay.report.result.timeline import timeline_json, write_timeline
from chakrasim.traces import GraphBuilder, NodeKind, Workload

Event = dict[str, Any]


def validate(data: bytes) -> list[Event]:
    """Check a trace against the format's rules; return its events with each "B" and "E" joined to an "X".

    Reads as viewers do: in order of time, in the file's order among equals, an "E" ending what began last.
    """
    events: list[Event] = sorted(orjson.loads(data)["traceEvents"], key=lambda event: event["ts"])
    slices: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    begun: dict[tuple[int, int], list[Event]] = defaultdict(list)
    named, flows = set(), defaultdict(list)
    for event in events:
        assert {"ph", "pid", "tid", "ts"} <= set(event)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        track = event["pid"], event["tid"]
        assert event["name"]
        if event["ph"] == "E":
            begin = begun[track].pop()
            assert begin["name"] == event["name"]
            begin |= {"ph": "X", "dur": event["ts"] - begin["ts"]}
            slices[track].append((round(begin["ts"] * 1e6), round(event["ts"] * 1e6)))
            continue
        if event["ph"] == "B":
            # Only its waiting lies inside a slice.
            assert [outer["cat"] for outer in begun[track]] in ([], ["collective"], ["receive"])
            begun[track].append(event)
        elif event["ph"] == "M":
            assert event["args"]
            named.add((event["pid"], event["tid"], event["name"]))
        else:
            assert event["ph"] in "sf"
            flows[event["cat"], event["id"]].append(event)
    assert not any(begun.values())
    for pid, tid in slices:
        assert (pid, 0, "process_name") in named
        assert (pid, tid, "thread_name") in named
        assert (pid, tid, "thread_sort_index") in named
    for spans in slices.values():
        _assert_nested(spans)
    for pair in flows.values():
        assert [event["ph"] for event in pair] == ["s", "f"]
        assert pair[1]["bp"] == "e"
        assert pair[0]["ts"] <= pair[1]["ts"]
        for event in pair:
            at_ps = round(event["ts"] * 1e6)
            inside = slices[event["pid"], event["tid"]]
            assert any(start <= at_ps <= end for start, end in inside)
    return [event for event in events if event["ph"] != "E"]


def _assert_nested(spans: list[tuple[int, int]]) -> None:
    """No two slices of a thread overlap in part."""
    open_ends: list[int] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1]
        open_ends.append(end)


def test_slices_lie_where_their_nodes_ran() -> None:
    graphs = [rank(i, lambda b: coll(b, comp(b, 1_500_000 * (b.rank + 1)))) for i in range(2)]
    result = result_of(Workload.from_graphs(graphs), collective_ps=4_000_000)
    events = validate(timeline_json(result))
    found = sorted((e["pid"], e["ts"], e["name"], e["dur"]) for e in events if e["ph"] == "X")
    assert found == [
        (0, 0.0, "comp", 1.5),
        (0, 1.5, "all_reduce", 5.5),
        (0, 1.5, "waiting", 1.5),
        (1, 0.0, "comp", 3.0),
        (1, 3.0, "all_reduce", 4.0),
    ]
    reduced = next(e for e in events if e["name"] == "all_reduce")
    assert reduced["args"] == {
        "id": 1,
        "kind": "collective",
        "collective": "all-reduce",
        "group": "world",
        "bytes": 1000,
        "waiting_us": 1.5,
    }


def test_picoseconds_survive() -> None:
    graphs = [rank(0, lambda b: comp(b, 1, comp(b, 10**12 + 1)))]
    events = validate(timeline_json(result_of(Workload.from_graphs(graphs))))
    assert [e["ts"] for e in events if e["ph"] == "X"] == [0.0, 1000000.000001]


def test_arrows_show_launches_and_messages() -> None:
    # The launch at 0-5 leads to the kernel at 5; the message sent at 20 to the receive posted at 0, at 20.
    def sender(b: GraphBuilder) -> None:
        launch = comp(b, 5, is_cpu=True)
        send(b, 1, comp(b, 15, launch))

    graphs = [rank(0, sender), rank(1, lambda b: recv(b, 0))]
    events = validate(timeline_json(result_of(Workload.from_graphs(graphs))))
    arrows = [(e["cat"], e["ph"], e["pid"], round(e["ts"] * 1e6)) for e in events if e["ph"] in "sf"]
    assert arrows == [
        ("launch", "s", 0, 0),
        ("launch", "f", 0, 5),
        ("message", "s", 0, 20),
        ("message", "f", 1, 20),
    ]


def test_receives_that_overlap_get_threads_of_their_own() -> None:
    graphs = [
        rank(0, lambda b: [send(b, 1) for _ in range(3)]),
        rank(1, lambda b: [recv(b, 0) for _ in range(3)]),
    ]
    events = validate(timeline_json(result_of(Workload.from_graphs(graphs))))
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 1]
    assert names == ["receives", "receives 2", "receives 3"]


def test_a_deadlock_shows_what_waits() -> None:
    graphs = [rank(0, lambda b: coll(b)), rank(1, lambda b: comp(b, 2_000_000))]
    events = validate(timeline_json(result_of(Workload.from_graphs(graphs))))
    (stuck,) = [e for e in events if e["name"] == "all_reduce"]
    assert (stuck["ts"], stuck["dur"], stuck["args"]["never_ended"]) == (0.0, 2.0, True)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 4))
def test_random_timelines_keep_to_the_format(data: st.DataObject, ranks: int) -> None:
    workload = random_workload(data, ranks)
    events = validate(timeline_json(result_of(workload)))
    assert sum(e["ph"] == "X" and e["cat"] != "waiting" for e in events) == len(workload)


@pytest.mark.parametrize("name", ["timeline.json", "timeline.json.gz"])
def test_a_timeline_is_written_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    graph = rank(0, lambda b: b.add(NodeKind.COMP, "größe \u2192", duration_ps=5))
    write_timeline(result_of(Workload.from_graphs([graph])), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    events = validate(gzip.decompress(data) if name.endswith(".gz") else data)
    assert events[-1]["name"] == "größe →"
    assert [f.name for f in tmp_path.iterdir()] == [name]
