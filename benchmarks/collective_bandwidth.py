"""Predicted beside measured NCCL tables: `python benchmarks/collective_bandwidth.py [measured.json]`.

Machines of the catalogue against the published tables of all-reduces and sends that were measured on such
machines: mean and worst error of the sizes from 1 MB on, and of those below. Then what the parameters are
worth for numbers of GPUs that they weren't fitted to: each table of the A100s is left out of a fit to the
others in turn. Where a table was measured with rings only (NCCL_ALGO=RING), NVLS is left out. The tables
default to `$CHAKRASIM_SHARED/published/measured.json`, else `../shared/published/measured.json`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from chakrasim.replay.calibration.fit import Residual, calibrate, compare
from chakrasim.replay.calibration.nccl_tests import SEND_RECEIVE, Table
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine

MACHINES = {
    "nccl.allreduce.a100_40g.ndv4": "dgx-a100",
    "vidur.all_reduce.a100_dgx": "dgx-a100",
    "vidur.send_recv.a100_dgx": "dgx-a100",
    "astrasim.val.hgx_h100": "hgx-h100",
    "vidur.all_reduce.h100_dgx": "hgx-h100",
    "vidur.send_recv.h100_dgx": "hgx-h100",
}
"""By the beginning of a table's id."""
MEASUREMENTS = (
    Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "published"
    / "measured.json"
)
OTHER_NETWORK = (
    "vidur.all_reduce.a100_dgx.2x1",
    "vidur.all_reduce.a100_dgx.8x4",
    "vidur.send_recv.a100_dgx.2x1",
)
"""Measured between hosts with another network than that of the machine."""
LEFT_OUT = "nccl.allreduce.a100_40g.ndv4"
UNITS = {"time_ms_median": 1e3, "hardware_us": 1.0, "oop_time_us": 1.0}
"""Columns of times, in microseconds."""


def table(entry: dict[str, Any]) -> Table:
    """A published table; where nothing is said of hosts it is one."""
    setup, metrics = entry["setup"], entry["metrics"]
    column = next(index for index, name in enumerate(metrics["columns"]) if name in UNITS)
    unit, ranks = UNITS[metrics["columns"][column]], setup["n_gpus"]
    per_host = setup.get("gpus_per_node", ranks)
    return Table(
        entry["id"],
        SEND_RECEIVE if setup["collective"] == "send_recv" else "all-reduce",
        (per_host,) * (ranks // per_host),
        tuple(row[0] for row in metrics["rows"]),
        tuple(row[column] * unit for row in metrics["rows"]),
    )


def machine_for(entry: dict[str, Any]) -> Machine | None:
    """The machine of the catalogue on which a table was measured, if there is one."""
    name = next((name for start, name in MACHINES.items() if entry["id"].startswith(start)), None)
    if name is None or "rows" not in entry["metrics"]:
        return None
    machine = load_machine(name)
    if "ring" in entry["setup"].get("algo", "") and machine.nccl is not None:
        machine = replace(machine, nccl=replace(machine.nccl, in_switch=None))
    return machine


def line(residual: Residual, note: str = "") -> str:
    """One table in a row of the report."""
    below = 100 * abs(residual.errors[residual.sizes_bytes < 10**6])
    large = 100 * abs(residual.large())
    few = f"{below.mean():10.1f}" if len(below) else f"{'':>10}"
    return f"{residual.table.name:42} {large.mean():8.1f} {large.max():8.1f} {few}  {note}"


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=MEASUREMENTS)
def main(path: Path) -> None:
    """Print both parts."""
    entries = orjson.loads(path.read_bytes())["entries"]
    heading = f"{'error in percent':42} {'mean':>8} {'worst':>8} {'below 1 MB':>10}"
    print(heading)
    means = []
    for entry in entries:
        machine = machine_for(entry)
        if machine is None:
            continue
        residual = compare(machine, table(entry))
        is_other = entry["id"].startswith(OTHER_NETWORK)
        print(line(residual, "another network" if is_other else ""))
        if not is_other:
            means.append(abs(residual.large()).mean())
    if not means:
        sys.exit(f"{path}: no table of {', '.join(MACHINES)}")
    print(f"{'mean of the tables on such a machine':42} {100 * np.mean(means):8.1f}\n")
    print("fitted to the other tables only\n" + heading)
    tables = [table(entry) for entry in entries if entry["id"].startswith(LEFT_OUT)]
    unknown = replace(load_machine(MACHINES[LEFT_OUT]), nccl=None)
    for left_out in tables:
        fit = calibrate(unknown, [other for other in tables if other is not left_out])
        print(line(compare(fit.machine, left_out)))


if __name__ == "__main__":
    main()
