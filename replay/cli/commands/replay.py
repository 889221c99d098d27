"""`chakrasim replay`: how long a workload takes on a machine, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.common import READING, converts_traces, mirror_option, reads_trace
from chakrasim.replay.cli.options.astra_sim import (
    BACKENDS,
    AstraFiles,
    astra_backend_option,
    takes_astra_files,
)
from chakrasim.replay.cli.options.edits import Edits, takes_edits
from chakrasim.replay.cli.options.replaying import Loop, Models, Shown, takes_replay_options
from chakrasim.replay.cli.options.text import OpenText, TextOptions, takes_text_options
from chakrasim.replay.cli.options.transformer import DEFAULT_MACHINE as MODEL_MACHINE
from chakrasim.replay.cli.options.transformer import Transformer, takes_transformer
from chakrasim.replay.cli.replaying import (
    Question,
    ask,
    load_machines,
    require_showable,
    show,
    whole_catalogue,
)

if TYPE_CHECKING:
    from chakrasim.replay.cli.progress import Report
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.workload import Workload


@click.command(
    epilog="\b\nExample:\n  chakrasim replay sample:ddp_transformer --timeline timeline.json\n"
    "  chakrasim replay sample:ddp_transformer --scale gpu=0.5 --json\n"
    "  chakrasim replay sample:ddp_transformer --drop all_reduce --widen 8\n"
    "  chakrasim replay graphs --astra-system system.json --astra-network network.yml\n"
    "  chakrasim replay sample:ddp_transformer --explain-symmetry\n"
    "  chakrasim replay sample:ddp_transformer --machine all\n"
)
@click.argument("trace", required=False)
@takes_replay_options
@takes_edits
@READING.option("--partial", is_flag=True, help="Accept that ranks are missing.")
@mirror_option
@converts_traces
@reads_trace
@takes_astra_files
@astra_backend_option
@takes_text_options
@takes_transformer(is_required=False)
def replay(
    trace: str | None,
    models: Models,
    shown: Shown,
    loop: Loop,
    edits: Edits,
    mirror: bool,
    astra: AstraFiles,
    astra_backend: str | None,
    text: TextOptions,
    transformer: Transformer | None,
    **reading: Any,
) -> None:
    """Replay a trace on a machine: step time, exposed communication, waiting.

    TRACE is a folder of Chakra graphs, a prefix (dir/name for dir/name.<rank>.et), one graph, a PyTorch
    profiler trace or a folder of them, a text workload of ASTRA-sim 1.0, or sample:NAME. Without it, a
    bundled sample is replayed. Exits 1 if the replay ends in a deadlock.
    """
    from chakrasim.replay.cli.open_workload import DEFAULT_TRACE
    from chakrasim.replay.cli.progress import show_log

    machines = whole_catalogue(models.machines)
    require_compatible(models, edits, astra, astra_backend, reading["groups"])
    if transformer is not None:
        require_no_recording(trace, models)
    require_showable(shown, machines)
    show_log()
    name = transformer.model if transformer else DEFAULT_TRACE if trace is None else trace
    text_workload = text.read(name) if transformer is None else None
    if text_workload is not None and len(machines) > 1:
        raise click.UsageError("a text workload is converted for one machine; give one --machine")
    descriptions, network, notes = machines_and_network(
        name, machines, models.network, astra, astra_backend, transformer, text_workload
    )
    question = Question(
        name,
        lambda report: opened(name, transformer, text_workload, descriptions[0], mirror, reading, report),
        descriptions,
        network,
        is_default_network=not (models.network or astra_backend or astra.is_given or transformer),
        mirror=mirror,
        notes=notes,
        has_size_of=descriptions[0] if astra.is_given else None,
    )
    show(question, ask(question, models, edits, loop), shown, machines)


def require_compatible(
    models: Models, edits: Edits, astra: AstraFiles, astra_backend: str | None, groups: str | None
) -> None:
    """Raise UsageError for options that say the same thing twice, or against each other."""
    if astra.is_given and models.machines:
        raise click.UsageError("--machine and ASTRA-sim's files both describe the machine; give one of them")
    if astra.groups is not None and groups is not None:
        raise click.UsageError("--groups and --astra-groups both name process groups; give one of them")
    if astra_backend is not None and models.network is not None:
        raise click.UsageError("--network and --astra-backend both choose the network; give one of them")
    if models.network is not None and edits.changes_communication:
        from chakrasim.replay.network import network_model

        if not network_model(models.network).waits:
            raise click.UsageError(
                f"--network {models.network} takes what was recorded, which --comm-size, --comm-group and "
                "--widen change"
            )


def require_no_recording(trace: str | None, models: Models) -> None:
    """Raise UsageError for a trace beside a --model, and for recorded times that a model hasn't."""
    if trace is not None:
        raise click.UsageError(f"{trace} is a trace, and --model makes one; give one of them")
    from chakrasim.replay.network import network_model

    is_recorded = models.network is not None and network_model(models.network).needs_recording
    if models.compute == "measured" or is_recorded:
        option = "--compute measured" if models.compute == "measured" else f"--network {models.network}"
        raise click.UsageError(f"nothing was recorded of a --model: {option} has no times to take")


def machines_and_network(
    name: str,
    machines: Sequence[str],
    network: str | None,
    astra: AstraFiles,
    astra_backend: str | None,
    transformer: Transformer | None,
    text_workload: OpenText | None,
) -> tuple[list[Machine], Callable[[Workload], str], tuple[str, ...]]:
    """The machines, the network model for a workload, and notes of what the machine's files say."""
    from chakrasim.replay.cli.open_workload import default_network
    from chakrasim.replay.machine.load import DEFAULT_MACHINE

    chosen = network or (BACKENDS[astra_backend] if astra_backend else None)
    if astra.is_given:
        imported = astra.read(text_workload.transformer_group if text_workload else None)
        model = chosen or ("recorded" if imported.replay_only else BACKENDS["congestion-unaware"])
        return [imported.machine], lambda workload: model, imported.notes
    named = machines[0] if machines else None
    loaded = load_machines(machines or (DEFAULT_MACHINE if transformer is None else MODEL_MACHINE,))
    return loaded, lambda workload: chosen or default_network(name, workload, named), ()


def opened(
    name: str,
    transformer: Transformer | None,
    text_workload: OpenText | None,
    machine: Machine,
    mirror: bool,
    reading: dict[str, Any],
    report: Report,
) -> Workload:
    """The workload that is named: generated, laid on the machine, or read."""
    from chakrasim.replay.cli.open_workload import open_workload

    if transformer is not None:
        return transformer.generate()
    if text_workload is not None:
        return text_workload.convert(machine)
    return open_workload(
        name,
        groups_file=reading["groups"],
        groups=machine.groups,
        partial=reading["partial"] or mirror,
        drop_unknown_dependencies=reading["drop_unknown_dependencies"],
        options=reading["options"],
        progress=report,
    )
