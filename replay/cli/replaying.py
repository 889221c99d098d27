"""From the options of a replay to its results, and their showing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chakrasim.replay.cli.commands.many import replay_on, require_plain
from chakrasim.replay.cli.common import EXIT_UNFINISHED
from chakrasim.replay.cli.options.edits import Edits
from chakrasim.replay.cli.options.replaying import Loop, Models, Shown
from chakrasim.replay.cli.options.types import join_scales
from chakrasim.replay.cli.showing import is_what_if, show_batch, show_replay
from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.replay.cli.progress import Report
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.report.result.batch import Outcome
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.workload import Workload


@dataclass(frozen=True)
class Question:
    """A workload, how to open it, and the machines that it is replayed on."""

    name: str
    open: Callable[[Report], Workload]
    machines: Sequence[Machine]
    network: Callable[[Workload], str]
    """The network model for the edited workload."""
    is_default_network: bool = False
    mirror: bool = False
    notes: tuple[str, ...] = ()
    has_size_of: Machine | None = None
    """The imported machine whose ranks the workload must have, no more and no fewer."""


@dataclass(frozen=True)
class Answer:
    """Results by machine, with what was done to the workload and how its self-check went."""

    outcomes: list[Outcome]
    edits: tuple[str, ...]
    checks: tuple[Fidelity, ...]
    is_changed: bool


def require_showable(shown: Shown, machines: Sequence[str]) -> None:
    """Raise UsageError for views that exclude each other, ConfigError for a file that can't be written."""
    from chakrasim.replay.cli.output import require_writable

    if shown.timeline == "-" and shown.as_json:
        raise click.UsageError("--timeline - and --json can't both have standard output")
    if shown.timeline not in (None, "-"):
        require_writable(Path(shown.timeline))
    if len(machines) > 1:
        require_plain(
            timeline=shown.timeline,
            by=shown.by,
            critical_path=shown.critical_path,
            explain_symmetry=shown.explain_symmetry,
        )


def load_machines(names: Sequence[str]) -> list[Machine]:
    """The machines of those names. Raises UsageError where they don't go together."""
    from chakrasim.replay.machine.load import load_machine

    machines = [load_machine(name) for name in names]
    if any(machine.groups != machines[0].groups for machine in machines):
        raise click.UsageError("the machines' files name different process groups; replay on one at a time")
    return machines


def ask(question: Question, models: Models, edits: Edits, loop: Loop) -> Answer:
    """Open the workload, edit it and replay it on each machine."""
    from chakrasim.replay.analysis.fidelity import is_doubtful
    from chakrasim.replay.cli.open_workload import self_check
    from chakrasim.replay.cli.progress import progress
    from chakrasim.replay.compute.durations import default_compute

    with progress(f"replaying {question.name}") as report:
        workload = question.open(report)
        checks = self_check(workload)
        if question.mirror:
            from chakrasim.traces.edits.mirror import mirror_ranks

            workload = mirror_ranks(workload)
        edited = edits.apply(workload)
        if question.has_size_of is not None:
            require_all_of(edited, question.has_size_of)
        outcomes = replay_on(
            edited.with_notes(question.notes),
            question.machines,
            [models.compute or default_compute(edited, machine.compute) for machine in question.machines],
            question.network(edited),
            join_scales(models.scales),
            report,
            classes=not loop.no_classes,
            extrapolate=not loop.no_extrapolate,
        )
    made = edited.notes[len(workload.notes) :]
    is_changed = bool(made or models.scales or question.mirror)
    if is_doubtful(checks):
        outcomes = [(machine, with_doubt(one, checks, is_changed)) for machine, one in outcomes]
    return Answer(outcomes, made, checks, is_changed)


def show(question: Question, answer: Answer, shown: Shown, machines: Sequence[str]) -> None:
    """Print the answer; exit with `EXIT_UNFINISHED` after a deadlock."""
    outcomes = answer.outcomes
    if len(outcomes) > 1:
        outcomes = with_labels(outcomes, machines)
        show_batch(
            question.name, outcomes, shown.as_json, answer.edits, answer.checks, is_changed=answer.is_changed
        )
    else:
        result = outcomes[0][1]
        assert not isinstance(result, str), "what fails on the only machine is raised"
        show_replay(
            result,
            question.name,
            question.is_default_network,
            shown,
            answer.edits,
            answer.checks,
            is_what_if=is_what_if(result, answer.is_changed),
        )
    if any(not isinstance(one, str) and one.deadlock is not None for _, one in outcomes):
        click.get_current_context().exit(EXIT_UNFINISHED)


def whole_catalogue(machines: Sequence[str]) -> tuple[str, ...]:
    """The machines' names, each `all` spelled out."""
    from chakrasim.replay.machine.load import machine_names

    return tuple(name for one in machines for name in (machine_names() if one == "all" else [one]))


def with_labels(outcomes: Sequence[Outcome], machines: Sequence[str]) -> list[Outcome]:
    """Machines of the same name are called as the user does, such as by their files."""
    names = [name for name, _ in outcomes]
    return [
        (given if names.count(name) > 1 else name, one)
        for (name, one), given in zip(outcomes, machines, strict=True)
    ]


def with_doubt(outcome: Result | str, checks: tuple[Fidelity, ...], is_changed: bool) -> Result | str:
    """A what-if on a trace whose replay is doubtful notes that."""
    from dataclasses import replace

    from chakrasim.replay.analysis.fidelity import doubt

    if isinstance(outcome, str) or not is_what_if(outcome, is_changed):
        return outcome
    return replace(outcome, notes=(doubt(checks), *outcome.notes))


def require_all_of(workload: Workload, machine: Machine) -> None:
    """Raise ConfigError unless the workload has exactly the ranks that an imported machine has."""
    if workload.world_size != machine.size:
        raise ConfigError(
            f"{workload.name} has {workload.world_size} ranks, {machine.name} {machine.size}: "
            "ASTRA-sim's network file has to have as many as there are traces"
        )
