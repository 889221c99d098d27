"""Settings of the system layer: chunks, queues, and the costs of a message at its ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chakrasim.replay.machine.rules import CHAKRASIM, Rules
from chakrasim.traces.graph import CommKind

ALL_REDUCE_WAYS = ("hierarchical", "per-dimension")
"""Ways to run an all-reduce over several dimensions: reduce-scatter outwards, all-reduce on the last one and
all-gather back; or a whole all-reduce on each dimension in turn."""
DIMENSION_ORDERS = ("ascending", "themis")
"""Orders in which chunks visit the dimensions: always the same, or balanced by load (`themis.py`)."""
QUEUE_ORDERS = ("fifo", "smallest-first")
"""Orders of the chunks that wait for a dimension."""
PRIORITIES = ("lifo", "fifo", "explicit")
"""Priorities of a rank's collectives: latest first, earliest first, or by the nodes' `comm_priority`."""
SUBGROUPS = ("topology", "ring")
"""Placements of a group of some ranks: on the dimensions that it spans, or as one ring in list order."""


@dataclass(frozen=True)
class Bus:
    """A LogGP-like bus between a rank's network side and its accelerator side, shared by its chunks.

    Moving S bytes takes o + (S - 1) * G + L + o; A. Alexandrov et al., "LogGP", SPAA 1995.
    """

    latency_ns: float
    """L of LogGP"""
    overhead_ns: float
    """o of LogGP"""
    gap_ns: float
    """g of LogGP: minimum time from the end of a send of one side to the first byte of its next"""
    ns_per_byte: float
    """G of LogGP"""
    reduction_ns_per_100_bytes: int


@dataclass(frozen=True)
class Scheduling:
    """Rules by which collectives are cut into chunks, queued and carried out."""

    rules: Rules = CHAKRASIM
    """The answers to what simulators decide differently."""
    chunks: int = 1
    """Pieces that a collective is cut into; one of fewer bytes into as many as it has bytes."""
    active_chunks: int = 1
    """Maximum of chunks in flight for each rank and dimension."""
    queues: int = 1
    """Queues in each dimension, which share its active chunks."""
    all_reduce: str = "hierarchical"
    dimension_order: str = "ascending"
    queue_order: str = "fifo"
    priority: str = "lifo"
    endpoint_ps: int = 0
    """Endpoint delay: a rank's time before each message that it sends and after the last that it receives."""
    reduction_Bps: float = float("inf")
    """Memory bandwidth for reductions; each reads twice what was received and writes it once."""
    subgroup: str = "topology"
    bus: Bus | None = None
    """Bus between network and memory, in place of `endpoint_ps`."""
    rendezvous: bool = False
    """Rendezvous protocol: a receive first sends a request for its message."""
    custom: Mapping[CommKind, str] = field(default_factory=dict, hash=False)
    """Algorithms by kind of collective: the path prefix of Chakra graphs, or the path of an MSCCL file."""
    custom_by_node: Mapping[int, str] = field(default_factory=dict, hash=False)
    """The same for single nodes, by node id."""
