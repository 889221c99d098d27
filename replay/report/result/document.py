"""A result as a JSON document. Its keys are an interface: they may be added to, not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chakrasim.replay.analysis.communication import communication_times
from chakrasim.replay.analysis.memory import memory_notes, memory_of_ranks
from chakrasim.replay.analysis.throughput import throughput
from chakrasim.replay.report.result.assumptions import assumptions
from chakrasim.replay.report.result.memory_table import memory_document
from chakrasim.replay.report.result.straggler_table import stragglers_document
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import ps_to_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chakrasim.replay.analysis.communication import CollectiveTimes
    from chakrasim.replay.results.result import RankTimes, Result

RANK_TIMES = ("compute", "communication", "exposed_communication", "waiting", "idle", "host")
"""Of each rank, beside `finish`: the keys of a `ranks` entry are these with `_ns`."""


def json_document(result: Result) -> dict[str, Any]:
    """A result as JSON; `docs/json.md` describes its keys.

    Times are nanoseconds: whole numbers where exact, else decimals.
    `ranks`, in order of rank, has null for the times of ranks that didn't finish; `step_time_ns` is null and
    there is a `deadlock` if any didn't.
    """
    step_time_ps = result.step_time_ps
    communication = communication_times(result)
    found: dict[str, Any] = {
        "workload": result.workload.name,
        "machine": result.machine.name,
        "compute": result.compute,
        "network": result.network,
        "world_size": result.workload.world_size,
        "nodes": len(result.program),
        "step_time_ns": None if step_time_ps is None else ps_to_ns(step_time_ps),
        "ranks": [_rank(result, times) for times in result.ranks],
        "collectives": [_collective(entry) for entry in communication],
        "groups": _groups(result, communication),
        "lanes": _lanes(result),
        "recorded": _recorded(result),
        "stragglers": stragglers_document(result),
        "assumptions": list(assumptions(result.workload)),
        "notes": [*memory_notes(result), *result.notes],
    }
    if memory_of_ranks(result):
        found["memory"] = memory_document(result)
    done = throughput(result)
    if done is not None:
        found["throughput"] = {
            "tokens_per_s": round(done.tokens_per_s, 3),
            "tokens_per_s_and_rank": round(done.tokens_per_s / done.ranks, 3),
            "model_TFLOPs_per_rank": round(done.model_flops / 1e12, 3),
            "model_flops_utilisation": None if done.utilisation is None else round(done.utilisation, 6),
        }
    if result.deadlock is not None:
        found["deadlock"] = result.deadlock.to_json()
    return found


def ranks_dataframe(result: Result) -> Any:
    """One row a rank, with the columns of `ranks` in the JSON. Raises ConfigError without pandas."""
    try:
        import pandas
    except ImportError:
        raise ConfigError("a data frame needs pandas: pip install pandas") from None
    return pandas.DataFrame(json_document(result)["ranks"])


def _rank(result: Result, times: RankTimes) -> dict[str, Any]:
    has_finished = result.has_finished(times.rank)
    entry: dict[str, Any] = {
        "rank": times.rank,
        "stands_for": result.workload.stands_for.get(times.rank, 1),
    }
    for name in ("finish", *RANK_TIMES):
        value = getattr(times, f"{name}_ps")
        entry[f"{name}_ns"] = ps_to_ns(value) if has_finished else None
    return entry


def _collective(entry: CollectiveTimes) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "group": entry.group or None,
        "group_size": entry.group_size,
        "count": entry.count,
        "bytes": entry.size_bytes,
        "time_ns": ps_to_ns(entry.time_ps),
        "waiting_ns": ps_to_ns(entry.waiting_ps),
        "algorithm_bandwidth_GBps": round(entry.bandwidth_Bps / 1e9, 6),
    }


def _groups(result: Result, communication: Sequence[CollectiveTimes]) -> list[dict[str, Any]]:
    """Collectives of each process group, all kinds together; a group without any is left out."""
    by_group: dict[str, list[CollectiveTimes]] = {}
    for entry in communication:
        if entry.group:
            by_group.setdefault(entry.group, []).append(entry)
    return [
        {
            "name": group.name,
            "ranks": list(group.ranks),
            "count": sum(entry.count for entry in by_group[group.name]),
            "bytes": sum(entry.size_bytes for entry in by_group[group.name]),
            "time_ns": ps_to_ns(sum(entry.time_ps for entry in by_group[group.name])),
            "waiting_ns": ps_to_ns(sum(entry.waiting_ps for entry in by_group[group.name])),
        }
        for group in result.workload.groups
        if group.name in by_group
    ]


def _lanes(result: Result) -> list[dict[str, Any]]:
    return [
        {"rank": lane.rank, "name": lane.name, "nodes": lane.nodes, "busy_ns": ps_to_ns(lane.busy_ps)}
        for lane in result.lanes
    ]


def _recorded(result: Result) -> list[dict[str, Any]]:
    return [
        {
            "rank": entry.rank,
            "over": entry.over,
            "span_ns": ps_to_ns(entry.span_ps),
            "replayed_ns": ps_to_ns(entry.replayed_ps),
            "error_percent": round(entry.error_percent, 4),
        }
        for entry in result.recorded
    ]
