"""How collectives are cut into chunks and queued, and what each message costs beside the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chakrasim.replay.machine.rules import CHAKRASIM, Rules
from chakrasim.traces.graph import CommKind

ALL_REDUCE_WAYS = ("hierarchical", "per-dimension")
"""Reduce-scatter outwards, all-reduce on the last dimension, all-gather back; or a whole all-reduce on each
dimension in turn."""
DIMENSION_ORDERS = ("ascending", "themis")
"""In which order a chunk visits the dimensions: always the same, or balanced by load (`themis.py`)."""
QUEUE_ORDERS = ("fifo", "smallest-first")
"""Which chunk of those that wait for a dimension goes next."""
PRIORITIES = ("lifo", "fifo", "explicit")
"""Which collective's chunks go first: the latest, the earliest, or by the nodes' `comm_priority`."""
SUBGROUPS = ("topology", "ring")
"""A group of some ranks lies on the dimensions that it spans; or it is one ring in list order."""


@dataclass(frozen=True)
class Bus:
    """A LogGP-like bus between a rank's network side and its accelerator side, shared by its chunks.

    Moving S bytes takes o + (S - 1) * G + L + o; A. Alexandrov et al., "LogGP", SPAA 1995.
    """

    latency_ns: float
    """L"""
    overhead_ns: float
    """o"""
    gap_ns: float
    """g: least time between two moves."""
    ns_per_byte: float
    """G"""
    reduction_ns_per_100_bytes: int


@dataclass(frozen=True)
class Scheduling:
    """The system layer's settings."""

    rules: Rules = CHAKRASIM
    """Whose rules decide where simulators differ."""
    chunks: int = 1
    """Pieces that a collective is cut into; one of fewer bytes into as many as it has bytes."""
    active_chunks: int = 1
    """Chunks that a rank works on at once in one dimension."""
    queues: int = 1
    """Queues in each dimension, which share its active chunks."""
    all_reduce: str = "hierarchical"
    dimension_order: str = "ascending"
    queue_order: str = "fifo"
    priority: str = "lifo"
    endpoint_ps: int = 0
    """What a rank needs before each message that it sends and after the last that it receives."""
    reduction_Bps: float = float("inf")
    """Memory bandwidth for reducing what was received, which costs two reads and a write."""
    subgroup: str = "topology"
    bus: Bus | None = None
    """Takes the place of `endpoint_ps`."""
    rendezvous: bool = False
    """A receive asks for its message with a message of its own."""
    custom: Mapping[CommKind, str] = field(default_factory=dict, hash=False)
    """Path prefix of a Chakra graph, or path of an MSCCL file, that carries out all collectives of a kind."""
    custom_by_node: Mapping[int, str] = field(default_factory=dict, hash=False)
    """The same for single nodes, by their id."""
