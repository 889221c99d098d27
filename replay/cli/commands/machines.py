"""`chakrasim machines`: the catalogue, and machines described elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from chakrasim.replay.cli.common import json_option
from chakrasim.replay.cli.options.astra_sim import AstraFiles, takes_astra_files
from chakrasim.replay.report.jsontext import print_json
from chakrasim.traces.errors import ConfigError


@click.group(epilog="\b\nExample:\n  chakrasim machines list\n")
def machines() -> None:
    """The machines that come with chakrasim."""


@machines.command("list", epilog="\b\nExample:\n  chakrasim machines list\n")
@json_option
def list_machines(as_json: bool) -> None:
    """List the machines that --machine knows by name."""
    from chakrasim.replay.machine.load import load_machine, machine_names
    from chakrasim.replay.report.machine.machines import describe_machine, print_machines

    known = []
    for name in machine_names():
        try:
            known.append(describe_machine(load_machine(name)))
        except ConfigError as error:  # a file of the user's own; the others are good all the same
            click.echo(f"chakrasim: warning: {error}", err=True)
    if as_json:
        print_json({"machines": known})
    else:
        from chakrasim.replay.report.console import people_console

        print_machines(people_console(), known)


@machines.command("show", epilog="\b\nExample:\n  chakrasim machines show dgx-a100 > my.yaml\n")
@click.argument("name")
@json_option
def show_machine(name: str, as_json: bool) -> None:
    """Print a machine file, with the source of each figure: a start for your own."""
    from chakrasim.replay.machine.load import load_machine, machine_path
    from chakrasim.replay.report.machine.machines import describe_machine

    machine = load_machine(name)
    if as_json:
        print_json(describe_machine(machine))
    else:
        click.echo(machine_path(name).read_text(encoding="utf-8"), nl=False)


@machines.command(
    "import",
    epilog="\b\nExample:\n  chakrasim machines import --astra-network network.yml --astra-system system.json "
    "-o machine.yaml\n  chakrasim replay graphs --machine machine.yaml\n",
)
@takes_astra_files
@click.option(
    "--transformer-group",
    type=click.IntRange(min=1),
    metavar="N",
    help="Split the dimension in which the model-parallel group of a text workload ends.",
)
@click.option("-o", "--output", metavar="OUT", help="File to write; without it, standard output.")
@click.option("--force", is_flag=True, help="Replace OUT.")
@json_option
def import_machine(
    astra: AstraFiles, transformer_group: int | None, output: str | None, force: bool, as_json: bool
) -> None:
    """Turn ASTRA-sim's files into one machine file.

    What they say of the network, the system, remote memory and process groups stands in it; whose rules count
    as well, so that a replay with it gives the same times as one with the files themselves.
    """
    from chakrasim.replay.cli.output import require_writable
    from chakrasim.replay.machine.files.write import machine_yaml
    from chakrasim.replay.report.machine.machines import describe_machine
    from chakrasim.traces.io import write_bytes_atomically

    imported = astra.read(transformer_group)
    for note in imported.notes:
        click.echo(f"chakrasim: note: {note}", err=True)
    if imported.replay_only:
        click.echo("chakrasim: note: replay-only is on: replay with --network recorded", err=True)
    text = machine_yaml(imported.machine)
    path = None if output is None else Path(output)
    if path is not None:
        if path.exists() and not force:
            raise ConfigError(f"{path} exists; --force replaces it")
        require_writable(path)
        write_bytes_atomically(path, text.encode())
    if as_json:
        notes = {"notes": list(imported.notes), "replay_only": imported.replay_only}
        print_json(describe_machine(imported.machine) | notes | {"file": output})
    elif path is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {path}")
