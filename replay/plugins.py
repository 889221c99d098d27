"""Registries of the parts that another package can add: models, algorithms and machines by name.

A built-in part is a line here. This module imports none of them, so that the lowest rooms can check names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chakrasim.traces.shared.registry import Registry

_CATALOGUE = Path(__file__).parent / "machine" / "catalogue"

COMPUTE: Registry[Any] = Registry(
    "compute model",
    {
        "measured": "chakrasim.replay.compute.measured:Measured",
        "roofline": "chakrasim.replay.compute.roofline:Roofline",
    },
    "chakrasim.compute",
)
"""Classes of `compute.interface.ComputeModel`."""

NETWORKS: Registry[Any] = Registry(
    "network model",
    {
        "analytical": "chakrasim.replay.network.analytical:Analytical",
        "congestion-aware": "chakrasim.replay.network.congestion_aware:CongestionAware",
        "measured": "chakrasim.replay.network.measured:Measured",
        "recorded": "chakrasim.replay.network.recorded:Recorded",
        "shared-ports": "chakrasim.replay.network.shared_ports:SharedPorts",
    },
    "chakrasim.network",
)
"""Classes of `network.interface.NetworkModel`."""

ALGORITHMS: Registry[Any] = Registry(
    "collective algorithm",
    {
        "ring": "chakrasim.replay.collectives.algorithms.ring:RING",
        "direct": "chakrasim.replay.collectives.algorithms.direct:DIRECT",
        "halving-doubling": "chakrasim.replay.collectives.algorithms.halving_doubling:HALVING_DOUBLING",
        "double-binary-tree": "chakrasim.replay.collectives.algorithms.double_binary_tree:DOUBLE_BINARY_TREE",
        "bruck": "chakrasim.replay.collectives.algorithms.bruck:BRUCK",
    },
    "chakrasim.algorithms",
)
"""Objects of `collectives.algorithms.Algorithm`."""

MACHINES: Registry[Any] = Registry(
    "machine",
    {
        path.stem: f"chakrasim.replay.machine.catalogue:{path.stem}"
        for path in sorted(_CATALOGUE.glob("*.yaml"))
    },
    "chakrasim.machines",
)
"""Objects of `machine.load.MachineFile`."""
