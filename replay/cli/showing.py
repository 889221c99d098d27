"""Results of a replay, printed as tables or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.options.replaying import Shown
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chakrasim.replay.analysis.fidelity import Fidelity
    from chakrasim.replay.report.result.batch import Outcome
    from chakrasim.replay.results.result import Result


def is_what_if(result: Result, is_changed: bool) -> bool:
    """Whether this is another replay than that of the trace as it was recorded."""
    from chakrasim.replay.network import network_model

    has_messages = any(graph.is_communication.any() for graph in result.workload.graphs.values())
    keeps_messages = network_model(result.network).splits_recording or not has_messages
    as_recorded = result.compute == "measured" and keeps_messages
    return is_changed or not as_recorded


def document_of(result: Result, edits: tuple[str, ...], checks: tuple[Fidelity, ...]) -> dict[str, Any]:
    """A result as JSON, with what was done to the workload and how its self-check went."""
    from chakrasim.replay.report.result import fidelity_table as fidelity
    from chakrasim.replay.report.result.document import json_document

    document = json_document(result)
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
    shown: Shown,
    edits: tuple[str, ...],
    checks: tuple[Fidelity, ...],
    *,
    is_what_if: bool,
) -> None:
    """Print a result, and write its timeline where one is wanted."""
    from chakrasim.replay.analysis import critical_path
    from chakrasim.replay.report.result import symmetry_table as symmetry

    grouped = classes = parts = None
    if shown.explain_symmetry:
        classes = symmetry.document(result.classes, None if shown.as_json else symmetry.MAX_CLASSES)
    if shown.by is not None:
        from chakrasim.replay.analysis.by_attribute import shares

        grouped = shown.by, shares(result, shown.by)
    write_timeline_to(shown.timeline, result)
    if shown.critical_path and result.deadlock is None:
        parts = critical_path.parts(critical_path.critical_path(result))
    if shown.as_json:
        from chakrasim.replay.report.result import attribute_table as by_attribute
        from chakrasim.replay.report.result.critical_path_table import critical_path_document

        document = document_of(result, edits, checks)
        if parts is not None:
            document["critical_path"] = critical_path_document(parts)
        if grouped is not None:
            document["by"] = by_attribute.document(*grouped)
        if classes is not None:
            document["symmetry"] = classes
        print_json(document)
        return
    from chakrasim.replay.report.console import people_console
    from chakrasim.replay.report.result.tables import print_replay

    print_replay(
        people_console(stderr=shown.timeline == "-"),
        result,
        trace=trace,
        is_default_network=is_default_network,
        critical_path=parts,
        timeline=shown.timeline,
        fidelity=checks,
        is_what_if=is_what_if,
        by=grouped,
        symmetry=classes,
    )


def write_timeline_to(timeline: str | None, result: Result) -> None:
    """Write a timeline to a file, or for `-` to standard output; nothing where none is wanted."""
    if timeline is None:
        return
    from chakrasim.replay.report.result.timeline import timeline_json, write_timeline

    if timeline == "-":
        click.echo(timeline_json(result), nl=False)
    else:
        write_timeline(result, timeline)
