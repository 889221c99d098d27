"""A machine from the files of ASTRA-sim 2.x: network (YAML), system, remote memory, process groups (JSON).

Read as ASTRA-sim 2 reads them, units included: bandwidth of a link in 2**30 bytes a second, memory bandwidth
in 10**9 bytes a second, time in whole nanoseconds. Keys that ASTRA-sim knows and does not use are known here
too, and give a note; unknown ones, which it passes over, are errors.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

from chakrasim.replay.astra_sim.imported import Imported
from chakrasim.replay.astra_sim.network import read_network
from chakrasim.replay.astra_sim.system import SystemFile
from chakrasim.replay.astra_sim.words import loaded
from chakrasim.replay.machine.files.fields import (
    MAX_PS,
    MAX_VALUE,
    Block,
    finite,
    is_whole,
    load_json,
)
from chakrasim.replay.machine.machine import Machine, RemoteMemory
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.shared.yaml_files import shown
from chakrasim.traces.units import PS_PER_NS

SHARING = {
    "PER_NPU_MEMORY_EXPANSION": "per-rank",
    "PER_NODE_MEMORY_EXPANSION": "per-node",
    "MEMORY_POOL": "pool",
}
NO_REMOTE_MEMORY = "NO_MEMORY_EXPANSION"
VERSION_1_KEYS = (b'"dimensions-count"', b'"topologies-per-dim"', b'"units-count"')
"""Keys by which a network file of version 1.0 is recognised."""
NO_GROUPS = "empty"
"""The name that ASTRA-sim takes for no file of groups."""


class _Options(NamedTuple):
    """ASTRA-sim's own options, and the model-parallel group of the workload."""

    queues: int
    injection_scale: float
    rendezvous: bool
    transformer_group: int | None


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
    if not _is_version1(network):
        with_options = _Options(queues, factor, rendezvous, transformer_group)
        return _read_version2(network, system, remote_memory, groups, with_options)
    if remote_memory or groups or queues != 1 or rendezvous:
        raise ConfigError(
            f"{network}: a network of ASTRA-sim 1.0, which has no remote memory, groups, queues "
            "or rendezvous; expected a network and a system file alone"
        )
    from chakrasim.replay.astra_sim.version1 import read_version1

    try:
        return read_version1(network, system, injection_scale=factor, transformer_group=transformer_group)
    except OSError as error:
        raise ConfigError(f"{error.filename or system}: can't be read: {error.strerror or error}") from None


def _is_version1(network: Path) -> bool:
    head = loaded(Path.read_bytes, network).lstrip(b"\xef\xbb\xbf \t\r\n")
    return bool(head.startswith(b"{") and any(key in head for key in VERSION_1_KEYS))


def _read_version2(
    network: Path, system: Path, remote_memory: Path | None, groups: Path | None, options: _Options
) -> Imported:
    notes: list[str] = []
    dimensions = read_network(network, notes)
    sizes = [dimension.size or 1 for dimension in dimensions]
    world_size = math.prod(sizes)
    if options.transformer_group is not None:
        _check_transformer(network, options.transformer_group, sizes)
    settings = SystemFile(system, loaded(load_json, system), len(dimensions))
    machine = Machine(
        name=network.stem,
        source=f"imported from {network.name} and {system.name}",
        accelerator=settings.accelerator(),
        dimensions=dimensions,
        algorithms=settings.algorithms(),
        cycle_ps=PS_PER_NS,
        remote_memory=_remote_memory(remote_memory, world_size, notes) if remote_memory else None,
        scheduling=settings.scheduling(options.queues, options.injection_scale, options.rendezvous),
        compute=settings.compute(),
        groups=_groups(groups, world_size) if groups else {},
    )
    replay_only = settings.switch("replay-only")
    settings.note_idle_keys()
    return Imported(machine=machine, notes=(*notes, *settings.notes), replay_only=replay_only)


def _check_transformer(network: Path, group: int, sizes: list[int]) -> None:
    from chakrasim.replay.astra_sim.version1 import transformer_split

    _, _, index = transformer_split(group, sizes)
    if index is not None:
        raise ConfigError(
            f"{network}: the workload's model-parallel group of {group} ranks ends inside dimension {index}; "
            "expected it to end between two dimensions, or a network file of ASTRA-sim 1.0"
        )


def _remote_memory(path: Path, world_size: int, notes: list[str]) -> RemoteMemory | None:
    file = Block(loaded(load_json, path), str(path))
    file.keys(("memory-type",), ("remote-mem-latency", "remote-mem-bw", "num-nodes", "num-npus-per-node"))
    memory_type = file.choice("memory-type", (NO_REMOTE_MEMORY, *SHARING))
    if memory_type == NO_REMOTE_MEMORY:
        return None
    latency_ns, bytes_per_ns = (
        file.number("remote-mem-latency", 0, MAX_PS / PS_PER_NS),
        file.number("remote-mem-bw", 0, MAX_VALUE / 1e9),
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
    file = Block(loaded(load_json, path), str(path))
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
