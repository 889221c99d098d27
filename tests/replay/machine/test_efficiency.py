"""What kernels reach of an accelerator's peaks, by their kind and size."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_cases import comp, rank

from chakrasim.replay.machine.efficiency import Curve, Efficiency
from chakrasim.replay.machine.files.write import machine_yaml
from chakrasim.replay.machine.load import load_machine, machine_names
from chakrasim.replay.machine.machine import Accelerator, Machine
from chakrasim.replay.report.machine.machines import describe_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import GraphBuilder, Workload
from chakrasim.traces.errors import ConfigError, TraceError

EFFICIENCY = """\
  efficiency:
    source: made up
    matmul:
      default: {GFLOP: [1, 100], of_peak: [0.2, 0.8]}
      fp32: {GFLOP: [10], of_peak: [0.5]}
    attention:
      default: {FLOP: [1.0e+9], of_peak: [0.25]}
    memory: {MB: [1, 10000], of_peak: [0.1, 0.9]}
    host_launch_us: 8
"""
MACHINE = """\
name: made up
source: made up
accelerator:
  name: chip
  source: made up
  peak_TFLOPs: {bf16: 100, fp32: 10}
  memory_GBps: 1000
  launch_overhead_us: 2
EFFICIENCY
network:
  - {name: links, source: made up, topology: switch, size: any, bandwidth_GBps: 1, latency_ns: 1}
collectives: {default: ring}
"""


def read(folder: Path, efficiency: str = EFFICIENCY) -> Machine:
    path = folder / "m.yaml"
    path.write_text(MACHINE.replace("EFFICIENCY\n", efficiency))
    return load_machine(str(path))


def accelerator_of(machine: Machine) -> Accelerator:
    assert machine.accelerator is not None
    return machine.accelerator


def efficiency_of(machine: Machine) -> Efficiency:
    found = accelerator_of(machine).efficiency
    assert found is not None
    return found


def alone(*nodes: dict[str, Any]) -> Workload:
    """One rank's compute nodes, none waiting for another, each on a lane of its own."""

    def build(builder: GraphBuilder) -> None:
        for number, node in enumerate(nodes):
            comp(builder, **{"duration_ps": 0, "lane": f"lane {number}"} | node)

    return Workload.from_graphs([rank(0, build)])


def times_us(machine: Machine, *nodes: dict[str, Any]) -> list[float]:
    """Durations by the roofline."""
    result = simulate(alone(*nodes), machine, compute="roofline")
    return [ps / 1e6 for ps in result.ends_ps.tolist()]


# Curves


def test_a_share_lies_on_a_line_of_logarithms_and_is_constant_beyond() -> None:
    curve = Curve((1e6, 1e8, 1e9), (0.1, 0.4, 0.9))
    sizes = np.array([0, 1, 1e6, 1e7, 1e8, sqrt(1e17), 1e9, 1e30])
    assert curve.at(sizes).tolist() == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.4, 0.6, 0.9, 0.9], rel=1e-12)


def test_where_the_share_grows_with_the_size_all_kernels_take_one_time() -> None:
    sizes = np.geomspace(1e6, 1e7, 20)
    times = sizes / Curve((1e6, 1e7), (0.05, 0.5)).at(sizes)
    assert times.tolist() == pytest.approx([2e7] * 20, rel=1e-12)


@given(
    st.lists(st.floats(1, 1e18), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0.01, 1), min_size=6, max_size=6),
    st.floats(0, 1e20),
)
def test_a_share_lies_between_those_of_its_table(sizes: list[float], shares: list[float], at: float) -> None:
    curve = Curve(tuple(sorted(sizes)), tuple(shares[: len(sizes)]))
    assert curve.at(np.array(curve.sizes)).tolist() == pytest.approx(curve.shares, rel=1e-9)
    (share,) = curve.at(np.array([at])).tolist()
    assert min(curve.shares) * (1 - 1e-9) <= share <= max(curve.shares) * (1 + 1e-9)


# The roofline


def test_kernels_reach_a_share_that_depends_on_kind_data_type_and_size(tmp_path: Path) -> None:
    machine = read(tmp_path)
    kernel = {"dtype": "bf16", "op_kind": "matmul"}
    assert times_us(
        machine,
        # 2 us to launch; 10^10 operations in the middle of the curve: 100 us at the peak, 0.4 of it.
        {"ops": 10**10, **kernel},
        # 10^9 and fewer: 0.2. 10 us and 1 us at the peak.
        {"ops": 10**9, **kernel},
        {"ops": 10**8, **kernel},
        # fp32 has a table of its own: 1000 us at its peak, a half of it. Attention: a quarter.
        {"ops": 10**10, **kernel, "dtype": "fp32"},
        {"ops": 10**10, **kernel, "op_kind": "attention"},
        # The arithmetic of everything else counts at the full peak.
        {"ops": 10**10, **kernel, "op_kind": "elementwise"},
    ) == pytest.approx([252, 52, 7, 2002, 402, 102])


def test_memory_has_a_curve_by_bytes(tmp_path: Path) -> None:
    assert times_us(
        read(tmp_path),
        # 10^8 bytes, 100 us at the full bandwidth, in the middle of the curve: 0.3. 10^6: 1 us, 0.1.
        {"tensor_bytes": 10**8, "op_kind": "elementwise"},
        {"tensor_bytes": 10**6, "op_kind": "elementwise"},
        # A product takes the longer of 250 us of arithmetic and 333.3 us of memory, then of 250 and 10.
        {"ops": 10**10, "tensor_bytes": 10**8, "dtype": "bf16", "op_kind": "matmul"},
        {"ops": 10**10, "tensor_bytes": 10**6, "dtype": "bf16", "op_kind": "matmul"},
    ) == pytest.approx([2 + 1000 / 3, 12, 2 + 1000 / 3, 252])


@pytest.mark.parametrize(
    ("stated", "shown"),
    [({}, "no op kind"), ({"op_kind": "sort"}, "the op kind 'sort', which isn't known,")],
)
def test_a_kernel_of_no_known_kind_is_a_product_if_it_does_much_for_a_byte(
    tmp_path: Path, stated: dict[str, Any], shown: str
) -> None:
    machine, kernel = read(tmp_path), {"dtype": "bf16", "ops": 10**10}
    nodes = [
        {**kernel, **stated},
        {**kernel, **stated, "tensor_bytes": 10**9},
        {**kernel, **stated, "tensor_bytes": 10**9 + 1},
        {**stated, "tensor_bytes": 10**6},
    ]
    # Products at 0.4 of the peak take 250 us; 10^9 bytes, 3/4 of the way, 0.1 * 9^(3/4) of the bandwidth.
    memory_us = 2 + 1000 / (0.1 * 9**0.75)
    assert times_us(machine, *nodes) == pytest.approx([252, memory_us, memory_us, 12], rel=1e-6)
    # Which table counts shows where memory is fast.
    chip = replace(
        accelerator_of(machine),
        memory_Bps=1e18,
        efficiency=replace(efficiency_of(machine), memory=Curve((1,), (1,))),
    )
    assert times_us(replace(machine, accelerator=chip), *nodes)[:3] == pytest.approx([252, 252, 102])
    notes = simulate(alone(*nodes), machine, compute="roofline").notes
    assert (
        f"device nodes that state {shown} count as matrix products from 10 operations a byte on, below that "
        "as bound by memory (4 of them)"
    ) in notes


def test_a_data_type_without_a_peak_is_costed_as_the_first_one(tmp_path: Path) -> None:
    nodes = [
        {"ops": 10**10, "dtype": dtype, "op_kind": "matmul"} for dtype in ("fp8", "mxfp8", "nvfp4", "bf16")
    ]
    nodes.append({"ops": 10**10, "op_kind": "matmul"})
    machine = read(tmp_path)
    assert times_us(machine, *nodes) == pytest.approx([252] * 5)
    notes = "\n".join(simulate(alone(*nodes), machine, compute="roofline").notes)
    for dtype in ("fp8", "mxfp8", "nvfp4"):
        assert (
            f"compute in {dtype}, for which chip states no peak, are costed at its bf16 peak (1 of" in notes
        )
    assert "device nodes that state no data type are costed at the bf16 peak (1 of them)" in notes


def test_a_launch_takes_the_hosts_time_for_each_of_its_operators(tmp_path: Path) -> None:
    launch = {"is_cpu": True, "op_kind": "launch", "ops": 5}
    nodes = [
        launch,
        {**launch, "duration_ps": 3_000_000},
        # Recorded, and took no time.
        {**launch, "start_ps": 0},
        {"is_cpu": True, "ops": 5},
        {"is_cpu": True, "op_kind": "matmul", "ops": 5},
        {**launch, "ops": -1},
    ]
    assert times_us(read(tmp_path), *nodes) == [40, 3, 0, 0, 0, 0]


def test_without_an_efficiency_the_peaks_are_reached_and_launches_take_no_time(tmp_path: Path) -> None:
    machine = read(tmp_path, "")
    nodes = [
        {"ops": 10**10, "dtype": "bf16", "op_kind": "matmul"},
        {"ops": 10**10, "dtype": "bf16"},
        {"tensor_bytes": 10**8, "op_kind": "elementwise"},
        {"is_cpu": True, "op_kind": "launch", "ops": 5},
    ]
    assert times_us(machine, *nodes) == [102, 102, 102, 0]
    assert simulate(alone(*nodes), machine, compute="roofline").notes == (
        "host nodes that launch operators take no time: chip states no host_launch_us (1 of them)",
    )


def test_a_table_that_is_left_out_changes_nothing(tmp_path: Path) -> None:
    machine = read(tmp_path, "  efficiency: {source: x}\n")
    product = {"ops": 10**10, "tensor_bytes": 10**6, "dtype": "bf16", "op_kind": "matmul"}
    assert times_us(machine, product, {"tensor_bytes": 10**8}) == [102, 102]


@given(
    st.integers(-1, 10**15),
    st.integers(-1, 10**13),
    st.sampled_from([None, "bf16", "fp32", "fp8"]),
    st.sampled_from([None, "matmul", "attention", "elementwise", "sort"]),
)
def test_no_kernel_is_faster_than_the_peaks(
    tmp_path_factory: pytest.TempPathFactory,
    ops: int,
    size_bytes: int,
    dtype: str | None,
    op_kind: str | None,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    node = {"ops": ops, "tensor_bytes": size_bytes, "dtype": dtype, "op_kind": op_kind}
    (bound,), (modelled,) = times_us(read(folder, ""), node), times_us(read(folder), node)
    # Shares are 0.1 to 1.
    assert bound <= modelled <= 2 + 10 * bound


@pytest.mark.parametrize(
    "node", [{"ops": 2**62, "tensor_bytes": 0}, {"ops": 2**62, "is_cpu": True, "op_kind": "launch"}]
)
def test_a_node_that_would_take_for_ever_is_named(tmp_path: Path, node: dict[str, Any]) -> None:
    chip = replace(accelerator_of(read(tmp_path)), peak_flops={"fp32": 1e12})
    with pytest.raises(
        TraceError, match=r"rank 0 node 0 \('comp'\) would take .* expected at most 1,000,000 s"
    ):
        times_us(replace(read(tmp_path), accelerator=chip), node)


# The machine file


def test_the_block_is_read_in_base_units(tmp_path: Path) -> None:
    assert efficiency_of(read(tmp_path)) == Efficiency(
        matmul={"default": Curve((1e9, 1e11), (0.2, 0.8)), "fp32": Curve((1e10,), (0.5,))},
        attention={"default": Curve((1e9,), (0.25,))},
        memory=Curve((1e6, 1e10), (0.1, 0.9)),
        host_launch_ps=8_000_000,
    )
    assert accelerator_of(read(tmp_path, "")).efficiency is None


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("    source: made up\n", "", "m.yaml: efficiency lacks the key 'source'"),
        ("    matmul:", "    matmull:", "unknown key 'matmull'; did you mean 'matmul'"),
        ("default: {FLOP", "bf16: {FLOP", "efficiency attention lacks the key 'default'"),
        ("fp32:", "fp31:", "efficiency matmul has an unknown key 'fp31'; did you mean 'fp32'"),
        ("{GFLOP: [10], of_peak: [0.5]}", "0.5", "efficiency matmul fp32 is 0.5; expected keys and values"),
        ("GFLOP: [10]", "GFLOPS: [10]", "unknown key 'GFLOPS'; did you mean 'GFLOP'"),
        ("{GFLOP: [10], of_peak", "{of_peak", "efficiency matmul fp32 lacks the key 'GFLOP'"),
        ("{GFLOP: [10], of_peak: [0.5]}", "{GFLOP: [10]}", "efficiency matmul fp32 lacks the key 'of_peak'"),
        ("GFLOP: [10]", "FLOP: [1], GFLOP: [10]", "has both GFLOP and FLOP; expected one of them"),
        ("MB: [1, 10000]", "MB: [10000, 1]", r"efficiency memory has MB: \[10000, 1\]; expected ascending"),
        ("MB: [1, 10000]", "MB: [1, 1]", "expected ascending numbers, from 1e-06"),
        ("MB: [1, 10000]", "MB: [0, 1]", "expected ascending numbers, from 1e-06"),
        ("MB: [1, 10000]", "MB: [1, .inf]", "expected a list of numbers, at least one"),
        ("MB: [1, 10000]", "MB: 3", "has MB: 3; expected a list of numbers"),
        ("MB: [1, 10000]", "MB: []", r"has MB: \[\]; expected a list of numbers"),
        ("MB: [1, 10000]", "MB: [1, two]", "expected a list of numbers"),
        ("MB: [1, 10000]", "MB: [1]", r"has 1 sizes \(MB\) and 2 shares \(of_peak\); expected as many"),
        ("[0.1, 0.9]", "[0, 0.5]", "expected shares above 0 and at most 1"),
        ("[0.1, 0.9]", "[0.1, 1.01]", "expected shares above 0 and at most 1"),
        ("[0.1, 0.9]", "[10, 50]", "expected shares above 0 and at most 1"),
        ("host_launch_us: 8", "host_launch_us: -8", "host_launch_us: -8; expected a number of 0 or more"),
    ],
)
def test_mistakes_in_the_block_are_named(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in EFFICIENCY
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, EFFICIENCY.replace(right, wrong))


def plain(value: Any) -> Any:
    """A machine in a form that compares by content."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


CURVES = st.lists(
    st.tuples(st.floats(1, 1e30), st.floats(0, 1, exclude_min=True)),
    min_size=1,
    max_size=4,
    unique_by=lambda p: p[0],
).map(lambda points: Curve(*(tuple(column) for column in zip(*sorted(points), strict=True))))


@given(CURVES, CURVES, CURVES, st.integers(0, 10**12))
def test_a_written_machine_reads_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, first: Curve, second: Curve, memory: Curve, launch_ps: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    known = read(folder)
    efficiency = Efficiency({"default": first, "bf16": second}, {"default": second}, memory, launch_ps)
    machine = replace(known, accelerator=replace(accelerator_of(known), efficiency=efficiency))
    path = folder / "written.yaml"
    path.write_text(machine_yaml(machine))
    assert plain(load_machine(str(path))) == plain(machine)


def test_a_written_block_is_for_people(tmp_path: Path) -> None:
    machine = read(
        tmp_path, "  efficiency: {source: x, matmul: {default: {GFLOP: [0.1, 3], of_peak: [0.5, 1]}}}\n"
    )
    assert """\
  launch_overhead_us: 2
  efficiency:
    source: as above
    matmul:
      default:
        GFLOP: [0.1, 3]
        of_peak: [0.5, 1]

network:
""" in machine_yaml(machine)


def test_the_document_states_the_efficiency(tmp_path: Path) -> None:
    described = describe_machine(read(tmp_path))["accelerator"]["efficiency"]
    assert described["matmul"]["fp32"] == {"GFLOP": [10], "of_peak": [0.5]}
    assert described["memory"] == {"MB": [1, 10_000], "of_peak": [0.1, 0.9]}
    assert described["host_launch_ns"] == 8000
    assert describe_machine(read(tmp_path, ""))["accelerator"]["efficiency"] is None


@pytest.mark.parametrize("name", machine_names())
def test_larger_kernels_of_the_catalogue_take_longer(name: str) -> None:
    """A share that grew faster than the size would make a larger kernel the faster one."""
    efficiency = accelerator_of(load_machine(name)).efficiency or Efficiency()
    for curve in (*efficiency.matmul.values(), *efficiency.attention.values(), efficiency.memory):
        sizes = np.geomspace(curve.sizes[0] / 10, curve.sizes[-1] * 10, 1000)
        assert (np.diff(sizes / curve.at(sizes)) > 0).all()
        assert list(curve.shares) == sorted(curve.shares)
