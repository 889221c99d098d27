"""A replay on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from chakrasim.traces.errors import ChakrasimError, ConfigError

if TYPE_CHECKING:
    from chakrasim.replay.cli.progress import Report
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.report.result.batch import Outcome
    from chakrasim.traces.edits.scale import Scales
    from chakrasim.traces.workload import Workload


def require_plain(**options: object) -> None:
    """Raise UsageError for an option that shows one replay only."""
    for option, value in options.items():
        if value:
            name = option.replace("_", "-")
            raise click.UsageError(f"--{name} shows one replay; give one --machine")


def replay_on(
    workload: Workload,
    machines: Sequence[Machine],
    compute: Sequence[str],
    network: str,
    scales: Scales,
    report: Report,
    *,
    classes: bool = True,
    extrapolate: bool = True,
) -> list[Outcome]:
    """Results by machine; `compute` has a model for each. What goes wrong on some of several machines stands
    in place of their results, what does on all is raised."""
    from chakrasim.replay.simulate import Prepared

    prepared = Prepared(workload)
    outcomes: list[Outcome] = []
    for number, (machine, model) in enumerate(zip(machines, compute, strict=True)):
        if len(machines) > 1:
            report(number, len(machines), f"on {machine.name}")
        try:
            result = prepared.simulate(
                machine,
                compute=model,
                network=network,
                scales=scales,
                classes=classes,
                extrapolate=extrapolate,
            )
            outcomes.append((machine.name, result))
        except ChakrasimError as error:
            if len(machines) == 1:
                raise
            outcomes.append((machine.name, str(error)))
    if all(isinstance(outcome, str) for _, outcome in outcomes):
        raise ConfigError("; ".join(f"{name}: {outcome}" for name, outcome in outcomes))
    return outcomes
