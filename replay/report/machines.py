"""Machines as JSON documents and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chakrasim.traces.units import PS_PER_NS, format_bytes, format_rate, format_time, ps_to_ns

if TYPE_CHECKING:
    from rich.console import Console

    from chakrasim.replay.machine import Machine

Document = dict[str, Any]


def describe_machine(machine: Machine) -> Document:
    """Everything a machine file states, with units in the keys; see `docs/json.md`."""
    accelerator, remote = machine.accelerator, machine.remote_memory
    return {
        "name": machine.name,
        "source": machine.source,
        "accelerator": {
            "name": accelerator.name,
            "peak_TFLOPs": {dtype: flops / 1e12 for dtype, flops in accelerator.peak_flops.items()},
            "memory_GBps": accelerator.memory_Bps / 1e9,
            "memory_bytes": accelerator.memory_bytes,
            "launch_overhead_ns": ps_to_ns(accelerator.launch_overhead_ps),
        },
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
        "remote_memory": None
        if remote is None
        else {
            "bandwidth_GBps": remote.bandwidth_Bps / 1e9,
            "latency_ns": ps_to_ns(remote.latency_ps),
        },
        "cycle_ps": machine.cycle_ps,
    }


def print_machines(console: Console, machines: Sequence[Mapping[str, Any]]) -> None:
    """A row a machine."""
    from chakrasim.replay.report.console import new_table, print_table

    table = new_table("Machines", ("name", "accelerator", "network, from the inside"), ("peak", "memory"))
    for machine in machines:
        accelerator = machine["accelerator"]
        dtype, peak = next(iter(accelerator["peak_TFLOPs"].items()))
        table.add_row(
            machine["name"],
            accelerator["name"],
            "\n".join(_link(dimension) for dimension in machine["dimensions"]),
            f"{peak:,.4g} TFLOP/s {dtype}",
            f"{format_bytes(accelerator['memory_bytes'])}, {format_rate(accelerator['memory_GBps'] * 1e9)}",
        )
    print_table(console, table)
    console.print("A machine's file, to start your own from: chakrasim machines show NAME", style="dim")


def _link(dimension: Mapping[str, Any]) -> str:
    """One dimension in few words; bandwidth is that of a link in one direction."""
    topology = dimension["topology"].replace("_", " ")
    bandwidth = format_rate(dimension["bandwidth_GBps"] * 1e9)
    latency = format_time(dimension["latency_ns"] * PS_PER_NS)
    return f"{topology} of {dimension['size'] or 'any'}, {bandwidth}, {latency}"
