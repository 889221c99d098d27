"""Recorded traces, damaged as traces come damaged: a clear message or a graph that replays, never a crash."""

from __future__ import annotations

import copy
import gzip
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.replay.analysis.fidelity import compare, replay_as_recorded
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import TraceError
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import load_workload, save_workload

SMALL = [
    "real_traces/hta_cuda_sync_events/event_sync.json.gz",
    "real_traces/hta_cuda_sync_events/event_sync_multi_stream.json.gz",
    "real_traces/hta_small_odd/cpu_only_rank34of300.json.gz",
    "real_traces/hta_small_odd/mi250_minitoy.json.gz",
    "real_traces/hta_small_odd/old_categories_rank1.json.gz",
    "real_traces/hta_small_odd/triton_example.json.gz",
    "real_traces/tracelens/torch_compile_triton_mi300.json.gz",
    "own_traces/out_colls/device.2.json.gz",
]
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 0.5, 1e9, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 1e300, float("nan"), "7", "x"]),
    st.floats(-1e7, 1e7, allow_nan=False),
)
ODD = st.one_of(
    NUMBERS, st.none(), st.booleans(), st.just([]), st.just({}), st.just([1, [2]]), st.text(max_size=3)
)
FIELDS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args", "id")
ARGUMENTS = (
    *(
        "correlation",
        "stream",
        "device",
        "bytes",
        "External id",
        "Record function id",
        "Input Dims",
        "Input type",
    ),
    *("Collective name", "In msg nelems", "Out msg nelems", "Group size", "dtype", "Process Group Name"),
    *("Process Group Ranks", "Concrete Inputs", "wait_on_stream", "wait_on_cuda_event_record_corr_id"),
)
MUTATION = st.one_of(
    st.tuples(st.just("drop"), st.integers(0), st.integers(1, 30)),
    st.tuples(st.just("repeat"), st.integers(0), st.integers(0)),
    st.tuples(st.just("swap"), st.integers(0), st.integers(0)),
    st.tuples(st.just("set"), st.integers(0), st.sampled_from(FIELDS), ODD),
    st.tuples(st.just("argue"), st.integers(0), st.sampled_from(ARGUMENTS), ODD),
    st.tuples(st.just("move"), st.integers(0), st.floats(-1e4, 1e4)),
    st.tuples(st.just("stretch"), st.integers(0), st.floats(0, 1e4)),
    st.tuples(st.just("correlate"), st.integers(0), st.integers(0)),
    st.tuples(
        st.just("header"), st.sampled_from(["distributedInfo", "deviceProperties", "traceEvents"]), ODD
    ),
)


@cache
def text_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def mutate(document: dict[str, Any], mutation: tuple[Any, ...]) -> None:
    """Damage a trace in place."""
    kind, *rest = mutation
    events = document["traceEvents"]
    if kind == "header":
        document[rest[0]] = rest[1]
        return
    if not isinstance(events, list) or not events:
        return
    event = events[rest[0] % len(events)]
    if kind == "drop":
        begin = rest[0] % len(events)
        del events[begin : begin + rest[1]]
    elif kind == "repeat":
        events.insert(rest[1] % len(events), copy.deepcopy(event))
    elif kind == "swap":
        other = rest[1] % len(events)
        events[rest[0] % len(events)], events[other] = events[other], event
    elif not isinstance(event, dict):
        return
    elif kind == "set":
        event[rest[1]] = rest[2]
    elif kind == "argue" and isinstance(event.get("args"), dict):
        event["args"][rest[1]] = rest[2]
    elif kind == "move" and isinstance(event.get("ts"), int | float):
        event["ts"] += rest[1]
    elif kind == "stretch" and isinstance(event.get("dur"), int | float):
        event["dur"] += rest[1]
    elif kind == "correlate" and isinstance(event.get("args"), dict):
        other = events[rest[1] % len(events)]
        if isinstance(other, dict) and isinstance(other.get("args"), dict):
            event["args"]["correlation"] = other["args"].get("correlation")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=st.lists(MUTATION, min_size=1, max_size=6))
def test_a_damaged_trace_is_refused_in_words_or_replays(
    shared: Path, name: str, mutations: list[tuple[Any, ...]]
) -> None:
    document = orjson.loads(text_of(shared / name))
    for mutation in mutations:
        mutate(document, mutation)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.0.json"
        path.write_text(json.dumps(document))  # which, unlike orjson, writes NaN
        try:
            workload = convert_pytorch(path)
        except TraceError as error:
            assert "damaged.0.json" in str(error)  # noqa: PT017
            return
        replays(workload)
        save_workload(workload, Path(folder) / "graphs")
        assert len(load_workload(Path(folder) / "graphs")) == len(workload)


def replays(workload: Workload) -> None:
    """It has no problems, comes to an end, and takes about as long as it is said to have."""
    assert check_workload(workload) == []
    result = replay_as_recorded(workload)
    assert result.deadlock is None
    assert (result.ends_ps >= result.starts_ps).all()
    for rank in compare(result):
        assert abs(rank.span.error_percent) < 50


@pytest.mark.slow
def test_a_million_nested_events_neither_crash_nor_hang(tmp_path: Path) -> None:
    count = 1_000_000
    event = '{"ph":"X","cat":"cpu_op","name":"f","pid":1,"tid":1,"ts":%d,"dur":%d}'
    path = tmp_path / "deep.json"
    events = ",".join(event % (k, 2 * (count - k)) for k in range(count))
    path.write_text(f'{{"traceEvents":[{events}]}}')
    (graph,) = convert_pytorch(path).graphs.values()
    assert len(graph) == 2 * count - 1
    assert int(graph.durations_ps.sum()) == 2 * count * 10**6
