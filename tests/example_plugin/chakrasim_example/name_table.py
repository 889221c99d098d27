"""A compute model: nodes take what a table in the machine file says for their names.

```yaml
options:
  name-table:
    durations_us: {gemm: 12.5, softmax: 3}
```
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chakrasim.replay.compute.interface import ComputeCost
from chakrasim.replay.machine import Machine
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.units import PS_PER_US


class NameTable:
    """Durations by name; a node whose name isn't in the table keeps its recorded duration."""

    summary = "as long as a table in the machine file says"
    uses_recorded = False
    device_only = False

    def __init__(self, table_ps: Mapping[str, int]) -> None:
        self.table_ps = table_ps

    @classmethod
    def from_machine(cls, machine: Machine) -> NameTable:
        """The table of a machine's file."""
        options = machine.options_of("name-table")
        options.keys((), ("durations_us",))
        if not options.has("durations_us"):
            return cls({})
        table = options.block("durations_us")
        return cls({name: table.time_ps(name, PS_PER_US) for name in table.content})

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """O(nodes)."""
        by_name = np.array([self.table_ps.get(name, -1) for name in graph.names], dtype=np.int64)
        stated_ps = by_name[graph.name_ids]
        unknown = int((stated_ps < 0).sum())
        notes = {"nodes that the name table lacks keep their recorded duration": unknown} if unknown else {}
        return ComputeCost(np.where(stated_ps < 0, graph.durations_ps, stated_ps), notes)
