"""Machines that published runs were measured on: those of `machines/` beside this file, else the catalogue's.

A testbed is hardware together with the software of its time: what a machine reaches of its peaks is fitted to
each (`fit_efficiency.py`), so some of these are machines of the catalogue under other software.
"""

from __future__ import annotations

from pathlib import Path

from chakrasim.replay.machine.load import load_machine, machine_path
from chakrasim.replay.machine.machine import Machine

FOLDER = Path(__file__).resolve().parent / "machines"


def testbed_path(name: str) -> Path:
    """The machine's file. Raises UnknownName for one that is in neither place."""
    path = FOLDER / f"{name}.yaml"
    return path if path.exists() else machine_path(name)


def machine_of(name: str) -> Machine:
    """The machine. Raises UnknownName as `testbed_path`, ConfigError for a file that can't be right."""
    return load_machine(str(testbed_path(name)))
