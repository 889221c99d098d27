"""Machine files as entries of the registry `MACHINES`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MachineFile:
    """A YAML file that describes a machine (`docs/machine-file.md`).

    Another package offers its own with an entry point in the group `chakrasim.machines`:

        # in my_package/__init__.py
        desk = MachineFile(Path(__file__).with_name("desk.yaml"))
    """

    path: Path

    @property
    def summary(self) -> str:
        """The first line of the file if it is a comment, for lists of machines."""
        with self.path.open(encoding="utf-8") as file:
            line = file.readline()
        return line.lstrip("# ").strip() if line.startswith("#") else ""
