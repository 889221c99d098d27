"""A faithful replay could be a disguise, with nodes pinned to recorded starts. On real traces it isn't.

With nothing taking any time everything ends at once. Without the device's time a replay takes the host's own
time, without the host's the longest chain of the device, and twice as long kernels nearly double a step that
the device bounds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from causality import graph_of, longest_path_ps, replay, with_durations
from families import check_each, families

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

pytestmark = pytest.mark.slow
TRACES = [
    "hta_cuda_sync_events/alexnet.json.gz",
    "hta_cuda_sync_events/event_sync_multi_stream.json.gz",
    "hta_dlrm_a100_rank3of8/device.3.json.gz",
    "hta_large_v100_rank1of2/device.1.json.gz",
    "hta_nccl_metadata_a100_rank0of2/device.0.json.gz",
    "hta_small_odd/mi250_minitoy.json.gz",
    "kineto_tb_resnet50_2021/resnet50_nw0.json.gz",
    "megatron_tp2_v100/device.0.json.gz",
    "megatron_tp8_a100/device.3.json.gz",
    "param_linear_pair_rtx2080/device.0.json.gz",
    "tracelens/bert_small_mi300.json.gz",
    "tracelens/qwen1.5_0.5b_h100.json.gz",
    "tracelens/torch_compile_triton_mi300.json.gz",
    "tracelens/vllm_decode_cudagraph_mi300.json.gz",
    "tracelens/vllm_moe_eager_b200_rank0of8.json.gz",
]
DEVICE_BOUND = ["tracelens/qwen1.5_0.5b_h100.json.gz", "tracelens/torch_compile_triton_mi300.json.gz"]


@cache
def converted(path: Path) -> Workload:
    return convert_pytorch(path)


def busiest_ps(graph: ExecutionGraph, durations_ps: np.ndarray) -> int:
    """The time of all nodes of the lane that has most of it."""
    return max(int(durations_ps[graph.lanes == lane].sum()) for lane in range(len(graph.lane_names)))


FAMILIES = families(TRACES, r"[^/]+")


def check_nothing_is_pinned(shared: Path, name: str) -> None:
    """Without any durations everything happens at once, however late it was recorded."""
    workload = converted(shared / f"real_traces/{name}")
    nothing = replay(workload, Scales(patterns=(("*", 0.0),)))
    assert nothing.step_time_ps == 0
    assert replay(workload).step_time_ps > 0  # type: ignore[operator]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_pinned(shared: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_nothing_is_pinned(shared, name))


def check_without_the_device_a_replay_takes_the_hosts_own_time(shared: Path, name: str) -> None:
    workload = converted(shared / f"real_traces/{name}")
    graph = graph_of(workload)
    own_ps = np.where(graph.is_cpu, graph.durations_ps, 0)
    alone = replay(with_durations(workload, own_ps))
    assert alone.step_time_ps == longest_path_ps(graph, own_ps)
    # that is one thread's own work, or several threads' after each other, but never more than all of them
    assert busiest_ps(graph, own_ps) <= alone.step_time_ps <= int(own_ps.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_device_a_replay_takes_the_hosts_own_time(shared: Path, family: str) -> None:
    check_each(
        FAMILIES[family],
        lambda name: check_without_the_device_a_replay_takes_the_hosts_own_time(shared, name),
    )


def check_without_the_host_a_replay_takes_the_longest_chain_of_the_device(shared: Path, name: str) -> None:
    workload = converted(shared / f"real_traces/{name}")
    graph = graph_of(workload)
    own_ps = np.where(graph.is_cpu, 0, graph.durations_ps)
    alone = replay(with_durations(workload, own_ps))
    assert alone.step_time_ps == longest_path_ps(graph, own_ps)
    assert busiest_ps(graph, own_ps) <= alone.step_time_ps <= int(own_ps.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_host_a_replay_takes_the_longest_chain_of_the_device(shared: Path, family: str) -> None:
    check_each(
        FAMILIES[family],
        lambda name: check_without_the_host_a_replay_takes_the_longest_chain_of_the_device(shared, name),
    )


@pytest.mark.parametrize("name", DEVICE_BOUND)
def test_kernels_of_twice_the_length_nearly_double_a_step_that_the_device_bounds(
    shared: Path, name: str
) -> None:
    workload = converted(shared / f"real_traces/{name}")
    graph = graph_of(workload)
    is_kernel = ~graph.is_cpu & (graph.kinds == NodeKind.COMP) & (graph.lanes >= 0)
    once = replay(workload).step_time_ps
    twice = replay(with_durations(workload, graph.durations_ps * np.where(is_kernel, 2, 1))).step_time_ps
    assert once is not None
    assert twice is not None
    assert 1.8 < twice / once <= 2.0


def test_a_host_that_only_waits_is_as_fast_as_the_device(shared: Path) -> None:
    """Megatron's host sits in synchronising calls for 18 ms of 63: with a device of no time they vanish."""
    workload = converted(shared / "real_traces/megatron_tp2_v100/device.0.json.gz")
    graph = graph_of(workload)
    recorded = replay(workload).step_time_ps
    alone = replay(with_durations(workload, np.where(graph.is_cpu, graph.durations_ps, 0))).step_time_ps
    assert recorded is not None
    assert alone is not None
    assert recorded - alone > 17 * 10**9
