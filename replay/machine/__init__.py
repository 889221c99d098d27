"""The machine: accelerator, network dimensions, collective settings, memory pools, and their files.

Touch it to describe more of a machine. It knows no workload, no algorithm's steps and no model that costs
anything: names of those are checked in the tables of `chakrasim.replay.plugins`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chakrasim.replay.machine.load import load_machine
    from chakrasim.replay.machine.machine import Machine

__all__ = ["Machine", "load_machine"]

_HOME = {"Machine": "machine", "load_machine": "load"}


def __getattr__(name: str) -> Any:
    # Imported when used, so that naming the room loads no reader of files.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
