"""Contract tests of a compute model, to be inherited.

from chakrasim.replay.testing.compute import ComputeContract

class TestTable(ComputeContract):
    name = "table"
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from chakrasim.replay.compute.durations import compute_model
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload


class ComputeContract:
    """What every compute model keeps, whatever it computes."""

    name: ClassVar[str]
    """The model's name in the registry."""

    def machine(self) -> Machine:
        """A machine that has what the model needs."""
        return load_machine("hgx-h100")

    def graph(self, rank: int) -> ExecutionGraph:
        """A graph that exercises the model; every rank gets its own."""
        builder = GraphBuilder(rank)
        last: list[int] = []
        for index, name in enumerate(("matmul", "norm", f"shard_{rank % 2}")):
            last = [
                builder.add(
                    NodeKind.COMP, name, duration_ps=10**6 + index, ops=10**9, tensor_bytes=10**6, after=last
                )
            ]
        builder.add(NodeKind.COLL, "reduce", comm_kind=CommKind.ALL_REDUCE, comm_bytes=10**6, after=last)
        return builder.build()

    def test_it_says_what_it_does_in_a_line(self) -> None:
        summary = type(compute_model(self.name, self.machine())).summary
        assert summary
        assert "\n" not in summary

    def test_each_node_gets_whole_picoseconds_of_0_or_more(self) -> None:
        graph = self.graph(0)
        durations_ps = compute_model(self.name, self.machine()).durations(graph).durations_ps
        assert durations_ps.dtype == np.int64
        assert durations_ps.shape == (len(graph),)
        assert (durations_ps >= 0).all()

    def test_the_same_graph_always_costs_the_same_and_is_not_changed(self) -> None:
        graph, untouched = self.graph(0), self.graph(0)
        first, second = (compute_model(self.name, self.machine()).durations(graph) for _ in range(2))
        assert first.durations_ps.tolist() == second.durations_ps.tolist()
        assert dict(first.notes) == dict(second.notes)
        for column in ("kinds", "durations_ps", "ops", "tensor_bytes", "name_ids", "parents"):
            assert getattr(graph, column).tolist() == getattr(untouched, column).tolist()

    def test_a_graph_costs_the_same_on_whichever_rank_it_is(self) -> None:
        model, graph = compute_model(self.name, self.machine()), self.graph(0)
        there = model.durations(replace(graph, rank=7)).durations_ps
        assert there.tolist() == model.durations(graph).durations_ps.tolist()

    def test_rank_classes_change_nothing(self) -> None:
        workload = Workload.from_graphs([self.graph(rank) for rank in range(4)])
        found, every = (
            simulate(workload, self.machine(), compute=self.name, network="analytical", classes=classes)
            for classes in (True, False)
        )
        assert found.ends_ps.tolist() == every.ends_ps.tolist()
