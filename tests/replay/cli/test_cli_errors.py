"""What the command line says and does when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from chakrasim.replay.cli.main import Commands, main
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.io import write_graph

CHAKRASIM = [sys.executable, "-m", "chakrasim.replay.cli"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_line(result: Result) -> str:
    """The message of a refused command: one line, no traceback, nothing on standard output."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("chakrasim: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def write_ranks(folder: Path, count: int, name: str = "t") -> Path:
    """An all-reduce on each of `count` ranks."""
    folder.mkdir(exist_ok=True)
    for rank in range(count):
        builder = GraphBuilder(rank)
        builder.add(NodeKind.COLL, "reduce grads", comm_kind=CommKind.ALL_REDUCE, comm_bytes=1000)
        write_graph(builder.build(), folder / f"{name}.{rank}.et")
    return folder


def write_crossed_receives(folder: Path) -> Path:
    """Two ranks, each sending only after it has received: sound by itself, and never ends."""
    folder.mkdir(exist_ok=True)
    for rank in range(2):
        builder = GraphBuilder(rank)
        first = builder.add(NodeKind.RECV, "receive", comm_bytes=8, peer=1 - rank)
        builder.add(NodeKind.SEND, "send", comm_bytes=8, peer=1 - rank, after=[first])
        write_graph(builder.build(), folder / f"t.{rank}.et")
    return folder


@pytest.mark.parametrize("command", [["replay"], ["inspect"], ["convert", "-o", "out"]])
def test_a_path_that_is_not_there(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nothing.json" in one_line(run(*command, "nothing.json"))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}: the folder holds no trace" in one_line(run("replay", tmp_path))


def test_a_hole_in_the_rank_numbers(tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / "w", 4)
    (folder / "t.2.et").unlink()
    message = one_line(run("replay", folder))
    assert "rank 2" in message
    assert "--partial" in message
    assert run("replay", folder, "--partial", "--json").exit_code == 0


def test_two_workloads_in_one_folder(tmp_path: Path) -> None:
    write_ranks(tmp_path / "w", 2, "a")
    folder = write_ranks(tmp_path / "w", 2, "b")
    assert "several workloads (a, b)" in one_line(run("replay", folder))
    assert run("replay", folder / "a", "--json").exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"\x1f\x8b\x08\x00\x00", "gzip"),
        (b'{"workload_graph": [', "JSON"),
        (b'{"traceEvents": [', "JSON"),
        (b'{"traceEvents": []}', "event"),
        (b'{"a": 1}', "not "),
        (bytes(range(256)), "not a Chakra"),
        (b"\xff" * 64, "not a Chakra"),
    ],
)
@pytest.mark.parametrize("name", ["trace.json", "trace.0.et", "trace.json.gz", "trace"])
def test_a_file_that_is_no_trace(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for command in (["replay"], ["inspect"], ["convert", "-o", str(tmp_path / "out")]):
        message = one_line(run(*command, path))
        assert str(path) in message
        assert said in message or "profiler trace" in message or command[0] == "convert"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--machine", "hgx-h10"], "did you mean"),
        (["--machine", "nowhere.yaml"], "nowhere.yaml"),
        (["--compute", "rofline"], "did you mean 'roofline'"),
        (["--network", "measurd"], "did you mean 'measured'"),
        (["--groups", "nowhere.json"], "nowhere.json"),
        (["--groups", "."], "."),
        (["--scale", "gpu=-2"], "-2"),
        (["--timeline", "no/such/folder/t.json"], "no/such/folder"),
        (["--timeline", "."], "folder"),
    ],
)
def test_an_option_that_cannot_be_right(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_ranks(tmp_path / "w", 2)
    monkeypatch.chdir(tmp_path)
    assert said in one_line(run("replay", folder, *options))
    assert list(tmp_path.iterdir()) == [folder]


def test_a_machine_that_is_too_small(tmp_path: Path) -> None:
    machine = tmp_path / "small.yaml"
    machine.write_text(run("machines", "show", "dgx-a100").stdout.replace("size: any", "size: 1"))
    message = one_line(run("replay", write_ranks(tmp_path / "w", 9), "--machine", machine))
    assert "has 8 ranks" in message
    assert "the workload has 9" in message


def test_groups_are_for_graphs_only() -> None:
    result = run("replay", "sample:nothing")
    assert "no sample 'nothing'" in one_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "--nonsense"],
        ["nonsense"],
        ["inspect"],
        ["convert", "x"],
        ["generate", "collective", "--kind", "allreduce", "--size", "1MB", "--ranks", "2", "-o", "x"],
        ["generate", "collective", "--kind", "all-reduce", "--size", "1XB", "--ranks", "2", "-o", "x"],
        ["generate", "collective", "--kind", "all-reduce", "--size", "1MB", "--ranks", "0", "-o", "x"],
        ["replay", "--scale", "gpu"],
        ["replay", "--timeline", "-", "--json"],
    ],
)
def test_a_command_that_cannot_be_understood(arguments: list[str], tmp_path: Path) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_a_deadlock_prints_its_result_and_exits_1(tmp_path: Path) -> None:
    result = run("replay", write_crossed_receives(tmp_path / "w"), "--json")
    assert result.exit_code == 1
    document = orjson.loads(result.stdout)
    assert document["step_time_ns"] is None
    assert [rank["finish_ns"] for rank in document["ranks"]] == [None, None]
    assert document["deadlock"]


def test_a_deadlock_is_explained_to_people(tmp_path: Path) -> None:
    result = run("replay", write_crossed_receives(tmp_path / "w"))
    assert result.exit_code == 1
    assert "deadlock" in result.stdout.lower()
    assert "receive" in result.stdout


def test_inspect_lists_problems_and_exits_2(tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / "w", 2)
    builder = GraphBuilder(1)
    builder.add(NodeKind.COLL, "reduce grads", comm_kind=CommKind.ALL_REDUCE, comm_bytes=2000)
    builder.add(NodeKind.SEND, "to nobody", comm_bytes=8, peer=0)
    write_graph(builder.build(), folder / "t.1.et")
    result = run("inspect", folder, "--json")
    assert result.exit_code == 2
    problems = orjson.loads(result.stdout)["problems"]
    assert len(problems) == 2
    assert all("t.1.et: rank 1 node" in problem for problem in problems)
    assert result.stderr.count("\n") == 1
    shown = run("inspect", folder)
    assert shown.exit_code == 2
    assert all(problem in shown.stdout for problem in problems)


def test_inspect_looks_past_missing_ranks(tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / "w", 4)
    (folder / "t.2.et").unlink()
    result = run("inspect", folder, "--json")
    assert result.exit_code == 2
    document = orjson.loads(result.stdout)
    assert document["missing_ranks"] == [2]
    assert "no file for rank 2" in document["problems"][0]


def test_output_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    make = ("generate", "collective", "--kind", "all-reduce", "--ranks", 2, "-o", tmp_path / "out")
    assert run(*make, "--size", "1MB").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "--force" in one_line(run(*make, "--size", "2MB"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert run(*make, "--size", "2MB", "--prefix", "other").exit_code == 0
    assert run(*make, "--size", "2MB", "--force").exit_code == 0
    assert {path.name for path in before} < {path.name for path in (tmp_path / "out").iterdir()}
    assert all(path.read_bytes() != content for path, content in before.items())


def test_force_leaves_no_ranks_of_the_output_before(tmp_path: Path) -> None:
    make = ("generate", "collective", "--kind", "all-reduce", "--size", "1MB", "-o", tmp_path)
    assert run(*make, "--ranks", 4).exit_code == 0
    assert run(*make, "--ranks", 2, "--compress", "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all-reduce.0.et.gz", "all-reduce.1.et.gz"]


def test_output_to_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    message = one_line(
        run("generate", "collective", "--kind", "barrier", "--size", "0", "--ranks", "2", "-o", path)
    )
    assert "is a file" in message
    assert path.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "ermission" in one_line(run("replay", "--timeline", tmp_path / "t.json"))


def test_a_reader_that_has_seen_enough_ends_the_output_quietly() -> None:
    process = subprocess.Popen(
        [*CHAKRASIM, "machines", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (KeyboardInterrupt(), 130, "chakrasim: interrupted\n"),
        (
            PermissionError(13, "Permission denied", "t.0.et"),
            2,
            "chakrasim: error: t.0.et: Permission denied\n",
        ),
        (OSError(28, "No space left on device"), 2, "chakrasim: error: No space left on device\n"),
        (TraceError("two\nlines"), 2, "chakrasim: error: two lines\n"),
    ],
)
def test_what_goes_wrong_outside_ends_without_traceback(
    error: BaseException, exit_code: int, said: str
) -> None:
    @click.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(Commands(commands={"fail": fail}), ["fail"])
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", said)


def test_a_mistake_of_ours_shows_its_traceback() -> None:
    @click.command()
    def fail() -> None:
        raise ZeroDivisionError

    result = CliRunner().invoke(Commands(commands={"fail": fail}), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", ""], "name is empty"),
        (["replay", "--scale", "bogus"], "--scale"),
        (
            ["generate", "collective", "--kind", "all-reduce", "--size", "1e30", "--ranks", "2", "-o", "x"],
            "size",
        ),
        (
            ["generate", "collective", "--kind", "all-reduce", "--size", "9EiB", "--ranks", "2", "-o", "x"],
            "size",
        ),
        (
            ["generate", "collective", "--kind", "all-reduce", "--size", "1", "--ranks", "0", "-o", "x"],
            "--ranks",
        ),
        (["replay", "--no-such-option"], "no-such-option"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_wrong_usage_gets_one_line_too(arguments: list[str], said: str) -> None:
    assert said in one_line(run(*arguments))


def test_a_kineto_time_that_cannot_be(tmp_path: Path) -> None:
    event = {"ph": "X", "cat": "cpu_op", "name": "late", "pid": 1, "tid": 1, "ts": 1e300, "dur": 1}
    (tmp_path / "t.json").write_bytes(orjson.dumps({"traceEvents": [event]}))
    assert "expected microseconds" in one_line(run("replay", tmp_path / "t.json"))


def test_names_that_are_not_utf8_reach_the_json(tmp_path: Path) -> None:
    folder = write_ranks(tmp_path / os.fsdecode(b"odd\xff"), 2)
    done = subprocess.run(
        [*CHAKRASIM, "inspect", os.fsencode(folder), "--json"], capture_output=True, check=True
    )
    assert orjson.loads(done.stdout)["ranks"]
