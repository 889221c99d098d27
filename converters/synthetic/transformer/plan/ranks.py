"""Places of ranks in a plan, and their process groups."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.passes.writer import (
    NEXT_CONTEXT,
    NEXT_STAGE,
    PREVIOUS_CONTEXT,
    PREVIOUS_STAGE,
)
from chakrasim.converters.synthetic.transformer.plan.plan import DIMENSIONS, Plan
from chakrasim.traces.graph import ExecutionGraph, Ints, Rows
from chakrasim.traces.workload import Others, Workload

_LEAST_SHARE = 1e-3
"""Smallest load of an expert, as a share of the mean: it always gets some tokens."""
StageGraph = Callable[[int, Sequence[float]], tuple[ExecutionGraph, Ints]]
"""From a stage and its experts' loads to the graph and, in place of peers, what they are to the rank."""


@dataclass(frozen=True)
class Ranks:
    """The grid of ranks of a plan. A place is a mapping of dimension to coordinate."""

    plan: Plan

    @cached_property
    def strides(self) -> dict[str, int]:
        """Distance in rank number between neighbours along each dimension."""
        strides, stride = {}, 1
        for dimension in self.plan.order.split("-"):
            strides[dimension] = stride
            stride *= self.size(dimension)
        return strides

    def size(self, dimension: str) -> int:
        """Ranks along a dimension."""
        return int(getattr(self.plan, dimension))

    def place(self, rank: int) -> dict[str, int]:
        """Coordinates of a rank."""
        return {d: rank // self.strides[d] % self.size(d) for d in DIMENSIONS}

    def rank(self, place: Mapping[str, int]) -> int:
        """The rank at a place."""
        return sum(self.strides[d] * place[d] for d in DIMENSIONS)

    def along(self, place: Mapping[str, int], *dimensions: str) -> tuple[int, ...]:
        """Ranks that differ from a place only in these dimensions, ascending. O(1) for the second of them."""
        base = sum(self.strides[d] * place[d] for d in DIMENSIONS if d not in dimensions)
        return _added(base, tuple((self.size(d), self.strides[d]) for d in dimensions))

    def expert_pool(self, place: Mapping[str, int]) -> tuple[int, ...]:
        """Ranks of a stage that share out its experts: each expert lies on one of them, or is cut over the
        tensor ranks beside one."""
        dimensions = ("context", "data") if self.plan.expert_tensor > 1 else ("tensor", "context", "data")
        return self.along(place, *dimensions)

    def expert_place(self, place: Mapping[str, int]) -> int:
        """Index of the part of the experts that a rank has."""
        return bisect_left(self.expert_pool(place), self.rank(place)) % self.plan.expert

    def group(self, name: str, place: Mapping[str, int]) -> tuple[int, ...]:
        """A process group of the rank at a place; of one rank alone, where the plan doesn't cut that way.

        tensor; data, which reduces gradients and has the context's ranks, too; expert, which exchanges
        tokens; expert-data, of equal experts; expert-tensor; embedding: the first and the last stage; world,
        which is ().
        """
        if name == "world":
            return ()
        if name == "tensor":
            return self.along(place, "tensor")
        if name == "data":
            return self.along(place, "context", "data")
        if name == "expert-tensor":
            return self.along(place, "tensor") if self.plan.expert_tensor > 1 else (self.rank(place),)
        if name == "embedding":
            ends = {self.rank({**place, "pipeline": stage}) for stage in (0, self.plan.pipeline - 1)}
            return tuple(sorted(ends))
        pool = self.expert_pool(place)
        at = bisect_left(pool, self.rank(place))
        if name == "expert":
            first = at - at % self.plan.expert
            return pool[first : first + self.plan.expert]
        assert name == "expert-data", "there is no other"
        return pool[at % self.plan.expert :: self.plan.expert]


@lru_cache(maxsize=65536)
def _added(base: int, axes: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    ranks = np.array([base])
    for size, stride in axes:
        ranks = (ranks[:, None] + stride * np.arange(size)).ravel()
    return tuple(np.sort(ranks).tolist())


def spread(model: Model, plan: Plan, stage_graph: StageGraph, *, all_ranks: bool) -> Workload:
    """The graphs of a plan's ranks, or of one rank of each kind, which then stands for the others."""
    ranks = Ranks(plan)
    loads = _loads(model, plan)
    made: dict[tuple[int, int], tuple[ExecutionGraph, Ints]] = {}
    graphs: dict[int, ExecutionGraph] = {}
    for rank in range(plan.ranks) if all_ranks else representatives(plan):
        place = ranks.place(rank)
        key = place["pipeline"], ranks.expert_place(place) if plan.imbalance else 0
        if key not in made:
            made[key] = stage_graph(key[0], loads[:, key[1]].tolist())
            made[key][0].children()  # once, for all ranks
        graph, peer_roles = made[key]
        graphs[rank] = replace(
            graph,
            rank=rank,
            peers=_peers(ranks, place, peer_roles),
            groups={name: ranks.group(name, place) for name in graph.group_names},
        )
    counts = None if all_ranks else {rank: plan.ranks // len(graphs) for rank in graphs}
    others, notes = None, []
    if len(graphs) < plan.ranks:
        others = Others(partial(are_alike, plan), partial(spread, model, plan, stage_graph, all_ranks=True))
        notes.append(
            f"{len(graphs):,} of {plan.ranks:,} ranks are replayed; each stands for "
            f"{plan.ranks // len(graphs):,} that do the same, and what is listed is that of those replayed"
        )
    return Workload.from_graphs(
        graphs, name=model.name, world_size=plan.ranks, stands_for=counts, others=others, notes=notes
    )


def representatives(plan: Plan) -> list[int]:
    """One rank of each kind, ascending: every stage, every place in a context's ring, and where experts get
    uneven loads every part of the experts. O(ranks of a stage)."""
    ranks = Ranks(plan)
    places: dict[tuple[int, int], dict[str, int]] = {}
    for rank in ranks.along(ranks.place(0), "tensor", "context", "data"):
        place = ranks.place(rank)
        key = place["context"], ranks.expert_place(place) if plan.imbalance else 0
        places.setdefault(key, place)
        if len(places) == plan.context * (plan.expert if plan.imbalance else 1):
            break
    return sorted(
        ranks.rank({**place, "pipeline": stage})
        for place in places.values()
        for stage in range(plan.pipeline)
    )


def are_alike(plan: Plan, blocks: Sequence[int]) -> bool:
    """Symmetry of a stage's groups and messages on blocks of so many ranks: True if in all groups of a kind
    the blocks of their members follow each other at equal distances. O(ranks x blocks)."""
    order = plan.order.split("-")[::-1]
    grid = np.arange(plan.ranks).reshape([int(getattr(plan, dimension)) for dimension in order])
    grid = grid.transpose([order.index(d) for d in ("pipeline", "tensor", "context", "data")])
    stages, tensor, context, _ = grid.shape
    pools = grid.reshape((stages * tensor if plan.expert_tensor > 1 else stages), -1)
    experts = np.sort(pools, axis=1).reshape(len(pools), -1, plan.expert)
    kinds = [
        np.moveaxis(grid, 1, -1).reshape(stages, -1, tensor),
        np.sort(grid.reshape(stages, tensor, -1), axis=2),
        experts.reshape(stages, -1, plan.expert),
        experts.transpose(0, 2, 1).reshape(stages, -1, experts.shape[1]),
        np.stack([grid, np.roll(grid, -1, axis=0)], axis=-1).reshape(stages, -1, 2),
    ]
    kinds += [
        np.stack([grid[:, :, at], grid[:, :, (at + 1) % context]], axis=-1).reshape(stages, -1, 2)
        for at in range(context)
    ]
    for groups in kinds:
        for block in blocks:
            distances = groups // block - groups[:, :, :1] // block
            if (distances != distances[:, :1]).any():
                return False
    return True


def _loads(model: Model, plan: Plan) -> NDArray[np.float64]:
    """float64[layers, expert ranks]: tokens that a rank's experts get, relative to the mean."""
    loads = np.ones((model.layers, plan.expert))
    if model.experts is None or not plan.imbalance or plan.drop_tokens:
        return loads
    random = np.random.Generator(np.random.PCG64(plan.seed))
    shares = random.normal(1.0, plan.imbalance, (model.layers, model.experts.count))
    shares = np.maximum(shares, _LEAST_SHARE)
    by_rank = shares.reshape(model.layers, plan.expert, -1).sum(axis=2)
    relative: NDArray[np.float64] = by_rank / by_rank.mean(axis=1, keepdims=True)
    return relative


def _peers(ranks: Ranks, place: dict[str, int], roles: Ints) -> Rows:
    """Ranks in place of what `passes.py` calls them."""

    def beside(dimension: str, by: int) -> int:
        return ranks.rank({**place, dimension: (place[dimension] + by) % ranks.size(dimension)})

    table = np.full(5, -1, dtype=np.int32)
    table[NEXT_STAGE], table[PREVIOUS_STAGE] = beside("pipeline", 1), beside("pipeline", -1)
    table[NEXT_CONTEXT], table[PREVIOUS_CONTEXT] = beside("context", 1), beside("context", -1)
    return table[roles]  # -1, no peer, looks at the last
