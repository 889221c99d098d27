"""Compute models: what they look at keeps ranks apart, their parameters, and the contract that each keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from replay_cases import coll, comp, rank

from chakrasim.replay.compute.interface import ComputeCost
from chakrasim.replay.compute.measured import Measured
from chakrasim.replay.compute.roofline import Roofline
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.plugins import COMPUTE
from chakrasim.replay.simulate import simulate, simulate_many
from chakrasim.replay.testing.compute import ComputeContract
from chakrasim.traces import ExecutionGraph, GraphBuilder, Workload
from chakrasim.traces.errors import ConfigError, PluginError
from chakrasim.traces.workload import Others

MACHINE = load_machine("hgx-h100")


@dataclass(frozen=True)
class ByName:
    """Nodes called `slow` take a given time, all others 1 us."""

    slow_us: int
    summary: ClassVar[str] = "by the names of nodes"
    uses_recorded: ClassVar[bool] = False
    device_only: ClassVar[bool] = False

    @classmethod
    def from_machine(cls, machine: Machine) -> ByName:
        """Read `slow_us`."""
        options = machine.options_of("by-name")
        options.keys((), ("slow_us",))
        return cls(options.whole("slow_us", minimum=0, default=500))

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Look the names up."""
        by_name = np.array([self.slow_us if name == "slow" else 1 for name in graph.names], dtype=np.int64)
        return ComputeCost(by_name[graph.name_ids] * 10**6)


@dataclass(frozen=True)
class ByAttribute(ByName):
    """Nodes with an attribute `penalty` take so many us, all others 1."""

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Ask each node."""
        found = [int(graph.attributes(row).get("penalty", 1)) for row in range(len(graph))]
        return ComputeCost(np.array(found, dtype=np.int64) * 10**6)


@dataclass(frozen=True)
class Broken(ByName):
    """Gives whatever `column` is."""

    column: ClassVar[Any] = None

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Return it."""
        return ComputeCost(self.column)


@pytest.fixture(autouse=True)
def models() -> Iterator[None]:
    """The models above, registered while a test runs."""
    parts = {"by-name": ByName, "by-attribute": ByAttribute, "broken": Broken}
    for name, part in parts.items():
        COMPUTE.register(name, part)
    yield
    for name in parts:
        COMPUTE.unregister(name)


def job(slow: int) -> Workload:
    """Four ranks that differ in one node's name alone, and meet at the end."""

    def build(b: GraphBuilder) -> None:
        node = b.add(4, "slow" if b.rank == slow else "fast", duration_ps=1)
        coll(b, node)

    return Workload.from_graphs([rank(number, build) for number in range(4)])


def test_ranks_that_differ_in_names_alone_are_kept_apart_by_a_model_of_names() -> None:
    found, every = (
        simulate(job(2), MACHINE, compute="by-name", network="analytical", classes=classes)
        for classes in (True, False)
    )
    assert found.ends_ps.tolist() == every.ends_ps.tolist()
    assert [found.ends_ps[found.rows(number)][0] for number in range(4)] == [10**6, 10**6, 5 * 10**8, 10**6]
    assert len(found.classes) == 2


def test_ranks_that_differ_in_names_alone_are_one_class_to_recorded_durations() -> None:
    assert len(simulate(job(2), MACHINE, compute="measured", network="analytical").classes) == 1


def test_an_attribute_without_a_column_keeps_ranks_apart() -> None:
    def build(b: GraphBuilder) -> None:
        coll(b, b.add(4, "work", duration_ps=1, attrs={"penalty": 7 if b.rank == 1 else 1}))

    workload = Workload.from_graphs([rank(number, build) for number in range(4)])
    found, every = (
        simulate(workload, MACHINE, compute="by-attribute", network="analytical", classes=classes)
        for classes in (True, False)
    )
    assert found.ends_ps.tolist() == every.ends_ps.tolist()
    assert len(found.classes) == 2


def test_ranks_that_share_their_columns_are_costed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    durations = ByName.durations
    monkeypatch.setattr(
        ByName, "durations", lambda self, graph: asked.append(graph) or durations(self, graph)
    )
    one = rank(0, lambda b: coll(b, comp(b, 5)))
    workload = Workload.from_graphs([replace(one, rank=number) for number in range(8)])
    simulate(workload, MACHINE, compute="by-name")
    assert len(asked) == 1


def test_a_model_reads_its_parameters_from_the_machine() -> None:
    machine = replace(MACHINE, options={"by-name": {"slow_us": 3}})
    assert simulate(job(0), machine, compute="by-name", network="analytical").ends_ps[0] == 3 * 10**6


def test_a_parameter_that_the_model_does_not_know_is_refused() -> None:
    machine = replace(MACHINE, options={"by-name": {"slow_ms": 3}})
    with pytest.raises(ConfigError, match="options: by-name has an unknown key 'slow_ms'"):
        simulate(job(0), machine, compute="by-name")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.ones(2), r"gave rank 0 float64\[2\] for 2 nodes; expected int64\[2\]"),
        (np.ones(3, dtype=np.int64), r"int64\[3\] for 2 nodes"),
        ([1, 2], "gave rank 0 list for 2 nodes"),
        (np.array([-5, 0]), r"-5 ps for node 0 \('slow'\); expected 0 or more"),
    ],
)
def test_durations_that_can_not_be_are_told(
    column: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "column", column)
    with pytest.raises(PluginError, match=message):
        simulate(job(0), MACHINE, compute="broken")


def test_a_workload_is_completed_once_for_many_machines() -> None:
    everyone = Workload.from_graphs([rank(number, lambda b: comp(b, 5)) for number in range(4)])
    made = []

    def make() -> Workload:
        made.append(everyone)
        return everyone

    one = replace(everyone, graphs={0: everyone.graphs[0]}, stands_for={0: 4})
    workload = replace(one, others=Others(lambda blocks: False, make))
    machines = [load_machine(name) for name in ("hgx-h100", "dgx-a100", "tpu-v5e")]
    results = simulate_many(workload, machines, network="analytical")
    assert [len(result.ends_ps) for result in results] == [4, 4, 4]
    assert len(made) == 1


class TestMeasured(ComputeContract):
    model = Measured


class TestRoofline(ComputeContract):
    model = Roofline


class TestByName(ComputeContract):
    model = ByName
