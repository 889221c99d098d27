"""A package that adds one part of each family to chakrasim; `setup.cfg` names them."""

from pathlib import Path

from chakrasim.replay.machine.machine_file import MachineFile

DESK = MachineFile(Path(__file__).with_name("desk.yaml"))
