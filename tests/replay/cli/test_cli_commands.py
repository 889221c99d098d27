"""What the commands print and write when all is well."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from nccl_test_logs import nccl_log

from chakrasim.replay.cli.main import main
from chakrasim.replay.cli.open_workload import find_graphs, sample_names, trace_path

NUMBER = (int, float)
RANK_KEYS = (
    "finish_ns",
    "compute_ns",
    "communication_ns",
    "exposed_communication_ns",
    "waiting_ns",
    "idle_ns",
)


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def run_json(*arguments: str | Path) -> dict:
    return orjson.loads(run(*arguments, "--json").stdout)


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command's words, without the program's name; groups are commands too."""
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


def examples(words: tuple[str, ...]) -> list[str]:
    """The commands of the example at the end of a command's help, which is printed as it was written."""
    lines = run(*words, "--help").stdout.rstrip().split("\n")
    assert "  Example:" in lines
    return [line.strip() for line in lines[lines.index("  Example:") + 1 :]]


def write_astra_sim_files(folder: Path) -> None:
    """Graphs for four ranks, files of ASTRA-sim that fit them, and a recorded run of 0 ranks."""
    size = ["--kind", "all-reduce", "--size", "1MiB", "--ranks", "4", "--prefix", "graph"]
    run("generate", "collective", *size, "-o", folder / "graphs")
    network = {"topology": ["Ring"], "npus_count": [4], "bandwidth": [50.0], "latency": [500]}
    system = {
        "preferred-dataset-splits": 4,
        "local-mem-bw": 1600,
        "all-reduce-implementation": ["ring"],
        "collective-optimization": "localBWAware",
    }
    (folder / "network.yml").write_bytes(orjson.dumps(network))
    (folder / "system.json").write_bytes(orjson.dumps(system))
    (folder / "all_reduce_16.log").write_text(nccl_log("all_reduce", 2, 8, [(2**20, 90.0), (2**30, 5400.0)]))
    (folder / "recorded_runs").mkdir()
    (folder / "recorded_runs/cases.json").write_text('{"cases": []}')


@pytest.mark.parametrize("words", list(commands(main)), ids=" ".join)
def test_help_ends_with_an_example_that_runs(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_astra_sim_files(tmp_path)
    found = examples(words)
    assert found
    for line in found:
        program, *arguments = shlex.split(line.partition(" > ")[0])
        assert program == "chakrasim"
        assert tuple(arguments[: len(words)]) == words or line != found[0]
        run(*arguments)


def test_the_program_is_installed_and_answers_for_help() -> None:
    program = Path(sys.executable).with_name("chakrasim")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "chakrasim.replay.cli"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: chakrasim" in done.stdout
    assert done.stderr == ""


def test_replay_without_arguments_replays_the_sample_for_people() -> None:
    out = run("replay").stdout
    assert "sample:ddp_transformer" in out
    assert "step time" in out
    assert "all-reduce" in out
    assert "analytical" in out
    assert "--timeline" in out


def test_the_json_of_replay_has_its_keys_and_nothing_else_is_printed() -> None:
    result = run("replay", "--json")
    assert result.stderr == ""
    document = orjson.loads(result.stdout)
    assert isinstance(document["step_time_ns"], NUMBER)
    assert [rank["rank"] for rank in document["ranks"]] == [0, 1, 2, 3]
    for rank in document["ranks"]:
        assert all(isinstance(rank[key], NUMBER) for key in RANK_KEYS)
        whole = rank["compute_ns"] + rank["exposed_communication_ns"] + rank["idle_ns"]
        assert whole == pytest.approx(rank["finish_ns"])
    for entry in document["collectives"]:
        assert isinstance(entry["kind"], str)
        assert all(isinstance(entry[key], NUMBER) for key in ("count", "bytes", "time_ns", "waiting_ns"))
    assert "deadlock" not in document
    assert (document["compute"], document["network"]) == ("measured", "analytical")


def test_every_key_of_the_json_is_documented(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/json.md").read_text()
    runs = tmp_path / "runs"
    runs.mkdir()
    case = {"id": "x", "backend": "unaware", "npus": 1, "workload": {"dir": ".", "prefix": "t"}}
    case["observed"] = {"finish": [1], "exposed": [1]}
    (runs / "cases.json").write_bytes(orjson.dumps({"cases": [case]}))
    documents = [
        run_json("replay"),
        run_json("inspect", "sample:ddp_transformer"),
        run_json("convert", "sample:ddp_transformer", "-o", tmp_path),
        run_json("export", "sample:ddp_transformer", "-o", tmp_path / "astra"),
        run_json("machines", "list"),
        orjson.loads(CliRunner().invoke(main, ["conformance", str(runs), "--json"]).stdout),
    ]
    free = {"nodes_by_kind", "peak_TFLOPs", "matmul", "attention", "algorithms", "nccl", "changes"}

    def keys(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                if key not in free:
                    yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    missing = {key for document in documents for key in keys(document) if f"`{key}`" not in text}
    assert not missing


def test_a_timeline_goes_to_a_file_or_to_standard_output(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    assert str(path) in run("replay", "--timeline", path).stdout
    written = orjson.loads(path.read_bytes())
    printed = run("replay", "--timeline", "-")
    assert orjson.loads(printed.stdout) == written
    assert "step time" in printed.stderr


def test_the_network_of_a_recording_is_what_was_recorded_unless_a_machine_is_named(tmp_path: Path) -> None:
    run("convert", "sample:ddp_transformer", "-o", tmp_path)
    assert run_json("replay", tmp_path)["network"] == "measured"
    assert run_json("replay", tmp_path, "--network", "analytical")["network"] == "analytical"
    assert run_json("replay", tmp_path, "--machine", "dgx-a100")["network"] == "analytical"
    assert "by default" in run("replay", tmp_path).stdout


def test_profiler_traces_replay_as_their_conversion_does(tmp_path: Path) -> None:
    folder = trace_path("sample:ddp_transformer")
    graphs, traces = tmp_path / "graphs", tmp_path / "traces"
    traces.mkdir()
    for file in set(folder.glob("*.json*")) - set(find_graphs(folder)):
        (traces / file.name).write_bytes(file.read_bytes())
    run("convert", traces, "-o", graphs, "--compress", "--prefix", "step")
    assert sorted(path.name for path in graphs.iterdir()) == [f"step.{rank}.et.gz" for rank in range(4)]
    direct, converted = run_json("replay", traces), run_json("replay", graphs / "step")
    assert direct["ranks"] == converted["ranks"]


def test_scales_change_the_times() -> None:
    once, twice = run_json("replay"), run_json("replay", "--scale", "cpu=2", "--scale", "gpu=2")
    assert twice["ranks"][0]["compute_ns"] == pytest.approx(2 * once["ranks"][0]["compute_ns"])


def test_many_ranks_are_summarised(tmp_path: Path) -> None:
    run("generate", "collective", "--kind", "all-reduce", "--size", "1MB", "--ranks", 32, "-o", tmp_path)
    out = run("replay", tmp_path).stdout
    assert "median" in out
    assert out.count("\n") < 50
    assert len(run_json("replay", tmp_path)["ranks"]) == 32


def test_generate_repeats_and_names_its_files(tmp_path: Path) -> None:
    arguments = ("--kind", "ALL_GATHER", "--size", "1MiB", "--ranks", 2, "--repeat", 3, "-o", tmp_path)
    document = run_json("generate", "collective", *arguments)
    assert [Path(rank["file"]).name for rank in document["ranks"]] == [
        "all-gather.0.et",
        "all-gather.1.et",
    ]
    [entry] = run_json("inspect", tmp_path)["collectives"]
    assert (entry["kind"], entry["count"], entry["bytes"]) == ("all-gather", 3, 3 * 2**20)


def test_inspect_shows_what_is_in_a_trace() -> None:
    document = run_json("inspect", "sample:ddp_transformer")
    assert document["world_size"] == 4
    assert document["missing_ranks"] == []
    assert document["problems"] == []
    assert document["nodes"] == sum(document["nodes_by_kind"].values())
    assert "all-reduce" in {entry["kind"] for entry in document["collectives"]}
    assert all(rank["span_ns"] > 0 for rank in document["ranks"])
    out = run("inspect", "sample:ddp_transformer").stdout
    assert "all-reduce" in out
    assert "Problems" not in out


@pytest.mark.parametrize("name", sample_names())
def test_every_sample_replays(name: str) -> None:
    assert run_json("replay", f"sample:{name}")["step_time_ns"] > 0


def test_machines_are_listed_and_shown(tmp_path: Path) -> None:
    known = run_json("machines", "list")["machines"]
    out = run("machines", "list").stdout
    for machine in known:
        assert machine["name"] in out
        assert run_json("machines", "show", machine["name"]) == machine
        own = tmp_path / "own.yaml"
        own.write_text(run("machines", "show", machine["name"]).stdout)
        assert run_json("machines", "show", own)["dimensions"] == machine["dimensions"]
