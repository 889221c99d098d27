"""Machines of the catalogue beside published measurements of NCCL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from chakrasim.replay.calibration.fit import Residual, calibrate, compare
from chakrasim.replay.calibration.nccl_tests import SEND_RECEIVE, Table
from chakrasim.replay.collectives import collective_ps
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces import CommKind
from chakrasim.traces.units import PS_PER_S


def published(shared: Path) -> list[dict[str, Any]]:
    entries = orjson.loads((shared / "published/measured.json").read_bytes())["entries"]
    return [entry for entry in entries if entry["category"] == "collective"]


def table(entry: dict[str, Any]) -> Table:
    """A published table of times."""
    setup, metrics = entry["setup"], entry["metrics"]
    units = {"time_ms_median": 1e3, "hardware_us": 1.0, "oop_time_us": 1.0}
    column = next(index for index, name in enumerate(metrics["columns"]) if name in units)
    unit, ranks = units[metrics["columns"][column]], setup["n_gpus"]
    per_host = setup.get("gpus_per_node", ranks)
    kind = SEND_RECEIVE if setup["collective"] == "send_recv" else "all-reduce"
    times = tuple(row[column] * unit for row in metrics["rows"])
    sizes = tuple(row[0] for row in metrics["rows"])
    return Table(entry["id"], kind, (per_host,) * (ranks // per_host), sizes, times)


def residuals(shared: Path, name: str, machine: Machine) -> list[Residual]:
    found = [compare(machine, table(entry)) for entry in published(shared) if entry["id"].startswith(name)]
    if not found:
        pytest.skip(f"no {name} in the published tables")
    return found


def test_published_all_reduces_of_a100_are_met(shared: Path) -> None:
    for residual in residuals(shared, "nccl.allreduce.a100_40g", load_machine("dgx-a100")):
        assert abs(residual.large()).max() < 0.15, residual.table.name
        assert abs(residual.large()).mean() < 0.06, residual.table.name


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("vidur.all_reduce.a100_dgx.8x8", "dgx-a100"),
        ("vidur.all_reduce.a100_dgx.2x2", "dgx-a100"),
        ("vidur.send_recv.a100_dgx.2x2", "dgx-a100"),
        ("vidur.all_reduce.h100_dgx", "hgx-h100"),
        ("vidur.send_recv.h100_dgx", "hgx-h100"),
    ],
)
def test_profiles_of_vidur_are_met(shared: Path, name: str, machine: str) -> None:
    for residual in residuals(shared, name, load_machine(machine)):
        assert abs(residual.large()).mean() < 0.15, residual.table.name


def test_rings_on_h100_are_met(shared: Path) -> None:
    machine = load_machine("hgx-h100")
    assert machine.nccl is not None
    rings = replace(machine, nccl=replace(machine.nccl, in_switch=None))  # NCCL_ALGO=RING
    for residual in residuals(shared, "astrasim.val.hgx_h100", rings):
        assert abs(residual.large()).max() < 0.1, residual.table.name


def test_the_peak_of_h100_in_a_host_is_met(shared: Path) -> None:
    (spot,) = (entry for entry in published(shared) if entry["id"] == "nccl.spot.h100")
    size_bytes = 2**34
    machine = load_machine("hgx-h100").sized_for(8)
    cost_ps = collective_ps(machine, CommKind.ALL_REDUCE, size_bytes, tuple(range(8)))
    bus_GBps = size_bytes * 1.75 / (cost_ps / PS_PER_S) / 1e9
    assert bus_GBps == pytest.approx(spot["metrics"]["allreduce_peak_busbw_GBps"], rel=0.02)


@pytest.mark.slow
def test_what_is_left_out_is_still_met(shared: Path) -> None:
    """16 GPUs on two hosts, from fits to 2, 8 and 64; and 8 from 2, 16 and 64."""
    tables = [table(entry) for entry in published(shared) if entry["id"].startswith("nccl.allreduce.a100")]
    if len(tables) < 4:
        pytest.skip("the published tables lack some rank counts")
    machine = replace(load_machine("dgx-a100"), nccl=None)
    for ranks in (8, 16):
        (left_out,) = (found for found in tables if found.ranks == ranks)
        fit = calibrate(machine, [found for found in tables if found is not left_out])
        assert abs(compare(fit.machine, left_out).large()).mean() < 0.1
