"""The machine a workload is replayed on: everything physical, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

from chakrasim.replay.machine.efficiency import Efficiency
from chakrasim.replay.machine.files.fields import Block
from chakrasim.replay.machine.nccl_parameters import Calibration
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.machine.topology import TOPOLOGIES, Ring, Topology
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_S, whole_ps_of

NCCL = "nccl"
"""The algorithm of all dimensions where NCCL's own protocol costs collectives."""

DEFAULT_PACKET_BYTES = 4096
"""The largest packet of InfiniBand and of RoCE, whose MTUs are 256 to 4096 bytes (InfiniBand Architecture
Specification, volume 1). Ethernet's 1500 or 9000 and NVLink's 256 are near enough: a message waits for its
place in a queue only as long as one packet takes, 80 ns at 50 GB/s."""

MEMORY_SHARING = ("per-rank", "per-node", "pool")
"""Owners of a link to remote memory: each rank, each node, or all ranks one together. What shares a
link is served one after the other."""


@dataclass(frozen=True)
class Dimension:
    """One dimension of the network. The first varies fastest with the rank number."""

    name: str
    topology: str
    """One of `topology.TOPOLOGIES`, by name."""
    size: int | None
    """Ranks along the dimension; None, of the last only, is as many as the workload needs."""
    bandwidth_Bps: float
    """Bytes a second of each link, in each direction. A rank has one link to a switch, two in a ring."""
    latency_ps: int
    """Latency of each link; a message through a switch takes two."""
    ring_size: int | None = None
    """Ranks of the whole ring of which this dimension is a part; None if it is no part."""
    ring_stride: int = 1
    """Links of that ring between neighbours of this dimension."""
    packet_bytes: int = DEFAULT_PACKET_BYTES
    """Most bytes that travel as one; where messages queue for links, a message joins the queue of its next
    link when so much of it is there."""

    @cached_property
    def wiring(self) -> Topology:
        """The topology of a dimension whose size is known."""
        assert self.size is not None, "the machine isn't sized"
        made = TOPOLOGIES[self.topology]
        if issubclass(made, Ring):
            return made(self.size, self.ring_size or 0, self.ring_stride)
        return made(self.size)

    def injection_Bps(self, members: int) -> float:
        """Bytes a second that one of so many members can send to the others at once."""
        return self.bandwidth_Bps * TOPOLOGIES[self.topology].injection_links(members)


@dataclass(frozen=True)
class Accelerator:
    """Accelerator of one rank."""

    name: str
    peak_flops: Mapping[str, float] = field(hash=False)
    """Operations a second by data type; the first is used where a node states none."""
    memory_Bps: float
    memory_bytes: int | None
    """None is unknown."""
    launch_overhead_ps: int
    """Overhead of every device node in the roofline, besides its operations and bytes."""
    efficiency: Efficiency | None = None
    """Share of peak and bandwidth that kernels reach; None is all."""


@dataclass(frozen=True)
class RemoteMemory:
    """Memory behind a link, for memory nodes."""

    bandwidth_Bps: float
    latency_ps: int
    sharing: str = "per-rank"
    """One of `MEMORY_SHARING`."""
    ranks_per_node: int = 1
    """Number of ranks that share a link where there is one a node."""

    @property
    def is_shared(self) -> bool:
        """True if accesses of different ranks wait for each other."""
        return self.sharing != "per-rank"

    def access_ps(self, size_bytes: int, cycle_ps: int) -> int:
        """Time of one access on an idle link, in whole cycles."""
        latency, per_cycle = self.latency_ps // cycle_ps, self.bandwidth_Bps / (PS_PER_S / cycle_ps)
        name = f"an access to {size_bytes:,} bytes of remote memory"
        return latency * cycle_ps + whole_ps_of(size_bytes / per_cycle, lambda: name, cycle_ps)


@dataclass(frozen=True)
class Machine:
    """Accelerators, the network between them, and how collectives use it.

    Equal machines, such as one file read twice, are one key of a cache. What rarely tells two machines apart
    is left to the comparison, so that the hash is cheap.
    """

    name: str
    source: str
    accelerator: Accelerator | None = field(hash=False)
    """None where the machine's description says nothing of it, as some imported ones."""
    dimensions: tuple[Dimension, ...]
    algorithms: Mapping[CommKind, tuple[str, ...]] = field(hash=False)
    """For each kind one name of `collectives.ALGORITHMS` a dimension, or `nccl` for all of them."""
    cycle_ps: int = 1
    """Every cost is rounded down to whole cycles."""
    remote_memory: RemoteMemory | None = field(default=None, hash=False)
    scheduling: Scheduling | None = field(default=None, hash=False)
    """Chunks and queues; None costs each collective as a whole, from its last arrival to one end for all."""
    compute: str = "measured"
    """The compute model where the user names none."""
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    """Process groups for graphs that don't declare theirs."""
    nccl: Calibration | None = field(default=None, hash=False)
    """NCCL's efficiency on the network; None leaves messages at the full bandwidth."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Parameters of compute and network models, by the model's name."""

    def options_of(self, model: str) -> Block:
        """Parameters that the machine's file states for a model, whose `keys` refuses unknown ones."""
        return Block(self.options.get(model, {}), f"machine {self.name!r}", f"options: {model}")

    @property
    def system(self) -> Scheduling:
        """The system layer's settings: the scheduling block, or without one its defaults."""
        return DEFAULT_SYSTEM if self.scheduling is None else self.scheduling

    @property
    def size(self) -> int | None:
        """Ranks it has; None if it grows with the workload."""
        sizes = [dimension.size for dimension in self.dimensions]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def holds(self, world_size: int) -> bool:
        """True if it has so many ranks, or can grow to them."""
        return self.size is None or self.size >= world_size

    def sized_for(self, world_size: int) -> Machine:
        """The same machine with every size known, large enough for so many ranks.

        Raises ConfigError if it is too small.
        """
        if self.size is not None:
            if self.size < world_size:
                sizes = " x ".join(str(dimension.size) for dimension in self.dimensions)
                raise ConfigError(
                    f"machine {self.name!r} has {self.size} ranks ({sizes}), the workload has {world_size}; "
                    "make a dimension larger, or the last one 'size: any'"
                )
            return self
        inner = prod(dimension.size or 1 for dimension in self.dimensions[:-1])
        last = replace(self.dimensions[-1], size=max(1, -(-world_size // inner)))
        return replace(self, dimensions=(*self.dimensions[:-1], last))

    def blocks(self, world_size: int) -> tuple[int, ...]:
        """Ranks within a place of each dimension but the last: of a host, of a rack of hosts. Sizes of 1 and
        of the world are left out."""
        sizes = accumulate((dimension.size or 1 for dimension in self.dimensions[:-1]), mul)
        return tuple(size for size in sizes if 1 < size < world_size)


DEFAULT_SYSTEM = Scheduling()
