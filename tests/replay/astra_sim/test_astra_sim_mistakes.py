"""Files of ASTRA-sim: every mistake in one gets a line that names the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from astra_sim_folders import NETWORK, REMOTE, read, read_folder

from chakrasim.traces.errors import ConfigError

MALFORMED = {
    "file_bad_json": ("system.json", "not valid JSON"),
    "file_missing_network": ("network.yml", "No such file"),
    "file_missing_remote": ("remote.json", "No such file"),
    "file_missing_system": ("system.json", "No such file"),
    "graph_group_id_text": ("groups.json", "a group 'dp'; expected a whole number of 1 or more"),
    "graph_group_id_zero": ("groups.json", "a group '0'"),
    "mem_bad_type": ("remote.json", "memory-type: 'FOO'; expected one of NO_MEMORY_EXPANSION, PER_NPU"),
    "net_bad_yaml": ("network.yml", "not valid YAML"),
    "net_float_npus": ("network.yml", "npus_count 4.5 in dimension 0; expected a whole number of 2 or more"),
    "net_length_mismatch": ("network.yml", "2 entries in bandwidth and 1 in topology"),
    "net_lowercase_topology": ("network.yml", "did you mean 'Ring'? capitals count"),
    "net_missing_latency": ("network.yml", "lacks the key 'latency'"),
    "net_nan_bw": ("network.yml", "bandwidth: nan; expected a number above 0"),
    "net_negative_bw": ("network.yml", "bandwidth: -50.0; expected a number above 0"),
    "net_negative_latency": ("network.yml", "latency: -5; expected a number of 0 or more"),
    "net_one_npu": ("network.yml", "npus_count 1 in dimension 0; expected a whole number of 2 or more"),
    "net_text_bw": ("network.yml", "bandwidth: 'abc'"),
    "net_unknown_topology": ("network.yml", "topology 'Torus' in dimension 0; a torus is a Ring in each"),
    "net_zero_bw": ("network.yml", "bandwidth: 0"),
    "roof_no_peak": ("system.json", "peak-perf absent"),
    "sys_active_chunks_zero": ("system.json", "active-chunks-per-dimension: 0"),
    "sys_collopt_missing_2d": ("system.json", "lacks the key 'collective-optimization'"),
    "sys_direct_window_zero": ("system.json", "'direct0' in all-reduce-implementation"),
    "sys_endpoint_negative": ("system.json", "endpoint-delay: -5"),
    "sys_impl_more_than_dims": ("system.json", "2 algorithms in all-reduce-implementation"),
    "sys_impl_string": ("system.json", "all-reduce-implementation: 'ring'; expected a list"),
    "sys_impl_unknown": ("system.json", "'tree' in all-reduce-implementation"),
    "sys_policy_unknown": ("system.json", "scheduling-policy: 'SJF'; expected one of LIFO, FIFO, EXPLICIT"),
    "sys_splits_missing": ("system.json", "lacks the key 'preferred-dataset-splits'"),
    "sys_splits_negative": ("system.json", "preferred-dataset-splits: -1"),
}
"""Those of the malformed inputs whose fault lies in these files: which file, and what the message says."""


@pytest.mark.parametrize("name", MALFORMED)
def test_all_files_that_astra_sim_stumbles_over_are_refused(shared: Path, name: str) -> None:
    folder = shared / f"oracle/malformed/{name}"
    file, message = MALFORMED[name]
    with pytest.raises(ConfigError) as error:
        read_folder(folder)
    assert str(error.value).startswith(f"{folder / file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"endpoint-dealy": 1}, "unknown key 'endpoint-dealy'; did you mean 'endpoint-delay'"),
        ({"endpoint-delay": "10"}, "endpoint-delay: '10'; expected a number of 0 or more"),
        ({"endpoint-delay": 1e300}, "endpoint-delay: 1e+300; expected at most 1,000,000,000,000 ns"),
        ({"endpoint-delay": 10**400}, "endpoint-delay: 1000"),
        ({"preferred-dataset-splits": 0}, "preferred-dataset-splits: 0"),
        ({"preferred-dataset-splits": 2**63}, "preferred-dataset-splits: 9223372036854775808"),
        ({"preferred-dataset-splits": True}, "preferred-dataset-splits: True"),
        ({"preferred-dataset-splits": None}, "preferred-dataset-splits: None"),
        ({"local-mem-bw": -1}, "local-mem-bw: -1"),
        ({"local-mem-bw": 1e300}, "local-mem-bw: 1e+300"),
        ({"collective-optimization": "baselin"}, "did you mean 'baseline'"),
        ({"scheduling-policy": ["LIFO"]}, "scheduling-policy: ['LIFO']; did you mean 'LIFO'?"),
        ({"all-reduce-implementation": []}, "all-reduce-implementation: []; expected a list"),
        ({"all-reduce-implementation": [["ring"]]}, "['ring'] in all-reduce-implementation"),
        ({"all-reduce-implementation": ["halvingdoubling"]}, "did you mean 'halvingDoubling'"),
        ({"all-reduce-implementation-custom": "algo"}, "expected a list of one path"),
        ({"all-reduce-implementation-custom": ["a", "b"]}, "expected a list of one path"),
        ({"all-reduce-implementation-custom": ["algo"]}, "expected a file, or algo.0.et"),
        ({"all-reduce-implementation-custom": ["x" * 5000]}, "expected a file"),
        ({"all-reduce-implementation-custom": ["\0"]}, "expected a file"),
        ({"per-node-custom-implementation": "none.yml"}, "per-node-custom-implementation: 'none.yml'"),
        ({"model-shared-bus": 2}, "model-shared-bus: 2; expected 0 or 1"),
        ({"model-shared-bus": "1"}, "model-shared-bus: '1'; expected 0 or 1"),
        ({"G": -0.1}, "G: -0.1"),
        ({"G": 1e39}, "G: 1e+39"),
        ({"local-reduction-delay": 1.5}, "local-reduction-delay: 1.5"),
        ({"roofline-enabled": "perhaps"}, "roofline-enabled: 'perhaps'"),
        ({"trace-enabled": None}, "trace-enabled: None"),
        ({"roofline-enabled": 1, "peak-perf": 0}, "peak-perf 0"),
        ({"roofline-enabled": 1, "peak-perf": 1, "local-mem-bw": 0}, "local-mem-bw 0"),
    ],
)
def test_each_mistake_in_a_system_file_is_named(tmp_path: Path, system: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, system)
    assert str(error.value).startswith(str(tmp_path / "system.json"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"bandwith": [1]}, "unknown key 'bandwith'; did you mean 'bandwidth'"),
        ({"topology": []}, "topology: []; expected a list"),
        ({"topology": None}, "topology: None; expected a list"),
        ({"npus_count": {"x": 4}}, "npus_count: {'x': 4}; expected a list"),
        ({"npus_count": 1}, "npus_count 1 in dimension 0; expected a whole number of 2 or more"),
        ({"npus_count": True}, "npus_count True in dimension 0"),
        ({"bandwidth": -1}, "bandwidth: -1; expected a number above 0"),
        ({"topology": "Torus"}, "topology 'Torus' in dimension 0"),
        ({"topology": "Ring", "npus_count": [2, 2]}, "2 entries in npus_count and 1 in topology"),
        ({"topology": ["FULLYCONNECTED"]}, "did you mean 'FullyConnected'"),
        ({"topology": [["Ring"]]}, "topology ['Ring'] in dimension 0"),
        ({"npus_count": [4, 4]}, "2 entries in npus_count and 1 in topology"),
        ({"npus_count": ["4"]}, "npus_count '4'"),
        ({"npus_count": [True]}, "npus_count True"),
        ({"latency": [1e300]}, "latency: 1e+300"),
        ({"latency": [None]}, "latency: None"),
        ({"bandwidth": [1e-300]}, "bandwidth: 1e-300"),
        ({"bandwidth": ["1e400"]}, "bandwidth: inf"),
        ({"bandwidth": ["1.2.3"]}, "bandwidth: '1.2.3'"),
    ],
)
def test_each_mistake_in_a_network_file_is_named(
    tmp_path: Path, network: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, network={**NETWORK, **network})
    assert str(error.value).startswith(str(tmp_path / "network.yml"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("remote", "message"),
    [
        ({"remote-mem-bw": 0}, "remote-mem-bw 0; expected bytes a nanosecond"),
        ({"remote-mem-bw": 0.5}, "remote-mem-bw 0.5"),
        ({"remote-mem-bw": -1}, "remote-mem-bw: -1"),
        ({"remote-mem-latency": "1"}, "remote-mem-latency: '1'"),
        ({"remote-mem-bandwidth": 1}, "unknown key 'remote-mem-bandwidth'"),
        ({"memory-type": "MEMORY_POOLS"}, "did you mean 'MEMORY_POOL'"),
        ({"memory-type": "PER_NODE_MEMORY_EXPANSION"}, "lacks the key 'num-npus-per-node'"),
        (
            {"memory-type": "PER_NODE_MEMORY_EXPANSION", "num-npus-per-node": 2, "num-nodes": 1},
            "expected room for the 4 ranks",
        ),
    ],
)
def test_each_mistake_in_a_remote_memory_file_is_named(
    tmp_path: Path, remote: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, remote={**REMOTE, **remote})
    assert str(error.value).startswith(str(tmp_path / "remote.json"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"1": [0, 4]}, "rank 4 in group 1; the network has ranks 0 to 3"),
        ({"1": [0, 0]}, "1: [0, 0]; expected each rank once"),
        ({"1": []}, "1: []; expected a list of ranks"),
        ({"1": 3}, "1: 3; expected a list of ranks"),
        ({"1": [0, -1]}, "1: [0, -1]"),
        ({"1": [True]}, "1: [True]"),
        ({"-1": [0]}, "a group '-1'"),
        ({"1.5": [0]}, "a group '1.5'"),
    ],
)
def test_each_mistake_in_a_file_of_groups_is_named(
    tmp_path: Path, groups: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, groups=groups)
    assert str(error.value).startswith(str(tmp_path / "groups.json"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("system.json", '{"L": 1, "L": 2}', "the key 'L' is given twice"),
        ("system.json", '{"L": NaN}', "NaN is no number of JSON"),
        ("system.json", "[]", "the file is []; expected keys and values"),
        ("system.json", "", "not valid JSON"),
        ("system.json", "[" * 100_000, "not valid JSON"),
        ("system.json", "\udcff", "not valid JSON"),
        ("network.yml", "topology: [Ring]\ntopology: [Ring]", "'topology' is given twice"),
        ("network.yml", "", "the file is None; expected keys and values"),
        ("network.yml", "\udcff", "not valid YAML"),
    ],
)
def test_what_is_no_such_file_at_all_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    read(tmp_path)
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as error:
        read_folder(tmp_path)
    assert str(error.value).startswith(str(tmp_path / name))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": 0}, "queues in each dimension are 0"),
        ({"injection_scale": -1.0}, "the injection scale is -1.0"),
        ({"injection_scale": float("nan")}, "the injection scale is nan"),
    ],
)
def test_each_mistake_in_an_option_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **options)
