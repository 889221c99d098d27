"""A machine: a file beside this one."""

from pathlib import Path

from chakrasim.replay.machine.machine_file import MachineFile

DESK = MachineFile(Path(__file__).with_name("desk.yaml"))
