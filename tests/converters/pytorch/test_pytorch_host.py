"""Host threads become pieces that tile their time."""

from __future__ import annotations

from pathlib import Path

import pytest
from kineto_trace import Nodes, Trace

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.workload import Workload

LANE = "thread 100"


def test_nested_operators_become_stretches_of_the_innermost(tmp_path: Path) -> None:
    # outer 0..10 with inner 2..5: outer has 2 us before it and 5 us after it
    nodes = Nodes(Trace().op("outer", 0, 10).op("inner", 2, 3).graph(tmp_path))
    assert nodes.lane(LANE) == [("outer", 2), ("inner", 3), ("outer", 5)]
    assert nodes.graph.attributes(nodes.rows("outer")[1])["segment"] == 1
    assert nodes.parents(nodes.row("inner")) == ["outer"]
    assert nodes.graph.kinds.tolist() == [NodeKind.COMP] * 3
    assert nodes.graph.is_cpu.all()


def test_gaps_are_host_time_and_threads_begin_at_the_origin(tmp_path: Path) -> None:
    trace = Trace().op("a", 10, 1).op("b", 14, 1).op("c", 13, 2, tid=200)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane(LANE) == [("a", 1), ("host gap", 3), ("b", 1)]
    assert nodes.lane("thread 200") == [("host gap", 3), ("c", 2)]
    assert nodes.graph.starts_ps.min() == 0


def test_events_that_overlap_by_rounding_stay_neighbours(tmp_path: Path) -> None:
    nodes = Nodes(Trace().op("a", 0, 5.001).op("b", 5, 5).graph(tmp_path))
    assert nodes.lane(LANE) == [("a", 5), ("b", 5)]


def test_a_call_that_outlasts_its_operator_ends_with_it(tmp_path: Path) -> None:
    nodes = Nodes(Trace().op("a", 0, 10).op("b", 2, 20).graph(tmp_path))
    assert nodes.lane(LANE) == [("a", 2), ("b", 8)]


def test_operators_without_own_time_keep_a_node(tmp_path: Path) -> None:
    nodes = Nodes(Trace().op("outer", 0, 4).op("inner", 0, 4).op("zero", 4, 0).graph(tmp_path))
    assert sorted(nodes.lane(LANE)) == [("inner", 4), ("outer", 0), ("zero", 0)]


def test_annotations_python_frames_and_steps_make_no_nodes(tmp_path: Path) -> None:
    trace = Trace().op("a", 0, 1).note("mine", 0, 9).note("ProfilerStep#3", 0, 8)
    trace.event("python_function", "f.py(1): f", 0, 9).event("Trace", "PyTorch Profiler", 0, 9)
    graph = trace.graph(tmp_path)
    assert Nodes(graph).lane(LANE) == [("a", 1)]
    assert graph.metadata["profiler_steps"] == ["ProfilerStep#3"]


def test_threads_of_two_processes_with_one_number_have_two_lanes(tmp_path: Path) -> None:
    trace = Trace().event("cpu_op", "a", 0, 1, 5, 1).event("cpu_op", "b", 0, 1, 5, 2)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane("thread 1/5") == [("a", 1)]
    assert nodes.lane("thread 2/5") == [("b", 1)]


def test_stamps_may_be_text_floats_and_whole_numbers(tmp_path: Path) -> None:
    trace = Trace().event("Operator", "a", "1000.5", "2.25", "4093687616").op("b", 1003, 1)  # type: ignore[arg-type]
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane("thread 4093687616") == [("a", 2.25)]
    assert nodes.lane(LANE) == [("host gap", 2.5), ("b", 1)]


def test_nanoseconds_survive_large_stamps(tmp_path: Path) -> None:
    # 4.2e12 us with fractions, as recorded with a base time; a double still has 1/1024 us there
    trace = Trace().op("a", 4212936086896.168, 164.652).op("b", 4212936087060.82, 1.001)
    assert Nodes(trace.graph(tmp_path)).lane(LANE) == [("a", 164.652), ("b", 1.001)]


def backward() -> Trace:
    """Forward 0..10 on the main thread, backward 15..40 on autograd's, the optimizer at 50."""
    trace = Trace().op("forward", 0, 10).op("step", 50, 5)
    return trace.op("autograd::engine::evaluate_function: MmBackward0", 15, 25, tid=200)


def test_the_backward_pass_waits_for_the_forward_pass_and_the_optimizer_for_it(tmp_path: Path) -> None:
    nodes = Nodes(backward().graph(tmp_path))
    evaluate = "autograd::engine::evaluate_function: MmBackward0"
    assert nodes.lane("thread 200") == [("host wait", 0), ("host gap", 5), (evaluate, 25)]
    assert nodes.lane(LANE) == [("forward", 10), ("host wait", 0), ("host gap", 10), ("step", 5)]
    after_forward, after_backward = nodes.rows("host gap")
    assert nodes.parents(after_forward) == ["forward", "host wait"]
    assert nodes.parents(after_backward) == [evaluate, "host wait"]


def test_threads_that_are_busy_at_once_hand_nothing_over(tmp_path: Path) -> None:
    nodes = Nodes(backward().op("other", 38, 8, tid=200).op("also", 39, 5).graph(tmp_path))
    assert "host wait" not in nodes.graph.names


def test_a_backward_operator_waits_for_its_forward_operator_on_another_thread(tmp_path: Path) -> None:
    trace = (
        Trace().op("aten::mm", 0, 10).op("inner", 2, 3).op("later", 10, 10).op("MmBackward0", 12, 5, tid=200)
    )
    assert "aten::mm" not in Nodes(trace.graph(tmp_path)).parents(
        Nodes(trace.graph(tmp_path)).row("MmBackward0")
    )
    nodes = Nodes(trace.flow((0, 100), (12, 200)).graph(tmp_path))
    assert nodes.parents(nodes.row("MmBackward0")) == ["aten::mm", "host gap"]
    # the piece that ends the forward operator, not the one that begins it
    (forward,) = (
        p for p in nodes.graph.parents_of(nodes.row("MmBackward0")) if nodes.graph.name(p) == "aten::mm"
    )
    assert int(forward) == nodes.rows("aten::mm")[-1]


def test_a_flow_that_the_recording_contradicts_is_left_out(tmp_path: Path) -> None:
    trace = Trace().op("aten::mm", 0, 20).op("MmBackward0", 12, 5, tid=200).flow((0, 100), (12, 200))
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.parents(nodes.row("MmBackward0")) == ["host gap"]


def test_works_before_the_first_launch_were_under_way_when_the_recording_began(tmp_path: Path) -> None:
    # a kernel without a recorded launch ends inside a call that waits for the device: the call waited for it
    trace = Trace().call("cudaDeviceSynchronize", 0, 21, 1).kernel("old", 5, 15)
    trace.call("cudaLaunchKernel", 30, 5, 2).kernel("new", 40, 5, 2)
    nodes = Nodes(trace.graph(tmp_path))
    assert sum(nodes.us(row) for row in nodes.rows("cudaDeviceSynchronize")) == 1
    assert "old" in nodes.parents(nodes.rows("cudaDeviceSynchronize")[-1])


@pytest.mark.parametrize("category", ["user_annotation", "cpu_op"])
def test_a_data_loader_waits_for_the_thread_that_pins_memory(tmp_path: Path, category: str) -> None:
    """The main thread asks at 10 for a batch that the pinning thread has ready at 30."""
    trace = Trace().op("train", 0, 10).op("aten::to", 34, 5)
    trace.event(category, "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 10, 22)
    trace.op("aten::_pin_memory", 5, 25, tid=200)
    nodes = Nodes(trace.graph(tmp_path))
    # 10 us of training and 9 us after the batch came; all between is waiting
    lane = nodes.lane(LANE)
    assert sum(us for _, us in lane) == 19
    (resumed,) = [
        row
        for row in range(len(nodes.graph))
        if nodes.graph.lane_name(row) == LANE and "aten::_pin_memory" in nodes.parents(row)
    ]
    assert nodes.graph.starts_ps[resumed] == 30 * 10**6
    result = simulate(
        Workload.from_graphs([nodes.graph]),
        load_machine("ethernet-10g"),
        scales=Scales(patterns=(("pin_memory", 2.0),)),
    )
    assert result.step_time_ps == (5 + 2 * 25 + 9) * 10**6


def test_a_data_loader_that_works_itself_waits_for_nobody(tmp_path: Path) -> None:
    trace = Trace().note("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 0, 30)
    trace.op("aten::stack", 2, 20).op("aten::_pin_memory", 5, 10, tid=200)
    nodes = Nodes(trace.graph(tmp_path))
    assert nodes.lane(LANE) == [("aten::stack", 20)]
