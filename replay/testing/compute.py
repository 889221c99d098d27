"""Contract of compute models.

```python
from chakrasim.replay.testing.compute import ComputeContract

class TestMine(ComputeContract):
    model = Mine
```
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest

from chakrasim.replay.compute.interface import ComputeModel
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.plugins import COMPUTE
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

NAME = "under-test"
RANKS = 4
DURATION_PS = 5_000_000


class ComputeContract:
    """Promises of every compute model, checked on a small workload whose ranks differ in names alone."""

    model: ClassVar[type[ComputeModel]]
    names: ClassVar[tuple[str, ...]] = ("gemm", "softmax")
    """Names of nodes; give some that the model tells apart."""

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        COMPUTE.register(NAME, self.model)
        yield
        COMPUTE.unregister(NAME)

    def machine(self) -> Machine:
        """A machine that has what the model needs."""
        return load_machine("hgx-h100")

    def graph(self, rank: int, name: str) -> ExecutionGraph:
        """Nodes of a host, a device and a memory, then an all-reduce."""
        builder = GraphBuilder(rank)
        launch = builder.add(NodeKind.COMP, "launch", duration_ps=DURATION_PS, is_cpu=True)
        kernel = builder.add(
            NodeKind.COMP, name, duration_ps=DURATION_PS, ops=10**9, tensor_bytes=10**6, after=[launch]
        )
        load = builder.add(NodeKind.MEM_LOAD, "load", tensor_bytes=10**6, after=[kernel])
        builder.add(NodeKind.COLL, "sum", comm_kind=CommKind.ALL_REDUCE, comm_bytes=10**6, after=[load])
        return builder.build()

    def workload(self, *, is_reversed: bool = False) -> Workload:
        """One rank with the second name, the others with the first."""
        names = [self.names[0]] * (RANKS - 1) + [self.names[-1]]
        if is_reversed:
            names.reverse()
        return Workload.from_graphs(self.graph(rank, name) for rank, name in enumerate(names))

    def test_every_node_has_a_duration_that_is_not_negative(self) -> None:
        graph = self.graph(0, self.names[0])
        cost = self.model.from_machine(self.machine()).durations(graph)
        assert cost.durations_ps.dtype == np.int64
        assert cost.durations_ps.shape == (len(graph),)
        assert (cost.durations_ps >= 0).all()

    def test_the_same_graph_costs_the_same(self) -> None:
        graph = self.graph(0, self.names[0])
        durations = [self.model.from_machine(self.machine()).durations(graph) for _ in range(2)]
        assert durations[0].durations_ps.tolist() == durations[1].durations_ps.tolist()

    def test_the_graph_is_not_changed(self) -> None:
        graph, untouched = self.graph(0, self.names[0]), self.graph(0, self.names[0])
        self.model.from_machine(self.machine()).durations(graph)
        assert graph.durations_ps.tolist() == untouched.durations_ps.tolist()

    def test_rank_classes_change_nothing(self) -> None:
        every, some = (
            simulate(self.workload(), self.machine(), compute=NAME, classes=classes)
            for classes in (False, True)
        )
        assert some.ends_ps.tolist() == every.ends_ps.tolist()

    def test_the_order_of_ranks_changes_nothing(self) -> None:
        first, turned = (
            simulate(self.workload(is_reversed=flag), self.machine(), compute=NAME) for flag in (False, True)
        )
        for rank in range(RANKS):
            there = turned.ends_ps[turned.rows(RANKS - 1 - rank)]
            assert first.ends_ps[first.rows(rank)].tolist() == there.tolist()
