"""Microbenchmarks: sweeps of collectives, and messages between two ranks at a time.

Every rank runs one thing after the other. Sends occupy a lane, receives none: a rank may wait for many
messages at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

from chakrasim.converters.synthetic.limits import (
    compute_time_ps,
    require_bytes,
    require_least,
    require_nodes,
)
from chakrasim.converters.synthetic.micro.collective import ROOTED
from chakrasim.converters.synthetic.micro.patterns import Pattern, round_count, rounds
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

ALL = Pattern("all")


def generate_sweep(
    kinds: Sequence[CommKind],
    sizes: Sequence[int],
    ranks: int,
    pattern: Pattern = ALL,
    repeat: int = 1,
) -> Workload:
    """Every kind with every size in all groups of a pattern, one after the other on each rank.

    `sizes` are bytes that a rank gives, as in `generate_collective`; a barrier has none and comes once.
    Rooted kinds have the first of a group as their root. A node's name tells kind and size
    (`all-reduce.65536B`), its attribute `round` the round of the pattern. Where a pattern has several groups,
    a barrier of all ranks stands between two sizes, so that none runs beside another. Ranks of equal groups
    share columns. Raises ConfigError for numbers that can't be.

    >>> len(generate_sweep([CommKind.ALL_REDUCE], [1024, 2048], 8, Pattern("consecutive", 4)))
    24
    """
    require_least(("ranks", ranks, 1), ("repeat", repeat, 1))
    for size in sizes:
        require_least(("size", size, 0))
        require_bytes(size)
    if not kinds or not sizes:
        raise ConfigError("a sweep of nothing; expected at least one kind and one size")
    points = [(kind, size) for kind in kinds for size in ([0] if kind == CommKind.BARRIER else sizes)]
    require_nodes(ranks * len(points) * round_count(pattern, ranks) * repeat)
    by_round = rounds(pattern, ranks)
    separates = any(len(groups) > 1 for groups in by_round)
    named = [
        {rank: (_group_name(pattern, at, group), group) for at, group in enumerate(groups) for rank in group}
        for groups in by_round
    ]
    made: dict[tuple[str, ...], ExecutionGraph] = {}
    graphs = {}
    for rank in range(ranks):
        own = [(at, *groups[rank]) for at, groups in enumerate(named) if rank in groups]
        key = tuple(name for _, name, _ in own)
        if key not in made:
            made[key] = _sweep_graph(points, own, repeat, separates=separates)
            made[key].children()  # once, for all ranks that share it
        graphs[rank] = replace(made[key], rank=rank)
    return Workload.from_graphs(graphs, name="sweep")


def _group_name(pattern: Pattern, at: int, ranks: Sequence[int]) -> str:
    if pattern.kind == "pairs":
        return f"pair {ranks[0]}-{ranks[1]}"
    return "all" if pattern.kind == "all" else f"{pattern.kind} {at}"


def _sweep_graph(
    points: Sequence[tuple[CommKind, int]],
    own: Sequence[tuple[int, str, tuple[int, ...]]],
    repeat: int,
    *,
    separates: bool,
) -> ExecutionGraph:
    """Graph of the ranks that are in these groups; each group has its round, its name and its ranks."""
    groups = {name: ranks for _, name, ranks in own}
    builder = GraphBuilder(0, metadata={"source": "chakrasim generate sweep"}, groups=groups)
    last: list[int] = []
    for position, (kind, size) in enumerate(points):
        if separates and position:
            row = builder.add(NodeKind.COLL, "between", comm_kind=CommKind.BARRIER, comm_bytes=0, after=last)
            last = [row]
        for at, name, ranks in own:
            for _ in range(repeat):
                row = builder.add(
                    NodeKind.COLL,
                    kind.label if kind == CommKind.BARRIER else f"{kind.label}.{size}B",
                    comm_kind=kind,
                    comm_bytes=size,
                    group=name,
                    peer=ranks[0] if kind in ROOTED else -1,
                    after=last,
                    attrs={"round": at},
                )
                last = [row]
    return builder.build()


def generate_ping_pong(
    sizes: Sequence[int], pair: tuple[int, int] = (0, 1), repeat: int = 1, ranks: int | None = None
) -> Workload:
    """A message from the first of a pair to the second and one back, `repeat` times with each size.

    The workload has `ranks` ranks, those of the pair if that is None; the others do nothing. The k-th trip
    has tag k. Raises ConfigError for numbers that can't be.
    """
    least = max(pair) + 1
    world = least if ranks is None else ranks
    require_least(("repeat", repeat, 1), ("rank", min(pair), 0), ("ranks", world, least))
    if pair[0] == pair[1]:
        raise ConfigError(f"both ends of the ping-pong are rank {pair[0]}; expected two ranks")
    for size in sizes:
        require_least(("size", size, 0))
        require_bytes(size)
    require_nodes(4 * len(sizes) * repeat)
    builders = _builders(world, "ping-pong")
    last: dict[int, list[int]] = {rank: [] for rank in pair}
    trips = [size for size in sizes for _ in range(repeat)]
    for tag, size in enumerate(trips):
        for name, source, target in (("ping", *pair), ("pong", *pair[::-1])):
            _send(builders[source], f"{name}.{size}B.send", target, size, tag, last[source])
            row = _receive(builders[target], f"{name}.{size}B.receive", source, size, tag, last[target])
            last[target] = [row]
    return workload_of(builders.values(), "ping-pong")


def generate_pipeline(stages: int, micro_batches: int, size_bytes: int, compute_us: float) -> Workload:
    """Micro-batches through stages, one a rank: receive, compute for `compute_us`, send on.

    Where a message takes no longer than a stage computes, all is done after stages + micro_batches - 1
    times of compute and stages - 1 messages. The attribute `micro_batch` counts from 0, and so do tags.
    Raises ConfigError for numbers that can't be.
    """
    require_least(("stages", stages, 1), ("micro-batches", micro_batches, 1), ("size", size_bytes, 0))
    require_bytes(size_bytes)
    require_nodes(3 * stages * micro_batches)
    compute_ps = compute_time_ps(compute_us)
    builders = _builders(stages, "pipeline")
    for stage, builder in builders.items():
        last: list[int] = []
        for tag in range(micro_batches):
            attrs = {"micro_batch": tag}
            if stage:
                last = [*last, _receive(builder, "receive", stage - 1, size_bytes, tag, [], attrs)]
            row = builder.add(
                NodeKind.COMP,
                f"stage{stage}.compute",
                duration_ps=compute_ps,
                lane="compute",
                after=last,
                attrs=attrs,
            )
            last = [row]
            if stage < stages - 1:
                _send(builder, "send", stage + 1, size_bytes, tag, last, attrs)
    return workload_of(builders.values(), "pipeline")


def generate_halo(
    grid: Sequence[int],
    size_bytes: int,
    repeat: int = 1,
    compute_us: float = 0,
    *,
    is_periodic: bool = True,
) -> Workload:
    """Exchanges with the neighbours in a grid of ranks, after `compute_us` of compute each if that isn't 0.

    A grid of (n,) is a ring, of (m, n) the halo exchange of a domain cut in two dimensions; the last
    dimension varies fastest. Every rank sends `size_bytes` to both neighbours of each dimension and goes on
    when all of its sends and receives are done. Without `is_periodic` the ends have one neighbour. Tags
    tell direction and repetition apart. Raises ConfigError for numbers that can't be.
    """
    require_least(("size", size_bytes, 0), ("repeat", repeat, 1), *(("the grid", n, 1) for n in grid))
    require_bytes(size_bytes)
    if not grid:
        raise ConfigError("the grid has no dimension; expected for example 16 or 4x4")
    ranks = prod(grid)
    directions = 2 * len(grid)
    require_nodes(ranks * repeat * (2 * directions + 1))
    compute_ps = compute_time_ps(compute_us)
    builders = _builders(ranks, "halo")
    for rank, builder in builders.items():
        last: list[int] = []
        for step in range(repeat):
            if compute_ps:
                last = [
                    builder.add(NodeKind.COMP, "compute", duration_ps=compute_ps, lane="compute", after=last)
                ]
            done = []
            for direction in range(directions):
                # what goes one way comes from the other side, with the same tag
                to, source = (neighbour(rank, grid, d, is_periodic) for d in (direction, direction ^ 1))
                tag = step * directions + direction
                name = f"dim{direction // 2}.{'down' if direction % 2 else 'up'}"
                if to is not None:
                    lane = f"send.{name}"
                    done.append(_send(builder, f"{name}.send", to, size_bytes, tag, last, lane=lane))
                if source is not None:
                    done.append(_receive(builder, f"{name}.receive", source, size_bytes, tag, last))
            last = done
    return workload_of(builders.values(), "halo")


def neighbour(rank: int, grid: Sequence[int], direction: int, is_periodic: bool) -> int | None:
    """The next rank up (even directions) or down dimension `direction // 2`; None where there is none."""
    dimension, by = direction // 2, -1 if direction % 2 else 1
    stride = prod(grid[dimension + 1 :])
    at = rank // stride % grid[dimension]
    to = at + by
    if not 0 <= to < grid[dimension] and not is_periodic:
        return None
    other = rank + (to % grid[dimension] - at) * stride
    return None if other == rank else other


def _builders(ranks: int, command: str) -> dict[int, GraphBuilder]:
    metadata = {"source": f"chakrasim generate {command.replace('-', '')}"}
    return {rank: GraphBuilder(rank, metadata=metadata) for rank in range(ranks)}


def workload_of(builders: Iterable[GraphBuilder], name: str) -> Workload:
    """Their graphs, with a node that does nothing on ranks that have none: a file needs one."""
    graphs: dict[int, ExecutionGraph] = {}
    for builder in builders:
        if not len(builder):
            builder.add(NodeKind.METADATA, "idle", lane="")
        graphs[builder.rank] = builder.build()
    return Workload.from_graphs(graphs, name=name)


def _send(
    builder: GraphBuilder,
    name: str,
    to: int,
    size: int,
    tag: int,
    after: Sequence[int],
    attrs: dict[str, int] | None = None,
    lane: str = "send",
) -> int:
    return builder.add(
        NodeKind.SEND, name, comm_bytes=size, peer=to, tag=tag, lane=lane, after=after, attrs=attrs
    )


def _receive(
    builder: GraphBuilder,
    name: str,
    source: int,
    size: int,
    tag: int,
    after: Sequence[int],
    attrs: dict[str, int] | None = None,
) -> int:
    return builder.add(
        NodeKind.RECV, name, comm_bytes=size, peer=source, tag=tag, lane="", after=after, attrs=attrs
    )
