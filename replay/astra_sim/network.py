"""The network file (YAML) of ASTRA-sim 2.x."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from chakrasim.replay.astra_sim.words import GIB, TOPOLOGIES, loaded
from chakrasim.replay.machine.files.fields import Block, is_whole
from chakrasim.replay.machine.machine import Dimension
from chakrasim.traces.errors import nearest
from chakrasim.traces.shared.yaml_files import read_yaml, shown
from chakrasim.traces.units import PS_PER_NS

KEYS = ("topology", "npus_count", "bandwidth", "latency")


def read_network(path: Path, notes: list[str]) -> tuple[Dimension, ...]:
    """The dimensions of a network file. What ASTRA-sim would refuse is added to the notes."""
    file = Block(loaded(read_yaml, path), str(path))
    file.keys(KEYS)
    topologies = _entries(file, "topology")
    lists = {key: _entries(file, key) for key in KEYS}
    if single := [key for key in KEYS if not isinstance(file.content[key], list)]:
        notes.append(
            f"{path}: {', '.join(single)} without brackets, as in older examples of ASTRA-sim, is read as a "
            "list of one; ASTRA-sim 2 refuses it"
        )
    for key, entries in lists.items():
        if len(entries) != len(topologies):
            file.fail(
                f"has {len(entries)} entries in {key} and {len(topologies)} in topology; "
                "expected one for each dimension"
            )
    return tuple(
        Dimension(
            name=f"dim{index}",
            topology=_topology(file, index, topologies[index]),
            size=_size(file, index, lists["npus_count"][index]),
            bandwidth_Bps=_number(file, "bandwidth", index, lists["bandwidth"][index]),
            latency_ps=int(_number(file, "latency", index, lists["latency"][index])),
        )
        for index in range(len(topologies))
    )


def _entries(file: Block, key: str) -> list[Any]:
    """The entries of a key, one for each dimension; a word or number alone is a list of one."""
    value = file.content[key]
    if isinstance(value, str | int | float):
        return [value]
    if not isinstance(value, list) or not value:
        file.expected(key, "a list with one entry for each dimension")
    return value


def _topology(file: Block, index: int, name: Any) -> str:
    if name not in list(TOPOLOGIES):
        word = str(name).lower()
        same = [known for known in TOPOLOGIES if known.lower() == word]
        if same:
            hint = f"did you mean {same[0]!r}? capitals count here; "
        elif guess := nearest(str(name), TOPOLOGIES):
            hint = f"did you mean {guess!r}? "
        else:
            hint = "a torus is a Ring in each dimension; " if "torus" in word else ""
        file.fail(
            f"has topology {shown(name)} in dimension {index}; {hint}expected one of {', '.join(TOPOLOGIES)}"
        )
    return TOPOLOGIES[name]


def _size(file: Block, index: int, value: Any) -> int:
    if not is_whole(value, 2):
        file.fail(
            f"has npus_count {shown(value)} in dimension {index}; expected a whole number of 2 or more"
            + (" (leave a dimension of 1 out)" if value == 1 else "")
        )
    return int(value)


def _number(file: Block, key: str, index: int, value: Any) -> float:
    """A bandwidth in bytes a second (above 0), or a latency in ps (0 or more)."""
    # YAML 1.1, as we read it, takes 1e3 for a text; ASTRA-sim's reader for a number.
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", value):
        with suppress(ValueError):
            value = float(value)
    entry = Block({key: value}, file.source, f"dimension {index}")
    if key == "bandwidth":
        return entry.positive(key, GIB)
    return entry.time_ps(key, PS_PER_NS)
