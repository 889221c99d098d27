"""Attributes of nodes that have no column in the graph: kept for people and for a faithful round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NodeAttributes:
    """Attributes by row, to be called with one.

    >>> attributes = NodeAttributes({"rf_id": np.array([7, -1])}, {1: {"note": "x"}})
    >>> attributes(0), attributes(1)
    ({'rf_id': 7}, {'note': 'x'})
    """

    columns: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Whole numbers by attribute; a row with -1 lacks it."""
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes of any kind, of the few rows that have some."""

    def __call__(self, row: int) -> dict[str, Any]:
        """Every attribute of a row."""
        found = {name: int(column[row]) for name, column in self.columns.items() if column[row] != -1}
        return {**found, **self.rows.get(row, {})}
