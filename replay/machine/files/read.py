"""Reading a machine file: units in the keys, no defaults for physics, and every mistake named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from chakrasim.replay.machine.algorithm_names import is_algorithm
from chakrasim.replay.machine.files.efficiency import read_efficiency
from chakrasim.replay.machine.files.fields import (
    GIGA,
    MAX_BUS_NS,
    MAX_PS,
    Block,
    found_near,
    is_whole,
)
from chakrasim.replay.machine.files.nccl import read_calibration
from chakrasim.replay.machine.machine import (
    DEFAULT_PACKET_BYTES,
    MEMORY_SHARING,
    NCCL,
    Accelerator,
    Dimension,
    Machine,
    RemoteMemory,
)
from chakrasim.replay.machine.rules import RULES
from chakrasim.replay.machine.scheduling import (
    ALL_REDUCE_WAYS,
    DIMENSION_ORDERS,
    PRIORITIES,
    QUEUE_ORDERS,
    SUBGROUPS,
    Bus,
    Scheduling,
)
from chakrasim.replay.machine.topology import TOPOLOGIES, Ring
from chakrasim.replay.plugins import ALGORITHMS, COMPUTE, NETWORKS
from chakrasim.traces.errors import UnknownName
from chakrasim.traces.graph import CommKind
from chakrasim.traces.shared.yaml_files import read_yaml, shown
from chakrasim.traces.units import PS_PER_NS, PS_PER_US

KINDS = {kind.label: kind for kind in CommKind}

OPTIONAL = ("accelerator", "nccl", "cycle_ps", "remote_memory", "scheduling", "compute", "groups", "options")
CHOICES = {
    "all_reduce": ALL_REDUCE_WAYS,
    "dimension_order": DIMENSION_ORDERS,
    "queue_order": QUEUE_ORDERS,
    "priority": PRIORITIES,
    "subgroup": SUBGROUPS,
}
"""The words of a scheduling block."""
SCHEDULING_KEYS = (
    "rules",
    *CHOICES,
    "chunks",
    "active_chunks",
    "queues",
    "endpoint_ns",
    "reduction_GBps",
    "reduction_Bps",
    "bus",
    "rendezvous",
    "custom",
    "custom_by_node",
)


def read_machine(path: Path) -> Machine:
    """Read and check a machine file.

    Raises ConfigError with the file, the place in it, what was expected and what came.
    """
    file = Block(read_yaml(path), str(path))
    file.keys(("name", "source", "network", "collectives"), OPTIONAL)
    dimensions = _dimensions(file)
    scheduling = _scheduling(file, path) if file.has("scheduling") else None
    nccl = None
    if file.has("nccl"):
        if scheduling is not None:
            file.fail(
                "has an nccl block and a scheduling block; expected one: nccl costs a collective as a whole, "
                "and a scheduling block plays its messages over the full bandwidth"
            )
        nccl = read_calibration(file.block("nccl"), [dimension.name for dimension in dimensions])
    machine = Machine(
        name=file.text("name"),
        source=file.text("source"),
        accelerator=_accelerator(file.block("accelerator")) if file.has("accelerator") else None,
        dimensions=dimensions,
        algorithms=_algorithms(
            file.block("collectives"), len(dimensions), scheduling, has_nccl=nccl is not None
        ),
        cycle_ps=_cycle_ps(file),
        remote_memory=_remote_memory(file) if file.has("remote_memory") else None,
        scheduling=scheduling,
        compute=file.choice("compute", COMPUTE.names()) if file.has("compute") else "measured",
        nccl=nccl,
        options=_options(file) if file.has("options") else {},
    )
    if machine.compute == "roofline" and machine.accelerator is None:
        file.fail(
            "has compute: roofline, and no accelerator; expected one, with its peak and memory bandwidth"
        )
    return replace(machine, groups=_groups(file, machine.size)) if file.has("groups") else machine


def _options(file: Block) -> dict[str, dict[str, Any]]:
    """Parameters by model; their keys are checked by the model when it is used."""
    block = file.block("options")
    block.keys((), sorted({*COMPUTE.names(), *NETWORKS.names()}))
    for name in block.content:
        if COMPUTE.is_builtin(name) or NETWORKS.is_builtin(name):
            file.fail(f"has options for {name}, which takes none")
    return {name: dict(block.block(name).content) for name in block.content}


def _cycle_ps(file: Block) -> int:
    cycle_ps = file.whole("cycle_ps", minimum=1, default=1)
    if cycle_ps > MAX_PS:
        file.expected("cycle_ps", f"at most {MAX_PS:,}")
    return cycle_ps


def _accelerator(block: Block) -> Accelerator:
    block.keys(
        ("name", "source", "launch_overhead_us"),
        ("peak_TFLOPs", "peak_FLOPs", "memory_GBps", "memory_Bps", "memory_GB", "memory_bytes", "efficiency"),
    )
    block.text("source")
    peaks = _peaks(block)
    return Accelerator(
        name=block.text("name"),
        peak_flops=peaks,
        memory_Bps=block.rate("memory_GBps", "memory_Bps"),
        memory_bytes=_memory_bytes(block),
        launch_overhead_ps=block.time_ps("launch_overhead_us", PS_PER_US),
        efficiency=read_efficiency(block.block("efficiency"), peaks) if block.has("efficiency") else None,
    )


def _peaks(block: Block) -> dict[str, float]:
    if block.has("peak_TFLOPs") == block.has("peak_FLOPs"):
        if block.has("peak_TFLOPs"):
            block.fail("has both peak_TFLOPs and peak_FLOPs; expected one of them")
        block.fail("lacks the key 'peak_TFLOPs'")
    key, unit = ("peak_TFLOPs", 1e12) if block.has("peak_TFLOPs") else ("peak_FLOPs", 1.0)
    peaks = block.block(key)
    if not peaks.content:
        peaks.fail("has no data types; expected for example {bf16: 312, fp32: 19.5}")
    return {str(dtype): peaks.positive(dtype, unit) for dtype in peaks.content}


def _memory_bytes(block: Block) -> int | None:
    if block.has("memory_bytes"):
        if block.has("memory_GB"):
            block.fail("has both memory_GB and memory_bytes; expected one of them")
        return block.whole("memory_bytes", minimum=1)
    return int(block.positive("memory_GB", GIGA)) if block.has("memory_GB") else None


def _dimensions(file: Block) -> tuple[Dimension, ...]:
    entries = file.content["network"]
    if not isinstance(entries, list) or not entries:
        file.fail(f"network is {entries!r}; expected a list of dimensions, the innermost first")
    dimensions = []
    for index, entry in enumerate(entries):
        block = Block(entry, file.source, f"network dimension {index}")
        block.keys(
            ("name", "source", "topology", "size", "latency_ns"),
            ("bandwidth_GBps", "bandwidth_Bps", "packet_bytes", "ring_size", "ring_stride"),
        )
        block.text("source")
        is_last = index == len(entries) - 1
        if block.content["size"] == "any" and not is_last:
            block.fail("has 'size: any'; only the last dimension can grow with the workload")
        topology = block.choice("topology", TOPOLOGIES)
        for key in ("ring_size", "ring_stride"):
            if block.has(key) and not issubclass(TOPOLOGIES[topology], Ring):
                block.fail(f"has {key}, and topology: {topology}; expected it in a ring only")
        dimensions.append(
            Dimension(
                name=block.text("name"),
                topology=topology,
                size=None if block.content["size"] == "any" else block.whole("size", minimum=1),
                bandwidth_Bps=block.rate("bandwidth_GBps", "bandwidth_Bps"),
                latency_ps=block.time_ps("latency_ns", PS_PER_NS),
                ring_size=block.whole("ring_size", minimum=1) if block.has("ring_size") else None,
                ring_stride=block.whole("ring_stride", minimum=1, default=1),
                packet_bytes=block.whole("packet_bytes", minimum=1, default=DEFAULT_PACKET_BYTES),
            )
        )
    return tuple(dimensions)


def _algorithms(
    block: Block, dimensions: int, scheduling: Scheduling | None, *, has_nccl: bool
) -> dict[CommKind, tuple[str, ...]]:
    block.keys(("default",), tuple(KINDS))
    may_be_short = scheduling is not None and not scheduling.rules.needs_every_algorithm
    chosen = {}
    for label in block.content:
        value = block.content[label]
        names = value if isinstance(value, list) else [value] * dimensions
        if len(names) > dimensions or (len(names) < dimensions and not may_be_short):
            block.fail(f"{label} names {len(names)} algorithms; the network has {dimensions} dimensions")
        if NCCL in names:
            _check_nccl(block, label, names, has_nccl=has_nccl)
            names = [NCCL] * dimensions
        for name in names:
            if name != NCCL and not is_algorithm(str(name)):
                known = [*ALGORITHMS.names(), "direct:4", "one-ring", NCCL]
                block.fail(f"{label}: {UnknownName('collective algorithm', str(name), known)}")
        chosen[label] = tuple(str(name) for name in names)
    return {kind: chosen.get(label, chosen["default"]) for label, kind in KINDS.items()}


def _check_nccl(block: Block, label: str, names: list[Any], *, has_nccl: bool) -> None:
    if not has_nccl:
        block.fail(
            f"{label}: nccl needs an nccl block that says what is reached; chakrasim calibrate fits one"
        )
    if any(name != NCCL for name in names):
        block.fail(f"{label} names nccl beside {shown(names)}; expected it alone, for all dimensions")


def _remote_memory(file: Block) -> RemoteMemory:
    block = file.block("remote_memory")
    block.keys(("source", "latency_ns"), ("bandwidth_GBps", "bandwidth_Bps", "sharing", "ranks_per_node"))
    block.text("source")
    sharing = block.choice("sharing", MEMORY_SHARING) if block.has("sharing") else "per-rank"
    if (sharing == "per-node") != block.has("ranks_per_node"):
        block.fail("expected ranks_per_node where sharing is per-node, and only there")
    return RemoteMemory(
        bandwidth_Bps=block.rate("bandwidth_GBps", "bandwidth_Bps"),
        latency_ps=block.time_ps("latency_ns", PS_PER_NS),
        sharing=sharing,
        ranks_per_node=block.whole("ranks_per_node", minimum=1, default=1),
    )


def _scheduling(file: Block, path: Path) -> Scheduling:
    block = Block(
        {} if file.content["scheduling"] is None else file.content["scheduling"], file.source, "scheduling"
    )
    block.keys((), SCHEDULING_KEYS)
    default = Scheduling()

    def word(key: str) -> str:
        return block.choice(key, CHOICES[key]) if block.has(key) else str(getattr(default, key))

    has_reduction = block.has("reduction_GBps") or block.has("reduction_Bps")
    return Scheduling(
        rules=RULES[block.choice("rules", RULES)] if block.has("rules") else default.rules,
        chunks=block.whole("chunks", minimum=1, default=default.chunks),
        active_chunks=block.whole("active_chunks", minimum=1, default=default.active_chunks),
        queues=block.whole("queues", minimum=1, default=default.queues),
        all_reduce=word("all_reduce"),
        dimension_order=word("dimension_order"),
        queue_order=word("queue_order"),
        priority=word("priority"),
        endpoint_ps=block.time_ps("endpoint_ns", PS_PER_NS, default=0),
        reduction_Bps=block.rate("reduction_GBps", "reduction_Bps")
        if has_reduction
        else default.reduction_Bps,
        subgroup=word("subgroup"),
        bus=_bus(block.block("bus")) if block.has("bus") else None,
        rendezvous=block.flag("rendezvous", default.rendezvous),
        custom=_custom(block, path) if block.has("custom") else {},
        custom_by_node=_custom_by_node(block, path) if block.has("custom_by_node") else {},
    )


def _bus(block: Block) -> Bus:
    block.keys(tuple(field.name for field in fields(Bus)))
    return Bus(
        latency_ns=block.number("latency_ns", maximum=MAX_BUS_NS),
        overhead_ns=block.number("overhead_ns", maximum=MAX_BUS_NS),
        gap_ns=block.number("gap_ns", maximum=MAX_BUS_NS),
        ns_per_byte=block.number("ns_per_byte", maximum=MAX_BUS_NS),
        reduction_ns_per_100_bytes=block.whole("reduction_ns_per_100_bytes", minimum=0),
    )


def _custom(scheduling: Block, path: Path) -> dict[CommKind, str]:
    block = scheduling.block("custom")
    block.keys((), tuple(KINDS))
    return {KINDS[label]: _found(block, label, path) for label in block.content}


def _custom_by_node(scheduling: Block, path: Path) -> dict[int, str]:
    block = scheduling.block("custom_by_node")
    for node in block.content:
        if not is_whole(node, 0):
            block.fail(f"has a key {shown(node)}; expected the id of a node, a whole number of 0 or more")
    return {node: _found(block, node, path) for node in block.content}


def _found(block: Block, key: Any, path: Path) -> str:
    stated = block.text(key)
    found = found_near(path, stated)
    if found is None:
        block.fail(f"has {key}: {stated!r}; expected a file, or {stated}.0.et and so on, and none is there")
    return found


def _groups(file: Block, world_size: int | None) -> dict[str, tuple[int, ...]]:
    block = file.block("groups")
    groups = {str(name): block.ranks(name) for name in block.content}
    for name, ranks in groups.items():
        if world_size is not None and max(ranks) >= world_size:
            block.fail(f"has rank {max(ranks)} in {name!r}; the machine has ranks 0 to {world_size - 1}")
    return groups
