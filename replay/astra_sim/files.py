"""A machine from the files of ASTRA-sim 2.x: network (YAML), system, remote memory, process groups (JSON).

Read as ASTRA-sim 2 reads them, units included: bandwidth of a link in 2**30 bytes a second, memory bandwidth
in 10**9 bytes a second, time in whole nanoseconds. Keys that ASTRA-sim knows and does not use are known here
too, and give a note; unknown ones, which it passes over, are errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chakrasim.replay.astra_sim.system import SystemFile
from chakrasim.replay.machine.files.fields import (
    MOST,
    MOST_PS,
    Block,
    finite,
    is_whole,
    load_json,
    load_yaml,
    shown,
)
from chakrasim.replay.machine.machine import Dimension, Machine, RemoteMemory
from chakrasim.traces.errors import ConfigError, nearest
from chakrasim.traces.units import PS_PER_NS

GIB = 2**30
CYCLE_PS = PS_PER_NS

TOPOLOGIES = {"Ring": "ring", "FullyConnected": "fully_connected", "Switch": "switch"}
NETWORK_LISTS = ("topology", "npus_count", "bandwidth", "latency")
SHARING = {
    "PER_NPU_MEMORY_EXPANSION": "per-rank",
    "PER_NODE_MEMORY_EXPANSION": "per-node",
    "MEMORY_POOL": "pool",
}
NO_REMOTE_MEMORY = "NO_MEMORY_EXPANSION"
VERSION_1_KEYS = (b'"dimensions-count"', b'"topologies-per-dim"', b'"units-count"')
"""What tells a network file of version 1.0."""
NO_GROUPS = "empty"
"""ASTRA-sim's word for no file of groups."""


@dataclass(frozen=True)
class Imported:
    """What files of ASTRA-sim say."""

    machine: Machine
    notes: tuple[str, ...]
    """What has no effect, and what ASTRA-sim would have read otherwise; sentences for people."""
    replay_only: bool
    """Durations come from the trace, those of collectives too."""


def read_astra_sim(
    *,
    network: Path,
    system: Path,
    remote_memory: Path | None = None,
    groups: Path | None = None,
    queues: int = 1,
    injection_scale: float = 1.0,
    rendezvous: bool = False,
    transformer_group: int | None = None,
) -> Imported:
    """The machine that files of ASTRA-sim describe.

    `queues`, `injection_scale` and `rendezvous` are ASTRA-sim's options `--num-queues-per-dim`,
    `--injection-scale` (a factor on an endpoint delay that the system file states) and
    `--rendezvous-protocol`. `groups` that is the word `empty`, with no file of that name, is no groups.

    A network file in JSON with `dimensions-count` is one of ASTRA-sim 1.0; see `version1.py`. It goes with a
    system file of that version and nothing else. `transformer_group` is the size of the model-parallel group
    of a transformer workload; only a network of ASTRA-sim 1.0 can be split where such a group ends.

    Raises ConfigError with the file, the key, what was expected and what came.
    """
    if not is_whole(queues, 1):
        raise ConfigError(f"queues in each dimension are {queues}; expected a whole number of 1 or more")
    factor = finite(injection_scale)
    if factor is None or factor < 0:
        raise ConfigError(f"the injection scale is {injection_scale}; expected a number of 0 or more")
    if _is_version1(network):
        if remote_memory or groups or queues != 1 or rendezvous:
            raise ConfigError(
                f"{network}: a network of ASTRA-sim 1.0, which has no remote memory, groups, queues "
                "or rendezvous; expected a network and a system file alone"
            )
        imported = _read_version1(network, system, transformer_group)
        scheduling = imported.machine.scheduling
        assert scheduling is not None
        endpoint_ps = int(scheduling.endpoint_ps // CYCLE_PS * factor) * CYCLE_PS
        scaled = replace(imported.machine, scheduling=replace(scheduling, endpoint_ps=endpoint_ps))
        return replace(imported, machine=scaled)
    notes: list[str] = []
    dimensions = _dimensions(network, notes)
    sizes = [dimension.size or 1 for dimension in dimensions]
    world_size = math.prod(sizes)
    if transformer_group is not None:
        _check_transformer(network, transformer_group, sizes)
    settings = SystemFile(system, _loaded(load_json, system), len(dimensions))
    machine = Machine(
        name=network.stem,
        source=f"imported from {network.name} and {system.name}",
        accelerator=settings.accelerator(),
        dimensions=dimensions,
        algorithms=settings.algorithms(),
        cycle_ps=CYCLE_PS,
        remote_memory=_remote_memory(remote_memory, world_size, notes) if remote_memory else None,
        scheduling=settings.scheduling(queues, factor, rendezvous),
        compute=settings.compute(),
        groups=_groups(groups, world_size) if groups else {},
    )
    replay_only = settings.switch("replay-only")
    settings.note_idle_keys()
    return Imported(machine=machine, notes=(*notes, *settings.notes), replay_only=replay_only)


def _loaded(load: Callable[[Path], Any], path: Path) -> Any:
    """The content of a file. Raises ConfigError also where it can't be opened."""
    try:
        return load(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from None


def _is_version1(network: Path) -> bool:
    head = _loaded(Path.read_bytes, network).lstrip(b"\xef\xbb\xbf \t\r\n")
    return bool(head.startswith(b"{") and any(key in head for key in VERSION_1_KEYS))


def _read_version1(network: Path, system: Path, transformer_group: int | None) -> Imported:
    from chakrasim.replay.astra_sim.version1 import read_version1

    try:
        return read_version1(network, system, transformer_group=transformer_group)
    except OSError as error:
        raise ConfigError(f"{error.filename or system}: can't be read: {error.strerror or error}") from None


def _check_transformer(network: Path, group: int, sizes: list[int]) -> None:
    from chakrasim.replay.astra_sim.version1 import transformer_split

    _, _, index = transformer_split(group, sizes)
    if index is not None:
        raise ConfigError(
            f"{network}: the workload's model-parallel group of {group} ranks ends inside dimension {index}; "
            "expected it to end between two dimensions, or a network file of ASTRA-sim 1.0"
        )


def _dimensions(path: Path, notes: list[str]) -> tuple[Dimension, ...]:
    file = Block(_loaded(load_yaml, path), str(path))
    file.keys(NETWORK_LISTS)
    topologies = _entries(file, "topology")
    lists = {key: _entries(file, key) for key in NETWORK_LISTS}
    if single := [key for key in NETWORK_LISTS if not isinstance(file.content[key], list)]:
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
    """A list, or one word or number in place of a list of one."""
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
    """A bandwidth above 0 or a latency of 0 or more, as the key says."""
    # YAML 1.1, as we read it, takes 1e3 for a text; ASTRA-sim's reader for a number.
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", value):
        with suppress(ValueError):
            value = float(value)
    entry = Block({key: value}, file.source, f"dimension {index}")
    if key == "bandwidth":
        return entry.positive(key, GIB)
    return entry.time_ps(key, PS_PER_NS)


def _remote_memory(path: Path, world_size: int, notes: list[str]) -> RemoteMemory | None:
    file = Block(_loaded(load_json, path), str(path))
    file.keys(("memory-type",), ("remote-mem-latency", "remote-mem-bw", "num-nodes", "num-npus-per-node"))
    memory_type = file.choice("memory-type", (NO_REMOTE_MEMORY, *SHARING))
    if memory_type == NO_REMOTE_MEMORY:
        return None
    latency_ns, bytes_per_ns = (
        file.number("remote-mem-latency", 0, MOST_PS / PS_PER_NS),
        file.number("remote-mem-bw", 0, MOST / 1e9),
    )
    for key, number in (("remote-mem-latency", latency_ns), ("remote-mem-bw", bytes_per_ns)):
        if not number.is_integer():
            notes.append(f"{path}: {key} {number} is cut to {int(number)}, a whole number, as in ASTRA-sim")
    if int(bytes_per_ns) == 0:
        came = shown(file.content["remote-mem-bw"]) if file.has("remote-mem-bw") else "absent"
        file.fail(f"has remote-mem-bw {came}; expected bytes a nanosecond, a whole number of 1 or more")
    sharing, ranks_per_node = SHARING[memory_type], 1
    if sharing == "per-node":
        ranks_per_node = _ranks_per_node(file, world_size)
    return RemoteMemory(
        bandwidth_Bps=int(bytes_per_ns) * 1e9,
        latency_ps=int(latency_ns) * PS_PER_NS,
        sharing=sharing,
        ranks_per_node=ranks_per_node,
    )


def _ranks_per_node(file: Block, world_size: int) -> int:
    if not file.has("num-npus-per-node"):
        file.fail("lacks the key 'num-npus-per-node'")
    ranks_per_node = file.whole("num-npus-per-node", 1)
    if file.has("num-nodes") and file.whole("num-nodes", 1) * ranks_per_node < world_size:
        file.fail(
            f"has num-nodes {file.content['num-nodes']} of num-npus-per-node {ranks_per_node}; "
            f"expected room for the {world_size} ranks of the network"
        )
    return ranks_per_node


def _groups(path: Path, world_size: int) -> dict[str, tuple[int, ...]]:
    if str(path) == NO_GROUPS and not path.exists():
        return {}
    file = Block(_loaded(load_json, path), str(path))
    groups = {}
    for name in file.content:
        if not re.fullmatch("[1-9][0-9]*", name):
            file.fail(
                f"has a group {name!r}; expected a whole number of 1 or more (0 always means all ranks)"
            )
        ranks = file.ranks(name)
        if max(ranks) >= world_size:
            file.fail(f"has rank {max(ranks)} in group {name}; the network has ranks 0 to {world_size - 1}")
        groups[name] = ranks
    return groups
