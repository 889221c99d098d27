"""Random jobs with some symmetry, for the tests of rank classes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from replay_cases import coll, comp, recv, send

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, Workload
from chakrasim.traces.graph import CLOCK

Random = np.random.Generator
DURATIONS_PS = (0, 1_000_000, 2_000_000, 3_000_000)
"""Few, and like the costs of collectives, so that much happens at one instant."""
KINDS = (
    CommKind.ALL_REDUCE,
    CommKind.ALL_GATHER,
    CommKind.REDUCE_SCATTER,
    CommKind.ALL_TO_ALL,
    CommKind.BROADCAST,
)


@dataclass(frozen=True)
class Step:
    """What all ranks do next. Axes number the places of ranks in the job's grid, the world is axis -1."""

    what: str
    axis: int
    lanes: tuple[str | None, ...]
    """By place along the last axis, like what follows."""
    size_bytes: int
    kind: CommKind
    durations_ps: NDArray[np.int64]
    """By place along the axis: of the nodes before it."""
    factors: tuple[int, ...] = (1,)
    """By place along the last axis, what bytes are multiplied by."""
    chains: tuple[bool, ...] = (False,)
    """By place along the last axis, whether nodes follow each other."""
    swaps: tuple[bool, ...] = (False,)
    """By place along the last axis, whether the first two axes change places."""


@dataclass(frozen=True)
class Job:
    """A grid of ranks, the steps of each, and what breaks their symmetry."""

    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    has_wrap: bool
    """Whether the last rank of an axis sends to the first."""
    strays: dict[int, int]
    """By rank what is added to its first duration."""
    order: NDArray[np.int64]
    """Rank at each place of the grid."""
    is_recorded: bool

    def workload(self) -> Workload:
        """The graphs of all ranks."""
        places = list(product(*(range(size) for size in self.shape)))
        grid = self.order.reshape(self.shape)
        return Workload.from_graphs(
            [self._graph(place, grid) for place in places], world_size=prod(self.shape)
        )

    def _line(self, place: tuple[int, ...], axis: int, grid: NDArray[np.int64]) -> list[int]:
        at = tuple(slice(None) if dim == axis else here for dim, here in enumerate(place))
        line: list[int] = grid[at].tolist()
        return line

    def _graph(self, place: tuple[int, ...], grid: NDArray[np.int64]) -> ExecutionGraph:
        rank = int(grid[place])
        lines = [self._line(place, axis, grid) for axis in range(len(self.shape))]
        groups = {f"axis {axis} of {min(line)}": sorted(line) for axis, line in enumerate(lines)}
        names = list(groups)
        builder = GraphBuilder(rank, groups=groups, metadata={CLOCK: 0} if self.is_recorded else {})
        last: list[int] = []
        # Where recorded, ranks of every other place begin later, so that the others waited for them.
        stray_ps, now_ps = self.strays.get(rank, 0), 20_000_000 * (place[0] % 2)

        def recorded() -> dict[str, int]:
            nonlocal now_ps
            now_ps += 5_000_000
            return (
                {"start_ps": now_ps, "duration_ps": 4_000_000 + 1_000_000 * (now_ps % 3)}
                if self.is_recorded
                else {}
            )

        for step in self.steps:
            axis, last_place = step.axis, place[-1]
            if axis in (0, 1) and step.swaps[last_place % len(step.swaps)]:
                axis = 1 - axis
            lane = step.lanes[last_place % len(step.lanes)]
            size_bytes = step.size_bytes
            if axis in (0, 1):
                size_bytes *= step.factors[last_place % len(step.factors)]
            at = place[axis] if axis >= 0 else 0
            for number, duration_ps in enumerate(step.durations_ps[at % len(step.durations_ps)].tolist()):
                back = 1 if step.chains[last_place % len(step.chains)] else 2
                after = last if number < 2 else [len(builder) - back]
                comp(builder, duration_ps + stray_ps, *after, lane="ab"[number % 2])
                stray_ps = 0
            tail = [len(builder) - 1] if len(step.durations_ps[0]) else last
            if step.what == "group":
                group = names[axis] if axis >= 0 else None
                root = {}
                if step.kind == CommKind.BROADCAST:
                    members = groups[group] if group is not None else [0]
                    root = {"peer": members[len(members) // 2]}
                last = [
                    coll(
                        builder,
                        *tail,
                        group=group,
                        lane=lane,
                        comm_kind=step.kind,
                        comm_bytes=size_bytes,
                        **root,
                        **recorded(),
                    )
                ]
            elif axis >= 0 and len(lines[axis]) > 1:
                line = lines[axis]
                here = line.index(rank)
                last = []
                if self.has_wrap or here + 1 < len(line):
                    to = line[(here + 1) % len(line)]
                    last.append(send(builder, to, *tail, comm_bytes=size_bytes, **recorded()))
                if self.has_wrap or here > 0:
                    last.append(recv(builder, line[here - 1], *tail, comm_bytes=size_bytes, **recorded()))
            else:
                last = tail
        comp(builder, 1_000_000, *last, lane="a")
        return builder.build()


def random_job(random: Random, max_ranks: int = 64) -> Job:
    """A grid of up to three axes; now and then with stragglers, or with ranks that stand at any place."""
    shape: tuple[int, ...] = (1,)
    while prod(shape) < 2:
        shape = tuple(int(random.choice([1, 2, 3, 4, 8])) for _ in range(3))
        if prod(shape) > max_ranks:
            shape = (1,)
    steps = []
    for _ in range(random.integers(1, 7)):
        axis = int(random.integers(-1, 3))
        variants = 1 if random.random() < 0.6 else int(random.integers(1, 4))
        steps.append(
            Step(
                what=str(random.choice(["group", "group", "message"])),
                axis=axis,
                lanes=tuple([None, "a", "c"][n] for n in random.integers(3, size=variants)),
                size_bytes=int(random.choice([1000, 500_000])),
                kind=KINDS[random.integers(len(KINDS))],
                durations_ps=random.choice(DURATIONS_PS, size=(variants, random.integers(0, 5))),
                factors=tuple(random.integers(1, 3, size=variants).tolist()),
                chains=tuple((random.random(variants) < 0.5).tolist()),
                swaps=tuple((random.random(variants) < 0.3).tolist()),
            )
        )
    size = prod(shape)
    strays = {}
    if random.random() < 0.3:
        strays = {int(random.integers(size)): int(random.choice([1, 1_000_000]))}
    order = np.arange(size)
    if random.random() < 0.2:
        at = random.choice(size, size=2, replace=False)
        order[at] = order[at[::-1]]
    return Job(
        shape,
        tuple(steps),
        bool(random.random() < 0.5),
        strays,
        order,
        is_recorded=bool(random.random() < 0.3),
    )


def random_machine(random: Random, size: int, folder: Path) -> Machine:
    """A machine of the catalogue, or one of up to two dimensions."""
    if random.random() < 0.4:
        return load_machine(str(random.choice(["hgx-h100", "dgx-a100", "ethernet-10g", "gb200-nvl72"])))
    inner = int(random.choice([n for n in (1, 2, 4, 8) if size % n == 0]))
    lines = ["name: made-up", "source: a test", "collectives: {default: ring}", "network:"]
    for number, width in enumerate((inner, size // inner)):
        topology = random.choice(["ring", "switch", "fully_connected"])
        lines += [
            f"  - name: dim{number}",
            "    source: a test",
            f"    topology: {topology}",
            f"    size: {width}",
            f"    bandwidth_GBps: {random.choice([1, 100])}",
            "    latency_ns: 500",
        ]
    path = folder / "machine.yaml"
    path.write_text("\n".join(lines) + "\n")
    return load_machine(str(path))


def astra_sim_ring(folder: Path, ranks: int) -> Machine:
    """A ring by ASTRA-sim's rules."""
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
    system = {
        **{f"{kind}-implementation": ["ring"] for kind in kinds},
        "preferred-dataset-splits": 4,
        "active-chunks-per-dimension": 1,
        "endpoint-delay": 10,
        "scheduling-policy": "LIFO",
    }
    (folder / "system.json").write_bytes(orjson.dumps(system))
    network = f"topology: [Ring]\nnpus_count: [{ranks}]\nbandwidth: [50]\nlatency: [500]\n"
    (folder / "network.yml").write_text(network)
    return read_astra_sim(system=folder / "system.json", network=folder / "network.yml").machine
