"""The self-check: a replay of the unchanged trace beside its recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from kineto_trace import Trace

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.replay.analysis.fidelity import (
    Fidelity,
    compare,
    has_recording,
    is_doubtful,
    replay_as_recorded,
)
from chakrasim.replay.cli.main import main
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.edits.drop import drop
from chakrasim.traces.edits.scale import Scales, scale
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import save_workload

US = 10**6


def unexplained(gap_us: int) -> Workload:
    """Two kernels on a stream, the second recorded `gap_us` after the first ended, for no known reason."""
    phases = {
        "phase_names": ["both", "second", "second", "empty"],
        "phase_lanes": ["s", "s", "s", "no such lane"],
        "phase_starts_ps": [0, 10 * US, 0, 0],
        "phase_ends_ps": [900 * US, 900 * US, 5 * US, 9 * US],
    }
    builder = GraphBuilder(0, metadata=phases)
    first = builder.add(NodeKind.COMP, "first", duration_ps=10 * US, start_ps=0, lane="s")
    builder.add(
        NodeKind.COMP,
        "second",
        duration_ps=10 * US,
        start_ps=(10 + gap_us) * US,
        lane="s",
        after=[first],
    )
    return Workload.from_graphs([builder.build()])


def check(workload: Workload) -> Fidelity:
    (found,) = compare(replay_as_recorded(workload))
    return found


def test_what_the_dependencies_explain_is_not_off() -> None:
    found = check(unexplained(0))
    assert (found.span.recorded_ps, found.span.replayed_ps, found.span.error_percent) == (20 * US, 20 * US, 0)
    assert (found.median_ps, found.p95_ps, found.worst) == (0, 0, ())
    assert not is_doubtful((found,))


def test_what_they_leave_open_shows_in_every_number() -> None:
    found = check(unexplained(20))
    assert (found.span.recorded_ps, found.span.replayed_ps, found.span.error_percent) == (
        40 * US,
        20 * US,
        -50,
    )
    assert found.over == "device"
    assert found.median_ps == 10 * US  # of 0 and 20
    assert found.p95_ps == 19 * US
    (worst,) = found.worst
    assert (worst.name, worst.lane, worst.recorded_ps, worst.error_ps) == ("second", "s", 30 * US, -20 * US)
    (stream,) = found.streams
    assert (stream.name, stream.count, stream.recorded_ps, stream.replayed_ps) == ("s", 2, 20 * US, 20 * US)
    assert is_doubtful((found,))


def test_phases_last_from_their_first_node_to_their_last() -> None:
    both, second = check(unexplained(20)).phases
    assert (both.name, both.count, both.recorded_ps, both.replayed_ps) == ("both", 1, 40 * US, 20 * US)
    # twice, once around each kernel
    assert (second.name, second.count, second.recorded_ps, second.replayed_ps) == (
        "second",
        2,
        20 * US,
        20 * US,
    )


def test_steps_and_annotations_of_a_trace_are_phases(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 10).op("b", 20, 10).note("ProfilerStep#1", 0, 15).note("mine", 18, 14)
    trace.note("nccl:all_reduce", 20, 5)
    found = check(convert_pytorch(trace.write(tmp_path / "t.json")))
    assert found.over == "host"
    assert [(phase.name, phase.recorded_ps) for phase in found.phases] == [
        ("ProfilerStep#1", 20 * US),  # a, and the gap that begins in it
        ("mine", 10 * US),
    ]


def test_only_recordings_are_checked() -> None:
    assert has_recording(unexplained(0))
    unrecorded = GraphBuilder(0)
    unrecorded.add(NodeKind.COMP, "gemm", duration_ps=US)
    assert not has_recording(Workload.from_graphs([unrecorded.build()]))
    assert not has_recording(scale(unexplained(0), Scales(device=0.5)))


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_replay_and_convert_begin_with_it(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 10).call("cudaLaunchKernel", 2, 5, 1).kernel("k", 12, 50, 1)
    path = trace.write(tmp_path / "t.json")
    for output in (run("replay", path).output, run("convert", path, "-o", tmp_path / "graphs").output):
        first, *_ = output.splitlines()
        assert first.startswith(
            "Self-check: replayed as recorded, the trace takes 62 us of its 62 us (+0.00 %)"
        )
    for arguments in (("replay", path), ("convert", path, "-o", tmp_path / "more")):
        (rank,) = orjson.loads(run(*arguments, "--json").stdout)["self_check"]
        assert (rank["rank"], rank["recorded_ns"], rank["error_percent"]) == (0, 62_000, 0)
    # graphs that were converted are recordings still
    assert run("replay", tmp_path / "graphs").output.startswith("Self-check")


def test_a_what_if_on_a_trace_that_is_far_off_warns(tmp_path: Path) -> None:
    save_workload(unexplained(20), tmp_path, "t")
    plain = run("replay", tmp_path)
    assert "rank 0 node 1 (second) on s starts 20 us too early" in plain.output
    assert "Warning" not in plain.output
    warned = run("replay", tmp_path, "--scale", "first=0.5")
    assert "Warning: the replay of the unchanged trace is -50.0 % off on rank 0" in warned.output
    document = orjson.loads(run("replay", tmp_path, "--scale", "first=0.5", "--json").stdout)
    assert "-50.0 % off" in document["notes"][0]


def test_an_edited_graph_is_no_recording(tmp_path: Path) -> None:
    save_workload(unexplained(0), tmp_path, "t")
    run("convert", tmp_path, "--drop", "first", "-o", tmp_path / "less")
    assert not run("replay", tmp_path / "less").output.startswith("Self-check")
    assert has_recording(drop(unexplained(0), "first"))  # by itself, an edit says nothing of it


@pytest.mark.parametrize("trace", ["real_traces/tracelens/bert_small_h100.json.gz", "own_traces/out_pp"])
def test_real_traces_begin_with_it(shared: Path, trace: str) -> None:
    assert run("replay", shared / trace).output.startswith("Self-check: replayed as recorded")
