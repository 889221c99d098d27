"""PyTorch's traces as a trace format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chakrasim.converters.interface import ConvertContext, Option, TraceFormat
from chakrasim.converters.pytorch.read.sniff import SUFFIXES, is_host_trace_head, is_profiler_head

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

COMMUNICATION_KERNELS = "communication-kernels"


def _sniff(head: bytes, path: Path) -> bool:
    return is_profiler_head(head) or is_host_trace_head(head)


def _convert(path: Path, context: ConvertContext) -> Workload:
    from chakrasim.converters.pytorch.convert import convert_pytorch

    table = context.options.get(COMMUNICATION_KERNELS)
    return convert_pytorch(
        path,
        partial=context.partial,
        progress=context.progress,
        communication_table=None if table is None else Path(table),
    )


FORMAT = TraceFormat(
    name="pytorch",
    suffixes=(*SUFFIXES, *(f".pt.trace{suffix}" for suffix in SUFFIXES)),
    summary="PyTorch profiler traces and host execution traces",
    sniff=_sniff,
    convert=_convert,
    options=(Option(COMMUNICATION_KERNELS, "A YAML file of kernels that communicate, beside those known."),),
)
