"""Machines as JSON documents and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from chakrasim.traces.units import PS_PER_NS, format_bytes, format_rate, format_time, ps_to_ns

if TYPE_CHECKING:
    from rich.console import Console

    from chakrasim.replay.machine.efficiency import Curve, Efficiency
    from chakrasim.replay.machine.machine import Accelerator, Machine
    from chakrasim.replay.machine.scheduling import Scheduling

Document = dict[str, Any]


def describe_machine(machine: Machine) -> Document:
    """Everything a machine file states, with units in the keys; see `docs/json.md`."""
    remote = machine.remote_memory
    return {
        "name": machine.name,
        "source": machine.source,
        "accelerator": None if machine.accelerator is None else _accelerator(machine.accelerator),
        "dimensions": [
            {
                "name": dimension.name,
                "topology": dimension.topology,
                "size": dimension.size,
                "bandwidth_GBps": dimension.bandwidth_Bps / 1e9,
                "latency_ns": ps_to_ns(dimension.latency_ps),
            }
            for dimension in machine.dimensions
        ],
        "algorithms": {kind.label: list(names) for kind, names in machine.algorithms.items()},
        "nccl": None if machine.nccl is None else _nccl(machine),
        "remote_memory": None
        if remote is None
        else {
            "bandwidth_GBps": remote.bandwidth_Bps / 1e9,
            "latency_ns": ps_to_ns(remote.latency_ps),
            "sharing": remote.sharing,
            "ranks_per_node": remote.ranks_per_node,
        },
        "scheduling": None if machine.scheduling is None else _scheduling(machine.scheduling),
        "compute": machine.compute,
        "groups": {name: list(ranks) for name, ranks in machine.groups.items()},
        "cycle_ps": machine.cycle_ps,
    }


def _accelerator(accelerator: Accelerator) -> Document:
    return {
        "name": accelerator.name,
        "peak_TFLOPs": {dtype: flops / 1e12 for dtype, flops in accelerator.peak_flops.items()},
        "memory_GBps": accelerator.memory_Bps / 1e9,
        "memory_bytes": accelerator.memory_bytes,
        "launch_overhead_ns": ps_to_ns(accelerator.launch_overhead_ps),
        "efficiency": None if accelerator.efficiency is None else _efficiency(accelerator.efficiency),
    }


def _efficiency(efficiency: Efficiency) -> Document:
    def by_operations(curve: Curve) -> Document:
        return {"GFLOP": [size / 1e9 for size in curve.sizes], "of_peak": list(curve.shares)}

    memory = efficiency.memory
    return {
        "matmul": {dtype: by_operations(curve) for dtype, curve in efficiency.matmul.items()},
        "attention": {dtype: by_operations(curve) for dtype, curve in efficiency.attention.items()},
        "memory": {"MB": [size / 1e6 for size in memory.sizes], "of_peak": list(memory.shares)},
        "host_launch_ns": ps_to_ns(efficiency.host_launch_ps),
    }


def _nccl(machine: Machine) -> Document:
    from chakrasim.replay.machine.files.nccl import calibration_content

    assert machine.nccl is not None
    content = calibration_content(machine.nccl, [dimension.name for dimension in machine.dimensions], "")
    del content["source"]  # a machine has one, for everything it states
    return content


def _scheduling(scheduling: Scheduling) -> Document:
    reduction_GBps = scheduling.reduction_Bps / 1e9
    return {
        "rules": scheduling.rules.name,
        "chunks": scheduling.chunks,
        "active_chunks": scheduling.active_chunks,
        "queues": scheduling.queues,
        "all_reduce": scheduling.all_reduce,
        "dimension_order": scheduling.dimension_order,
        "queue_order": scheduling.queue_order,
        "priority": scheduling.priority,
        "endpoint_ns": ps_to_ns(scheduling.endpoint_ps),
        # JSON has no infinity.
        "reduction_GBps": reduction_GBps if isfinite(reduction_GBps) else None,
        "subgroup": scheduling.subgroup,
        "bus": None if scheduling.bus is None else asdict(scheduling.bus),
        "rendezvous": scheduling.rendezvous,
        "custom": {kind.label: path for kind, path in scheduling.custom.items()},
        "custom_by_node": {str(node): path for node, path in scheduling.custom_by_node.items()},
    }


def print_machines(console: Console, machines: Sequence[Mapping[str, Any]]) -> None:
    """A row a machine."""
    from chakrasim.replay.report.console import new_table, print_table

    table = new_table("Machines", ("name", "accelerator", "network, from the inside"), ("peak", "memory"))
    for machine in machines:
        lines = [_link(dimension) for dimension in machine["dimensions"]]
        if machine["nccl"] is not None:
            lines.append("collectives and messages as NCCL was measured")
        if machine["scheduling"] is not None:
            lines.append(_chunks(machine["scheduling"]))
        table.add_row(machine["name"], *_computes(machine["accelerator"], "\n".join(lines)))
    print_table(console, table)
    console.print("A machine's file, to start your own from: chakrasim machines show NAME", style="dim")


def _computes(accelerator: Mapping[str, Any] | None, network: str) -> tuple[str, str, str, str]:
    """The cells of a row after the name."""
    if accelerator is None:
        return "not stated", network, "", ""
    dtype, peak = next(iter(accelerator["peak_TFLOPs"].items()))
    memory = format_rate(accelerator["memory_GBps"] * 1e9)
    if accelerator["memory_bytes"] is not None:
        memory = f"{format_bytes(accelerator['memory_bytes'])}, {memory}"
    return accelerator["name"], network, f"{peak:,.4g} TFLOP/s {dtype}", memory


def _chunks(scheduling: Mapping[str, Any]) -> str:
    """How collectives are cut and queued, in few words."""
    chunks, active, queues = (scheduling[key] for key in ("chunks", "active_chunks", "queues"))
    parts = [f"{chunks} chunk{'s' if chunks > 1 else ''}, {active} at once"]
    if queues > 1:
        parts.append(f"{queues} queues")
    if scheduling["dimension_order"] != "ascending":
        parts.append(scheduling["dimension_order"])
    if scheduling["rules"] != "chakrasim":
        parts.append(f"as in {scheduling['rules']}")
    return ", ".join(parts)


def _link(dimension: Mapping[str, Any]) -> str:
    """One dimension in few words; bandwidth is that of a link in one direction."""
    topology = dimension["topology"].replace("_", " ")
    bandwidth = format_rate(dimension["bandwidth_GBps"] * 1e9)
    latency = format_time(dimension["latency_ns"] * PS_PER_NS)
    return f"{topology} of {dimension['size'] or 'any'}, {bandwidth}, {latency}"
