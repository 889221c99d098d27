"""Machine files: the catalogue loads, and every mistake in a file of one's own is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from chakrasim.replay.machine import Machine, load_machine, machine_names, machine_path
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
