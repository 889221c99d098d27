"""PyTorch profiler traces (Kineto JSON) to a workload.

Rooms stand in order, each knows those before it: read, host, device, communication, host_traces, graph.
`convert.py` leads through them, `format.py` tells the registry. None knows a machine or a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chakrasim.converters.pytorch.read.sniff import is_pytorch_trace

if TYPE_CHECKING:
    from chakrasim.converters.pytorch.convert import convert_pytorch

__all__ = ["convert_pytorch", "is_pytorch_trace"]


def __getattr__(name: str) -> Any:
    # Whoever only wants to know what a file is needn't wait for what converts it.
    if name == "convert_pytorch":
        from chakrasim.converters.pytorch.convert import convert_pytorch

        return convert_pytorch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
