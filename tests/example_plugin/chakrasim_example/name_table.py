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
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.units import us_to_ps


class NameTable:
    """Durations by name; a node whose name isn't in the table keeps its recorded duration."""

    summary = "as long as a table in the machine file says"

    def __init__(self, table_ps: Mapping[str, int]) -> None:
        self.table_ps = table_ps

    @classmethod
    def from_machine(cls, machine: Machine) -> NameTable:
        """The table of a machine's file."""
        table = machine.options_of("name-table", {"durations_us"}).get("durations_us", {})
        for name, duration_us in table.items():
            if not isinstance(duration_us, int | float) or not 0 <= duration_us < 1e9:
                raise ConfigError(
                    f"machine {machine.name!r}: options: name-table: durations_us: {name}: {duration_us!r} "
                    "is no number of microseconds"
                )
        return cls({name: us_to_ps(duration_us) for name, duration_us in table.items()})

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """O(nodes)."""
        by_name = np.array([self.table_ps.get(name, -1) for name in graph.names], dtype=np.int64)
        stated_ps = by_name[graph.name_ids]
        unknown = int((stated_ps < 0).sum())
        notes = {"nodes that the name table lacks keep their recorded duration": unknown} if unknown else {}
        return ComputeCost(np.where(stated_ps < 0, graph.durations_ps, stated_ps), notes)
