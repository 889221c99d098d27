"""`chakrasim calibrate`: what NCCL reaches of a network, from one's own measurements."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.cli.common import json_option
from chakrasim.replay.report.jsontext import print_json
from chakrasim.traces.errors import ConfigError


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim calibrate all_reduce_16.log --machine hgx-h100 -o machine.yaml\n"
    "  chakrasim replay --machine machine.yaml --network analytical\n"
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option(
    "--machine",
    "machine_name",
    required=True,
    metavar="NAME|FILE",
    help="Where to start: its network's sizes and bandwidths stay, and what no log tells.",
)
@click.option("-o", "--output", required=True, metavar="OUT", help="Machine file to write.")
@click.option("--force", is_flag=True, help="Replace OUT.")
@json_option
def calibrate(logs: tuple[str, ...], machine_name: str, output: str, force: bool, as_json: bool) -> None:
    """Fit a machine's network to measured collectives.

    A LOG is what a program of nccl-tests printed (all_reduce_perf, all_gather_perf, reduce_scatter_perf,
    alltoall_perf, broadcast_perf, reduce_perf, sendrecv_perf), or a .csv or .json file with kind, ranks,
    ranks_per_node, size_bytes and time_us. OUT is the machine with collectives as NCCL runs them. Logs of
    more than one number of hosts tell most.
    """
    from dataclasses import replace

    from chakrasim.replay.calibration.fit import calibrate as fit_to
    from chakrasim.replay.calibration.nccl_tests import read_tables
    from chakrasim.replay.cli.output import require_writable
    from chakrasim.replay.machine.files.write import machine_yaml
    from chakrasim.replay.machine.load import load_machine
    from chakrasim.replay.report.machine.calibration import describe_fit, print_fit
    from chakrasim.traces.io import write_bytes_atomically

    path = Path(output)
    if path.exists() and not force:
        raise ConfigError(f"{path} exists; --force replaces it")
    require_writable(path)
    machine = load_machine(machine_name)
    tables = [table for log in logs for table in read_tables(Path(log))]
    fit = fit_to(machine, tables)
    names = ", ".join(dict.fromkeys(Path(log).name for log in logs))
    fitted = replace(fit.machine, source=f"{machine.source}; its nccl block fitted to {names}")
    write_bytes_atomically(path, machine_yaml(fitted).encode())
    for name in fit.at_limit:
        click.echo(
            f"chakrasim: note: {name} is 1: more was measured than the machine's bandwidth there", err=True
        )
    if fit.kept:
        click.echo(f"chakrasim: note: no log tells of {', '.join(fit.kept)}: kept", err=True)
    document = describe_fit(fit) | {"file": str(path)}
    if as_json:
        print_json(document)
        return
    from chakrasim.replay.report.console import people_console

    print_fit(people_console(), document)
    click.echo(f"wrote {path}")
