"""Results and workloads travel: pickled and copied they are what they were, in bytes for their size."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from replay_cases import coll, comp, rank, recv, send

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.replay.analysis.critical_path import critical_path
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import Workload, load_workload, save_workload
from chakrasim.traces.edits.scale import Scales, scale

MACHINE = load_machine("hgx-h100")
SAMPLE = Path(__file__).parents[3] / "traces" / "samples" / "ddp_transformer"


def small() -> Workload:
    """Two ranks that compute, meet, and exchange a message."""
    return Workload.from_graphs(
        [
            rank(0, lambda b: send(b, 1, coll(b, comp(b, 20)))),
            rank(1, lambda b: recv(b, 0, coll(b, comp(b, 30)))),
        ]
    )


def read(folder: Path) -> Workload:
    save_workload(small(), folder)
    return load_workload(folder)


def edited(folder: Path) -> Workload:
    return scale(read(folder), Scales(device=2.0))


def converted(folder: Path) -> Workload:
    return convert_pytorch(SAMPLE)


def generated(folder: Path) -> Workload:
    return generate_training(load_model("llama3-8b"), Plan(tensor=2, pipeline=2, data=2, global_batch=4))


SOURCES = (read, edited, converted, generated)


def pickled(result: Result) -> Result:
    found: Result = pickle.loads(pickle.dumps(result))
    return found


def same(one: Result, other: Result) -> None:
    """Fail unless everything that can be asked of two results is equal."""
    assert other.equals(one)
    assert json_document(other) == json_document(one)
    assert critical_path(other) == critical_path(one)
    np.testing.assert_array_equal(other.classes.index, one.classes.index)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "copied", [lambda one: pickle.loads(pickle.dumps(one)), deepcopy], ids=["pickle", "copy"]
)
def test_a_copied_result_is_what_it_was(
    source: Callable[[Path], Workload], copied: Callable[[Result], Result], tmp_path: Path
) -> None:
    result = simulate(source(tmp_path), MACHINE)
    again = copied(result)
    same(result, again)


@pytest.mark.parametrize("source", SOURCES)
def test_a_copied_workload_replays_the_same(source: Callable[[Path], Workload], tmp_path: Path) -> None:
    workload = source(tmp_path)
    again = pickle.loads(pickle.dumps(workload))
    same(simulate(workload, MACHINE), simulate(again, MACHINE))


def test_a_copied_workload_is_written_to_the_same_bytes(tmp_path: Path) -> None:
    workload = read(tmp_path)
    again = pickle.loads(pickle.dumps(workload))
    (old, *_), (new, *_) = save_workload(workload, tmp_path / "a"), save_workload(again, tmp_path / "b")
    assert old.read_bytes() == new.read_bytes()
    assert again.graphs[0].attributes(0) == workload.graphs[0].attributes(0)


def test_a_copied_generated_workload_can_still_be_completed(tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(generated(tmp_path)))
    assert len(again.complete_for(None).graphs) == again.world_size > len(again.graphs)


@pytest.mark.parametrize("nodes", [1_000, 4_000])
def test_a_pickle_takes_bytes_in_proportion_to_the_nodes(nodes: int) -> None:
    def build(b: object) -> None:
        last: list[int] = []
        for _ in range(nodes):
            last = [comp(b, 5, *last)]  # type: ignore[arg-type]

    result = simulate(Workload.from_graphs([rank(0, build)]), MACHINE)
    before = len(pickle.dumps(result))
    json_document(result)
    critical_path(result)
    # graph columns 96, program 60, durations 0, times 16 bytes a node, and a few for edges
    assert before == len(pickle.dumps(result)) < 250 * nodes + 20_000
