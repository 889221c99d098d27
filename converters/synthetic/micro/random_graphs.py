"""Random workloads that are valid by construction, for tests and for trying things out.

One global order of operations is drawn: kernels, collectives of a group, messages. Each rank gets those it
takes part in, in that order; a node waits for nodes of its rank that come before it, and on a lane of
communication always for the one before. The first unfinished operation of the global order can therefore
always go on: there is no deadlock, whatever machine replays it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chakrasim.converters.synthetic.limits import require_bytes, require_least, require_nodes
from chakrasim.converters.synthetic.micro.collective import ROOTED
from chakrasim.converters.synthetic.micro.microbenchmarks import workload_of
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.names.op_kinds import KERNELS
from chakrasim.traces.workload import Workload

DTYPES = ("fp32", "fp16", "bf16")
REACH = 16
"""Nodes of its rank among which a node's parents are drawn, counted back from it."""
MAX_PARENTS = 3
"""Parents of a node, apart from the one before it on a communication's lane."""
MAX_GFLOP, MAX_TENSOR_BYTES, MAX_COMPUTE_PS = 20, 100_000_000, 200_000_000
"""Bounds of a kernel: operations, bytes and duration of a large layer of a model."""


@dataclass(frozen=True)
class RandomPlan:
    """Parameters of a random workload."""

    ranks: int = 4
    operations: int = 100
    """Kernels, collectives and messages over all ranks, each counted once."""
    communication: float = 0.3
    """Share of operations that communicate."""
    messages: float = 0.5
    """Share of communication that is messages between two ranks, the rest collectives."""
    groups: int = 3
    """Process groups beside the world, of random ranks."""
    max_bytes: int = 10**7
    """Size of the largest collective or message."""
    seed: int = 0


def generate_random(plan: RandomPlan) -> Workload:
    """The workload of a seed: the same on every machine and with every version of Python.

    Kernels state a recorded duration and operations, bytes, data type and kind of operation, so that every
    compute model finds something; a fifth of them are the host's. A rank that takes part in nothing has one
    node that does nothing. O(operations * ranks of a group). Raises ConfigError for numbers that can't be.
    """
    _check(plan)
    graphs = _RandomGraphs(plan)
    for at in range(plan.operations):
        if graphs.draw.share() >= plan.communication:
            graphs.add_kernel(at)
        elif plan.ranks > 1 and graphs.draw.share() < plan.messages:
            graphs.add_message(at)
        else:
            graphs.add_collective(at)
    return workload_of(graphs.builders, "random")


class _RandomGraphs:
    """Graphs of all ranks, to which drawn operations are added in their global order."""

    def __init__(self, plan: RandomPlan) -> None:
        self.plan, self.draw = plan, _Draw(plan.seed)
        self._groups = {f"group {at}": self.draw.ranks(plan.ranks) for at in range(plan.groups)}
        metadata = {"source": "chakrasim generate random", "seed": plan.seed}
        self.builders = [
            GraphBuilder(
                rank,
                metadata=metadata,
                groups={name: ranks for name, ranks in self._groups.items() if rank in ranks},
            )
            for rank in range(plan.ranks)
        ]
        self._last_on_lane: list[dict[str, int]] = [{} for _ in self.builders]

    def add_kernel(self, at: int) -> None:
        """A kernel of a random rank."""
        rank = self.draw.below(self.plan.ranks)
        _kernel(self.builders[rank], self.draw, f"kernel{at}", self._parents(rank))

    def add_message(self, at: int) -> None:
        """A message between two random ranks."""
        draw, ranks = self.draw, self.plan.ranks
        source = draw.below(ranks)
        target = (source + 1 + draw.below(ranks - 1)) % ranks
        tag, size = draw.below(4), draw.below(self.plan.max_bytes + 1)
        for rank, kind, peer in ((source, NodeKind.SEND, target), (target, NodeKind.RECV, source)):
            lane = kind.label
            self.builders[rank].add(
                kind,
                f"{kind.label}{at}",
                comm_bytes=size,
                peer=peer,
                tag=tag,
                lane=lane,
                after=self._parents(rank, lane),
            )

    def add_collective(self, at: int) -> None:
        """A collective of the world or of a random group."""
        draw, names = self.draw, [None, *self._groups]
        name = names[draw.below(len(names))]
        ranks = self._groups[name] if name is not None else tuple(range(self.plan.ranks))
        kind = CommKind(draw.below(len(CommKind)))
        root = ranks[draw.below(len(ranks))] if kind in ROOTED else -1
        size = 0 if kind == CommKind.BARRIER else draw.below(self.plan.max_bytes + 1)
        lane = name or "world"
        for rank in ranks:
            self.builders[rank].add(
                NodeKind.COLL,
                f"{kind.label}{at}",
                comm_kind=kind,
                comm_bytes=size,
                group=name,
                peer=root,
                lane=lane,
                after=self._parents(rank, lane),
            )

    def _parents(self, rank: int, lane: str = "") -> list[int]:
        """Random recent nodes of the rank, and the last one on the lane of a communication."""
        present = len(self.builders[rank])
        reach = min(present, REACH)
        found = {
            present - 1 - self.draw.below(reach) for _ in range(self.draw.below(MAX_PARENTS + 1)) if reach
        }
        if lane:
            lanes = self._last_on_lane[rank]
            found |= {lanes[lane]} if lane in lanes else set()
            lanes[lane] = present
        return sorted(found)


def _kernel(builder: GraphBuilder, draw: _Draw, name: str, after: list[int]) -> None:
    is_host = draw.share() < 0.2
    duration_ps = draw.below(MAX_COMPUTE_PS)
    if is_host:
        builder.add(NodeKind.COMP, name, duration_ps=duration_ps, is_cpu=True, lane="host", after=after)
        return
    builder.add(
        NodeKind.COMP,
        name,
        duration_ps=duration_ps,
        ops=draw.below(MAX_GFLOP * 10**9),
        tensor_bytes=draw.below(MAX_TENSOR_BYTES),
        dtype=DTYPES[draw.below(len(DTYPES))],
        op_kind=KERNELS[draw.below(len(KERNELS))],
        lane=("compute", "compute 2")[draw.below(2)],
        after=after,
    )


class _Draw:
    """Numbers from a generator's raw bits: only those are the same in every version of numpy."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, end: int) -> int:
        """A whole number from 0 to end - 1; for the ends that occur here, all but equally likely."""
        return int(self._bits.random_raw()) * end >> 64

    def share(self) -> float:
        """From 0 to less than 1."""
        return self.below(2**53) / 2**53

    def ranks(self, world: int) -> tuple[int, ...]:
        """Some of the ranks in random order, at least one."""
        order = list(range(world))
        for at in range(world - 1, 0, -1):
            other = self.below(at + 1)
            order[at], order[other] = order[other], order[at]
        return tuple(order[: 1 + self.below(world)])


def _check(plan: RandomPlan) -> None:
    require_least(
        ("ranks", plan.ranks, 1),
        ("operations", plan.operations, 0),
        ("groups", plan.groups, 0),
        ("seed", plan.seed, 0),
        ("the most bytes", plan.max_bytes, 0),
    )
    if plan.seed >= 2**63:
        raise ConfigError(f"seed is {plan.seed}; expected less than 2^63")
    require_bytes(plan.max_bytes)
    require_nodes(plan.operations)
    require_nodes(plan.ranks * max(plan.groups, 1))
    for what, value in (("communication", plan.communication), ("messages", plan.messages)):
        if not 0 <= value <= 1:
            raise ConfigError(f"the share of {what} is {value}; expected 0 to 1")
