"""Files of ASTRA-sim: all that it runs are read, with its units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from astra_sim_folders import NETWORK, NETWORK_2D, REMOTE, read, read_folder
from conftest import shared_files
from families import check_each, families

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.machine.scheduling import Bus
from chakrasim.traces import CommKind
from chakrasim.traces.errors import ConfigError

CASES = [path.parent for path in shared_files("oracle/cases/*/network.yml")]


FAMILIES = families(map(str, CASES), r".*/[A-Z](?=\d)")


def check_all_files_that_astra_sim_runs_are_read(shared: Path, case: Path) -> None:
    machine = read_folder(shared / case).machine
    assert machine.name == "network"
    assert machine.source == "imported from network.yml and system.json"
    assert machine.cycle_ps == 1000
    assert machine.scheduling is not None
    assert machine.scheduling.rules.name == "astra-sim-2"
    assert machine.size == len(list((shared / case).glob("t.*.et")))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_files_that_astra_sim_runs_are_read(shared: Path, family: str) -> None:
    check_each(
        FAMILIES[family], lambda case: check_all_files_that_astra_sim_runs_are_read(shared, Path(case))
    )


def test_dimensions_have_the_units_of_astra_sim(tmp_path: Path) -> None:
    first, second = read(tmp_path, network=NETWORK_2D).machine.dimensions
    assert (first.name, first.topology, first.size) == ("dim0", "fully_connected", 4)
    assert (first.bandwidth_Bps, first.latency_ps) == (100 * 2**30, 250_000)
    assert (second.name, second.topology, second.size) == ("dim1", "switch", 2)
    assert (second.bandwidth_Bps, second.latency_ps) == (25 * 2**30, 936_250)


def test_a_number_that_only_yaml_1_2_knows_is_one(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "network.yml"
    path.write_text("topology: [Ring]\nnpus_count: [4]\nbandwidth: [5e1]\nlatency: [5e2]\n")
    dimension = read_folder(tmp_path).machine.dimensions[0]
    assert (dimension.bandwidth_Bps, dimension.latency_ps) == (50 * 2**30, 500_000)


def test_the_system_file_says_how_chunks_are_scheduled(tmp_path: Path) -> None:
    system = {
        "scheduling-policy": "EXPLICIT",
        "active-chunks-per-dimension": 2,
        "collective-optimization": "baseline",
    }
    scheduling = read(tmp_path, system, queues=3, rendezvous=True).machine.scheduling
    assert scheduling is not None
    assert (scheduling.chunks, scheduling.active_chunks, scheduling.queues) == (4, 2, 3)
    assert (scheduling.priority, scheduling.all_reduce) == ("explicit", "per-dimension")
    assert (scheduling.subgroup, scheduling.rendezvous, scheduling.bus) == ("ring", True, None)
    assert (scheduling.endpoint_ps, scheduling.reduction_Bps) == (10_000, 1600e9)


@pytest.mark.parametrize(
    ("delay", "scale", "endpoint_ps"),
    [(2.9, 1.0, 2_000), (2.9, 3.0, 6_000), (10, 0.25, 2_000), (0, 5.0, 0), (None, 3.0, 10_000)],
)
def test_an_endpoint_delay_is_cut_to_whole_nanoseconds(
    tmp_path: Path, delay: float | None, scale: float, endpoint_ps: int
) -> None:
    without = ("endpoint-delay",) if delay is None else ()
    imported = read(tmp_path, {"endpoint-delay": delay}, without=without, injection_scale=scale)
    assert imported.machine.scheduling is not None
    assert imported.machine.scheduling.endpoint_ps == endpoint_ps


def test_reductions_cost_nothing_without_a_memory_bandwidth(tmp_path: Path) -> None:
    for imported in (read(tmp_path, without=("local-mem-bw",)), read(tmp_path, {"local-mem-bw": 0})):
        assert imported.machine.scheduling is not None
        assert imported.machine.scheduling.reduction_Bps == float("inf")
        assert imported.machine.accelerator is None


def test_algorithms_have_our_names(tmp_path: Path) -> None:
    system = {
        "all-reduce-implementation": ["halvingDoubling", "doubleBinaryTree"],
        "all-gather-implementation": ["direct", "direct3"],
        "reduce-scatter-implementation": ["oneDirect12"],
        "all-to-all-implementation": ["oneRing"],
    }
    imported = read(tmp_path, system, NETWORK_2D)
    algorithms = imported.machine.algorithms
    assert algorithms[CommKind.ALL_REDUCE] == ("halving-doubling", "double-binary-tree")
    assert algorithms[CommKind.ALL_GATHER] == ("direct", "direct:3")
    assert algorithms[CommKind.REDUCE_SCATTER] == ("one-direct:12",)
    assert algorithms[CommKind.REDUCE_SCATTER_BLOCK] == ("one-direct:12",)
    assert algorithms[CommKind.ALL_TO_ALL] == ("one-ring",)
    assert algorithms[CommKind.BROADCAST] == algorithms[CommKind.BARRIER] == ()
    assert imported.notes == ()


@pytest.mark.parametrize("keys", [("topology",), tuple(NETWORK)])
def test_a_word_or_number_is_read_as_a_list_of_one(tmp_path: Path, keys: tuple[str, ...]) -> None:
    imported = read(tmp_path, network=NETWORK | {key: NETWORK[key][0] for key in keys})
    assert imported.machine.dimensions == read(tmp_path).machine.dimensions
    (note,) = imported.notes
    assert f"{', '.join(keys)} without brackets" in note


def test_a_list_for_the_leading_dimensions_stays_short_and_is_noted(tmp_path: Path) -> None:
    imported = read(tmp_path, network=NETWORK_2D, without=("all-to-all-implementation",))
    assert imported.machine.algorithms[CommKind.ALL_REDUCE] == ("ring",)
    assert imported.machine.algorithms[CommKind.ALL_TO_ALL] == ()
    (note,) = imported.notes
    assert "all-gather-implementation, reduce-scatter-implementation: fewer algorithms than" in note


def test_a_shared_bus_has_whole_nanoseconds_and_a_gap_in_single_precision(tmp_path: Path) -> None:
    # 0.1 in 32 bits is 13421773 / 2**27.
    system = {"model-shared-bus": 1, "L": 20.7, "o": 5, "g": 3.2, "G": 0.1}
    scheduling = read(tmp_path, system).machine.scheduling
    assert scheduling is not None
    assert scheduling.bus == Bus(20.0, 5.0, 3.0, 13421773 / 2**27, 1)


def test_parameters_of_a_bus_that_is_off_are_noted(tmp_path: Path) -> None:
    imported = read(tmp_path, {"model-shared-bus": 0, "L": 20, "G": 0.1})
    assert imported.machine.scheduling is not None
    assert imported.machine.scheduling.bus is None
    assert imported.notes == (f"{tmp_path / 'system.json'}: L, G: nothing without model-shared-bus",)


def test_a_roofline_takes_peak_and_memory_bandwidth(tmp_path: Path) -> None:
    machine = read(tmp_path, {"roofline-enabled": 1, "peak-perf": 312.5}).machine
    assert machine.compute == "roofline"
    assert machine.accelerator is not None
    assert machine.accelerator.peak_flops == {"any": 312.5e12}
    assert (machine.accelerator.memory_Bps, machine.accelerator.memory_bytes) == (1600e9, None)
    assert machine.accelerator.launch_overhead_ps == 0
    assert read(tmp_path, {"peak-perf": 312.5}).machine.compute == "measured"


def test_false_is_off_here_and_noted_since_it_is_on_there(tmp_path: Path) -> None:
    imported = read(tmp_path, {"roofline-enabled": False, "replay-only": "false"})
    assert (imported.machine.compute, imported.replay_only) == ("measured", False)
    assert [note.partition(": ")[2] for note in imported.notes] == [
        "roofline-enabled False is off here; ASTRA-sim turns it on, only the number 0 is off there",
        "replay-only 'false' is off here; ASTRA-sim turns it on, only the number 0 is off there",
    ]


@pytest.mark.parametrize("value", [1, True, "true"])
def test_replay_only_is_passed_on(tmp_path: Path, value: Any) -> None:
    imported = read(tmp_path, {"replay-only": value})
    assert (imported.replay_only, imported.notes) == (True, ())


def test_keys_without_effect_give_one_note(tmp_path: Path) -> None:
    system = {
        "boost-mode": 1,
        "inter-dimension-scheduling": "themis",
        "intra-dimension-scheduling": "SCF",
        "trace-enabled": 1,
        "local-mem-trace-filename": "x",
    }
    assert read(tmp_path, system).notes == (
        f"{tmp_path / 'system.json'}: boost-mode, inter-dimension-scheduling, intra-dimension-scheduling do "
        "nothing in ASTRA-sim 2 and nothing here",
    )
    (note,) = read(tmp_path, {"track-local-mem": 1}).notes
    assert "track-local-mem does nothing here" in note


@pytest.mark.parametrize(
    ("memory_type", "sharing", "ranks_per_node"),
    [
        ("PER_NPU_MEMORY_EXPANSION", "per-rank", 1),
        ("MEMORY_POOL", "pool", 1),
        ("PER_NODE_MEMORY_EXPANSION", "per-node", 2),
    ],
)
def test_remote_memory_has_whole_nanoseconds_and_bytes(
    tmp_path: Path, memory_type: str, sharing: str, ranks_per_node: int
) -> None:
    remote = {**REMOTE, "memory-type": memory_type, "remote-mem-bw": 64.9, "num-npus-per-node": 2}
    imported = read(tmp_path, remote={**remote, "num-nodes": 2})
    memory = imported.machine.remote_memory
    assert memory is not None
    assert (memory.bandwidth_Bps, memory.latency_ps) == (64e9, 300_000)
    assert (memory.sharing, memory.ranks_per_node) == (sharing, ranks_per_node)
    (note,) = imported.notes
    assert "remote-mem-bw 64.9 is cut to 64" in note


def test_no_memory_expansion_is_no_remote_memory(tmp_path: Path) -> None:
    assert read(tmp_path).machine.remote_memory is None


def test_groups_keep_the_order_of_their_ranks(tmp_path: Path) -> None:
    machine = read(tmp_path, groups={"1": [2, 0], "20": [3]}).machine
    assert machine.groups == {"1": (2, 0), "20": (3,)}


def test_the_word_empty_is_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path)
    monkeypatch.chdir(tmp_path)
    files = {"network": Path("network.yml"), "system": Path("system.json")}
    assert read_astra_sim(**files, groups=Path("empty")).machine.groups == {}
    with pytest.raises(ConfigError, match=r"empty\.json: can't be read"):
        read_astra_sim(**files, groups=Path("empty.json"))


def test_custom_collectives_are_found_beside_the_system_file(tmp_path: Path) -> None:
    (tmp_path / "algo.0.et").touch()
    (tmp_path / "nodes.yml").write_text("7: algo\n")
    system = {
        "all-reduce-implementation-custom": ["algo"],
        "reduce-scatter-implementation-custom": [str(tmp_path / "algo")],
        "per-node-custom-implementation": "nodes.yml",
    }
    scheduling = read(tmp_path, system).machine.scheduling
    assert scheduling is not None
    path = str(tmp_path / "algo")
    assert scheduling.custom == {
        CommKind.ALL_REDUCE: path,
        CommKind.REDUCE_SCATTER: path,
        CommKind.REDUCE_SCATTER_BLOCK: path,
    }
    assert scheduling.custom_by_node == {7: path}


def test_a_single_dimension_needs_no_way_to_split_all_reduces(tmp_path: Path) -> None:
    without = ("collective-optimization", "scheduling-policy")
    scheduling = read(tmp_path, without=without).machine.scheduling
    assert scheduling is not None
    assert (scheduling.all_reduce, scheduling.priority) == ("hierarchical", "lifo")


def test_a_network_of_version_1_goes_with_a_system_file_only(tmp_path: Path) -> None:
    network = tmp_path / "network.json"
    network.write_text('{"dimensions-count": 1}')
    with pytest.raises(ConfigError, match=r"ASTRA-sim 1\.0, which has no remote memory"):
        read_astra_sim(network=network, system=tmp_path / "system.txt", queues=2)
    with pytest.raises(ConfigError, match=r"system\.txt: can't be read"):
        read_astra_sim(network=network, system=tmp_path / "system.txt")


def test_a_model_parallel_group_has_to_end_between_dimensions(tmp_path: Path) -> None:
    assert read(tmp_path, network=NETWORK_2D, transformer_group=4).machine.size == 8
    with pytest.raises(ConfigError, match="group of 2 ranks ends inside dimension 0"):
        read(tmp_path, network=NETWORK_2D, transformer_group=2)
