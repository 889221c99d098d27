"""Builds tiny Kineto JSON for tests: one call an event, times in microseconds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.units import PS_PER_US

MAIN = 100


class Trace:
    """Events of one rank, written where a test wants them."""

    def __init__(self, **header: Any) -> None:
        self.header = header
        self.events: list[dict[str, Any]] = []

    def event(
        self, cat: str, name: str, ts: float, dur: float, tid: Any = MAIN, pid: Any = 1, **args: Any
    ) -> Trace:
        """Add a complete event; keyword names have their underscores kept, use `args` dicts for others."""
        self.events.append(
            {
                "ph": "X",
                "cat": cat,
                "name": name,
                "pid": pid,
                "tid": tid,
                "ts": ts,
                "dur": dur,
                "args": args,
            }
        )
        return self

    def op(self, name: str, ts: float, dur: float, tid: Any = MAIN, **args: Any) -> Trace:
        """A CPU operator."""
        return self.event("cpu_op", name, ts, dur, tid, **args)

    def call(
        self, name: str, ts: float, dur: float, correlation: int = 0, tid: Any = MAIN, **args: Any
    ) -> Trace:
        """A runtime call."""
        return self.event("cuda_runtime", name, ts, dur, tid, correlation=correlation, **args)

    def kernel(
        self, name: str, ts: float, dur: float, correlation: int = 0, stream: int = 7, **args: Any
    ) -> Trace:
        """A kernel."""
        return self.event(
            "kernel", name, ts, dur, stream, 0, device=0, stream=stream, correlation=correlation, **args
        )

    def copy(
        self, name: str, ts: float, dur: float, correlation: int = 0, size: int = 8, stream: int = 7
    ) -> Trace:
        """A copy on the device."""
        return self.event(
            "gpu_memcpy",
            name,
            ts,
            dur,
            stream,
            0,
            device=0,
            stream=stream,
            correlation=correlation,
            bytes=size,
        )

    def note(self, name: str, ts: float, dur: float, tid: Any = MAIN, **args: Any) -> Trace:
        """A user annotation."""
        return self.event("user_annotation", name, ts, dur, tid, **args)

    def flow(self, forward: tuple[float, Any], backward: tuple[float, Any]) -> Trace:
        """A flow from a forward to a backward operator, each given as (start, thread)."""
        for phase, (ts, tid) in (("s", forward), ("f", backward)):
            self.events.append(
                {"ph": phase, "cat": "fwdbwd", "name": "fwdbwd", "id": 7, "pid": 1, "tid": tid, "ts": ts}
            )
        return self

    def write(self, path: Path) -> Path:
        """Write it as JSON, gzipped if the name says so."""
        data = json.dumps({**self.header, "traceEvents": self.events}).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return path

    def graph(self, folder: Path) -> ExecutionGraph:
        """Convert it as a single rank."""
        (graph,) = convert_pytorch(self.write(folder / "trace.json")).graphs.values()
        return graph


class Nodes:
    """A graph's nodes as tests like to read them."""

    def __init__(self, graph: ExecutionGraph) -> None:
        self.graph = graph

    def rows(self, name: str) -> list[int]:
        """Rows with a name, in order of their recorded start."""
        found = [row for row in range(len(self.graph)) if self.graph.name(row) == name]
        return sorted(found, key=lambda row: (self.graph.starts_ps[row], row))

    def row(self, name: str) -> int:
        """The only row with a name."""
        (row,) = self.rows(name)
        return row

    def us(self, row: int) -> float:
        """Its duration in microseconds."""
        return float(self.graph.durations_ps[row]) / PS_PER_US

    def parents(self, row: int) -> list[str]:
        """Names of its parents, sorted."""
        return sorted(self.graph.name(int(parent)) for parent in self.graph.parents_of(row))

    def lane(self, name: str) -> list[tuple[str, float]]:
        """(name, microseconds) of the nodes on a lane, in recorded order."""
        rows = [r for r in range(len(self.graph)) if self.graph.lane_name(r) == name]
        rows.sort(key=lambda row: (self.graph.starts_ps[row], row))
        return [(self.graph.name(row), self.us(row)) for row in rows]

    def communications(self) -> list[int]:
        """Rows of collectives, sends and receives."""
        return np.flatnonzero(self.graph.kinds >= NodeKind.SEND).tolist()
