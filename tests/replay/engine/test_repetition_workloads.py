"""Training steps and text workloads: what is skipped, and that nothing of the result changes by it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from class_cases import astra_sim_ring
from click.testing import CliRunner

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.converters.text import convert_text
from chakrasim.replay.cli.main import main
from chakrasim.replay.engine import event_loop as run
from chakrasim.replay.engine.repetition import extrapolate as repetition
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import Prepared, simulate
from chakrasim.traces import GraphBuilder, NodeKind, Workload
from chakrasim.traces.shared import jit

MODEL = replace(load_model("llama3-8b"), layers=4)


@pytest.fixture(autouse=True)
def _the_loop_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba is there already, replaying everything is faster."""
    monkeypatch.setattr(jit, "is_loaded", lambda: False)
    monkeypatch.setattr(repetition, "MIN_NODES", 1000)


def replayed(workload: Workload, machine: str = "hgx-h100", compute: str = "roofline") -> Result:
    """The result of all ranks, which is the same without extrapolation."""
    prepared = Prepared(workload)
    on = load_machine(machine)
    plain, result = (
        prepared.simulate(on, compute=compute, classes=False, extrapolate=extrapolate)
        for extrapolate in (False, True)
    )
    np.testing.assert_array_equal(result.starts_ps, plain.starts_ps)
    np.testing.assert_array_equal(result.ends_ps, plain.ends_ps)
    assert json_document(result) == json_document(plain)
    assert plain.extrapolated == 0
    assert result.step_time_ps is not None
    return result


@pytest.mark.parametrize("has_host", [False, True])
@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        Plan(pipeline=2),
        Plan(pipeline=4, data=2),
        Plan(pipeline=4, schedule="zero-bubble"),
        Plan(pipeline=2, virtual_stages=2),
        Plan(tensor=4, pipeline=2, overlap_tensor="full"),
        Plan(data=4, sharding="zero3"),
        Plan(data=2, sharding="zero2", recompute="full"),
    ],
    ids=lambda plan: f"{plan.schedule}-t{plan.tensor}p{plan.pipeline}v{plan.virtual_stages}-{plan.sharding}",
)
def test_micro_batches_are_mostly_skipped(plan: Plan, has_host: bool) -> None:
    # The host runs ahead of the device; as long as it does, no state repeats.
    plan = replace(plan, global_batch=120 * plan.data, has_host=has_host)
    result = replayed(generate_training(MODEL, plan))
    assert result.extrapolated > 0.5 * len(result.starts_ps)


def test_stages_that_drift_apart_are_replayed_as_far_as_they_do() -> None:
    # Without a way back, the first stage runs ahead of the second; backwards it is the other way round.
    plan = Plan(pipeline=2, global_batch=100, schedule="gpipe")
    replayed(generate_training(MODEL, plan))


def test_equal_layers_of_a_single_pass_are_skipped() -> None:
    model = replace(MODEL, layers=200)
    result = replayed(generate_training(model, Plan(tensor=8, has_host=False)))
    assert result.extrapolated > 0.5 * len(result.starts_ps)


@pytest.mark.parametrize("kind", ["DATA", "MODEL", "HYBRID_DATA_MODEL"])
def test_passes_of_a_text_workload_are_mostly_skipped(kind: str, tmp_path: Path) -> None:
    layers = [f"l{i} -1 {9 + i} ALLREDUCE 400 7 NONE 0 8 ALLREDUCE {1000 + i} 10" for i in range(12)]
    (tmp_path / "workload.txt").write_text("\n".join([kind, str(len(layers)), *layers]) + "\n")
    workload = convert_text(tmp_path / "workload.txt", sizes=[4], passes=100)
    result = replayed(workload, compute="measured")
    assert result.extrapolated > 0.8 * len(result.starts_ps)


@pytest.mark.parametrize("is_chain", [True, False])
def test_by_the_rules_of_astra_sim_chains_are_skipped(is_chain: bool, tmp_path: Path) -> None:
    # Elsewhere the order of what ends at one instant matters there.
    builder = GraphBuilder(0)
    for row in range(30_000):
        after = [row - 1] if row else []
        builder.add(NodeKind.COMP, "gemm", duration_ps=1000 * (1 + row % 3), after=after if is_chain else [])
    machine, workload = astra_sim_ring(tmp_path, 2), Workload.from_graphs([builder.build()], world_size=2)
    result, plain = (simulate(workload, machine, extrapolate=extrapolate) for extrapolate in (True, False))
    assert (result.extrapolated > 20_000) == is_chain
    np.testing.assert_array_equal(result.ends_ps, plain.ends_ps)


def test_a_machine_whose_network_is_asked_replays_everything() -> None:
    workload = generate_training(MODEL, Plan(pipeline=2, global_batch=50))
    plain, result = (
        simulate(workload, load_machine("hgx-h100"), network="shared-ports", extrapolate=on)
        for on in (False, True)
    )
    assert result.extrapolated == 0
    np.testing.assert_array_equal(result.ends_ps, plain.ends_ps)


def test_what_is_left_is_compiled_if_it_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "COMPILE_FROM_NODES", 3000)
    monkeypatch.setattr(jit, "is_off", lambda: False)
    calls = []
    compiled = run.compiled
    monkeypatch.setattr(run, "compiled", lambda: calls.append(1) or compiled())
    # The two halves of a step drift apart, see above: nothing is skipped for long.
    workload = generate_training(MODEL, Plan(pipeline=2, global_batch=150, schedule="gpipe"))
    machine = load_machine("hgx-h100")
    expected = simulate(workload, machine, extrapolate=False)
    calls.clear()
    result = simulate(workload, machine)
    np.testing.assert_array_equal(result.ends_ps, expected.ends_ps)
    assert calls
    # All of it but some micro-batches is skipped, and not enough is left.
    calls.clear()
    assert (
        simulate(generate_training(MODEL, Plan(global_batch=150, has_host=False)), machine).extrapolated
        > 3000
    )
    assert not calls


def test_the_loop_isnt_watched_where_compiled_code_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "is_loaded", lambda: True)
    monkeypatch.setattr(jit, "is_off", lambda: False)
    workload = generate_training(MODEL, Plan(global_batch=500))
    assert simulate(workload, load_machine("hgx-h100")).extrapolated == 0


def test_the_log_says_what_was_extrapolated(caplog: pytest.LogCaptureFixture) -> None:
    workload = generate_training(MODEL, Plan(global_batch=120))
    with caplog.at_level(logging.DEBUG, logger="chakrasim"):
        result = simulate(workload, load_machine("hgx-h100"))
    assert f"{result.extrapolated:,} of {len(result.starts_ps):,} nodes" in caplog.text


def test_the_command_prints_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped: list[int] = []
    finish = repetition.Repetition.finish

    def counted(self: repetition.Repetition) -> int:
        skipped.append(finish(self))
        return skipped[-1]

    monkeypatch.setattr(repetition.Repetition, "finish", counted)
    command = ["replay", "--model", "llama3-8b", "--machine", "hgx-h100", "--global-batch", "40", "--json"]
    short = CliRunner().invoke(main, command)
    assert sum(skipped) > 0
    skipped.clear()
    plain = CliRunner().invoke(main, [*command, "--no-extrapolate"])
    assert not skipped
    assert (short.exit_code, plain.exit_code) == (0, 0), short.output
    assert short.stdout == plain.stdout
