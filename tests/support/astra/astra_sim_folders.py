"""Folders with the four files of ASTRA-sim, as tests write and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.astra_sim.imported import Imported

NETWORK = {"topology": ["Ring"], "npus_count": [4], "bandwidth": [50.0], "latency": [500.0]}
NETWORK_2D = {
    "topology": ["FullyConnected", "Switch"],
    "npus_count": [4, 2],
    "bandwidth": [100, 25],
    "latency": [250, 936.25],
}
SYSTEM = {
    "scheduling-policy": "LIFO",
    "endpoint-delay": 10,
    "active-chunks-per-dimension": 1,
    "preferred-dataset-splits": 4,
    "all-reduce-implementation": ["ring"],
    "all-gather-implementation": ["ring"],
    "reduce-scatter-implementation": ["ring"],
    "all-to-all-implementation": ["ring"],
    "collective-optimization": "localBWAware",
    "local-mem-bw": 1600,
}
REMOTE = {"memory-type": "MEMORY_POOL", "remote-mem-latency": 300, "remote-mem-bw": 64}


def read_folder(folder: Path, **options: Any) -> Imported:
    groups = folder / "groups.json"
    return read_astra_sim(
        network=folder / "network.yml",
        system=folder / "system.json",
        remote_memory=folder / "remote.json",
        groups=groups if groups.exists() else None,
        **options,
    )


def read(
    folder: Path,
    system: dict[str, Any] | None = None,
    network: dict[str, Any] = NETWORK,
    *,
    remote: dict[str, Any] | None = None,
    groups: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    **options: Any,
) -> Imported:
    """What the standard files say, with other keys in them."""
    contents = {
        "network.yml": network,
        "system.json": {key: v for key, v in {**SYSTEM, **(system or {})}.items() if key not in without},
        "remote.json": remote or {"memory-type": "NO_MEMORY_EXPANSION"},
    }
    if groups is not None:
        contents["groups.json"] = groups
    for name, content in contents.items():
        # JSON is YAML too.
        (folder / name).write_text(json.dumps(content))
    return read_folder(folder, **options)
