"""Scanning a trace's text gives what parsing it to objects gives, to the last bit, or leaves it to that."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shared_files
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.pytorch.host import nesting
from chakrasim.converters.pytorch.read import json_values, scan_driver
from chakrasim.converters.pytorch.read.event_columns import EventColumns, nanoseconds
from chakrasim.converters.pytorch.read.json_text import BAD
from chakrasim.converters.pytorch.read.kineto import Recording
from chakrasim.converters.pytorch.read.kineto_reader import read_all, read_recording
from chakrasim.converters.pytorch.read.spellings import describes_communication
from chakrasim.traces.errors import TraceError
from chakrasim.traces.shared import jit

SAMPLES = Path(__file__).resolve().parents[3] / "traces" / "samples"
pytestmark = pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")

OPERATOR = '{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 2, "ts": 10, "dur": 5}'


def content(recording: Recording) -> list[Any]:
    """All that is in a recording, in a form that can be compared."""
    found: list[Any] = []
    for part in (recording, recording.host, recording.device):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                found.append((field.name, value.dtype.str, value.tolist()))
            elif isinstance(value, dict):
                found.append((field.name, list(value.items())))
            elif not dataclasses.is_dataclass(value):
                found.append((field.name, repr(value)))
    return found


def told(arguments: str) -> str:
    return OPERATOR.replace("}", f', "args": {arguments}}}')


def document(*events: str, before: str = '"schemaVersion": 1', after: str = '"traceName": "x"') -> str:
    return f'{{{before}, "traceEvents": [\n{", ".join(events)}\n], {after}}}'


def is_scanned(path: Path) -> bool:
    return scan_driver.scan_file(path, EventColumns(str(path), describes_communication)) is not None


def agrees(path: Path, text: str) -> None:
    """Hold reading by the scanner against reading by objects: the same recording, or the same message."""
    path.write_text(text)
    outcomes = []
    for is_scanned in (True, False):
        try:
            outcomes.append(content(read_recording(path, is_scanned=is_scanned)))
        except TraceError as error:
            outcomes.append([str(error)])
    assert outcomes[0] == outcomes[1]


TRACES = [
    *(
        path
        for path in shared_files("real_traces/*/*.json.gz")
        if path.name.startswith(("device", "resnet50"))
    ),
    *shared_files("real_traces/hta_cuda_sync_events/*.json.gz"),
    *shared_files("real_traces/hta_small_odd/*.json.gz"),
    *shared_files("own_traces/*/device.0.json.gz"),
]


def scanned_as_parsed(path: Path) -> None:
    assert is_scanned(path)
    ways = [read_recording(path, is_scanned=is_scanned) for is_scanned in (True, False)]
    assert content(ways[0]) == content(ways[1])


@pytest.mark.parametrize("trace", sorted(SAMPLES.rglob("kineto*.json.gz")), ids=lambda path: path.name)
def test_samples_are_scanned_to_the_last_bit(trace: Path) -> None:
    scanned_as_parsed(trace)


@pytest.mark.slow
@pytest.mark.parametrize("trace", TRACES, ids=str)
def test_recorded_traces_are_scanned_to_the_last_bit(shared: Path, trace: Path) -> None:
    scanned_as_parsed(shared / trace)


def test_events_that_pieces_cut_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [OPERATOR.replace("10", str(10 * k)).replace("mm", f"mm{k}") for k in range(50)]
    (tmp_path / "t.json").write_text(document(*events))
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(document(*events).encode()))
    for size in (1, 7, 100, 1000):
        monkeypatch.setattr(scan_driver, "_CHUNK_BYTES", max(size, 100))
        monkeypatch.setattr(scan_driver, "_PACKED_BYTES", size + 40)
        monkeypatch.setattr(scan_driver, "_ROWS", size)
        for name in ("t.json", "t.json.gz"):
            assert is_scanned(tmp_path / name)
            host = read_recording(tmp_path / name, is_scanned=True).host
            assert host.start_ns.tolist() == [10_000 * k for k in range(50)]
            assert host.name_id.tolist() == list(range(50))


@pytest.mark.parametrize(
    "event",
    [
        OPERATOR,
        OPERATOR.replace('"dur": 5', '"dur": 5.25'),
        OPERATOR.replace("aten::mm", "a\\/b \\u00e9 é"),
        OPERATOR.replace("aten::mm", "ProfilerStep#3"),
        OPERATOR.replace("1, ", '"one", '),
        OPERATOR.replace('"pid": 1, ', ""),
        told("{}"),
        told('{"External id": 3}, "args": {"Record function id": 4}'),
        told('{"External id": 18446744073709551615}'),
        OPERATOR.replace(
            "}", ', "args": {"x": [[1, {"y": "}]"}], [], {}], "z": [null, true, false, -0.5e-3]}}'
        ),
        OPERATOR.replace("cpu_op", "kernel").replace(
            "}", ', "args": {"stream": 7, "device": 0, "bytes": 8}}'
        ),
        OPERATOR.replace("cpu_op", "kernel").replace("2,", '"stream 20",'),
        OPERATOR.replace("cpu_op", "user_annotation").replace("aten::mm", "nccl:all_reduce"),
        '{"ph": "i", "cat": "cpu_op", "ts": "never"}',
        '{"ph": "s", "cat": "fwdbwd", "id": 4294967295, "pid": 1, "tid": 2, "ts": 3}',
    ],
)
def test_what_profilers_write_is_scanned(tmp_path: Path, event: str) -> None:
    path = tmp_path / "t.json"
    agrees(path, document(OPERATOR, event))
    assert is_scanned(path)


@pytest.mark.parametrize(
    "text",
    [
        document(),
        document(OPERATOR)[:-30],
        document(OPERATOR, OPERATOR[:-3]),
        document(OPERATOR, ""),
        document(OPERATOR, "7"),
        document(OPERATOR) + "}",
        document(OPERATOR, after='"traceEvents": []'),
        document(OPERATOR.replace("10", "1e1")),
        document(OPERATOR.replace("10", '"10"')),
        document(OPERATOR.replace("10", "010")),
        document(OPERATOR.replace("10", "4503599627370496")),
        document(OPERATOR.replace('"ts": 10, ', "")),
        document(OPERATOR.replace("5}", "-5}")),
        document(OPERATOR.replace("5}", "NaN}")),
        document(OPERATOR.replace('"aten::mm"', "3")),
        document(OPERATOR.replace("aten::mm", "a\\ud800b")),
        document(OPERATOR.replace("aten::mm", "a\tb")),
        document(OPERATOR.replace('"pid": 1', '"pid": [1]')),
        document(OPERATOR.replace("cpu_op", "cpu\\u005fop")),
        document(OPERATOR.replace("cat", "c\\u0061t")),
        document(OPERATOR.replace("aten::mm", "\\u0050rofilerStep#1"), OPERATOR),
        document(told('{"External id": "x"}')),
        document(
            told('{"External id": 4294967295}'),
            told('{"External id": 18446744073709551615}'),
        ),
        document('{"ph": "i"}'),
        "[]",
        "",
        '"text"',
    ],
)
def test_what_is_unusual_is_left_to_objects(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    agrees(path, text)
    assert not is_scanned(path)


def test_text_that_is_no_utf8_is_refused_alike(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(document(OPERATOR).encode().replace(b"mm", b"m\xff"))
    for is_scanned in (True, False):
        with pytest.raises(TraceError, match="isn't complete JSON"):
            read_recording(path, is_scanned=is_scanned)


def test_several_packed_streams_are_read(tmp_path: Path) -> None:
    text = document(OPERATOR).encode()
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(text[:40]) + gzip.compress(text[40:]))
    assert len(read_recording(path, is_scanned=True).host) == 1


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4),
    st.sampled_from([0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0, 7]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)
arguments = st.dictionaries(
    st.sampled_from(["correlation", "External id", "device", "stream", "bytes", "Collective name", "x"]),
    st.one_of(st.integers(0, 9), values),
)
plain = {
    "ph": st.sampled_from(["X", "X", "X", "s", "f", "i"]),
    "cat": st.sampled_from(["cpu_op", "kernel", "cuda_runtime", "fwdbwd", "user_annotation", "cuda_sync"]),
    "name": st.sampled_from(["aten::mm", "ProfilerStep#1", "nccl:all_reduce", "ncclKernel", 'q"\\']),
    "ts": st.one_of(st.integers(0, 10**16), st.floats(0, 1e15)),
    "dur": st.one_of(st.integers(0, 1000), st.floats(0, 1e3)),
}
optional = {
    "pid": st.one_of(st.integers(0, 3), scalars),
    "tid": st.one_of(st.integers(0, 3), scalars),
    "args": st.one_of(arguments, values),
    "id": st.one_of(st.integers(0, 3), scalars),
}
events = st.fixed_dictionaries(plain, optional=optional)


@settings(max_examples=150)
@given(st.lists(events, min_size=1, max_size=6), st.sampled_from([None, 1]))
def test_any_events_give_the_same_recording_or_message(
    tmp_path_factory: pytest.TempPathFactory, listed: list[dict[str, Any]], indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.json"
    agrees(path, json.dumps({"traceEvents": listed, "distributedInfo": {"rank": 0}}, indent=indent))


@settings(max_examples=500)
@given(st.integers(0, 10**19), st.integers(0, 18), st.booleans())
def test_times_are_the_nearest_doubles_nanoseconds(digits: int, decimals: int, is_negative: bool) -> None:
    text = str(digits).rjust(decimals + 1, "0")
    text = f"{'-' * is_negative}{text[:-decimals]}.{text[-decimals:]}" if decimals else text
    time_ns = getattr(json_values.time_ns, "py_func", json_values.time_ns)
    found, flag = time_ns(text.encode(), 0, len(text))
    if flag != BAD:
        assert found == nanoseconds((json.loads(text),))[0]
    elif len(text.lstrip("-")) < 20 and decimals <= 9:
        assert abs(float(text)) >= 2**52


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6000)), max_size=40))
def test_compiled_nesting_is_the_interpreted_one(spans: list[tuple[int, int]]) -> None:
    sorted_spans = sorted((1000 * start, -(1000 * start + length)) for start, length in spans)
    starts = np.array([start for start, _ in sorted_spans], dtype=np.int64)
    ends = np.array([-end for _, end in sorted_spans], dtype=np.int64)
    bounds = np.array([0, len(spans) // 2, len(spans)])
    interpreted = nesting.nest(bounds, starts, ends)
    compiled = np.empty((4, len(spans)), dtype=np.int64)
    compiled[2] = ends
    parents, depths, found_ends, closed = compiled
    assert nesting.compiled()(bounds, starts, found_ends, parents, depths, closed) == len(spans)
    for one, other in zip(interpreted, compiled, strict=True):
        assert one.tolist() == other.tolist()


def test_of_several_files_the_first_mistake_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{k}.json" for k in range(4)]
    for k, path in enumerate(paths):
        path.write_text(document(OPERATOR) if k % 2 == 0 else document(OPERATOR)[: -20 * k])
    said: list[tuple[int, int, str]] = []
    monkeypatch.setattr(scan_driver, "FROM_BYTES", 0)
    monkeypatch.setattr(scan_driver, "FROM_BYTES_LOADED", 0)
    with pytest.raises(TraceError, match=r"1\.json: isn't complete JSON"):
        list(read_all(paths, describes_communication, lambda *report: said.append(report)))
    assert said == [(0, 4, "0.json"), (1, 4, "1.json")]
    assert [len(r.host) for r in read_all(paths[::2], describes_communication, lambda *report: None)] == [
        1,
        1,
    ]
