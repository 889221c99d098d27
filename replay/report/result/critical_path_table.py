"""The critical path as JSON."""

from __future__ import annotations

from typing import Any

from chakrasim.replay.analysis.critical_path import Part
from chakrasim.traces.units import ps_to_ns


def critical_path_document(found: list[Part]) -> list[dict[str, Any]]:
    """The parts for the JSON of `replay --critical-path`."""
    return [{"kind": p.kind, "name": p.name, "count": p.count, "time_ns": ps_to_ns(p.time_ps)} for p in found]
