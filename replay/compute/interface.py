"""Interface of a compute model: the class that a new one is written as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.graph import ExecutionGraph, Ints


@dataclass(frozen=True, eq=False)
class ComputeCost:
    """Durations of one graph's nodes by a compute model. n nodes."""

    durations_ps: Ints
    """int64[n], not negative. Only those of compute and memory nodes are used."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Assumptions, as sentences for people, each with the number of nodes that it touched."""


class ComputeModel(Protocol):
    """Model of the durations of compute and memory nodes.

    Ranks are compared after their nodes have durations, so a model may look at anything of a graph: names and
    attributes without a column included. `chakrasim.replay.testing.compute` holds tests to inherit.
    """

    summary: ClassVar[str]
    """The model in a few words, for headings and lists."""
    uses_recorded: ClassVar[bool]
    """True if compute nodes of the device take their recorded duration."""
    device_only: ClassVar[bool]
    """True if compute nodes of the host are left as recorded: a trace without a device is then told so."""

    @classmethod
    def from_machine(cls, machine: Machine) -> ComputeModel:
        """Set up the model for a machine; its parameters are those of `Machine.options_of`.

        Raises ConfigError for a machine that lacks something.
        """

    def durations(self, graph: ExecutionGraph) -> ComputeCost:
        """Cost every node of a graph. The same graph always costs the same, and isn't changed."""
