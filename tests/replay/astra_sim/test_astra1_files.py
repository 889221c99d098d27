"""Network and system files of ASTRA-sim 1.0: what can't be right is named, with the file and the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.astra_sim.imported import Imported
from chakrasim.traces.errors import ConfigError

NETWORK = {
    "dimensions-count": 1,
    "topologies-per-dim": ["Ring"],
    "units-count": [4],
    "links-count": [2],
    "link-latency": [500],
    "link-bandwidth": [50],
}
SYSTEM = {
    "scheduling-policy": "LIFO",
    "endpoint-delay": 10,
    "active-chunks-per-dimension": 1,
    "preferred-dataset-splits": 4,
    "all-reduce-implementation": "ring",
    "all-gather-implementation": "ring",
    "reduce-scatter-implementation": "ring",
    "all-to-all-implementation": "ring",
    "collective-optimization": "localBWAware",
}


def read(folder: Path, network: dict[str, Any], system: dict[str, Any], scale: float = 1.0) -> Imported:
    """A machine from the usual files with other values."""
    (folder / "network.json").write_text(json.dumps(NETWORK | network))
    lines = [f"{key}: {value}" for key, value in (SYSTEM | system).items()]
    (folder / "system.txt").write_text("\n".join(lines))
    return read_astra_sim(
        network=folder / "network.json", system=folder / "system.txt", injection_scale=scale
    )


def test_the_injection_scale_multiplies_the_endpoint_delay(tmp_path: Path) -> None:
    assert read(tmp_path, {}, {}).machine.system.endpoint_ps == 10_000
    assert read(tmp_path, {}, {"endpoint-delay": 7}, scale=1.5).machine.system.endpoint_ps == 10_000


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"link-latency": [1e13]},
            "link-latency of dimension 0 is 10000000000000.0; expected a number of at most",
        ),
        ({"link-latency": [-1]}, "link-latency of dimension 0 is -1; expected a number of 0 or more"),
        (
            {"nic-latency": [1e300]},
            "nic-latency of dimension 0 is 1e+300; expected a number of at most 1e+12",
        ),
        ({"link-bandwidth": [1e40]}, "link-bandwidth of dimension 0 is 1e+40; expected a number of at most"),
        ({"link-bandwidth": [True]}, "link-bandwidth of dimension 0 is True; expected a number"),
        (
            {"units-count": [2**63]},
            "units-count of dimension 0 is 9223372036854775808; expected a whole number",
        ),
        ({"units-cout": [4]}, "unknown key 'units-cout'; did you mean 'units-count'?"),
        ({"topologies-per-dim": ["Rng"]}, "topologies-per-dim of dimension 0 is 'Rng'; did you mean 'Ring'?"),
    ],
)
def test_each_mistake_in_a_network_file_is_named(
    tmp_path: Path, network: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, network, {})
    assert str(error.value).startswith(f"{tmp_path / 'network.json'}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("system", "scale", "message"),
    [
        (
            {"endpoint-delay": 10**13},
            1,
            "endpoint-delay is '10000000000000'; expected at most 1,000,000,000,000",
        ),
        ({"endpoint-delay": "1" + "0" * 5000}, 1, "endpoint-delay is '1000"),
        ({}, 1e300, "endpoint-delay is 1e+301 ns; expected at most 1,000,000,000,000"),
        ({"preferred-dataset-splits": 0}, 1, "preferred-dataset-splits is '0'; expected a whole number of 1"),
        ({"model-shared-bus": 1, "G": 1e300}, 1, "G is '1e+300'; expected at most 1,000,000,000"),
        ({"model-shared-bus": 1, "L": "x"}, 1, "L is 'x'; expected a number of 0 or more"),
        ({"endpoint-dlay": 1}, 1, "unknown key 'endpoint-dlay'; did you mean 'endpoint-delay'?"),
        ({"scheduling-policy": "LFO"}, 1, "scheduling-policy is 'LFO'; did you mean 'LIFO'?"),
    ],
)
def test_each_mistake_in_a_system_file_is_named(
    tmp_path: Path, system: dict[str, Any], scale: float, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, {}, system, scale)
    assert str(error.value).startswith(f"{tmp_path / 'system.txt'}: ")
    assert message in str(error.value)
