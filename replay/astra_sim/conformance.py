"""Comparison of replays with recorded runs of ASTRA-sim, case by case and to the nanosecond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces.errors import ChakrasimError, ConfigError
from chakrasim.traces.units import PS_PER_NS
from chakrasim.traces.workload_files import load_workload

NETWORKS = {"unaware": "analytical", "aware": "congestion-aware"}
EXACT, DIFFERS, HANGS_THERE, REFUSED = "exact", "differs", "hangs in ASTRA-sim", "refused"
Times = list[int | None]


@dataclass(frozen=True)
class Verdict:
    """Outcome of one case. Times are in ns, by rank; None for a rank that never ended."""

    case: str
    backend: str
    verdict: str
    """`EXACT` if every rank's finish, exposed communication and node times agree; `HANGS_THERE` if a rank
    that never ended in ASTRA-sim ends here; `REFUSED` if the replay raises an error; else `DIFFERS`."""
    finish_ns: Times
    expected_finish_ns: Times
    detail: str = ""
    """The first difference."""


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """The cases of a folder with a `cases.json`. Raises ConfigError if it isn't one."""
    path = folder / "cases.json"
    try:
        cases = orjson.loads(path.read_bytes())["cases"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ConfigError(f'{path}: expected {{"cases": [...]}}, recorded runs of ASTRA-sim') from None
    if not (isinstance(cases, list) and all(isinstance(case, dict) for case in cases)):
        raise ConfigError(f"{path}: expected cases to be a list of objects")
    for number, case in enumerate(cases):
        lacking = [key for key in ("id", "backend", "npus", "workload", "observed") if key not in case]
        if lacking:
            raise ConfigError(f"{path}: case {case.get('id', number)} lacks {', '.join(lacking)}")
    return cases


def conformance(folder: Path) -> Iterator[Verdict]:
    """Replay every case of a folder from the files that it names. See `Verdict`."""
    for case in read_cases(folder):
        yield check_case(case, folder)


def check_case(case: Mapping[str, Any], folder: Path) -> Verdict:
    """Replay one case and compare."""
    observed = case["observed"]
    expected: Times = observed["finish"]

    def verdict(kind: str, finish: Times, detail: str = "") -> Verdict:
        return Verdict(case["id"], case["backend"], kind, finish, expected, detail)

    try:
        result = replay_case(case, folder)
    except (ChakrasimError, OSError) as error:
        return verdict(REFUSED, [None] * case["npus"], str(error))
    ranks = range(case["npus"])
    finish = [_whole_ns(result, rank, result.times(rank).finish_ps) for rank in ranks]
    exposed = [_whole_ns(result, rank, result.times(rank).exposed_communication_ps) for rank in ranks]
    for what, ours, theirs in (
        ("finish", finish, expected),
        ("exposed communication", exposed, observed["exposed"]),
    ):
        for rank in ranks:
            if ours[rank] != theirs[rank]:
                kind = HANGS_THERE if theirs[rank] is None else DIFFERS
                return verdict(kind, finish, f"rank {rank}: {what} {ours[rank]} ns, there {theirs[rank]} ns")
    for rank in ranks:
        missing = Counter(map(tuple, observed["node_events"].get(str(rank), [])))
        missing.subtract(_node_events(result, rank))
        for (tick, what, node), count in missing.items():
            if count:
                detail = f"rank {rank}: {what} of node {node} at {tick} ns: {count:+d}"
                return verdict(DIFFERS, finish, detail)
    return verdict(EXACT, finish)


def replay_case(case: Mapping[str, Any], folder: Path) -> Result:
    """The result of a case. Raises ConfigError or TraceError for what can't be replayed."""
    options = dict(_option(text) for text in case.get("cli") or [])
    place = folder / case["workload"]["dir"]
    remote_memory, groups = place / "remote.json", place / "groups.json"
    imported = read_astra_sim(
        network=place / "network.yml",
        system=place / "system.json",
        remote_memory=remote_memory if remote_memory.exists() else None,
        groups=groups if groups.exists() else None,
        queues=int(options.pop("num-queues-per-dim", "1")),
        injection_scale=float(options.pop("injection-scale", "1")),
        rendezvous=options.pop("rendezvous-protocol", "false") == "true",
    )
    if options:
        raise ConfigError(f"case {case['id']}: unknown options {', '.join(sorted(options))}")
    machine = imported.machine
    workload = load_workload(place / case["workload"]["prefix"], groups=machine.groups)
    network = "recorded" if imported.replay_only else NETWORKS[case["backend"]]
    return simulate(workload, machine, compute=machine.compute, network=network)


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.removeprefix("--").partition("=")
    return name, value


def _whole_ns(result: Result, rank: int, time_ps: int) -> int | None:
    return time_ps // PS_PER_NS if result.has_finished(rank) else None


def _node_events(result: Result, rank: int) -> Iterator[tuple[int, str, int]]:
    rows = result.rows(rank)
    ids = result.workload.graphs[rank].ids.tolist()
    for what, times in (("issue", result.starts_ps[rows]), ("callback", result.ends_ps[rows])):
        for node, time_ps in zip(ids, times.tolist(), strict=True):
            if time_ps >= 0:
                yield time_ps // PS_PER_NS, what, node
