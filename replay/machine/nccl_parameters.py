"""NCCL's efficiency on a network, as parameters that hold for any number of ranks and hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LL, LL128, SIMPLE = "LL", "LL128", "Simple"
PROTOCOLS = (LL, LL128, SIMPLE)
"""NCCL's protocols, from the one of least latency to the one of most bandwidth."""
PAYLOAD = {LL: 1 / 2, LL128: 120 / 128, SIMPLE: 1.0}
"""Share of data in what a protocol sends: LL sends a flag of 4 bytes with every 4 bytes of data, LL128 one of
8 bytes in a line of 128 (NCCL, `src/include/device.h`)."""


@dataclass(frozen=True)
class Protocol:
    """One protocol, on the whole machine."""

    overhead_ps: int
    """Overhead of every collective that uses the protocol, whatever the number of ranks."""
    most_Bps: float | None = None
    """Bus bandwidth that it doesn't pass whatever the links are; None is unlimited."""


@dataclass(frozen=True)
class Links:
    """Efficiency and latency of one dimension's links. Shares are of the dimension's bandwidth."""

    efficiency: float
    """Share of a node's links together that rings and trees reach."""
    hop_ps: Mapping[str, int] = field(hash=False)
    """Latency of one step of a ring or tree over the link, by protocol."""
    message_ps: int
    """Latency of one send and receive without bytes."""
    message_efficiency: float
    """Share of the bandwidth that one send and receive reaches."""
    exchange_efficiency: float
    """Share of the bandwidth for messages to many peers at once, as in an all-to-all."""


@dataclass(frozen=True)
class InSwitch:
    """Reduction by the switch within a node (NVLS)."""

    overhead_ps: int
    efficiency: float


@dataclass(frozen=True)
class Calibration:
    """The parameters of `collectives/nccl_model.py`."""

    protocols: Mapping[str, Protocol] = field(hash=False)
    """By name; `Simple` is always there."""
    links: tuple[Links, ...]
    """One a dimension."""
    tree_efficiency: float
    """Bandwidth of a tree over that of a ring on the same links."""
    ring_ends: float
    """Steps, of those of a ring all-reduce, that its beginning and its end take beside the others."""
    peer_ps: int
    """Overhead of each further peer of an all-to-all, gather or scatter."""
    in_switch: InSwitch | None = None
