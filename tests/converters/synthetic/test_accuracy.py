"""Predictions next to published training steps, and the fit that they rest on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from chakrasim.converters.synthetic.transformer import Model, Plan

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[None]:
    """Scripts beside the package can be imported."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def accuracy(benchmarks: None) -> ModuleType:
    return importlib.import_module("accuracy")


@pytest.fixture(scope="module")
def fitting(benchmarks: None) -> ModuleType:
    return importlib.import_module("fit_efficiency")


@pytest.fixture(scope="module")
def published(benchmarks: None, shared: Path) -> list[object]:
    found, _ = importlib.import_module("published_runs").runs(shared / "published/measured.json")
    return list(found)


def mean_error(accuracy: ModuleType, chosen: list[object]) -> float:
    predictions, refused = accuracy.predict(chosen)
    assert not refused
    return float(accuracy.summary(predictions)["mean_abs_error_percent"])


@pytest.mark.slow
def test_megatron_and_sequence_parallel_rows(accuracy: ModuleType, published: list[object]) -> None:
    families = ("megatron-a100", "megatron-h100", "sequence-parallel")
    chosen = [run for run in published if run.family in families]  # type: ignore[attr-defined]
    assert len(chosen) >= 18
    assert mean_error(accuracy, chosen) <= 5


@pytest.mark.slow
def test_some_rows_of_every_family(accuracy: ModuleType, published: list[object]) -> None:
    by_family: dict[str, list[object]] = {}
    for run in published:
        by_family.setdefault(run.family, []).append(run)  # type: ignore[attr-defined]
    few = [run for runs in by_family.values() for run in runs[:: max(1, len(runs) // 6)]]
    assert mean_error(accuracy, few) <= 15


def test_the_fit_finds_what_made_the_times(fitting: ModuleType) -> None:
    model = Model("m", "made up", 4, 2048, 16, 16, 128, 8192, False, 32000, False, 1024)
    truth = {"matmul": 0.62, "memory": 0.71}
    runs = importlib.import_module("published_setup")
    cases = []
    for batch in (1, 2, 8):
        plan = Plan(data=8, global_batch=8 * batch, micro_batch=batch, has_host=False, dtype="fp16")
        case = fitting.Case(runs.Run("row", "family", model, plan, "dgx-a100", 1.0))
        case.run = replace(case.run, step_s=1 + case.error(truth))
        cases.append(case)
    assert fitting.mean_error(cases, truth) == pytest.approx(0, abs=1e-12)
    found, error = fitting.search(cases, {"matmul": 0.8, "memory": 0.6})
    assert error < 0.005
    assert found["matmul"] == pytest.approx(0.62, rel=0.03)
    assert found["memory"] == pytest.approx(0.71, rel=0.05)


def test_curves_keep_larger_kernels_longer(fitting: ModuleType) -> None:
    sizes = np.geomspace(1e7, 1e14, 400)
    shares = fitting.saturating(fitting.GFLOP, 1e9, 0.7, 2.0).at(sizes)
    assert (np.diff(sizes / shares) > 0).all()
    assert shares.max() <= 0.7


def test_a_block_takes_the_place_of_the_old_one(fitting: ModuleType, tmp_path: Path) -> None:
    text = (fitting.testbed_path("dgx-a100")).read_text()
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    fit = fitting.Fit("dgx-a100", ("f",), {})
    machine = fitting.machine_with(fitting.machine_of("dgx-a100"), {"matmul": 0.5, "memory": 0.6})
    fitting.write_block(path, fitting.block(fit, machine, 3, 0.02))
    from chakrasim.replay.machine.load import load_machine

    written = load_machine(str(path)).accelerator
    assert written is not None
    assert written.efficiency == machine.accelerator.efficiency
    assert path.read_text().count("efficiency:\n") == text.count("efficiency:\n")
