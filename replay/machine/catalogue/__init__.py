"""Machine files that come with the package: `hgx-h100` is `hgx-h100.yaml` as a `MachineFile`.

Touch it to add a machine: a YAML file here, with a source for each figure. It holds data only.
"""

from __future__ import annotations

from pathlib import Path

from chakrasim.replay.machine.machine_file import MachineFile


def __getattr__(name: str) -> MachineFile:
    path = Path(__file__).with_name(f"{name}.yaml")
    if not path.is_file():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return MachineFile(path)
