"""Machines by name, from the catalogue or from a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from chakrasim.replay.machine.files.read import read_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces.errors import UnknownName

DEFAULT_MACHINE = "ethernet-10g"
"""Where nothing else is asked for: hosts like those the bundled sample was recorded on."""


def machine_names() -> list[str]:
    """Names of the machines in the catalogue."""
    return sorted(path.stem for path in _catalogue().iterdir() if path.suffix == ".yaml")


def machine_path(name_or_path: str) -> Path:
    """The file of a machine of the catalogue, or the path itself.

    Raises UnknownName for something that is neither a name of the catalogue nor looks like a path.
    """
    if name_or_path in machine_names():
        return _catalogue() / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise UnknownName("machine", name_or_path, machine_names())


def load_machine(name_or_path: str) -> Machine:
    """A machine of the catalogue by its name, or one from a YAML file (`docs/machine-file.md`).

    Raises ConfigError for anything in the file that can't be right, OSError if it can't be opened.
    """
    return read_machine(machine_path(name_or_path))


def _catalogue() -> Path:
    return Path(str(resources.files("chakrasim.replay.machine"))) / "catalogue"
