"""A machine as a machine file that reads back to the same machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from textwrap import indent
from typing import Any

import yaml

from chakrasim.replay.machine.efficiency import FULL, Curve, Efficiency
from chakrasim.replay.machine.files.efficiency import BYTES, OPERATIONS, SHARES
from chakrasim.replay.machine.files.nccl import calibration_content
from chakrasim.replay.machine.files.read import CHOICES
from chakrasim.replay.machine.machine import (
    DEFAULT_PACKET_BYTES,
    Accelerator,
    Dimension,
    Machine,
    RemoteMemory,
)
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.traces.graph import CommKind
from chakrasim.traces.names.op_kinds import ATTENTION, MATMUL
from chakrasim.traces.units import PS_PER_US, ps_to_ns

Content = dict[str, Any]
AS_ABOVE = "as above"
"""A machine keeps one source, for everything it states."""


class _Dumper(yaml.SafeDumper):
    """Without `&id001` for what stands twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def machine_yaml(machine: Machine) -> str:
    """The text of a machine file (`docs/machine-file.md`), from which `read_machine` makes this very machine.

    A figure stands in its usual unit, or in single units (`bandwidth_Bps`) where only those keep every bit.
    Paths of custom collectives stand as they are.

    >>> from chakrasim.replay.machine.machine import load_machine
    >>> print(machine_yaml(load_machine("tpu-v5e")).splitlines()[0])
    name: tpu-v5e
    """
    blocks: list[Content] = [{"name": machine.name, "source": machine.source}]
    if machine.accelerator is not None:
        blocks.append({"accelerator": _accelerator(machine.accelerator)})
    blocks.append({"network": [_dimension(dimension) for dimension in machine.dimensions]})
    blocks.append({"collectives": _collectives(machine.algorithms, len(machine.dimensions))})
    if machine.nccl is not None:
        names = [dimension.name for dimension in machine.dimensions]
        blocks.append({"nccl": calibration_content(machine.nccl, names, AS_ABOVE)})
    if machine.scheduling is not None:
        blocks.append({"scheduling": _scheduling(machine.scheduling)})
    if machine.remote_memory is not None:
        blocks.append({"remote_memory": _remote_memory(machine.remote_memory)})
    if machine.groups:
        blocks.append({"groups": {name: list(ranks) for name, ranks in machine.groups.items()}})
    last: Content = {}
    if machine.compute != "measured":
        last["compute"] = machine.compute
    if machine.options:
        last["options"] = {model: dict(options) for model, options in machine.options.items()}
    if machine.cycle_ps != 1:
        last["cycle_ps"] = machine.cycle_ps
    if last:
        blocks.append(last)
    return "\n".join(_text(block) for block in blocks)


def _text(block: Content, *, is_outermost: bool = True) -> str:
    """Keys below each other, also those of a mapping that is outermost or holds mappings; other values stand
    in one line."""
    return "".join(
        f"{key}:\n" + indent(_text(value, is_outermost=False), "  ")
        if isinstance(value, dict)
        and (is_outermost or any(isinstance(inner, dict) for inner in value.values()))
        else _line(key, value)
        for key, value in block.items()
    )


def _line(key: str, value: Any) -> str:
    is_flow = None if isinstance(value, dict | list) else False
    text: str = yaml.dump(
        {key: value},
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=is_flow,
        width=106,
        allow_unicode=True,
    )
    return text


def _accelerator(accelerator: Accelerator) -> Content:
    peaks = accelerator.peak_flops
    tera = {dtype: flops / 1e12 for dtype, flops in peaks.items()}
    is_exact = all(tera[dtype] * 1e12 == flops for dtype, flops in peaks.items())
    block: Content = {
        "name": accelerator.name,
        "source": AS_ABOVE,
        **(
            {"peak_TFLOPs": {dtype: _number(value) for dtype, value in tera.items()}}
            if is_exact
            else {"peak_FLOPs": {dtype: _number(flops) for dtype, flops in peaks.items()}}
        ),
        **_rate("memory", accelerator.memory_Bps),
    }
    if accelerator.memory_bytes is not None:
        gigabytes = accelerator.memory_bytes / 1e9
        if int(gigabytes * 1e9) == accelerator.memory_bytes:
            block["memory_GB"] = _number(gigabytes)
        else:
            block["memory_bytes"] = accelerator.memory_bytes
    block["launch_overhead_us"] = _number(accelerator.launch_overhead_ps / PS_PER_US)
    if accelerator.efficiency is not None:
        block["efficiency"] = _efficiency(accelerator.efficiency)
    return block


def _efficiency(efficiency: Efficiency) -> Content:
    block: Content = {"source": AS_ABOVE}
    for kind, table in ((MATMUL, efficiency.matmul), (ATTENTION, efficiency.attention)):
        if table:
            block[kind] = {dtype: _curve(curve, OPERATIONS) for dtype, curve in table.items()}
    if efficiency.memory != FULL:
        block["memory"] = _curve(efficiency.memory, BYTES)
    if efficiency.host_launch_ps:
        block["host_launch_us"] = _number(efficiency.host_launch_ps / PS_PER_US)
    return block


def _curve(curve: Curve, units: Mapping[str, float]) -> Content:
    usual, single = units
    sizes = tuple(size / units[usual] for size in curve.sizes)
    is_exact = all(short * units[usual] == size for short, size in zip(sizes, curve.sizes, strict=True))
    key, stated = (usual, sizes) if is_exact else (single, curve.sizes)
    return {key: [_number(size) for size in stated], SHARES: [_number(share) for share in curve.shares]}


def _dimension(dimension: Dimension) -> Content:
    block = {
        "name": dimension.name,
        "source": AS_ABOVE,
        "topology": dimension.topology,
        "size": "any" if dimension.size is None else dimension.size,
        **_rate("bandwidth", dimension.bandwidth_Bps),
        "latency_ns": ps_to_ns(dimension.latency_ps),
    }
    if dimension.ring_size is not None:
        block["ring_size"] = dimension.ring_size
    if dimension.ring_stride != 1:
        block["ring_stride"] = dimension.ring_stride
    if dimension.packet_bytes != DEFAULT_PACKET_BYTES:
        block["packet_bytes"] = dimension.packet_bytes
    return block


def _collectives(algorithms: Mapping[CommKind, tuple[str, ...]], dimensions: int) -> Content:
    """Default algorithm, which most kinds use, and the kinds that differ."""
    ((default, _),) = Counter(algorithms.values()).most_common(1)

    def written(names: tuple[str, ...]) -> str | list[str]:
        is_one = len(names) == dimensions and len(set(names)) == 1
        return names[0] if is_one else list(names)

    differing = {kind.label: written(names) for kind, names in algorithms.items() if names != default}
    return {"default": written(default), **differing}


def _scheduling(scheduling: Scheduling) -> Content:
    default = Scheduling()
    block: Content = {"rules": scheduling.rules.name}
    for key in ("chunks", "active_chunks", "queues", *CHOICES, "rendezvous"):
        value = getattr(scheduling, key)
        if value != getattr(default, key):
            block[key] = value
    if scheduling.endpoint_ps != default.endpoint_ps:
        block["endpoint_ns"] = ps_to_ns(scheduling.endpoint_ps)
    if scheduling.reduction_Bps != default.reduction_Bps:
        block |= _rate("reduction", scheduling.reduction_Bps)
    if scheduling.bus is not None:
        bus = scheduling.bus
        block["bus"] = {field.name: _number(getattr(bus, field.name)) for field in fields(bus)}
    if scheduling.custom:
        block["custom"] = {kind.label: path for kind, path in scheduling.custom.items()}
    if scheduling.custom_by_node:
        block["custom_by_node"] = dict(scheduling.custom_by_node)
    return block


def _remote_memory(memory: RemoteMemory) -> Content:
    block = {
        "source": AS_ABOVE,
        **_rate("bandwidth", memory.bandwidth_Bps),
        "latency_ns": ps_to_ns(memory.latency_ps),
    }
    if memory.sharing != "per-rank":
        block["sharing"] = memory.sharing
    if memory.sharing == "per-node":
        block["ranks_per_node"] = memory.ranks_per_node
    return block


def _rate(what: str, bytes_per_s: float) -> dict[str, int | float]:
    giga = bytes_per_s / 1e9
    if giga * 1e9 == bytes_per_s:
        return {f"{what}_GBps": _number(giga)}
    return {f"{what}_Bps": _number(bytes_per_s)}


def _number(value: float) -> int | float:
    """An int where that is the same, for the looks."""
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
