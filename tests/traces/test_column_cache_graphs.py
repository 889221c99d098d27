"""Graphs from the cache of columns are the ones that parsing gives, whatever became of the cache."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records
from chakrasim.traces import io
from chakrasim.traces.attributes import attribute_columns, integer_attributes
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.reading import column_cache
from chakrasim.traces.reading import fast_decode as decode_bytes
from chakrasim.traces.shared import jit
from chakrasim.traces.workload_files import read_workload

pytestmark = pytest.mark.skipif(jit.is_off(), reason="compiling is turned off")

NEVER = 1 << 60


def a_file(*, keeps_numbers: bool = False, unknown: bool = False) -> bytes:
    """Nodes of several kinds, not in the order of their ids, with attributes that have no column."""
    metadata = schema.GlobalMetadata(version="0.0.4")
    metadata.attr.add(name="notes").string_list.values.append("a note")
    metadata.attr.add(name="process_groups", string_val='{"dp": [0, 2]}')
    if keeps_numbers:
        metadata.attr.add(name="memory", string_val="{}")
    last = schema.Node(id=2**63, name="größe", type=4, data_deps=[7, 3], duration_micros=5)
    last.attr.add(name="layer", int32_val=4)
    last.attr.add(name="comm_tag", int64_val=2**40)
    middle = schema.Node(id=7, name="all-reduce", type=7, ctrl_deps=[3, 1000] if unknown else [3])
    middle.attr.add(name="comm_type", int64_val=0)
    middle.attr.add(name="comm_size", int64_val=2**33)
    middle.attr.add(name="pg_name", string_val="dp")
    middle.attr.add(name="involved_dim").bool_list.values.extend([True, False])
    middle.attr.add(name="comm_priority", int32_val=300)
    first = schema.Node(id=3, name="größe", type=4, start_time_micros=9)
    first.attr.add(name="lane", string_val="")
    first.attr.add(name="splits").int64_list.values.extend([1, 2])
    nodes = (last, middle, first)
    return frame_records([metadata.SerializeToString(), *(node.SerializeToString() for node in nodes)])


def read(path: Path, min_bytes: int, *, drops_unknown: bool = False) -> ExecutionGraph:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "COMPILE_FROM_BYTES", min_bytes)
        patch.setattr(io, "WITH_NUMBA_FROM_BYTES", min_bytes)
        return io.read_graph(path, drop_unknown_dependencies=drops_unknown)


def read_from_cache(path: Path, *, drops_unknown: bool = False) -> ExecutionGraph:
    """Fails where the file's nodes are parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_bytes, "read_columns", None)
        return read(path, 0, drops_unknown=drops_unknown)


def content(graph: ExecutionGraph) -> list[tuple[str, str, object]]:
    """All there is in a graph, types of columns included."""
    found: list[tuple[str, str, object]] = []
    for field in fields(graph):
        value = getattr(graph, field.name)
        if isinstance(value, np.ndarray):
            found.append((field.name, value.dtype.str, value.tolist()))
        elif field.name == "records":
            found.append((field.name, "", value and value()))
        elif field.name != "read_attributes":
            found.append((field.name, "", value))
    names = integer_attributes(graph)
    found.append(("attributes", "", [graph.attributes(row) for row in range(len(graph))]))
    found.append(("numbers", str(names), [column.tolist() for column in attribute_columns(graph, names)]))
    return found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(column_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "w.1.et"


def entries(path: Path) -> list[Path]:
    folder = path.with_name("cache")
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("keeps_numbers", [False, True])
def test_a_graph_from_the_cache_is_the_parsed_one(path: Path, keeps_numbers: bool) -> None:
    path.write_bytes(a_file(keeps_numbers=keeps_numbers))
    plain, parsed = read(path, NEVER), read(path, 0)
    assert len(entries(path)) == 1
    assert content(read_from_cache(path)) == content(parsed) == content(plain)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("keeps_numbers", [False, True])
def test_columns_of_a_file_that_was_read_by_way_of_objects_are_kept_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, keeps_numbers: bool, unknown: bool
) -> None:
    path.write_bytes(a_file(keeps_numbers=keeps_numbers, unknown=unknown))
    plain = read(path, NEVER, drops_unknown=unknown)
    assert entries(path) == []
    monkeypatch.setattr(io, "CACHE_FROM_BYTES", 0)
    assert content(read(path, NEVER, drops_unknown=unknown)) == content(plain)
    assert len(entries(path)) == 1
    assert content(read_from_cache(path, drops_unknown=unknown)) == content(plain)


def test_what_was_dropped_is_told_from_the_cache_too(path: Path) -> None:
    path.write_bytes(a_file(unknown=True))
    plain = read(path, NEVER, drops_unknown=True)
    assert plain.metadata["dropped_dependencies"] == 1
    read(path, 0, drops_unknown=True)
    assert content(read_from_cache(path, drops_unknown=True)) == content(plain)
    # and without dropping, the defect is there, which never comes from the cache
    assert content(read(path, 0)) == content(read(path, NEVER))
    assert read(path, 0).defects


def test_files_that_differ_in_metadata_share_an_entry_but_not_these(path: Path) -> None:
    other = path.with_name("v.1.et")
    path.write_bytes(a_file())
    other.write_bytes(a_file().replace(b"a note", b"A NOTE"))
    read(path, 0)
    assert read_from_cache(other).metadata["notes"] == ["A NOTE"]
    assert content(read_from_cache(other)) == content(read(other, NEVER))
    assert len(entries(path)) == 1


def test_a_rank_has_its_own_entry(path: Path) -> None:
    """A send says who it is from, which is right on one rank and a defect on others."""
    node = schema.Node(id=0, type=5)
    node.attr.add(name="comm_src", int32_val=1)
    node.attr.add(name="comm_dst", int32_val=2)
    data = frame_records([b"", node.SerializeToString()])
    for file in (path, path.with_name("w.4.et")):
        file.write_bytes(data)
    assert not read(path, 0).defects
    assert read(path.with_name("w.4.et"), 0).defects


@given(at=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=150)
def test_a_damaged_entry_is_parsed_anew_and_replaced(
    at: float, bits: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "w.1.et"
    path.write_bytes(a_file(keeps_numbers=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(column_cache.VARIABLE, str(folder / "cache"))
        expected = content(read(path, 0))
        (entry,) = entries(path)
        whole = entry.read_bytes()
        place = int(at * len(whole))
        damaged = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :]
        entry.write_bytes(damaged)
        assert content(read(path, 0)) == expected
        assert entry.read_bytes() == whole


def test_an_entry_under_anothers_name_isnt_used(path: Path) -> None:
    path.write_bytes(a_file())
    read(path, 0)
    (entry,) = entries(path)
    path.write_bytes(a_file(keeps_numbers=True))
    read(path, 0)
    (other,) = set(entries(path)) - {entry}
    entry.replace(other)
    assert content(read(path, 0)) == content(read(path, NEVER))


FULL = """
import resource, sys
from chakrasim.traces import io
io.COMPILE_FROM_BYTES = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
print(len(io.read_graph(sys.argv[1])))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_full_disk_stops_nothing_and_leaves_nothing(path: Path) -> None:
    path.write_bytes(a_file())
    read(path, 0)  # so that numba need not write either
    entries(path)[0].unlink()
    shown = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.returncode) == ("3\n", 0), shown.stderr
    assert entries(path) == []


def test_an_entry_that_is_larger_than_the_cache_may_be_isnt_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(a_file())
    monkeypatch.setattr(column_cache, "MAX_BYTES", 500)
    assert len(read(path, 0)) == 3
    assert entries(path) == []


def test_the_cache_can_be_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(a_file())
    monkeypatch.setenv(column_cache.VARIABLE, "off")
    assert content(read(path, 0)) == content(read(path, NEVER))
    assert entries(path) == []


def test_without_a_variable_entries_are_in_the_users_cache(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(a_file())
    monkeypatch.delenv(column_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    read(path, 0)
    assert len(os.listdir(tmp_path / "users" / "chakrasim" / "columns")) == 1


def test_broken_metadata_are_told_though_the_nodes_are_known(path: Path) -> None:
    """Files that are alike but for their metadata are recognised, but these have to be right."""
    for rank, note in enumerate((b"a note", b"a note", b"\xff note")):
        path.with_name(f"w.{rank}.et").write_bytes(a_file().replace(b"a note", note))
    with pytest.raises(TraceError, match=r"w\.2\.et: byte \d+: the first record \(GlobalMetadata\)"):
        read_workload(path.with_name("w"))
