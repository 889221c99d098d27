"""Fitting what NCCL reaches of a machine's network to measured tables.

Parameters are moved in logarithms by Gauss-Newton steps with Levenberg's damping, from several starts, so
that the logarithm of predicted over measured is small in squares: a tenth too long counts as much at 1 MB as
at 1 GB. Sizes below 1 MB count less, and a weak pull towards the start decides what the tables leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from chakrasim.replay.calibration.nccl_tests import KINDS, SEND_RECEIVE, Table
from chakrasim.replay.collectives.nccl_model import GATHERING, lines
from chakrasim.replay.collectives.placement import Shape, placement
from chakrasim.replay.machine.machine import NCCL, Machine
from chakrasim.replay.machine.nccl_parameters import (
    LL,
    LL128,
    PROTOCOLS,
    SIMPLE,
    Calibration,
    InSwitch,
    Links,
    Protocol,
)
from chakrasim.replay.transport.uncontended import reached
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, Ints
from chakrasim.traces.units import PS_PER_S, PS_PER_US

Floats = NDArray[np.float64]

LARGE_BYTES = 1_000_000
"""From here on errors count in full."""
WEIGHT_BELOW = 0.35
MAX_ERROR_BELOW = 1.0
"""Cap on a size's error, in logarithms: a slip of NCCL's own choice at a small size is not to be followed."""
PULL = 0.06
"""Towards the start: a parameter off by a factor of e counts as much as a size off by 6 %."""
STARTS, SPREAD, MAX_STEPS = 8, 0.35, 200
FIGURES = 4
"""Significant figures of what is fitted; more would only look exact."""


@dataclass(frozen=True)
class Residual:
    """One table beside what the fitted machine predicts. Arrays are float64[rows]."""

    table: Table
    sizes_bytes: Ints
    measured_us: Floats
    predicted_us: Floats

    @property
    def errors(self) -> Floats:
        """Predicted over measured, less one."""
        return self.predicted_us / self.measured_us - 1

    def large(self) -> Floats:
        """Errors from `LARGE_BYTES` on; may be empty."""
        return self.errors[self.sizes_bytes >= LARGE_BYTES]


@dataclass(frozen=True)
class Fit:
    """A machine with what its network reaches, and how well that meets the tables."""

    machine: Machine
    residuals: tuple[Residual, ...]
    moved: Mapping[str, tuple[float, float]]
    """Parameters that the tables say something of, by name: before and after."""
    kept: tuple[str, ...]
    """Those of which no table says anything."""
    at_limit: tuple[str, ...]
    """Shares that would be more than 1: the machine's bandwidth is less than what was measured."""


def calibrate(machine: Machine, tables: Sequence[Table]) -> Fit:
    """Fit the machine's `nccl` block, or where it has none a common one, to tables, and use it throughout.

    O(steps * parameters * rows): seconds. The same arguments give the same result. Raises ConfigError for a
    machine with a scheduling block, and for a table that doesn't fit on it.
    """
    if machine.scheduling is not None:
        raise ConfigError(
            f"machine {machine.name!r} has a scheduling block, which plays collectives message by message; "
            "expected one without"
        )
    placed = [_Placed(machine, table) for table in tables]
    start = machine.nccl or common(machine)
    names = [dimension.name for dimension in machine.dimensions]
    values = parameters(start, names)
    free = list(values)

    def at(x: Floats) -> Machine:
        new = values | {name: exp(value) for name, value in zip(free, x, strict=True)}
        return replace(machine, nccl=rebuilt(start, names, new))

    def errors(x: Floats) -> Floats:
        where = at(np.minimum(x, highest))
        return np.concatenate([table.weighted_errors(where) for table in placed])

    highest = np.array([0.0 if _is_share(name) else np.inf for name in free])
    begin = np.minimum(np.array([log(values[name]) for name in free]), highest)
    told = _told(errors, begin)
    free = [name for name, is_told in zip(free, told, strict=True) if is_told]
    highest, begin = highest[told], begin[told]
    best = np.minimum(_least(errors, begin), highest)
    after = {name: _rounded(exp(value)) for name, value in zip(free, best, strict=True)}
    fitted = replace(
        machine,
        algorithms=dict.fromkeys(CommKind, (NCCL,) * len(names)),
        nccl=rebuilt(start, names, values | after),
    )
    return Fit(
        machine=fitted,
        residuals=tuple(table.residual(fitted) for table in placed),
        moved={name: (values[name], after[name]) for name in free},
        kept=tuple(name for name in values if name not in after),
        at_limit=tuple(name for name in free if _is_share(name) and after[name] == 1),
    )


def compare(machine: Machine, table: Table) -> Residual:
    """A table beside what a machine with an `nccl` block predicts. Raises ConfigError as `calibrate`."""
    return _Placed(machine, table).residual(machine)


def common(machine: Machine) -> Calibration:
    """Initial values of a fit for a machine of which nothing is known.

    Latencies of hops are those of NCCL's tuning model (`src/graph/tuning.cc`, rings over NVLink and over the
    network); the rest is of the order of what GPUs of 2020 to 2024 reach.
    """
    inner = Links(0.8, _times(0.6, 1.9, 3.4), 10 * PS_PER_US, 0.75, 0.75)
    outer = Links(0.8, _times(2.7, 4.0, 14.0), 20 * PS_PER_US, 0.75, 0.75)
    overhead = _times(7.0, 20.0, 30.0)
    most_Bps = {LL: 10e9, LL128: 120e9, SIMPLE: None}
    return Calibration(
        protocols={name: Protocol(overhead[name], most_Bps[name]) for name in PROTOCOLS},
        links=(inner, *(outer for _ in machine.dimensions[1:])),
        tree_efficiency=0.8,
        ring_ends=0.3,
        peer_ps=2 * PS_PER_US,
    )


def _times(*each_us: float) -> dict[str, int]:
    return {name: round(us * PS_PER_US) for name, us in zip(PROTOCOLS, each_us, strict=True)}


def parameters(calibration: Calibration, dimensions: Sequence[str]) -> dict[str, float]:
    """Parameters that a fit can move, by name, each in the unit of the machine file and above 0."""
    found = {
        "tree_efficiency": calibration.tree_efficiency,
        "ring_ends": calibration.ring_ends,
        "peer_us": calibration.peer_ps / PS_PER_US,
    }
    for name, protocol in calibration.protocols.items():
        found[f"{name} overhead_us"] = protocol.overhead_ps / PS_PER_US
        if protocol.most_Bps is not None:
            found[f"{name} most_GBps"] = protocol.most_Bps / 1e9
    for dimension, links in zip(dimensions, calibration.links, strict=True):
        found[f"{dimension} efficiency"] = links.efficiency
        found |= {f"{dimension} hop_us {name}": ps / PS_PER_US for name, ps in links.hop_ps.items()}
        found[f"{dimension} message_us"] = links.message_ps / PS_PER_US
        found[f"{dimension} message_efficiency"] = links.message_efficiency
        found[f"{dimension} exchange_efficiency"] = links.exchange_efficiency
    if calibration.in_switch is not None:
        found["nvls overhead_us"] = calibration.in_switch.overhead_ps / PS_PER_US
        found["nvls efficiency"] = calibration.in_switch.efficiency
    return {name: max(value, 1e-3) for name, value in found.items()}


def rebuilt(like: Calibration, dimensions: Sequence[str], values: Mapping[str, float]) -> Calibration:
    """The calibration of which these are the `parameters`."""

    def ps(name: str) -> int:
        return round(values[name] * PS_PER_US)

    return Calibration(
        protocols={
            name: Protocol(
                ps(f"{name} overhead_us"),
                None if protocol.most_Bps is None else values[f"{name} most_GBps"] * 1e9,
            )
            for name, protocol in like.protocols.items()
        },
        links=tuple(
            Links(
                efficiency=values[f"{name} efficiency"],
                hop_ps={protocol: ps(f"{name} hop_us {protocol}") for protocol in links.hop_ps},
                message_ps=ps(f"{name} message_us"),
                message_efficiency=values[f"{name} message_efficiency"],
                exchange_efficiency=values[f"{name} exchange_efficiency"],
            )
            for name, links in zip(dimensions, like.links, strict=True)
        ),
        tree_efficiency=values["tree_efficiency"],
        ring_ends=values["ring_ends"],
        peer_ps=ps("peer_us"),
        in_switch=None
        if like.in_switch is None
        else InSwitch(ps("nvls overhead_us"), values["nvls efficiency"]),
    )


def _is_share(name: str) -> bool:
    return name.endswith("efficiency")


def _rounded(value: float) -> float:
    return float(f"{value:.{FIGURES}g}")


class _Placed:
    """A table on the machine's ranks."""

    def __init__(self, machine: Machine, table: Table) -> None:
        self.table = table
        inner = machine.dimensions[0].size
        hosts = table.ranks_by_host
        if len(machine.dimensions) == 1 and len(hosts) > 1:
            raise ConfigError(
                f"{table.name} ran on {len(hosts)} hosts; {machine.name!r} has one dimension, which is a "
                "host's inside; expected a second for the network"
            )
        if inner is not None and max(hosts) > inner:
            raise ConfigError(
                f"{table.name} ran on {max(hosts)} ranks a host; dimension {machine.dimensions[0].name!r} of "
                f"{machine.name!r} has {inner}"
            )
        stride = inner or 0
        ranks = tuple(host * stride + place for host, count in enumerate(hosts) for place in range(count))
        self.sized = machine.sized_for(max(ranks) + 1)
        self.ranks = np.array(ranks, dtype=np.int64)
        self.shape: Shape = placement(self.sized.dimensions, ranks).shape
        self.sizes = np.array(table.sizes_bytes, dtype=np.int64)
        self.measured_us = np.array(table.times_us)
        self.weights = np.where(self.sizes >= LARGE_BYTES, 1.0, WEIGHT_BELOW)

    def predicted_us(self, machine: Machine) -> Floats:
        """float64[rows]; the machine may have any `nccl` block."""
        if self.table.kind == SEND_RECEIVE:
            assert machine.nccl is not None
            # Everybody sends to the next one; the slowest of them is what is timed.
            latency_ps, rate_Bps = reached(machine.nccl, self.sized, self.ranks, np.roll(self.ranks, -1))
            each_ps = latency_ps[:, None] + self.sizes * (PS_PER_S / rate_Bps[:, None])
            slowest: Floats = each_ps.max(axis=0) / PS_PER_US
            return slowest
        kind = KINDS[self.table.kind]
        given = self.sizes / (self.shape.n if kind in GATHERING else 1)
        fixed_ps, per_byte_ps = np.array(lines(machine, kind, self.shape)).T
        fastest: Floats = (fixed_ps[:, None] + per_byte_ps[:, None] * given).min(axis=0) / PS_PER_US
        return fastest

    def weighted_errors(self, machine: Machine) -> Floats:
        errors = np.log(self.predicted_us(machine) / self.measured_us)
        is_small = self.sizes < LARGE_BYTES
        errors[is_small] = np.clip(errors[is_small], -MAX_ERROR_BELOW, MAX_ERROR_BELOW)
        weighted: Floats = errors * self.weights
        return weighted

    def residual(self, machine: Machine) -> Residual:
        return Residual(self.table, self.sizes, self.measured_us, self.predicted_us(machine))


def _told(errors: Callable[[Floats], Floats], begin: Floats) -> NDArray[np.bool_]:
    """Mask of parameters that change any error, at some of the starts."""
    random = np.random.default_rng(0)
    told = np.zeros(len(begin), dtype=np.bool_)
    for _ in range(STARTS):
        near = begin + random.normal(0, 2 * SPREAD, len(begin))
        told |= np.abs(_slopes(errors, near, errors(near))).max(axis=0) > 1e-6
    return told


def _slopes(function: Callable[[Floats], Floats], x: Floats, here: Floats) -> Floats:
    step = 1e-4
    columns = [(function(x - step * unit) - here) / -step for unit in np.eye(len(x))]
    return np.stack(columns, axis=1) if columns else np.zeros((len(here), 0))


def _least(errors: Callable[[Floats], Floats], begin: Floats) -> Floats:
    """The best of the minima found from several starts."""
    random = np.random.default_rng(0)

    def pulled(x: Floats) -> Floats:
        return np.concatenate([errors(x), PULL * (x - begin)])

    best, least = begin, np.inf
    for index in range(STARTS):
        x, sum_ = _descend(pulled, begin + (index > 0) * random.normal(0, SPREAD, len(begin)))
        if sum_ < least:
            best, least = x, sum_
    return best


def _descend(function: Callable[[Floats], Floats], x: Floats) -> tuple[Floats, float]:
    """Gauss-Newton with Levenberg's damping, and the sum of squares where it ends."""
    here = function(x)
    sum_, damping = float(here @ here), 1e-2
    for _ in range(MAX_STEPS):
        slopes = _slopes(function, x, here)
        gradient, square = slopes.T @ here, slopes.T @ slopes
        gain = 0.0
        for _ in range(12):
            damped = square + damping * (np.diag(np.diag(square)) + 1e-9 * np.eye(len(x)))
            there = x + np.clip(np.linalg.solve(damped, -gradient), -0.7, 0.7)
            after = function(there)
            if float(after @ after) < sum_:
                gain = sum_ - float(after @ after)
                x, here, sum_, damping = there, after, sum_ - gain, max(damping / 4, 1e-6)
                break
            damping *= 3
        if gain < 1e-8:
            break
    return x, sum_
