"""Machines by name: from the catalogue, an installed package, the user's folder, or a file."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_config_path

from chakrasim.replay.machine.files.read import read_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.machine.machine_file import MachineFile
from chakrasim.replay.plugins import MACHINES
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.shared.registry import Entry

DEFAULT_MACHINE = "ethernet-10g"
"""Default machine: hosts like those the bundled sample was recorded on."""


def user_folder() -> Path:
    """The folder of the user's own machine files, on Linux `~/.config/chakrasim/machines`."""
    return user_config_path("chakrasim", appauthor=False) / "machines"


def machine_names() -> list[str]:
    """Names of all machines that need no path, sorted."""
    return sorted({*MACHINES.names(), *_user_files()})


def machine_entries() -> tuple[Entry, ...]:
    """All machines that need no path, with their sources and summaries."""
    own = (Entry(name, str(path), MachineFile(path).summary) for name, path in _user_files().items())
    return (*MACHINES.entries(), *own)


def machine_path(name_or_path: str) -> Path:
    """The file of a machine by its name, or the path itself.

    Raises UnknownName for something that is neither a known name nor looks like a path, ConfigError for a
    name that both the user's folder and the registry have.
    """
    own = _user_files().get(name_or_path)
    if name_or_path in MACHINES:
        if own is not None:
            raise ConfigError(f"machine {name_or_path!r} is there already; rename {own}, or give its path")
        file: MachineFile = MACHINES.get(name_or_path)
        return file.path
    if own is not None:
        return own
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise UnknownName("machine", name_or_path, machine_names())


def load_machine(name_or_path: str) -> Machine:
    """A machine by its name, or one from a YAML file (`docs/machine-file.md`).

    Raises ConfigError for anything in the file that can't be right, OSError if it can't be opened.
    """
    return read_machine(machine_path(name_or_path))


def _user_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(user_folder().glob("*.yaml"))}
