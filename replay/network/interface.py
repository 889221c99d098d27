"""Interface of a network model: how long messages and collectives take, and what happens where they meet.

A model prices beforehand what it can, on whole columns, and opens a transport for the rest. Collectives in
chunks, receives, remote memory and process groups are the same code for all of them, above the transport. To
add a model, write one class in a file of its own and name it in `plugins.NETWORKS`, or from another package
in the entry-point group `chakrasim.network`; `testing/network.py` has the tests that it should pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from chakrasim.replay.engine.event_queue import Clock
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.traffic import Traffic
    from chakrasim.replay.transport.interface import Transport
    from chakrasim.traces.graph import Ints
    from chakrasim.traces.workload import Workload

ASK_PS = -1
"""Price of what is carried out while the replay runs."""


@dataclass(frozen=True, eq=False)
class Priced:
    """Times of messages and collectives that are known beforehand. M messages, C collectives."""

    message_ps: Ints
    """int64[M]: from a message's start to its landing, in the order of `Traffic.nodes`; ASK_PS for those that
    the transport carries."""
    collective_ps: Ints
    """int64[C]: from the last arrival to the end for all; ASK_PS for those that are carried out message by
    message or chunk by chunk."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Assumptions, for people, each with the number of nodes or collectives that it concerns."""


class NetworkModel(ABC):
    """Base class of network models. One object serves any number of replays, so it keeps no state of one."""

    summary: ClassVar[str]
    """One line for headings and help."""
    prices_ahead: ClassVar[bool] = True
    """`price` leaves no message to the transport, unless the machine's scheduling plays messages."""
    is_symmetric: ClassVar[bool] = True
    """Messages and collectives of equal size take equally long between ranks that lie on the machine in the
    same way, whatever else is under way. If not, every rank is replayed, even those that do the same as
    others."""
    waits: ClassVar[bool] = True
    """Ranks wait for each other. If not, every node takes its recorded duration and `price` isn't asked."""
    needs_recording: ClassVar[bool] = False
    """Takes recorded durations, of which a generated workload has none."""

    @property
    def splits_recording(self) -> bool:
        """Whether recorded collectives and messages are split into waiting, which the replay makes anew, and
        transfer, where the ranks' clocks allow it."""
        return self.needs_recording and self.waits

    def plays_collectives(self, workload: Workload, machine: Machine) -> bool:
        """Whether `price` leaves any collective to be carried out while the replay runs.

        A machine's `scheduling` block is honoured: it means yes for all collectives that have no recording.
        """
        return machine.scheduling is not None

    @abstractmethod
    def price(self, traffic: Traffic, machine: Machine) -> Priced:
        """Times of a program's messages and collectives on a machine.

        The machine may be too small or not sized as long as nothing needs it (`Machine.sized_for`).
        """

    def open(self, machine: Machine, clock: Clock) -> Transport | None:
        """The transport of one replay on a sized machine, for what `price` has left; None is idle links.

        It carries all messages: those of the trace that have no price, and those that collectives consist of.
        Refuses unless a model says otherwise, since idle links would drop what the model does to messages.
        """
        raise ConfigError(
            f"the network model ({self.summary}) prices collectives as a whole and has no transport, which "
            f"the scheduling of machine {machine.name!r} ({machine.source}) needs; take another --network, "
            "or a machine without a scheduling block"
        )


def asks_network(model: NetworkModel, workload: Workload, machine: Machine) -> bool:
    """Whether the replay has to ask while it runs, since not everything has a time beforehand."""
    memory = machine.remote_memory
    return model.waits and (
        not model.prices_ahead
        or model.plays_collectives(workload, machine)
        or (memory is not None and memory.is_shared)
    )
