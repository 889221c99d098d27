"""Edits on the command line, of `replay` and `convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from edit_cases import ranks

from chakrasim.replay.cli.main import main
from chakrasim.traces.workload_files import load_workload, save_workload

GRAPHS = "graphs"


@pytest.fixture(autouse=True)
def _with_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of two ranks to edit in an empty folder."""
    monkeypatch.chdir(tmp_path)
    save_workload(ranks(2), GRAPHS, "job")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def run_json(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return document


def test_a_replay_lists_its_edits() -> None:
    document = run_json("replay", GRAPHS, "--comm-size", "*=2", "--drop", "reduce")
    # The order is fixed: what was dropped isn't resized any more.
    assert document["edits"] == [
        "dropped 2 nodes on 2 ranks that match 'reduce'",
        "gave each of 2 nodes on 2 ranks that match '*' 2 times its bytes; what was recorded of their time "
        "no longer holds: the network costs them",
    ]
    assert [entry["bytes"] for entry in document["collectives"]] == [240]
    assert set(document["edits"]) <= set(document["notes"])
    assert "dropped 2 nodes" in run("replay", GRAPHS, "--drop", "reduce")


def test_without_edits_there_is_no_list_of_them() -> None:
    assert "edits" not in run_json("replay", GRAPHS)


def test_changed_sizes_are_costed_by_a_network() -> None:
    assert run_json("replay", GRAPHS)["network"] == "measured"
    assert run_json("replay", GRAPHS, "--comm-size", "*=2")["network"] == "analytical"
    assert "--network recorded takes what was recorded" in run(
        "replay", GRAPHS, "--network", "recorded", "--widen", "4", code=2
    )


def test_every_edit_can_be_made_at_once() -> None:
    document = run_json(
        "replay", GRAPHS, "--drop", "forward", "--merge", "optimizer", "--move", "reduce=c",
        "--collapse-host", "--comm-size", "gather=1kB", "--comm-group", "reduce=0,1", "--widen", "world=4",
    )  # fmt: skip
    assert [line.split()[0] for line in document["edits"]] == [
        "dropped",
        "merged",
        "moved",
        "collapsed",
        "gave",
        "put",
        "widened",
    ]
    assert document["world_size"] == 4


def test_edited_graphs_are_kept() -> None:
    run("convert", GRAPHS, "--drop", "reduce", "--scale", "optimizer=3", "--widen", "4", "-o", "out")
    read = load_workload("out/graphs")
    assert read.world_size == 4
    assert "scaled 4 nodes on 4 ranks that match 'optimizer' by 3" in read.notes
    assert [int(graph.durations_ps[-1]) for graph in read.graphs.values()] == [6_000_000] * 4
    assert (
        run_json("replay", "out/graphs")["step_time_ns"]
        == run_json("replay", GRAPHS, "--drop", "reduce", "--scale", "optimizer=3", "--widen", "4")[
            "step_time_ns"
        ]
    )


def test_one_graph_is_converted_under_its_own_name() -> None:
    run("convert", f"{GRAPHS}/job.1.et", "-o", "out")
    assert [file.name for file in Path("out").iterdir()] == ["job.1.et"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--drop", "nccl"], "no node has a name like 'nccl'"),
        (["--move", "reduce"], "expected for example 'nccl*=comm'"),
        (["--comm-size", "reduce=big"], "neither a factor, such as 0.5, nor a size, such as 64MB"),
        (["--comm-group", "reduce=pp"], "no process group 'pp'"),
        (["--widen", "dp=many"], "expected for example dp=8, or 8"),
        (["--step", "3"], "records no profiler steps"),
        (["--comm-group", "reduce=1,0/0,1"], "list rank 1 more than once"),
    ],
)
def test_an_edit_that_can_t_be_made_is_one_line(arguments: list[str], problem: str) -> None:
    for command in (["replay", GRAPHS], ["convert", GRAPHS, "-o", "out"]):
        said = run(*command, *arguments, code=2)
        assert problem in said
        assert said.count("\n") == 1


def test_help_tells_the_order_of_edits() -> None:
    for command in ("replay", "convert"):
        said = " ".join(run(command, "--help").split())
        assert "in the order step, drop, merge, move, collapse, sizes, groups, widen" in said
