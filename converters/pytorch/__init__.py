"""PyTorch profiler traces (Kineto JSON) to a workload."""

from __future__ import annotations

from chakrasim.converters.pytorch.convert import convert_pytorch
from chakrasim.converters.pytorch.sniff import is_pytorch_trace

__all__ = ["convert_pytorch", "is_pytorch_trace"]
