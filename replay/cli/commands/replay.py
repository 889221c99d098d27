"""`chakrasim replay`: how long a workload takes on a machine, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.commands.many import replay_on, require_plain
from chakrasim.replay.cli.common import EXIT_UNFINISHED, converts_traces, mirror_option, reads_trace
from chakrasim.replay.cli.options.astra_sim import BACKENDS, AstraFiles, takes_astra_files
from chakrasim.replay.cli.options.edits import Edits, takes_edits
from chakrasim.replay.cli.options.text import TextOptions, takes_text_options
from chakrasim.replay.cli.options.transformer import DEFAULT_MACHINE as MODEL_MACHINE
from chakrasim.replay.cli.options.transformer import Transformer, takes_transformer
from chakrasim.replay.cli.options.types import join_scales, scale_option
from chakrasim.replay.report.jsontext import print_json
from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.report.result.batch import Outcome
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.workload import Workload


@click.command(
    epilog="\b\nExample:\n  chakrasim replay sample:ddp_transformer --timeline timeline.json\n"
    "  chakrasim replay sample:ddp_transformer --scale gpu=0.5 --json\n"
    "  chakrasim replay sample:ddp_transformer --drop all_reduce --widen 8\n"
    "  chakrasim replay graphs --astra-system system.json --astra-network network.yml\n"
    "  chakrasim replay --model llama3-70b --tp 8 --pp 4 --ranks 64 --machine hgx-h100\n"
    "  chakrasim replay sample:ddp_transformer --explain-symmetry\n"
    "  chakrasim replay --model llama3-8b --dp 8 --machine dgx-a100 --machine hgx-h100 --machine hgx-b200\n"
    "  chakrasim replay sample:ddp_transformer --machine all\n"
)
@click.argument("trace", required=False)
@click.option(
    "--machine",
    "machines",
    metavar="NAME|FILE",
    multiple=True,
    help="See `chakrasim machines list`. With several, the workload is replayed on each and times are "
    "compared with the first; all: the whole catalogue.",
)
@click.option(
    "--compute",
    metavar="MODEL",
    help="measured: recorded durations; roofline: from operations and bytes. Default: what the machine's "
    "file says, else measured.",
)
@click.option(
    "--network",
    metavar="MODEL",
    help="analytical: from the machine's links; congestion-aware: every message on those links, one at a "
    "time on each; shared-ports: as the first, and messages share the ports of their ranks; measured: "
    "recorded durations; recorded: so, and nobody waits for anybody. Default: measured for a recorded trace "
    "with no --machine, else analytical.",
)
@click.option(
    "--scale",
    "scales",
    callback=scale_option,
    metavar="PATTERN=F",
    multiple=True,
    help="Multiply durations by F: of nodes whose name matches a pattern such as '*gemm*', or cpu=F, gpu=F.",
)
@click.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@click.option("--critical-path", is_flag=True, help="Show what the step time is made of, node by node.")
@click.option(
    "--by",
    metavar="ATTRIBUTE",
    help="Add up times, operations and bytes by a whole-number attribute of nodes, e.g. layer, pass.",
)
@click.option("--timeline", metavar="OUT", help="Write a Perfetto/Chrome trace; - for standard output.")
@click.option(
    "--explain-symmetry",
    is_flag=True,
    help="Show which ranks do the same, so that one of them is replayed, and what keeps the others apart.",
)
@click.option(
    "--no-classes",
    is_flag=True,
    help="Replay every rank, also those that do the same; the result is the same.",
)
@click.option(
    "--no-extrapolate",
    is_flag=True,
    help="Replay iterations and layers one by one even where they repeat exactly; the result is the same.",
)
@takes_astra_files
@click.option(
    "--astra-backend",
    type=click.Choice(list(BACKENDS)),
    help="ASTRA-sim's word for --network. Default: congestion-unaware.",
)
@mirror_option
@takes_edits
@takes_transformer(is_required=False)
@takes_text_options
@converts_traces
@reads_trace
@click.pass_context
def replay(
    ctx: click.Context,
    trace: str | None,
    machines: tuple[str, ...],
    compute: str | None,
    network: str | None,
    scales: tuple[tuple[str, float], ...],
    partial: bool,
    critical_path: bool,
    by: str | None,
    timeline: str | None,
    explain_symmetry: bool,
    no_classes: bool,
    no_extrapolate: bool,
    astra: AstraFiles,
    astra_backend: str | None,
    mirror: bool,
    text: TextOptions,
    transformer: Transformer | None,
    edits: Edits,
    communication_kernels: str | None,
    groups: str | None,
    drop_unknown_dependencies: bool,
    as_json: bool,
) -> None:
    """Replay a trace on a machine: step time, exposed communication, waiting.

    TRACE is a folder of Chakra graphs, a prefix (dir/name for dir/name.<rank>.et), one graph, a PyTorch
    profiler trace or a folder of them, a text workload of ASTRA-sim 1.0, or sample:NAME. Without it, a
    bundled sample is replayed. Exits 1 if the replay ends in a deadlock.
    """
    from chakrasim.replay.analysis.fidelity import is_doubtful
    from chakrasim.replay.cli.open_workload import (
        DEFAULT_TRACE,
        default_network,
        open_workload,
        self_check,
    )
    from chakrasim.replay.cli.output import require_writable
    from chakrasim.replay.cli.progress import progress, show_log
    from chakrasim.replay.compute.durations import default_compute
    from chakrasim.replay.machine.load import DEFAULT_MACHINE, load_machine

    if timeline == "-" and as_json:
        raise click.UsageError("--timeline - and --json can't both have standard output")
    if timeline not in (None, "-"):
        require_writable(Path(timeline))
    if astra.is_given and machines:
        raise click.UsageError("--machine and ASTRA-sim's files both describe the machine; give one of them")
    if astra.groups is not None and groups is not None:
        raise click.UsageError("--groups and --astra-groups both name process groups; give one of them")
    if astra_backend is not None and network is not None:
        raise click.UsageError("--network and --astra-backend both choose the network; give one of them")
    if network == "recorded" and edits.changes_communication:
        raise click.UsageError(
            "--network recorded takes what was recorded, which --comm-size, --comm-group and --widen change"
        )
    if transformer is not None and trace is not None:
        raise click.UsageError(f"{trace} is a trace, and --model makes one; give one of them")
    machines = whole_catalogue(machines)
    if len(machines) > 1:
        require_plain(
            timeline=timeline, by=by, critical_path=critical_path, explain_symmetry=explain_symmetry
        )
    if transformer is not None and (compute == "measured" or network in ("measured", "recorded")):
        option = "--compute measured" if compute == "measured" else f"--network {network}"
        raise click.UsageError(f"nothing was recorded of a --model: {option} has no times to take")
    show_log()
    name = DEFAULT_TRACE if trace is None else trace
    if transformer is not None:
        name = transformer.model
    text_workload = text.read(name) if transformer is None else None
    if text_workload is not None and len(machines) > 1:
        raise click.UsageError("a text workload is converted for one machine; give one --machine")
    notes: tuple[str, ...] = ()
    replay_only = False
    if astra.is_given:
        imported = astra.read(text_workload.transformer_group if text_workload else None)
        descriptions, notes, replay_only = [imported.machine], imported.notes, imported.replay_only
    else:
        default = DEFAULT_MACHINE if transformer is None else MODEL_MACHINE
        descriptions = [load_machine(machine) for machine in machines or (default,)]
    description = descriptions[0]
    if any(other.groups != description.groups for other in descriptions):
        raise click.UsageError("the machines' files name different process groups; replay on one at a time")
    with progress(f"replaying {name}") as report:
        if transformer is not None:
            workload = transformer.generate()
        elif text_workload is not None:
            workload = text_workload.convert(description)
        else:
            workload = open_workload(
                name,
                groups_file=groups,
                groups=description.groups,
                partial=partial or mirror,
                drop_unknown_dependencies=drop_unknown_dependencies,
                communication_kernels=communication_kernels,
                progress=report,
            )
        checks = self_check(workload)
        if mirror:
            from chakrasim.traces.edits.mirror import mirror_ranks

            workload = mirror_ranks(workload)
        edited = edits.apply(workload)
        if astra.is_given:
            require_all_of(edited, description)
        model = network or (BACKENDS[astra_backend] if astra_backend else None)
        if model is None and astra.is_given:
            model = "recorded" if replay_only else BACKENDS["congestion-unaware"]
        if model is None:
            model = default_network(name, edited, machines[0] if machines else None)
        outcomes = replay_on(
            edited.with_notes(notes),
            descriptions,
            [compute or default_compute(edited, one.compute) for one in descriptions],
            model,
            join_scales(scales),
            report,
            classes=not no_classes,
            extrapolate=not no_extrapolate,
        )
    made = edited.notes[len(workload.notes) :]
    is_changed = bool(made or scales or mirror)
    if is_doubtful(checks):
        outcomes = [(machine, with_doubt(one, checks, is_changed)) for machine, one in outcomes]
    if len(outcomes) > 1:
        outcomes = with_labels(outcomes, machines)
        show_batch(name, outcomes, as_json, made, checks, is_changed=is_changed)
        if any(not isinstance(one, str) and one.deadlock is not None for _, one in outcomes):
            ctx.exit(EXIT_UNFINISHED)
        return
    result = outcomes[0][1]
    assert not isinstance(result, str), "what fails on the only machine is raised"
    is_default = network is None and astra_backend is None and not astra.is_given and transformer is None
    show_replay(
        result,
        name,
        is_default,
        critical_path,
        timeline,
        as_json,
        made,
        checks,
        is_what_if=is_what_if(result, is_changed),
        by=by,
        with_symmetry=explain_symmetry,
    )
    if result.deadlock is not None:
        ctx.exit(EXIT_UNFINISHED)


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


def is_what_if(result: Result, is_changed: bool) -> bool:
    """Whether this is another replay than that of the trace as it was recorded."""
    has_messages = any(graph.is_communication.any() for graph in result.workload.graphs.values())
    as_recorded = result.compute == "measured" and (result.network == "measured" or not has_messages)
    return is_changed or not as_recorded


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


def document_of(result: Result, edits: tuple[str, ...], checks: tuple[Fidelity, ...]) -> dict[str, Any]:
    """A result as JSON, with what was done to the workload and how its self-check went."""
    from chakrasim.replay.report.result import fidelity_table as fidelity

    document = result.to_json()
    if edits:
        document["edits"] = list(edits)
    if checks:
        document["self_check"] = fidelity.document(checks)
    return document


def show_batch(
    trace: str,
    outcomes: Sequence[Outcome],
    as_json: bool,
    edits: tuple[str, ...],
    checks: tuple[Fidelity, ...],
    *,
    is_changed: bool,
) -> None:
    """Print the results on several machines, side by side."""
    from chakrasim.replay.report.console import people_console
    from chakrasim.replay.report.result.batch import document, print_batch

    if as_json:
        print_json(document(outcomes, lambda result: document_of(result, edits, checks)))
        return
    are_what_ifs = any(not isinstance(one, str) and is_what_if(one, is_changed) for _, one in outcomes)
    print_batch(people_console(), trace, outcomes, fidelity=checks, is_what_if=are_what_ifs)


def show_replay(
    result: Result,
    trace: str,
    is_default_network: bool,
    with_critical_path: bool,
    timeline: str | None,
    as_json: bool,
    edits: tuple[str, ...] = (),
    checks: tuple[Fidelity, ...] = (),
    *,
    is_what_if: bool = True,
    by: str | None = None,
    with_symmetry: bool = False,
) -> None:
    """Print a result, and write its timeline where one is wanted."""
    grouped = classes = None
    if with_symmetry:
        from chakrasim.replay.report.result import symmetry_table as symmetry

        classes = symmetry.document(result.classes, None if as_json else symmetry.MOST_CLASSES)
    if by is not None:
        from chakrasim.replay.analysis.by_attribute import shares

        grouped = by, shares(result, by)
    if timeline == "-":
        from chakrasim.replay.report.result.timeline import timeline_json

        click.echo(timeline_json(result), nl=False)
    elif timeline is not None:
        from chakrasim.replay.report.result.timeline import write_timeline

        write_timeline(result, timeline)
    parts = None
    if with_critical_path and result.deadlock is None:
        from chakrasim.replay.report.result import critical_path_table as critical_path

        parts = critical_path.parts(critical_path.critical_path(result))
    if as_json:
        from chakrasim.replay.report.result import attribute_table as by_attribute

        document = document_of(result, edits, checks)
        if parts is not None:
            document["critical_path"] = critical_path.document(parts)
        if grouped is not None:
            document["by"] = by_attribute.document(*grouped)
        if classes is not None:
            document["symmetry"] = classes
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console
        from chakrasim.replay.report.result.tables import print_replay

        console = people_console(stderr=timeline == "-")
        print_replay(
            console,
            result,
            trace=trace,
            is_default_network=is_default_network,
            critical_path=parts,
            timeline=timeline,
            fidelity=checks,
            is_what_if=is_what_if,
            by=grouped,
            symmetry=classes,
        )
