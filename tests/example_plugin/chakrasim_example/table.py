"""A compute model that looks durations up by the names of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chakrasim.replay.compute.interface import ComputeCost
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces import ExecutionGraph


@dataclass(frozen=True)
class Table:
    """Durations by name, in microseconds; a node whose name isn't listed takes no time."""

    by_name_us: Mapping[str, int]
    summary: ClassVar[str] = "by the names of nodes"

    @classmethod
    def from_machine(cls, machine: Machine) -> Table:
        """Read `compute_options: table` of the machine's file."""
        options = machine.options_of("table")
        return cls({str(name): options.whole(name, least=0) for name in options.content})

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Look every node up."""
        by_name = np.array([self.by_name_us.get(name, 0) * 10**6 for name in graph.names], dtype=np.int64)
        unknown = np.array([name not in self.by_name_us for name in graph.names])[graph.name_ids]
        count = int((unknown & ~graph.is_communication).sum())
        notes = {"nodes whose name the table lacks take no time": count} if count else {}
        return ComputeCost(by_name[graph.name_ids], notes)
