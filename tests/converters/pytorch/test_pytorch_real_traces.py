"""Every profiler trace at hand converts, and replays with recorded durations in the recorded time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import shared_files
from families import check_each, families

from chakrasim.converters.pytorch import convert_pytorch, is_pytorch_trace
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.workload_files import load_workload, save_workload

TRACES = [
    path
    for pattern in ("real_traces/*/*.json.gz", "own_traces/*/device.*.json.gz")
    for path in shared_files(pattern)
    if not path.name.startswith(("host", "workload_graph", "pt2_", "resnet_"))
]
FOLDERS = [
    "real_traces/megatron_tp8_a100",
    "real_traces/megatron_tp2_v100",
    *(f"own_traces/out_{name}" for name in ("ddp", "fsdp2", "fsdp2_tp", "pp", "pp_batch", "colls")),
]


FAMILIES = families(map(str, TRACES), r"[^/]+/[^/]+")


def check_a_trace_replays_in_its_recorded_time(shared: Path, trace: Path) -> None:
    assert is_pytorch_trace(shared / trace)
    workload = convert_pytorch(shared / trace)
    (graph,) = workload.graphs.values()
    result = simulate(workload, load_machine("dgx-a100"), network="measured")
    assert result.deadlock is None
    starts, ends = result.starts_ps, result.ends_ps
    assert ends.max() == pytest.approx(graph.metadata["span_ps"], rel=0.001)
    device = ~graph.is_cpu & (graph.lanes >= 0)
    if device.any():
        span = ends[device].max() - starts[device].min()
        assert span == pytest.approx(graph.metadata["device_span_ps"], rel=0.001)
    # no kernel is typed as communication without saying what, and nothing that isn't said is guessed
    unknown = np.flatnonzero((graph.kinds == NodeKind.COLL) & (graph.comm_kinds < 0))
    assert all("not_understood" in graph.attributes(int(row)) for row in unknown)
    assert (len(unknown) > 0) == any("not understood" in note for note in workload.notes)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trace_replays_in_its_recorded_time(shared: Path, family: str) -> None:
    check_each(
        FAMILIES[family], lambda trace: check_a_trace_replays_in_its_recorded_time(shared, Path(trace))
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_ranks_agree_on_their_collectives(shared: Path, folder: str) -> None:
    workload = convert_pytorch(shared / folder)
    assert not workload.is_partial
    assert [str(problem) for problem in check_workload(workload)] == []


def communications(shared: Path, folder: str, rank: int) -> list[tuple[str, int, str]]:
    """(kind, bytes, group) of a rank's collectives, in order of issue."""
    graph = convert_pytorch(shared / folder).graphs[rank]
    rows = np.flatnonzero(graph.kinds == NodeKind.COLL)
    return [
        (int(graph.comm_kinds[r]), int(graph.comm_bytes[r]), graph.group_name(int(r))) for r in rows.tolist()
    ]


@pytest.mark.slow
def test_gloo_groups_follow_from_sizes_and_threads(shared: Path) -> None:
    # FSDP2 over ranks {1, 3}, tensor parallel over {0, 1}: all-gathers of two, then all-reduces of the other
    found = communications(shared, "own_traces/out_fsdp2_tp", 1)
    groups = {(kind, group) for kind, _, group in found}
    assert groups == {(2, "2"), (0, "2"), (0, "3")}
    assert {size for kind, size, group in found if group == "3"} == {4 * 32 * 64 * 4}


def test_every_gloo_collective_is_read(shared: Path) -> None:
    found = communications(shared, "own_traces/out_colls", 1)
    step = found[: len(found) // 2]
    assert step == [
        (0, 4096, ""),
        (0, 4096, "1"),
        (5, 4096, ""),
        (1, 4096, ""),
        (2, 4096, ""),
        (2, 4096, ""),
        (0, 4096, ""),  # gloo's reduce-scatter is an all-reduce
        (3, 4096, ""),
        (4, 4096, ""),
        (6, 4096, ""),
        (6, 4096, ""),
        (0, 4096, ""),
        (9, 0, ""),
    ]


@pytest.mark.slow
def test_megatron_sizes(shared: Path) -> None:
    found = communications(shared, "real_traces/megatron_tp8_a100", 0)
    assert len(found) == 84
    assert found[0] == (0, 4 * 2048 * 4096 * 2, "")


def test_a_converted_folder_survives_the_disk(shared: Path, tmp_path: Path) -> None:
    before = convert_pytorch(shared / "real_traces/megatron_tp2_v100")
    save_workload(before, tmp_path, "m")
    after = load_workload(tmp_path)
    machine = load_machine("dgx-a100")
    a, b = simulate(before, machine), simulate(after, machine)
    assert np.array_equal(a.ends_ps, b.ends_ps)
