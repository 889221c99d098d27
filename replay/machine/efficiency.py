"""Efficiency of an accelerator: share of its peaks that is reached, by kind and size of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.names.op_kinds import ATTENTION, MATMUL

DEFAULT = "default"
"""In a table by data type: those that it doesn't list."""


@dataclass(frozen=True)
class Curve:
    """Shares of a peak at some sizes; between them on a straight line of logarithms, constant beyond.

    So are kernels too small to fill the device, which all take one time: their share grows with their size.
    Where shares grow no faster than sizes from point to point, time never falls with the size in between.

    >>> Curve((1.0, 100.0), (0.1, 0.4)).at(np.array([0.5, 10.0, 1000.0])).round(9).tolist()
    [0.1, 0.2, 0.4]
    """

    sizes: tuple[float, ...]
    """Operations or bytes, ascending, above 0."""
    shares: tuple[float, ...]
    """Above 0, at most 1; as many as sizes."""

    def at(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[k]: the share at each size. O(k log points)."""
        clipped = np.clip(sizes, self.sizes[0], self.sizes[-1])
        logs = np.interp(np.log(clipped), np.log(self.sizes), np.log(self.shares))
        shares: NDArray[np.float64] = np.exp(logs)
        return shares


FULL = Curve((1.0,), (1.0,))
"""All of the peak at any size."""


@dataclass(frozen=True)
class Efficiency:
    """Shares of an accelerator's peaks that kernels reach; a table that is left out is 1."""

    matmul: Mapping[str, Curve] = field(default_factory=dict, hash=False)
    """Matrix products and convolutions, by data type and `DEFAULT`: share of the peak by operations."""
    attention: Mapping[str, Curve] = field(default_factory=dict, hash=False)
    """Fused attention kernels, likewise."""
    memory: Curve = FULL
    """Share of the memory's bandwidth by bytes."""
    host_launch_ps: int = 0
    """Time of the host to issue one operator."""

    def arithmetic(self, op_kind: str, dtype: str) -> Curve:
        """The curve for kernels of a kind and a data type. Kinds without a table reach the whole peak."""
        table = {MATMUL: self.matmul, ATTENTION: self.attention}.get(op_kind, {})
        return table.get(dtype) or table.get(DEFAULT, FULL)
