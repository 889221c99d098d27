"""A workload on many machines: each result is that of a replay of its own, and they are told side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.replay.cli.commands.many import replay_on
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine, machine_names
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.report.result.batch import bound_by
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.results.result import RankTimes
from chakrasim.replay.results.result import Result as Replayed
from chakrasim.replay.simulate import simulate, simulate_many
from chakrasim.traces import CommKind, GraphBuilder, NodeKind
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.io import write_graph
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import load_workload

SAMPLE = Path(__file__).parents[3] / "traces" / "samples" / "ddp_transformer"
NETWORK = """
name: {name}
source: made up
network:
  - {{name: link, source: made up, topology: switch, size: {size}, bandwidth_GBps: {GBps}, latency_ns: 10}}
collectives: {{default: ring}}
{more}
"""
WITH_ACCELERATOR = """
compute: roofline
accelerator:
  name: made up
  source: made up
  peak_TFLOPs: {bf16: 1}
  memory_GB: 1000
  memory_GBps: 100
  launch_overhead_us: 2
"""


def replay(*arguments: object, expected: int = 0) -> str:
    """What the command prints."""
    result = CliRunner().invoke(main, ["replay", *map(str, arguments)])
    assert result.exit_code == expected, result.output
    return result.output


def on(*machines: object) -> list[str]:
    return [str(word) for machine in machines for word in ("--machine", machine)]


def row_of(machine: str, output: str) -> list[str]:
    """The machine's row of the table."""
    return next(line.split() for line in output.splitlines() if line.startswith(f"{machine} "))


def catalogue() -> list[Machine]:
    return [load_machine(name) for name in machine_names()]


def same(one: Replayed, other: Replayed) -> bool:
    times = ((one.starts_ps, other.starts_ps), (one.ends_ps, other.ends_ps))
    return all(np.array_equal(a, b) for a, b in times) and one.notes == other.notes


@pytest.fixture
def machine_file(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, size: object = "any", GBps: float = 1, more: str = "") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(NETWORK.format(name=name, size=size, GBps=GBps, more=more))
        return path

    return write


@pytest.fixture(scope="module")
def workloads() -> dict[str, Workload]:
    model = replace(load_model("llama3-8b"), layers=4)
    return {
        "recorded": load_workload(SAMPLE),
        # The context's groups of 3 in 6 ranks lie evenly on the hosts of some machines only: for the others
        # all ranks are made.
        "uneven": generate_training(model, Plan(tensor=2, context=3, data=4, global_batch=4, sequence=6144)),
        "pipeline": generate_training(model, Plan(pipeline=4, data=2, global_batch=16)),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compute": "measured"},
        {"compute": "roofline"},
        {"compute": "measured", "network": "measured"},
        {"compute": "measured", "network": "recorded"},
        {"compute": "roofline", "network": "shared-ports"},
        {"compute": "roofline", "scales": Scales(device=0.5, patterns=(("*gemm*", 2.0),))},
    ],
    ids=lambda options: " ".join(map(str, options.values()))[:30] or "defaults",
)
@pytest.mark.parametrize("kind", ["recorded", "uneven", "pipeline"])
def test_every_machine_gets_the_result_of_a_replay_of_its_own(
    kind: str, options: dict[str, Any], workloads: dict[str, Workload]
) -> None:
    machines = catalogue()
    batch = simulate_many(workloads[kind], machines, **options)
    assert [one.machine.name for one in batch] == machine_names()
    for machine, one in zip(machines, batch, strict=True):
        alone = simulate(workloads[kind], machine, **options)
        assert same(one, alone)
        if set(options) <= {"compute"}:
            assert json_document(one) == json_document(alone)


def test_machines_on_which_ranks_are_alike_stand_beside_those_where_they_are_not(
    workloads: dict[str, Workload],
) -> None:
    batch = simulate_many(workloads["uneven"], catalogue(), compute="roofline")
    assert {len(one.ranks) for one in batch} == {3, 24}
    # What is laid out for one kind of machine is there for the next of that kind.
    assert len({id(one.program) for one in batch}) == 2


def test_messages_played_on_links_are_as_alone(machine_file: Callable[..., Path]) -> None:
    graphs = []
    for rank in range(4):
        builder = GraphBuilder(rank)
        before = builder.add(NodeKind.COMP, "work", duration_ps=1000 * (rank + 1))
        reduced = builder.add(
            NodeKind.COLL, "sum", comm_kind=CommKind.ALL_REDUCE, comm_bytes=4000, after=[before]
        )
        kind = NodeKind.SEND if rank % 2 else NodeKind.RECV
        builder.add(kind, "message", peer=rank ^ 1, comm_bytes=100, after=[reduced])
        graphs.append(builder.build())
    workload = Workload.from_graphs(graphs)
    machines = [load_machine(str(machine_file(f"m{i}", GBps=i))) for i in (1, 2, 3)]
    for network in ("analytical", "congestion-aware"):
        batch = simulate_many(workload, machines, network=network)
        assert len({one.step_time_ps for one in batch}) == 3
        for machine, one in zip(machines, batch, strict=True):
            assert same(one, simulate(workload, machine, network=network))


def test_order_and_repetition_change_nothing(workloads: dict[str, Workload]) -> None:
    machines = [load_machine(name) for name in ("gb200-nvl72", "hgx-h100", "mi300x", "ethernet-10g")]
    forth = simulate_many(workloads["uneven"], machines, compute="roofline")
    back = simulate_many(workloads["uneven"], [*machines[::-1], *machines], compute="roofline")
    assert all(same(a, b) for a, b in zip([*forth[::-1], *forth], back, strict=True))


def test_no_machines_no_results(workloads: dict[str, Workload]) -> None:
    assert simulate_many(workloads["recorded"], []) == []


def test_a_machine_that_is_too_small_raises_in_python(
    machine_file: Callable[..., Path], workloads: dict[str, Workload]
) -> None:
    small = load_machine(str(machine_file("small", size=2)))
    with pytest.raises(ConfigError, match="machine 'small' has 2 ranks"):
        simulate_many(workloads["recorded"], [load_machine("dgx-a100"), small])


# --- the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--drop", "all_reduce"],
        ["--scale", "gpu=0.5", "--compute", "roofline"],
        ["--network", "measured"],
    ],
    ids=lambda options: " ".join(options) or "unchanged",
)
def test_json_holds_the_documents_of_single_replays(options: list[str]) -> None:
    names = ["hgx-h100", "ethernet-10g", "dgx-a100"]
    given = ["sample:ddp_transformer", *options, "--json"]
    documents = json.loads(replay(*given, *on(*names)))
    assert list(documents) == ["machines"]
    alone = [json.loads(replay(*given, "--machine", name)) for name in names]
    assert documents["machines"] == alone
    assert all("self_check" in document for document in alone)


def test_a_recording_is_checked_once_and_replayed_with_its_own_times() -> None:
    output = replay("sample:ddp_transformer", *on("dgx-a100", "ethernet-10g"))
    assert output.count("Self-check:") == 1
    assert "measured: as long as recorded" in output
    assert "network  analytical" in output
    assert row_of("ethernet-10g", output)[3] == "1.01"  # times the first


def test_each_machine_takes_the_compute_model_of_its_file(machine_file: Callable[..., Path]) -> None:
    plain, costs = machine_file("plain"), machine_file("costs", more=WITH_ACCELERATOR)
    given = ["sample:ddp_transformer", *on(plain, costs)]
    documents = json.loads(replay(*given, "--json"))["machines"]
    assert [document["compute"] for document in documents] == ["measured", "roofline"]
    for path, document in zip((plain, costs), documents, strict=True):
        assert json.loads(replay("sample:ddp_transformer", *on(path), "--json")) == document
    output = replay(*given)
    assert "measured: as long as recorded (plain); roofline: from operations and bytes (costs)" in output
    forced = json.loads(replay(*given, "--compute", "measured", "--json"))["machines"]
    assert [document["compute"] for document in forced] == ["measured", "measured"]


def test_a_doubtful_recording_is_doubted_on_every_machine(tmp_path: Path) -> None:
    # Nothing says why the second began so late: replayed, it follows at once.
    builder = GraphBuilder(0)
    builder.add(NodeKind.COMP, "one", start_ps=0, duration_ps=10**9, lane="stream 7")
    builder.add(NodeKind.COMP, "two", start_ps=9 * 10**9, duration_ps=10**9, lane="stream 7", after=[0])
    write_graph(builder.build(), tmp_path / "gap.0.et")
    few = [tmp_path / "gap", "--scale", "two=2"]
    doubted = "the replay of the unchanged trace is -80.0 % off on rank 0"
    documents = json.loads(replay(*few, *on("dgx-a100", "hgx-h100"), "--json"))["machines"]
    assert all(document["notes"][0].startswith(doubted) for document in documents)
    assert doubted in replay(*few, *on("dgx-a100", "hgx-h100"))
    unchanged = json.loads(replay(tmp_path / "gap", *on("dgx-a100", "hgx-h100"), "--json"))["machines"]
    assert not any(doubted in note for document in unchanged for note in document["notes"])


def test_the_fastest_is_named_with_what_bounds_it() -> None:
    given = ["--model", "llama3-8b", "--tp", "8", *on("dgx-a100", "hgx-h100", "mi300x")]
    output = replay(*given)
    documents = json.loads(replay(*given, "--json"))["machines"]
    times = {document["machine"]: document["step_time_ns"] for document in documents}
    fastest = min(times, key=lambda name: times[name])
    line = next(line for line in output.splitlines() if line.startswith("fastest "))
    assert f"{fastest}, " in line
    assert "bound by compute" in line
    assert f"{times['dgx-a100'] / times[fastest]:.2f} × as fast as dgx-a100" in line
    for name, time_ns in times.items():
        assert row_of(name, output)[3] == f"{time_ns / times['dgx-a100']:.2f}"


def test_a_fastest_machine_without_the_memory_is_not_the_whole_story() -> None:
    needs_185_GB = ["--model", "llama3-8b", "--dp", "8"]
    output = replay(*needs_185_GB, *on("dgx-a100", "hgx-h100", "hgx-b200", "mi300x"))
    assert "fastest    hgx-b200, " in output
    assert "that fits  mi300x, " in output
    assert row_of("mi300x", output)[-1] == "fits"
    assert row_of("hgx-b200", output)[-3:-1] == ["lacks", "5.389"]
    none = replay(*needs_185_GB, *on("dgx-a100", "hgx-h100"))
    assert "that fits  none: no machine has the memory" in none


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_narrow_table_leaves_columns_out_rather_than_digits(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    output = replay("--model", "llama3-8b", "--tp", "8", *on("dgx-a100", "hgx-h100"))
    table = [line for line in output.splitlines() if line.startswith(("dgx-a100 ", "hgx-h100 "))]
    assert len(table) == 2
    if width >= 80:
        assert not any("…" in line for line in table)
    assert ("In a wider terminal" in output) == (width < 120)


def test_all_is_the_whole_catalogue(machine_file: Callable[..., Path]) -> None:
    own = machine_file("own")
    documents = json.loads(replay("sample:ddp_transformer", *on("all", own), "--json"))["machines"]
    assert [document["machine"] for document in documents] == [*machine_names(), "own"]


def test_a_machine_that_is_too_small_is_listed_with_its_reason(machine_file: Callable[..., Path]) -> None:
    small, large = machine_file("small", size=2), machine_file("large", size=4)
    output = replay(*on(small, large))
    assert "Not replayed\n  • small: machine 'small' has 2 ranks (2), the workload has 4" in output
    assert row_of("large", output)[3] == "1.00"  # the first that was replayed
    error, found = json.loads(replay(*on(small, large), "--json"))["machines"]
    assert set(error) == {"machine", "error"}
    assert found == json.loads(replay(*on(large), "--json"))
    none = replay(*on(small, small), expected=2)
    assert none.count("\n") == 1
    assert none.count("small: machine 'small' has 2 ranks") == 2


def test_machines_of_one_name_are_told_apart_by_their_files(machine_file: Callable[..., Path]) -> None:
    one = machine_file("mine")
    other = one.with_name("edited.yaml")
    other.write_text(one.read_text().replace("bandwidth_GBps: 1", "bandwidth_GBps: 2"))
    output = replay(*on(one, "dgx-a100", other))
    assert all(f"• {name}: Compute" in output for name in (one, "dgx-a100", other))


def test_a_name_that_is_no_machine_is_refused_before_anything_runs() -> None:
    assert "no machine 'hgx-h1000'" in replay(*on("dgx-a100", "hgx-h1000"), expected=2)


def test_a_deadlock_ends_in_1_and_shows_on_every_machine(tmp_path: Path) -> None:
    # Both ranks wait for the other's message before they send theirs.
    for rank in range(2):
        builder = GraphBuilder(rank)
        received = builder.add(NodeKind.RECV, "receive", peer=1 - rank, comm_bytes=8)
        builder.add(NodeKind.SEND, "send", peer=1 - rank, comm_bytes=8, after=[received])
        write_graph(builder.build(), tmp_path / f"stuck.{rank}.et")
    output = replay(tmp_path, *on("dgx-a100", "hgx-h100"), expected=1)
    assert row_of("dgx-a100", output)[1] == "deadlock"
    assert "\nfastest  " not in output
    documents = json.loads(replay(tmp_path, *on("dgx-a100", "hgx-h100"), "--json", expected=1))["machines"]
    assert all(document["deadlock"] for document in documents)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--timeline", "out.json"], "--timeline shows one replay; give one --machine"),
        (["--by", "layer"], "--by shows one replay; give one --machine"),
        (["--critical-path"], "--critical-path shows one replay; give one --machine"),
        (["--astra-network", "network.yml"], "give one of them"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("machines", [("dgx-a100", "hgx-h100"), ("all",)], ids=["two", "all"])
def test_what_needs_one_machine_refuses_several(
    options: list[str], said: str, machines: tuple[str, ...]
) -> None:
    output = replay(*on(*machines), *options, expected=2)
    assert said in output
    assert output.count("\n") == 1
    assert not Path("out.json").exists()


def test_progress_says_which_machine(workloads: dict[str, Workload]) -> None:
    said: list[tuple[int, int, str]] = []
    machines = [load_machine("dgx-a100"), load_machine("hgx-h100")]

    def report(done: int, total: int, now: str) -> None:
        said.append((done, total, now))

    replay_on(workloads["recorded"], machines, ["measured"] * 2, "analytical", Scales(), report)
    assert said == [(0, 2, "on dgx-a100"), (1, 2, "on hgx-h100")]


def test_the_word_for_what_bounds_a_step() -> None:
    def times(compute: int, exposed: int, idle: int, host: int) -> RankTimes:
        finish = compute + exposed + idle
        return RankTimes(
            rank=0,
            finish_ps=finish,
            compute_ps=compute,
            communication_ps=exposed,
            exposed_communication_ps=exposed,
            waiting_ps=0,
            idle_ps=idle,
            host_ps=host,
        )

    assert bound_by(times(5, 3, 2, 9)) == "compute"
    assert bound_by(times(3, 5, 2, 9)) == "communication"
    assert bound_by(times(2, 3, 5, 9)) == "host"
    assert bound_by(times(2, 3, 5, 4)) == "idling"
    assert bound_by(times(0, 0, 0, 0)) == "compute"
