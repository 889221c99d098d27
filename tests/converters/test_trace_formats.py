"""Trace formats: which one a file is, and a format that another package adds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chakrasim.converters.interface import TraceFormat
from chakrasim.converters.registry import CHAKRA, FORMATS, PYTORCH, format_of, formats_of, plain_name
from chakrasim.replay.cli.main import main
from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.traces import read_graph, write_graph
from chakrasim.traces.errors import TraceError
from chakrasim.traces.testing import graph

HEADER = "rank,name,start_us,duration_us,stream\n"
KINETO = '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a", "pid": 1, "tid": 1, "ts": 0, "dur": 5}]}'


@pytest.fixture
def csv(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceFormat]:
    """The example package's format, registered."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "example_plugin")
    from chakrasim_example.csv_timelines import CSV

    FORMATS.register(CSV.name, CSV)
    yield CSV
    FORMATS.unregister(CSV.name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def mistake(result: Result) -> str:
    """The one line of a command that ended with a user's mistake."""
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def write_ranks(folder: Path, ranks: int = 2) -> Path:
    """Rank r works for 10 + r us on stream 7, and then for 5 us."""
    folder.mkdir(exist_ok=True)
    for rank in range(ranks):
        rows = f"{rank},a,0,{10 + rank},7\n{rank},b,{10 + rank},5,7\n"
        (folder / f"t.{rank}.csv").write_text(HEADER + rows)
    return folder


def write_chakra(path: Path) -> Path:
    write_graph(graph("a:10 -> b:5"), path.with_name("plain.et"))
    return path.with_name("plain.et").rename(path)


def step_us(*arguments: object) -> float:
    result = run("replay", *arguments, "--json")
    assert result.exit_code == 0, result.output
    us: float = json.loads(result.stdout)["step_time_ns"] / 1e3
    return us


def test_a_file_of_a_registered_format_is_replayed(csv: TraceFormat, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "0,a,0,10,7\n1,a,0,11,7\n0,b,10,5,8\n")
    assert step_us(tmp_path / "t.csv") == 11


def test_a_folder_with_a_file_of_each_rank_is_replayed(csv: TraceFormat, tmp_path: Path) -> None:
    assert step_us(write_ranks(tmp_path / "w")) == 16


def test_a_hole_in_the_ranks_of_a_folder_is_told(csv: TraceFormat, tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / "w", 3)
    (folder / "t.1.csv").unlink()
    message = mistake(run("replay", folder))
    assert "no trace of rank 1" in message
    assert "--partial" in message


def test_output_is_named_without_the_formats_suffix(csv: TraceFormat, tmp_path: Path) -> None:
    source = write_ranks(tmp_path / "w")
    assert run("convert", source / "t.1.csv", "-o", tmp_path / "one").exit_code == 0
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["t.1.et"]
    assert run("convert", source, "-o", tmp_path / "all").exit_code == 0
    assert sorted(file.name for file in (tmp_path / "all").iterdir()) == ["w.0.et", "w.1.et"]
    assert step_us(tmp_path / "all") == 16


def test_a_registered_format_is_inspected(csv: TraceFormat, tmp_path: Path) -> None:
    result = run("inspect", write_ranks(tmp_path / "w"), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["nodes"] == 4


def test_an_option_of_a_registered_format_is_taken(csv: TraceFormat, tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / "w")
    assert step_us(folder, "--format-option", "shortest-us=6") == 11
    assert "shortest-us=x" in mistake(run("replay", folder, "--format-option", "shortest-us=x"))
    assert "did you mean 'shortest-us'" in mistake(run("replay", folder, "--format-option", "shortst-us=1"))


def test_an_option_of_another_format_is_refused(csv: TraceFormat, tmp_path: Path) -> None:
    path = write_ranks(tmp_path / "w") / "t.0.csv"
    message = mistake(run("convert", path, "-o", tmp_path / "out", "--communication-kernels", "k.yaml"))
    assert "is of CSV timelines; --communication-kernels is for PyTorch profiler traces" in message
    assert "--groups is for Chakra graphs" in mistake(run("replay", path, "--groups", "g.json"))


def test_what_is_wrong_with_a_line_is_said_with_its_place(csv: TraceFormat, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "0,a,0,ten,7\n")
    assert f"{tmp_path / 't.csv'}: line 2" in mistake(run("replay", tmp_path / "t.csv"))


def test_a_txt_file_belongs_to_the_format_that_its_content_is_of(csv: TraceFormat, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(HEADER + "0,a,0,10,7\n")
    assert format_of(tmp_path / "t.txt") is csv


def test_an_unknown_file_is_answered_with_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary\n")
    message = mistake(run("replay", tmp_path / "notes.txt"))
    for known in ("Chakra graphs", "PyTorch profiler traces", "text workloads of ASTRA-sim 1.0"):
        assert known in message


def test_a_file_that_two_formats_recognise_is_refused(csv: TraceFormat, tmp_path: Path) -> None:
    twin = TraceFormat("twin", (".csv",), "twins", csv.sniff, csv.convert)
    FORMATS.register("twin", twin)
    try:
        (tmp_path / "t.csv").write_text(HEADER)
        with pytest.raises(TraceError, match=r"csv \(CSV timelines; .*\) and twin \(twins; "):
            format_of(tmp_path / "t.csv")
    finally:
        FORMATS.unregister("twin")


def test_of_a_folder_with_graphs_and_others_replay_reads_graphs_and_convert_the_others(
    csv: TraceFormat, tmp_path: Path
) -> None:
    folder = write_ranks(tmp_path / "w")
    write_chakra(folder / "g.0.et")
    assert "takes its CSV timelines instead" in "".join(open_workload(str(folder)).notes)
    assert len(open_workload(str(folder), prefers_graphs=False)) == 4


@pytest.mark.parametrize("name", ["g.0.et", "graph", "graph.bin", "graph.txt"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_graphs_are_recognised_by_their_content(name: str, is_packed: bool, tmp_path: Path) -> None:
    path = write_chakra(tmp_path / name)
    if is_packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert [known.name for known in formats_of(path)] == [CHAKRA]
    assert len(read_graph(path)) == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"workload_graph": [{"Id": 0}]}', [CHAKRA]),
        ('{"version": "0.0.4"}{"id": "1", "name": "a", "type": "COMP_NODE"}', [CHAKRA]),
        (KINETO, [PYTORCH]),
        ('{"schema": "1.0.1", "nodes": []}', [PYTORCH]),
        ('{"a": 1}', []),
        ("X\nplain text, whose first bytes could be a record of 88 bytes\n", []),
    ],
)
def test_text_files_are_told_apart_by_their_content(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(text)
    assert [known.name for known in formats_of(tmp_path / "trace")] == names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("step.3.json.gz", "step"),
        ("step.3.pt.trace.json", "step"),
        ("w.et.gz", "w"),
        ("runs/step", "step"),
        ("vgg16.txt", "vgg16"),
    ],
)
def test_names_of_output_lose_rank_and_suffix(path: str, name: str) -> None:
    assert plain_name(Path(path)) == name


def test_dropping_unknown_dependencies_is_allowed_for_traces_that_cannot_have_them(
    csv: TraceFormat, tmp_path: Path
) -> None:
    done = run("inspect", write_ranks(tmp_path), "--drop-unknown-dependencies", "--json")
    assert done.exit_code == 0, done.stderr


def test_a_byte_order_mark_makes_no_chakra_file_of_a_profiler_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.0.json"
    path.write_bytes(b'\xef\xbb\xbf{\n "schemaVersion": 1,\n "traceEvents": []}')
    assert "byte order mark" in mistake(run("inspect", path))
