"""`chakrasim machines`: the catalogue, and machines described elsewhere."""

from __future__ import annotations

import click

from chakrasim.replay.commands.common import json_option
from chakrasim.replay.report.jsontext import print_json


@click.group(epilog="\b\nExample:\n  chakrasim machines list\n")
def machines() -> None:
    """The machines that come with chakrasim."""


@machines.command("list", epilog="\b\nExample:\n  chakrasim machines list\n")
@json_option
def list_machines(as_json: bool) -> None:
    """List the machines that --machine knows by name."""
    from chakrasim.replay.machine import load_machine, machine_names
    from chakrasim.replay.report.machines import describe_machine, print_machines

    known = [describe_machine(load_machine(name)) for name in machine_names()]
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
    from chakrasim.replay.machine import load_machine, machine_path
    from chakrasim.replay.report.machines import describe_machine

    machine = load_machine(name)
    if as_json:
        print_json(describe_machine(machine))
    else:
        click.echo(machine_path(name).read_text(encoding="utf-8"), nl=False)
