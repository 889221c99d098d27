"""Chakra execution graphs in memory and on disk, and the workloads they form.

Touch it to change what a trace is, or how it is read, written, checked and edited. It knows no converter, no
machine and no replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chakrasim.traces.builder import GraphBuilder
    from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
    from chakrasim.traces.io import read_graph, write_graph
    from chakrasim.traces.workload import ProcessGroup, Workload
    from chakrasim.traces.workload_files import load_workload, save_workload

__all__ = [
    "CommKind",
    "ExecutionGraph",
    "GraphBuilder",
    "NodeKind",
    "ProcessGroup",
    "Workload",
    "load_workload",
    "read_graph",
    "save_workload",
    "write_graph",
]

_HOME = {
    "CommKind": "graph",
    "ExecutionGraph": "graph",
    "NodeKind": "graph",
    "GraphBuilder": "builder",
    "read_graph": "io",
    "write_graph": "io",
    "ProcessGroup": "workload",
    "Workload": "workload",
    "load_workload": "workload_files",
    "save_workload": "workload_files",
}


def __getattr__(name: str) -> Any:
    # Imported when used: numpy and protobuf cost 200 ms, which `chakrasim --help` must not pay.
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
