"""Checks of graphs and workloads: every broken invariant, with its file, rank and node.

Touch it to check more before a replay. It reads columns and changes none: mending is for `doctor`.
"""

from __future__ import annotations

from chakrasim.traces.check.graph import MAX_BYTES
from chakrasim.traces.check.problem import Problem
from chakrasim.traces.check.workload import check_workload, raise_problems

__all__ = ["MAX_BYTES", "Problem", "check_workload", "raise_problems"]
