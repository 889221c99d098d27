"""How far apart two recorded times may be and still be cause and effect, on either side of each limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from kineto_trace import Nodes, Trace

from chakrasim.converters.pytorch import convert_pytorch


@pytest.mark.parametrize(
    ("after_us", "pieces"),
    [
        # A call in [3, 23) that waited for a kernel has no time of its own; the clocks differ by up to 2 us.
        (1, [0]),
        (3, [20]),
    ],
)
def test_a_kernel_may_end_a_little_after_the_call_that_waited_for_it(
    tmp_path: Path, after_us: int, pieces: list[int]
) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).call("cudaDeviceSynchronize", 3, 20, 2)
    nodes = Nodes(trace.kernel("k", 2, 21 + after_us, 1).op("next", 40, 1).graph(tmp_path))
    assert [nodes.us(row) for row in nodes.rows("cudaDeviceSynchronize")] == pieces


@pytest.mark.parametrize(("before_us", "pieces"), [(10, [0, 10]), (50, [100])])
def test_a_call_returns_soon_after_what_it_waited_for_on_another_stream(
    tmp_path: Path, before_us: int, pieces: list[int]
) -> None:
    # The last launch went to stream 8, whose kernel ended before the call in [10, 110). On stream 7 one ends
    # inside it: what the call waited for if it returns within 20 us, a coincidence if not.
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).call("cudaLaunchKernel", 2, 2, 2)
    trace.kernel("other", 2, 108 - before_us, 1, stream=7).kernel("last", 4, 2, 2, stream=8)
    trace.call("cudaStreamSynchronize", 10, 100, 3).op("next", 120, 1)
    nodes = Nodes(trace.graph(tmp_path))
    assert [nodes.us(row) for row in nodes.rows("cudaStreamSynchronize")] == pieces


@pytest.mark.parametrize(("delay_us", "is_told"), [(40, False), (60, True)])
def test_a_start_long_after_its_launch_is_told(tmp_path: Path, delay_us: int, is_told: bool) -> None:
    trace = Trace().call("cudaLaunchKernel", 0, 2, 1).kernel("k", 2 + delay_us, 5, 1)
    notes = convert_pytorch(trace.write(tmp_path / "trace.json")).notes
    told = "rank 0: 1 device operations start over 50 us later than anything recorded explains, 60 us in all"
    assert (told in notes) == is_told
    assert any("over 50 us" in note for note in notes) == is_told
