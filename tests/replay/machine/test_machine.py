"""Machine files: the catalogue loads, and every mistake in a file of one's own is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chakrasim.converters.synthetic.micro.collective import generate_collective
from chakrasim.replay.collectives.placement import placement
from chakrasim.replay.compute.roofline import Roofline
from chakrasim.replay.machine.load import load_machine, machine_names, machine_path
from chakrasim.replay.machine.machine import Machine, RemoteMemory
from chakrasim.replay.machine.rules import ASTRA_SIM_2
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.report.console import people_console
from chakrasim.replay.report.machine.machines import describe_machine, print_machines
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind
from chakrasim.traces.errors import ConfigError, UnknownName

GOOD = """
name: two
source: made up
accelerator:
  name: chip
  source: made up
  peak_TFLOPs: {bf16: 100, fp32: 10}
  memory_GBps: 1000
  memory_GB: 16
  launch_overhead_us: 2.5
network:
  - {name: inner, source: made up, topology: ring, size: 4, bandwidth_GBps: 100, latency_ns: 500}
  - {name: outer, source: made up, topology: switch, size: any, bandwidth_GBps: 12.5, latency_ns: 2000}
collectives: {default: ring, all-to-all: [direct, ring]}
"""

SCHEDULING = """
scheduling:
  rules: astra-sim-2
  chunks: 16
  active_chunks: 4
  queues: 2
  all_reduce: per-dimension
  dimension_order: themis
  queue_order: smallest-first
  priority: explicit
  endpoint_ns: 10.5
  reduction_GBps: 1600
  subgroup: ring
  bus: {latency_ns: 20, overhead_ns: 5, gap_ns: 3, ns_per_byte: 0.01, reduction_ns_per_100_bytes: 1}
  rendezvous: true
  custom: {all-reduce: algo}
  custom_by_node: {7: algo}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "m.yaml"
    path.write_text(text)
    return str(path)


def read(folder: Path, text: str = GOOD) -> Machine:
    return load_machine(write(folder, text))


def test_units_in_the_keys_become_base_units(tmp_path: Path) -> None:
    machine = read(tmp_path)
    inner, outer = machine.dimensions
    assert (inner.bandwidth_Bps, inner.latency_ps) == (100e9, 500_000)
    assert (outer.size, machine.size, machine.cycle_ps) == (None, None, 1)
    assert machine.accelerator.peak_flops == {"bf16": 100e12, "fp32": 10e12}
    assert (machine.accelerator.memory_Bps, machine.accelerator.memory_bytes) == (1e12, 16 * 10**9)
    assert machine.accelerator.launch_overhead_ps == 2_500_000
    assert machine.algorithms[CommKind.ALL_REDUCE] == ("ring", "ring")
    assert machine.algorithms[CommKind.ALL_TO_ALL] == ("direct", "ring")
    assert (machine.scheduling, machine.compute, machine.groups) == (None, "measured", {})


def test_a_scheduling_block_may_be_empty(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "scheduling:\n").scheduling == Scheduling()


def test_a_scheduling_block_says_how_chunks_are_queued(tmp_path: Path) -> None:
    (tmp_path / "algo.0.et").touch()
    machine = read(tmp_path, GOOD + SCHEDULING)
    custom = str(tmp_path / "algo")
    assert machine.scheduling == Scheduling(
        rules=ASTRA_SIM_2,
        chunks=16,
        active_chunks=4,
        queues=2,
        all_reduce="per-dimension",
        dimension_order="themis",
        queue_order="smallest-first",
        priority="explicit",
        endpoint_ps=10_500,
        reduction_Bps=1600e9,
        subgroup="ring",
        bus=Bus(20.0, 5.0, 3.0, 0.01, 1),
        rendezvous=True,
        custom={CommKind.ALL_REDUCE: custom},
        custom_by_node={7: custom},
    )


def test_the_other_optional_keys(tmp_path: Path) -> None:
    text = GOOD.replace(
        "topology: ring, size: 4", "topology: ring, size: 4, ring_size: 8, ring_stride: 2, packet_bytes: 256"
    )
    text += "compute: roofline\ngroups: {1: [1, 0], tensor: [3]}\n"
    text += (
        "remote_memory: {source: x, bandwidth_Bps: 3, latency_ns: 5, sharing: per-node, ranks_per_node: 2}\n"
    )
    machine = read(tmp_path, text)
    assert (machine.dimensions[0].ring_size, machine.dimensions[0].ring_stride) == (8, 2)
    assert [dimension.packet_bytes for dimension in machine.dimensions] == [256, 4096]
    assert (machine.compute, machine.groups) == ("roofline", {"1": (1, 0), "tensor": (3,)})
    assert machine.remote_memory == RemoteMemory(3.0, 5_000, "per-node", 2)


def test_a_machine_needs_no_accelerator(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("accelerator:")] + GOOD[GOOD.index("network:") :]
    machine = read(tmp_path, text)
    assert machine.accelerator is None
    assert describe_machine(machine)["accelerator"] is None
    with pytest.raises(ConfigError, match="compute: roofline, and no accelerator"):
        read(tmp_path, text + "compute: roofline\n")
    with pytest.raises(ConfigError, match="two: the machine states no accelerator"):
        Roofline.from_machine(machine)


def test_an_accelerator_may_leave_out_how_much_memory_it_has(tmp_path: Path) -> None:
    accelerator = read(tmp_path, GOOD.replace("  memory_GB: 16\n", "")).accelerator
    assert accelerator is not None
    assert accelerator.memory_bytes is None


def test_a_list_of_algorithms_may_be_short_by_the_rules_of_astra_sim(tmp_path: Path) -> None:
    text = GOOD.replace("[direct, ring]", "[one-direct:4], barrier: []")
    machine = read(tmp_path, text + "scheduling: {rules: astra-sim-2}\n")
    assert machine.algorithms[CommKind.ALL_TO_ALL] == ("one-direct:4",)
    assert machine.algorithms[CommKind.BARRIER] == ()
    with pytest.raises(ConfigError, match="all-to-all names 1 algorithms; the network has 2 dimensions"):
        read(tmp_path, text + "scheduling: {}\n")


def test_the_table_of_machines_shows_scheduling_and_what_is_not_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = GOOD[: GOOD.index("accelerator:")] + GOOD[GOOD.index("network:") :]
    machine = read(tmp_path, without + "scheduling: {rules: astra-sim-2, chunks: 4, queues: 2}\n")
    print_machines(people_console(), [describe_machine(machine)])
    shown = capsys.readouterr().out
    assert "not stated" in shown
    assert "4 chunks, 1 at once, 2 queues, as in astra-sim-2" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rules: astra-sim-2", "rules: astra-sim-3", "did you mean 'astra-sim-2'"),
        ("chunks: 16", "chunks: 0", "scheduling has chunks: 0; expected a whole number of 1 or more"),
        ("active_chunks", "active_chunk", "did you mean 'active_chunks'"),
        ("priority: explicit", "priority: EXPLICIT", "expected one of lifo, fifo, explicit"),
        ("endpoint_ns: 10.5", "endpoint_ns: -1", "endpoint_ns: -1"),
        ("endpoint_ns: 10.5", "endpoint_ns: 1e+300", "endpoint_ns: '1e+300'; expected a number"),
        ("endpoint_ns: 10.5", "endpoint_ns: 1.0e+300", "expected a number of at most"),
        ("reduction_GBps: 1600", "reduction_GBps: 0", "reduction_GBps: 0; expected a number above 0"),
        ("reduction_GBps: 1600", "reduction_GBps: 1\n  reduction_Bps: 1", "both reduction_GBps and"),
        ("rendezvous: true", "rendezvous: 1", "rendezvous: 1; expected true or false"),
        ("gap_ns: 3, ", "", "bus lacks the key 'gap_ns'"),
        ("gap_ns: 3", "gap_ns: x", "bus has gap_ns: 'x'"),
        ("all-reduce: algo", "all-reduce: none", "custom has all-reduce: 'none'; expected a file"),
        ("all-reduce: algo", "all-reduc: algo", "did you mean 'all-reduce'"),
        ("7: algo", "x: algo", "custom_by_node has a key 'x'; expected the id of a node"),
        ("7: algo", "7: 8", "custom_by_node has 7: 8; expected a text"),
        ("scheduling:", "groups: {a: [0, 0]}\nscheduling:", "groups has a: [0, 0]; expected each rank once"),
        ("scheduling:", "groups: [0]\nscheduling:", "groups is [0]"),
        ("scheduling:", "compute: rofline\nscheduling:", "did you mean 'roofline'"),
    ],
)
def test_each_mistake_in_the_optional_blocks_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "algo.0.et").touch()
    assert old in SCHEDULING
    with pytest.raises(ConfigError) as error:
        read(tmp_path, GOOD + SCHEDULING.replace(old, new, 1))
    assert message in str(error.value)


def test_a_dimension_of_any_size_grows_with_the_workload(tmp_path: Path) -> None:
    machine = read(tmp_path)
    assert [machine.sized_for(n).dimensions[1].size for n in (1, 4, 5, 12, 13)] == [1, 1, 2, 3, 4]


def test_a_machine_that_is_too_small_says_by_how_much(tmp_path: Path) -> None:
    machine = read(tmp_path, GOOD.replace("size: any", "size: 2"))
    assert machine.sized_for(8) is machine
    with pytest.raises(ConfigError, match=r"has 8 ranks \(4 x 2\), the workload has 9"):
        machine.sized_for(9)


@pytest.mark.parametrize("name", machine_names())
def test_every_machine_of_the_catalogue_loads_and_names_its_sources(name: str) -> None:
    assert load_machine(name).name == name
    assert machine_path(name).read_text().count("source:") >= 3


def test_the_catalogue_has_what_the_readme_promises() -> None:
    assert {"dgx-a100", "hgx-h100", "tpu-v5e", "ethernet-10g"} <= set(machine_names())


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no machine 'hgx-h10'; did you mean 'hgx-h100'"):
        load_machine("hgx-h10")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bandwidth_GBps: 100",
            "bandwith_GBps: 100",
            "unknown key 'bandwith_GBps'; did you mean 'bandwidth_GBps'",
        ),
        ("bandwidth_GBps: 100", "bandwidth_GBps: -1", "network dimension 0 has bandwidth_GBps: -1"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: 0", "expected a number above 0"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: .nan", "bandwidth_GBps: nan"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: .inf", "bandwidth_GBps: inf"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: true", "bandwidth_GBps: True"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: fast", "bandwidth_GBps: 'fast'"),
        ("bandwidth_GBps: 100, ", "", "lacks the key 'bandwidth_GBps'"),
        ("latency_ns: 500", "latency_ns: 500, bandwidth_Bps: 1", "both bandwidth_GBps and bandwidth_Bps"),
        ("bandwidth_GBps: 100", "bandwidth_GBps: 1.0e+300", "expected a number from 1e-09 to 1e+21"),
        ("latency_ns: 2000", "latency_ns: 2000, ring_size: 4", "ring_size, and topology: switch"),
        ("[direct, ring]", "[direct, ring, ring]", "names 3 algorithms; the network has 2 dimensions"),
        ("[direct, ring]", "halving-dobling", "did you mean 'halving-doubling'"),
        ("peak_TFLOPs", "peak_FLOPs: {fp32: 1}\n  peak_TFLOPs", "both peak_TFLOPs and peak_FLOPs"),
        ("memory_GB: 16", "memory_GB: 16\n  memory_bytes: 16", "both memory_GB and memory_bytes"),
        (
            "name: two",
            "name: two\nremote_memory: {source: x, bandwidth_GBps: 1, latency_ns: 1, sharing: per-node}",
            "expected ranks_per_node where sharing is per-node",
        ),
        ("topology: ring", "topology: Ring", "did you mean 'ring'"),
        ("topology: ring", "topology: [ring]", "expected one of ring, fully_connected, switch"),
        ("size: 4", "size: 0", "size: 0; expected a whole number of 1 or more"),
        ("size: 4", "size: 2.5", "size: 2.5"),
        ("size: 4", "size: any", "only the last dimension can grow"),
        ("{default: ring,", "{", "collectives lacks the key 'default'"),
        ("[direct, ring]", "[direct]", "names 1 algorithms; the network has 2 dimensions"),
        ("[direct, ring]", "rin", "no collective algorithm 'rin'; did you mean 'ring'"),
        ("all-to-all:", "all-to-some:", "unknown key 'all-to-some'; did you mean 'all-to-all'"),
        ("{bf16: 100, fp32: 10}", "{}", "no data types"),
        ("{bf16: 100, fp32: 10}", "{bf16: none}", "bf16: 'none'"),
        ("name: two", "name: 2", "name: 2; expected a text"),
        ("name: two", "name: two\nname: three", "'name' is given twice"),
        ("name: two", "name: [", "not valid YAML"),
        ("network:", "network: 3\nnetwork2:", "unknown key 'network2'"),
        ("name: two", "name: two\ncycle_ps: 0", "cycle_ps: 0"),
        (
            "name: two",
            "name: two\nremote_memory: {source: x, bandwidth_GBps: 1}",
            "lacks the key 'latency_ns'",
        ),
    ],
)
def test_each_mistake_gets_one_line_that_names_it(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as error:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert message in str(error.value)
    assert "m.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "network:\n\t- x", "\xff"])
def test_what_is_no_machine_file_at_all_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"m\.yaml"):
        load_machine(str(path))


@pytest.mark.parametrize("name", ["hgx-h100", "tpu-v5e", "ethernet-10g"])
def test_equal_machines_have_equal_hashes(name: str) -> None:
    one, other = load_machine(name), load_machine(name)
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert one.sized_for(16) == other.sized_for(16)
    assert hash(one.sized_for(16)) == hash(other.sized_for(16))


def test_machines_that_differ_are_unequal() -> None:
    machine = load_machine("hgx-h100")
    assert machine != replace(machine, scheduling=Scheduling(chunks=4))
    assert machine != replace(machine, algorithms={})
    assert machine.sized_for(8) != machine.sized_for(16)


def test_equal_schedulings_have_equal_hashes() -> None:
    custom = {CommKind.ALL_REDUCE: "algo.xml"}
    assert Scheduling(chunks=4, custom=custom) == Scheduling(chunks=4, custom=dict(custom))
    assert hash(Scheduling(chunks=4, custom=custom)) == hash(Scheduling(chunks=4, custom=dict(custom)))
    assert Scheduling(chunks=4) != Scheduling(chunks=4, custom=custom)


@pytest.mark.parametrize("name", ["hgx-h100", "ethernet-10g"])
def test_a_machine_that_is_read_again_costs_no_collective_again(name: str) -> None:
    workload = generate_collective(CommKind.ALL_REDUCE, 1 << 20, 16)
    first = simulate(workload, load_machine(name)).step_time_ps
    missed = placement.cache_info().misses
    assert simulate(workload, load_machine(name)).step_time_ps == first
    assert placement.cache_info().misses == missed
