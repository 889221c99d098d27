"""The cache of columns: what is in it is right, or isn't used."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main
from chakrasim.traces import io
from chakrasim.traces.reading import column_cache
from chakrasim.traces.reading.column_cache import Columns
from chakrasim.traces.shared import jit
from chakrasim.traces.testing import graph
from chakrasim.traces.workload_files import read_workload
from chakrasim.traces.writing.encode import encode_graph

WRITER = """
import itertools, os, signal, sys
import numpy as np
from chakrasim.traces.reading import column_cache

def store(size):
    column_cache.store("entry", column_cache.Columns({"a": np.arange(size)}, {}))

def killed_before(step):  # a line of the function that writes an entry
    def trace(frame, event, argument):
        nonlocal step
        if frame.f_code is not column_cache._write.__code__:
            return None
        if event == "line":
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            step -= 1
        return trace
    sys.settrace(trace)

store(5)
for step in itertools.count():
    writer = os.fork()
    if writer == 0:
        killed_before(step)
        store(200_000)
        os._exit(0)
    _, status = os.waitpid(writer, 0)
    entry = column_cache.load("entry")
    print(len(entry.arrays["a"]), int(entry.arrays["a"].sum()))
    if status == 0:
        break
"""
"""Replaces an entry again and again, each time killed before a later line of doing so; says what is there."""


def columns() -> Columns:
    arrays = {"a": np.arange(5), "b": np.array([True, False]), "none": np.empty(0, dtype=np.int32)}
    return Columns(arrays, {"names": ["größe", ""]})


def assert_same(found: Columns | None, expected: Columns) -> None:
    assert found is not None
    assert found.texts == expected.texts
    assert list(found.arrays) == list(expected.arrays)
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(column_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_stored_is_loaded(folder: Path) -> None:
    assert column_cache.load("entry") is None
    column_cache.store("entry", columns())
    assert_same(column_cache.load("entry"), columns())
    assert [path.name for path in folder.iterdir()] == ["entry.columns"]


def test_every_damage_is_seen(folder: Path) -> None:
    column_cache.store("entry", columns())
    path = folder / "entry.columns"
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 5)]
    damaged += [whole + b"\0", b"something else"]
    for content in damaged:
        path.write_bytes(content)
        assert column_cache.load("entry") is None
        assert not path.exists()  # and it isn't looked at again


def test_a_writer_killed_at_any_time_leaves_whole_entries(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True, check=True)
    old, new = "5 10", "200000 19999900000"
    found = done.stdout.splitlines()
    replaced = found.index(new)
    assert replaced > 10  # lines of writing, after each of which it was killed
    assert found == [old] * replaced + [new] * (len(found) - replaced)
    abandoned = list(folder.glob(".*.part"))
    assert abandoned
    for path in abandoned:
        os.utime(path, (0, 0))
    column_cache.store("other", columns())
    assert not list(folder.glob(".*.part"))  # what the killed ones left goes in time


def test_writers_at_the_same_time_dont_disturb_each_other(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: column_cache.store("entry", columns()), range(64)))
    assert_same(column_cache.load("entry"), columns())
    assert [path.name for path in folder.iterdir()] == ["entry.columns"]


def test_entries_that_arent_used_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        column_cache.store(f"entry{number}", columns())
        os.utime(folder / f"entry{number}.columns", (number, number))
    column_cache.load("entry0")  # used again
    size = (folder / "entry0.columns").stat().st_size
    monkeypatch.setattr(column_cache, "MAX_BYTES", 3 * size)
    column_cache.store("entry4", columns())
    assert sorted(path.stem for path in folder.iterdir()) == ["entry0", "entry3", "entry4"]


def test_it_can_be_turned_off_and_never_stops_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(column_cache.VARIABLE, "off")
    column_cache.store("entry", columns())
    assert column_cache.load("entry") is None
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(column_cache.VARIABLE, str(tmp_path / "file"))
    column_cache.store("entry", columns())
    assert column_cache.load("entry") is None


@pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")
def test_a_graph_is_the_same_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", 1)
    monkeypatch.setattr(io, "WITH_NUMBA_FROM_BYTES", 1)
    path = tmp_path / "w.0.et"
    path.write_bytes(encode_graph(graph("a:10 -> b:5@stream7, a -> c:7")))
    first = io.read_graph(path)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr("chakrasim.traces.reading.fast_decode.read_columns", None)
    again = io.read_graph(path)
    assert again.names == first.names
    assert np.array_equal(again.durations_ps, first.durations_ps)
    assert again.attributes(1) == first.attributes(1)
    # another file of the same name, and the same file as another rank's, are other entries
    monkeypatch.undo()
    monkeypatch.setenv(column_cache.VARIABLE, str(folder))
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", 1)
    path.write_bytes(encode_graph(graph("a:10 -> b:6@stream7, a -> c:7")))
    assert io.read_graph(path).durations_ps.tolist() != first.durations_ps.tolist()
    assert column_cache.key(b"x", 0) != column_cache.key(b"x", 1)


def test_the_command_line_can_leave_the_cache_alone(folder: Path) -> None:
    def run(*options: str) -> str:
        found = CliRunner().invoke(main, ["replay", "sample:ddp_transformer", "--json", *options])
        assert found.exit_code == 0, found.output
        return found.output

    plain = run("--no-cache")
    assert not folder.exists()
    assert os.environ[column_cache.VARIABLE] == str(folder)
    assert run() == plain
    assert len(list(folder.iterdir())) == 4
    assert run() == run("--no-cache") == plain


def test_many_files_are_read_compiled_though_none_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(4):
        (tmp_path / f"w.{rank}.et").write_bytes(encode_graph(graph(f"a:{rank + 1} -> b:5@stream7")))
    monkeypatch.setattr(jit, "is_loaded", lambda: False)
    total = io.unpacked_bytes(tmp_path.iterdir())
    read = []
    from_bytes = io.graph_from_bytes
    monkeypatch.setattr(io, "graph_from_bytes", lambda source: read.append(source.rank) or from_bytes(source))
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", total + 1)
    plain = read_workload(tmp_path)
    assert read == []
    monkeypatch.setattr(io, "COMPILE_FROM_BYTES", total)
    assert [list(g.durations_ps) for g in read_workload(tmp_path).graphs.values()] == [
        list(g.durations_ps) for g in plain.graphs.values()
    ]
    assert read == [0, 1, 2, 3]
