"""Kernels and copies: launches, streams, events and host calls that wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from kineto_trace import Nodes, Trace

from chakrasim.traces.graph import NO_LANE, NodeKind

LANE = "thread 100"


def test_a_kernel_follows_its_launch_and_its_stream(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).call("cudaLaunchKernel", 3, 2, 2)
    trace.kernel("k1", 6, 10, 1).kernel("k2", 16, 4, 2)
    nodes = Nodes(trace.graph(tmp_path))
    # k1 started 4 us after its launch returned: that is a node; k2 at once when k1 had ended
    assert nodes.parents(nodes.row("k1")) == ["cudaLaunchKernel", "launch latency"]
    assert nodes.us(nodes.row("launch latency")) == 4
    assert nodes.graph.lanes[nodes.row("launch latency")] == NO_LANE
    assert nodes.parents(nodes.row("k2")) == ["cudaLaunchKernel", "k1"]
    assert nodes.lane("gpu0 stream 7") == [("k1", 10), ("k2", 4)]
    assert not nodes.graph.is_cpu[nodes.row("k1")]


def test_time_between_kernels_belongs_to_the_stream(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).call("cudaLaunchKernel", 2, 1, 2)
    nodes = Nodes(trace.kernel("k1", 1, 10, 1).kernel("k2", 12, 4, 2).graph(tmp_path))
    delay = nodes.row("stream latency")
    assert nodes.us(delay) == 1
    assert nodes.parents(delay) == ["k1"]


def test_a_launch_call_that_outlasts_the_kernels_start_is_cut_there(tmp_path: Path) -> None:
    nodes = Nodes(Trace().call("cudaLaunchKernel", 0, 10, 1).kernel("k", 4, 3, 1).graph(tmp_path))
    assert nodes.lane(LANE) == [("cudaLaunchKernel", 4), ("cudaLaunchKernel", 6)]
    (parent,) = nodes.graph.parents_of(nodes.row("k")).tolist()
    assert parent == nodes.rows("cudaLaunchKernel")[0]


@pytest.mark.parametrize("name", ["cudaGraphLaunch", "hipGraphLaunch"])
def test_a_graph_launch_has_many_kernels(tmp_path: Path, name: str) -> None:
    trace = Trace().call(name, 0, 5, 9)
    trace.kernel("k1", 6, 1, 9).kernel("k2", 7, 1, 9).kernel("k3", 7, 1, 9, stream=8)
    nodes = Nodes(trace.graph(tmp_path))
    for kernel in ("k1", "k2", "k3"):
        assert name in nodes.parents(nodes.row(kernel))
    assert "k1" in nodes.parents(nodes.row("k2"))
    assert "k1" not in nodes.parents(nodes.row("k3"))


def test_a_kernel_without_recorded_launch_waits_from_the_origin(tmp_path: Path) -> None:
    graph = Trace().op("a", 0, 5).kernel("k", 3, 1, 77).graph(tmp_path)
    nodes = Nodes(graph)
    assert nodes.parents(nodes.row("k")) == ["unrecorded launch"]
    assert nodes.us(nodes.row("unrecorded launch")) == 3
    assert "1 of 1 device operations have no recorded launch" in graph.metadata["notes"]


def test_copies_and_memsets_move_memory(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 1).copy("Memcpy DtoH (Device -> Pinned)", 1, 1, size=64)
    trace.copy("Memcpy HtoD (Pinned -> Device)", 3, 1, size=32)
    trace.event("gpu_memset", "Memset (Device)", 5, 1, 7, 0, device=0, stream=7, bytes=16)
    nodes = Nodes(trace.graph(tmp_path))
    rows = [nodes.row(n) for n in ("Memcpy DtoH (Device -> Pinned)", "Memcpy HtoD (Pinned -> Device)")]
    assert nodes.graph.kinds[rows].tolist() == [NodeKind.MEM_LOAD, NodeKind.MEM_STORE]
    assert nodes.graph.tensor_bytes[rows].tolist() == [64, 32]
    memset = nodes.row("Memset (Device)")
    assert (nodes.graph.kinds[memset], nodes.graph.tensor_bytes[memset]) == (NodeKind.MEM_STORE, 16)


def test_kernels_that_overlap_a_little_become_adjacent(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).call("cudaLaunchKernel", 1.5, 1, 2)
    graph = trace.kernel("k1", 3, 10, 1).kernel("k2", 11, 6, 2).graph(tmp_path)
    assert Nodes(graph).lane("gpu0 stream 7") == [("k1", 10), ("k2", 4)]
    assert any("overlap" in note for note in graph.metadata["notes"])


def test_kernels_that_run_side_by_side_on_a_stream_get_two_lanes(tmp_path: Path) -> None:
    trace = Trace().call("cudaGraphLaunch", 0, 1, 1).kernel("k1", 3, 10, 1).kernel("k2", 4, 9.5, 1)
    nodes = Nodes(trace.kernel("k3", 14, 1, 1).graph(tmp_path))
    assert nodes.lane("gpu0 stream 7") == [("k1", 10), ("k3", 1)]
    assert nodes.lane("gpu0 stream 7 overlap 1") == [("k2", 9.5)]
    assert nodes.parents(nodes.row("k3")) == ["cudaGraphLaunch", "k1", "k2", "stream latency"]


def two_streams(wait: bool) -> Trace:
    """A compute kernel on stream 7, then one on stream 8, which waits for an event if `wait`."""
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1)
    if wait:
        trace.call("cudaEventRecord", 2, 1, 2).call("cudaStreamWaitEvent", 4, 1, 3)
    trace.call("cudaLaunchKernel", 6, 1, 4)
    return trace.kernel("producer", 2, 10, 1).kernel("consumer", 13, 5, 4, stream=8)


def test_an_event_wait_is_inferred_from_the_record_before_it(tmp_path: Path) -> None:
    nodes = Nodes(two_streams(wait=True).graph(tmp_path))
    assert "producer" in nodes.parents(nodes.row("consumer"))
    nodes = Nodes(two_streams(wait=False).graph(tmp_path))
    assert "producer" not in nodes.parents(nodes.row("consumer"))


def test_an_event_wait_that_the_recording_contradicts_is_dropped(tmp_path: Path) -> None:
    trace = two_streams(wait=True)
    trace.events[-1]["ts"] = 8  # the consumer starts while the producer runs
    graph = trace.graph(tmp_path)
    nodes = Nodes(graph)
    assert "producer" not in nodes.parents(nodes.row("consumer"))
    assert any("1 event waits dropped" in note for note in graph.metadata["notes"])


def test_sync_records_name_the_awaited_stream(tmp_path: Path) -> None:
    # Guessing would take stream 9, launched last before the record; the record says stream 7.
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).call("cudaLaunchKernel", 1.5, 1, 5)
    trace.call("cudaEventRecord", 3, 1, 2).call("cudaStreamWaitEvent", 4, 1, 3)
    trace.call("cudaLaunchKernel", 6, 1, 4)
    trace.kernel("producer", 2, 10, 1).kernel("other", 3, 2, 5, stream=9)
    trace.kernel("consumer", 13, 5, 4, stream=8)
    trace.event(
        "cuda_sync",
        "Stream Wait Event",
        4,
        1,
        8,
        0,
        correlation=3,
        stream=8,
        wait_on_stream=7,
        wait_on_cuda_event_record_corr_id=2,
    )
    nodes = Nodes(trace.graph(tmp_path))
    assert "producer" in nodes.parents(nodes.row("consumer"))
    assert "other" not in nodes.parents(nodes.row("consumer"))


@pytest.mark.parametrize(
    "name", ["cudaDeviceSynchronize", "hipDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize"]
)
def test_a_synchronising_call_waits_for_the_device_and_keeps_only_its_tail(tmp_path: Path, name: str) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).call(name, 3, 20, 2).op("next", 25, 1)
    nodes = Nodes(trace.kernel("k", 2, 15, 1).graph(tmp_path))
    # the kernel ends at 17: 14 us of the call are waiting, 6 us its own
    assert nodes.lane(LANE) == [
        ("cudaLaunchKernel", 2),
        ("host gap", 1),
        (name, 0),
        (name, 6),
        ("host gap", 2),
        ("next", 1),
    ]
    assert nodes.parents(nodes.rows(name)[1]) == [name, "k"]


def test_a_synchronising_call_that_waited_for_nothing_keeps_its_time(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).call("cudaDeviceSynchronize", 10, 20, 2)
    nodes = Nodes(trace.kernel("k", 2, 3, 1).graph(tmp_path))
    assert nodes.us(nodes.row("cudaDeviceSynchronize")) == 20


@pytest.mark.parametrize(("returns_us", "waited"), [(30, True), (50, False)])
def test_a_call_that_may_wait_did_only_if_it_returned_soon_after_the_device_was_idle(
    tmp_path: Path, returns_us: int, waited: bool
) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).call("cudaFree", 3, returns_us - 3, 2).op("next", 60, 1)
    nodes = Nodes(trace.kernel("k", 2, 15, 1).graph(tmp_path))
    times = [nodes.us(row) for row in nodes.rows("cudaFree")]
    assert times == ([0, returns_us - 17] if waited else [returns_us - 3])


@pytest.mark.parametrize(
    ("call", "copy"),
    [
        ("cudaMemcpy", "Memcpy DtoH (Device -> Pinned)"),
        ("cudaMemcpyAsync", "Memcpy DtoH (Device -> Pageable)"),
        ("hipMemcpyWithStream", "Memcpy HtoD (Host -> Device)"),
    ],
)
def test_a_blocking_copy_waits_for_its_own_copy(tmp_path: Path, call: str, copy: str) -> None:
    nodes = Nodes(Trace().call(call, 0, 20, 1).copy(copy, 4, 10, 1).op("next", 20, 1).graph(tmp_path))
    assert nodes.lane(LANE) == [(call, 4), (call, 0), (call, 6), ("next", 1)]
    assert nodes.parents(nodes.rows(call)[2]) == sorted([call, copy])


def test_an_asynchronous_copy_of_pinned_memory_does_not_wait(tmp_path: Path) -> None:
    trace = Trace().call("cudaMemcpyAsync", 0, 20, 1).copy("Memcpy DtoH (Device -> Pinned)", 4, 10, 1)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane(LANE) == [("cudaMemcpyAsync", 4), ("cudaMemcpyAsync", 16)]


def test_a_blocking_copy_behind_other_work_does_not_count_that_as_host_time(tmp_path: Path) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).call("cudaMemcpy", 2, 100, 2)
    trace.kernel("k", 1, 89, 1).copy("Memcpy DtoH (Device -> Pageable)", 91, 5, 2)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane(LANE)[2:] == [("cudaMemcpy", 5), ("cudaMemcpy", 0), ("cudaMemcpy", 6)]


def test_hip_names_mean_the_same(tmp_path: Path) -> None:
    trace = Trace().call("hipLaunchKernel", 0, 1, 1)
    trace.call("hipEventRecord", 2, 1, 2).call("hipStreamWaitEvent", 4, 1, 3)
    trace.call("hipExtModuleLaunchKernel", 6, 1, 4).call("hipStreamSynchronize", 8, 12, 5)
    trace.kernel("producer", 2, 10, 1).kernel("consumer", 13, 5, 4, stream=8)
    nodes = Nodes(trace.graph(tmp_path))
    assert "producer" in nodes.parents(nodes.row("consumer"))
    assert nodes.parents(nodes.rows("hipStreamSynchronize")[1]) == ["consumer", "hipStreamSynchronize"]


def test_the_categories_of_2021_are_read(tmp_path: Path) -> None:
    trace = Trace().event("Operator", "aten::add", 0, 9, "11")
    trace.event("Runtime", "cudaLaunchKernel", 2, 1, "11", correlation=5)
    trace.event("Kernel", "k", 4, 2, "stream 7", 0, device=0, stream=7, correlation=5)
    trace.event("Memset", "Memset (Device)", 7, 1, "stream 7", 0, device=0, stream=7)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane("gpu0 stream 7") == [("k", 2), ("Memset (Device)", 1)]
    assert nodes.parents(nodes.row("k")) == ["cudaLaunchKernel", "launch latency"]
    assert nodes.lane("thread 11") == [("aten::add", 2), ("cudaLaunchKernel", 1), ("aten::add", 6)]


def test_streams_of_two_devices_may_have_one_number(tmp_path: Path) -> None:
    """A record of waiting for stream 7 means that of its own device."""
    trace = Trace().call("cudaLaunchKernel", 0, 1, 1).kernel("producer", 2, 10, 1, stream=7)
    trace.call("cudaLaunchKernel", 1, 1, 5).event(
        "kernel", "elsewhere", 3, 11, 7, 1, device=1, stream=7, correlation=5
    )
    trace.call("cudaEventRecord", 2, 1, 2).call("cudaStreamWaitEvent", 4, 1, 3)
    trace.call("cudaLaunchKernel", 6, 1, 4).kernel("consumer", 15, 5, 4, stream=8)
    trace.event(
        *("cuda_sync", "Stream Wait Event", 4, 1, 8, 0),
        correlation=3,
        device=0,
        stream=8,
        wait_on_stream=7,
        wait_on_cuda_event_record_corr_id=2,
    )
    nodes = Nodes(trace.graph(tmp_path))
    assert "producer" in nodes.parents(nodes.row("consumer"))
    assert "elsewhere" not in nodes.parents(nodes.row("consumer"))
