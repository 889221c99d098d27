"""`chakrasim conformance`: our answers beside ASTRA-sim's."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.cli.common import EXIT_UNFINISHED, json_option
from chakrasim.replay.report.jsontext import print_json


@click.command(epilog="\b\nExample:\n  chakrasim conformance recorded_runs/\n")
@click.argument("folder")
@json_option
@click.pass_context
def conformance(ctx: click.Context, folder: str, as_json: bool) -> None:
    """Compare with recorded runs of ASTRA-sim, to the nanosecond.

    FOLDER holds a cases.json and the files that it names (docs/astra-sim.md). Exits 1 if a case differs that
    ended there.
    """
    from chakrasim.replay.astra_sim.conformance import HANGS_THERE, check_case, read_cases
    from chakrasim.replay.cli.progress import progress
    from chakrasim.replay.report.machine.conformance import describe_verdicts, print_verdicts

    cases = read_cases(Path(folder))
    verdicts = []
    with progress(f"replaying {len(cases)} cases") as report:
        for number, case in enumerate(cases):
            report(number, len(cases), case["id"])
            verdicts.append(check_case(case, Path(folder)))
    document = describe_verdicts(verdicts)
    if as_json:
        print_json(document)
    else:
        from chakrasim.replay.report.console import people_console

        print_verdicts(people_console(), document)
    bad = [entry for entry in document["cases"] if entry["verdict"] not in ("exact", HANGS_THERE)]
    if bad:
        ctx.exit(EXIT_UNFINISHED)
