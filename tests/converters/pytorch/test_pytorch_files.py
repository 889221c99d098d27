"""Files and folders: which are read, which rank they are, and what is said of broken ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from kineto_trace import Trace

from chakrasim.converters.pytorch import convert_pytorch, is_pytorch_trace
from chakrasim.converters.pytorch.read.json_chunks import read_document
from chakrasim.traces.errors import TraceError

HOST_TRACE = '{"schema": "1.1.1", "pid": 1, "nodes": [{"id": 1, "name": "root"}]}'


def good(rank: int | None = None, world: int = 2) -> Trace:
    """A trace of one operator."""
    header = {} if rank is None else {"distributedInfo": {"rank": rank, "world_size": world}}
    return Trace(schemaVersion=1, **header).op("a", 0, 1)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_plain_and_gzipped_traces_are_told_from_others(tmp_path: Path, name: str) -> None:
    path = good().write(tmp_path / name)
    assert is_pytorch_trace(path)
    assert is_pytorch_trace(tmp_path)
    assert len(convert_pytorch(path)) == 1


def test_a_bare_list_of_events_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(good().events))
    assert is_pytorch_trace(path)
    assert len(convert_pytorch(path)) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", "\x89PNG", '{"workload_graph": []}'])
def test_other_files_are_no_traces(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    assert not is_pytorch_trace(path)
    assert not is_pytorch_trace(tmp_path / "missing.json")


def test_ranks_come_from_the_trace_before_the_name(tmp_path: Path) -> None:
    good(1).write(tmp_path / "device.0.json")
    good(0).write(tmp_path / "device.1.json")
    workload = convert_pytorch(tmp_path)
    assert workload.sources[1].endswith("device.0.json")
    assert workload.world_size == 2


@pytest.mark.parametrize(
    "names",
    [
        ("device.0.json.gz", "device.3.json.gz"),
        ("rank0_trace.json", "rank3_trace.json"),
        ("worker0.pt.trace.json", "worker3.pt.trace.json"),
        ("kineto_0.json", "kineto_3.json"),
    ],
)
def test_ranks_come_from_names_where_traces_do_not_say(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        good().write(tmp_path / name)
    workload = convert_pytorch(tmp_path, partial=True)
    assert workload.ranks == (0, 3)
    assert workload.is_partial
    assert workload.notes[0] == "2 of 4 ranks have no trace"


def test_host_traces_are_pytorchs_too(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(HOST_TRACE)
    assert is_pytorch_trace(path)
    assert is_pytorch_trace(tmp_path)


def test_a_broken_host_trace_in_a_folder_is_named(tmp_path: Path) -> None:
    good(0, 1).write(tmp_path / "device.0.json")
    (tmp_path / "host.0.json").write_text(HOST_TRACE)
    assert "host.0.json: node number 0 lacks" in refusal(tmp_path)


def test_progress_counts_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    good().write(tmp_path / "t.json")
    convert_pytorch(tmp_path / "t.json", progress=lambda *step: seen.append(step))
    assert (seen[0], seen[-1][:2]) == ((0, 1, "t.json"), (1, 1))


def test_ranks_share_an_origin_where_they_share_a_clock(tmp_path: Path) -> None:
    Trace(distributedInfo={"rank": 0}).op("a", 1000, 1).write(tmp_path / "t.0.json")
    Trace(distributedInfo={"rank": 1}).op("a", 1005, 1).write(tmp_path / "t.1.json")
    starts = [graph.starts_ps.tolist() for graph in convert_pytorch(tmp_path).graphs.values()]
    assert starts == [[0], [5_000_000]]
    late = Trace(distributedInfo={"rank": 1}).op("a", 1e10, 1)
    late.write(tmp_path / "t.1.json")
    starts = [graph.starts_ps.tolist() for graph in convert_pytorch(tmp_path).graphs.values()]
    assert starts == [[0], [0]]


def refusal(path: Path) -> str:
    """The one line with which a path is refused."""
    with pytest.raises(TraceError) as error:
        convert_pytorch(path)
    text = str(error.value)
    assert "\n" not in text
    return text


EVENT = {"ph": "X", "cat": "cpu_op", "name": "a", "pid": 1, "tid": 1, "ts": 0, "dur": 1}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"traceEvents": []}, "has no events"),
        ({"schemaVersion": 1}, "has no 'traceEvents'"),
        ({"nodes": [], "schema": "1.1.1"}, "has no nodes"),
        ({"traceEvents": 3}, "its events are int, expected a list"),
        (7, "its events are int, expected a list"),
        ({"traceEvents": [EVENT, 5]}, "event 1 is int, expected an object"),
        ({"traceEvents": [{**EVENT, "dur": -3}]}, "event 0 ('a') has a negative duration, -3 us"),
        ({"traceEvents": [EVENT, {**EVENT, "ts": None}]}, "event 1 ('a') has ts None"),
        ({"traceEvents": [{**EVENT, "ts": "soon"}]}, "event 0 ('a') has ts 'soon'"),
        ({"traceEvents": [{**EVENT, "dur": [1]}]}, "event 0 ('a') has ts 0 and dur [1]"),
        ({"traceEvents": [{**EVENT, "cat": ["cpu_op"]}]}, "an event near number 0 isn't one of Kineto's"),
        ({"traceEvents": [{"ph": "M", "name": "process_name"}]}, "none of its 1 events is an operator"),
    ],
)
def test_documents_that_make_no_sense(tmp_path: Path, document: Any, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document))
    assert refusal(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("args", [None, 3, [1], "x"])
def test_odd_arguments_do_no_harm(tmp_path: Path, args: Any) -> None:
    path = tmp_path / "t.json"
    kernel = {**EVENT, "cat": "kernel", "name": "ncclKernel_AllReduce", "args": args}
    call = {**EVENT, "cat": "cuda_runtime", "name": "cudaMemcpy", "args": args}
    path.write_text(json.dumps({"traceEvents": [{**EVENT, "args": args}, kernel, call]}))
    assert len(convert_pytorch(path)) >= 3


def test_files_that_are_cut_off_or_empty(tmp_path: Path) -> None:
    path = good().write(tmp_path / "t.json")
    path.write_bytes(path.read_bytes()[:-20])
    assert "isn't complete JSON" in refusal(path)
    path = good().write(tmp_path / "t.json.gz")
    path.write_bytes(path.read_bytes()[:-12])
    assert "gzip stream is damaged or cut off" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    assert "can't be read" in refusal(tmp_path / "missing.json")


def test_folders_without_traces_or_with_two_of_a_rank(tmp_path: Path) -> None:
    assert "holds no PyTorch profiler trace" in refusal(tmp_path)
    good(0).write(tmp_path / "a.json")
    good(0).write(tmp_path / "b.json")
    assert "says it is rank 0, and so does" in refusal(tmp_path)


def test_files_whose_rank_nobody_tells(tmp_path: Path) -> None:
    good().write(tmp_path / "left.json")
    good().write(tmp_path / "right.json")
    assert "neither its distributedInfo nor its name tells the rank" in refusal(tmp_path)


def events_in_pieces(path: Path, piece_bytes: int) -> tuple[dict[str, Any], list[list[Any]]]:
    header, pieces = read_document(path, piece_bytes)
    return header, list(pieces)


def test_large_documents_are_read_in_pieces(tmp_path: Path) -> None:
    trace = good(3)
    for number in range(50):
        # an argument that looks like the border between two events
        trace.op("b", number, 1, odd='}, {"ph": "X"}', nested=[{"x": 1}, {"x": 2}])
    whole, (events,) = events_in_pieces(trace.write(tmp_path / "t.json"), 10**9)
    header, pieces = events_in_pieces(tmp_path / "t.json", 300)
    assert len(pieces) > 10
    assert [event for piece in pieces for event in piece] == events == trace.events
    assert header == whole == trace.header


def test_a_large_document_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    trace = good()
    for number in range(50):
        trace.op("b", number, 1)
    path = trace.write(tmp_path / "t.json")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TraceError, match="isn't complete JSON"):
        events_in_pieces(path, 300)


def test_gzip_members_are_joined(tmp_path: Path) -> None:
    data = json.dumps({"traceEvents": good().events}).encode()
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(data[:20]) + gzip.compress(data[20:]))
    assert len(convert_pytorch(path)) == 1


def test_a_hole_in_the_ranks_of_a_folder_is_named(tmp_path: Path) -> None:
    for rank in (0, 2):
        good().write(tmp_path / f"trace.{rank}.json")
    assert "no trace of rank 1, but of rank 2 (trace.2.json)" in refusal(tmp_path)
    assert convert_pytorch(tmp_path, partial=True).ranks == (0, 2)


@pytest.mark.parametrize("after", [1, 2_000, 60_000])
def test_what_stands_behind_the_events_may_be_lists_too(tmp_path: Path, after: int) -> None:
    """A trace long enough to be read in pieces; the last of these has over a megabyte behind its events."""
    events = [dict(EVENT, ts=k, name=f"operator {k % 7}", args={"stack": [{"f": 1}]}) for k in range(9_000)]
    rest = {"programs": [{"name": f"program {k}", "args": []} for k in range(after)], "more": [{"x": 1}]}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events, **rest}))
    (graph,) = convert_pytorch(path).graphs.values()
    assert len(graph) == 9_000


def test_a_long_trace_that_was_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = json.dumps({"traceEvents": [dict(EVENT, ts=k) for k in range(9_000)]})
    path.write_text(text[: len(text) * 3 // 4])
    assert "isn't complete JSON" in refusal(path)
