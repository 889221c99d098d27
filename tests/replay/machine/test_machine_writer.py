"""A machine written as a machine file reads back as the same machine, to the last bit."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from astra_sim_folders import read_folder
from conftest import shared_files
from families import check_each, families
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.machine.files.read import read_machine
from chakrasim.replay.machine.files.write import machine_yaml
from chakrasim.replay.machine.load import load_machine, machine_names
from chakrasim.replay.machine.machine import Machine, RemoteMemory
from chakrasim.replay.machine.rules import ASTRA_SIM_1
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.traces import CommKind

VERSION_1 = [path.parent for path in shared_files("tutorial/more/*/network.json")]
CASES = [path.parent for path in shared_files("oracle/cases/*/network.yml")]


def plain(value: Any) -> Any:
    """A machine in a form that compares by content."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def check_round_trip(machine: Machine, folder: Path) -> str:
    path = folder / "written.yaml"
    path.write_text(machine_yaml(machine), encoding="utf-8")
    back = read_machine(path)
    assert plain(back) == plain(machine)
    if machine.accelerator is not None and back.accelerator is not None:
        # The first peak counts where a node states no data type.
        assert list(back.accelerator.peak_flops) == list(machine.accelerator.peak_flops)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", machine_names())
def test_machines_of_the_catalogue_read_back(name: str, tmp_path: Path) -> None:
    check_round_trip(load_machine(name), tmp_path)


FAMILIES = families(map(str, CASES), r".*/[A-Z](?=\d)")


def check_imported_machines_read_back(shared: Path, case: Path, tmp_path: Path) -> None:
    check_round_trip(read_folder(shared / case).machine, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_imported_machines_read_back(shared: Path, tmp_path: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda case: check_imported_machines_read_back(shared, Path(case), tmp_path))


@pytest.mark.parametrize("case", VERSION_1, ids=lambda case: case.name)
def test_imported_machines_of_version_1_read_back(shared: Path, case: Path, tmp_path: Path) -> None:
    folder = shared / case
    imported = read_astra_sim(network=folder / "network.json", system=folder / "system.txt")
    check_round_trip(imported.machine, tmp_path)


def test_everything_that_a_machine_can_have_reads_back(tmp_path: Path) -> None:
    (tmp_path / "algo.0.et").touch()
    (tmp_path / "other.xml").touch()
    algo = str(tmp_path / "algo")
    known = load_machine("tpu-v5e")
    assert known.accelerator is not None
    dimension = replace(
        known.dimensions[0], topology="ring", size=4, ring_size=8, ring_stride=2, packet_bytes=9000
    )
    outer = replace(dimension, name="42", topology="switch", ring_size=None, ring_stride=1)
    scheduling = Scheduling(
        rules=ASTRA_SIM_1,
        chunks=16,
        active_chunks=4,
        queues=2,
        all_reduce="per-dimension",
        dimension_order="themis",
        queue_order="smallest-first",
        priority="explicit",
        endpoint_ps=1_234_567,
        reduction_Bps=5e14,
        subgroup="ring",
        bus=Bus(20.5, 5.0, 3.0, 0.1, 2),
        rendezvous=True,
        custom={CommKind.ALL_GATHER: algo},
        custom_by_node={7: algo, 3: str(tmp_path / "other.xml")},
    )
    algorithms: dict[CommKind, tuple[str, ...]] = dict.fromkeys(CommKind, ("one-ring",))
    algorithms |= {CommKind.ALL_REDUCE: ("direct:3", "ring"), CommKind.BARRIER: ()}
    machine = replace(
        known,
        name="no: 'plain' text",
        source="two\nlines # and more\n\n  indented",
        accelerator=replace(known.accelerator, memory_bytes=123_456_789_123, peak_flops={"any": 1e12 / 3}),
        dimensions=(dimension, outer),
        algorithms=algorithms,
        cycle_ps=1000,
        remote_memory=RemoteMemory(64e9, 300_500, "per-node", 2),
        scheduling=scheduling,
        compute="roofline",
        groups={"1": (3, 0, 1), "tensor": (2,)},
    )
    check_round_trip(machine, tmp_path)
    check_round_trip(
        replace(machine, accelerator=None, compute="measured", scheduling=Scheduling(rules=ASTRA_SIM_1)),
        tmp_path,
    )


@given(
    bandwidth=st.floats(1.0, 1e30),
    latency_ps=st.integers(0, 10**15),
    memory_bytes=st.none() | st.integers(1, 10**18),
)
def test_figures_keep_every_bit(
    tmp_path_factory: pytest.TempPathFactory, bandwidth: float, latency_ps: int, memory_bytes: int | None
) -> None:
    known = load_machine("ethernet-10g")
    assert known.accelerator is not None
    accelerator = replace(
        known.accelerator,
        peak_flops={"fp32": bandwidth},
        memory_Bps=bandwidth,
        memory_bytes=memory_bytes,
        launch_overhead_ps=latency_ps,
    )
    dimension = replace(known.dimensions[0], bandwidth_Bps=bandwidth, latency_ps=latency_ps)
    remote = RemoteMemory(bandwidth, latency_ps, "pool")
    scheduling = Scheduling(endpoint_ps=latency_ps, reduction_Bps=bandwidth)
    machine = replace(
        known,
        accelerator=accelerator,
        dimensions=(dimension,),
        remote_memory=remote,
        scheduling=scheduling,
    )
    check_round_trip(machine, tmp_path_factory.mktemp("machine"))


def test_the_file_is_for_people(tmp_path: Path) -> None:
    known = load_machine("ethernet-10g")
    machine = replace(
        known, source="made up", accelerator=None, scheduling=Scheduling(chunks=4, endpoint_ps=10_500)
    )
    assert check_round_trip(machine, tmp_path) == (
        """\
name: ethernet-10g
source: made up

network:
- {name: ethernet, source: as above, topology: switch, size: any, bandwidth_GBps: 1.25, latency_ns: 15000}

collectives:
  default: ring

scheduling:
  rules: chakrasim
  chunks: 4
  endpoint_ns: 10.5
"""
    )
