"""A small model of ASTRA-sim 1.0 to compare the replay with, written without it.

One rank stands for all: its program counter is a generator, its collectives are chunks that go through a
queue a dimension, and each phase of a chunk has a closed-form duration. Times are whole nanoseconds. Nothing
here is imported from the package.
"""

from __future__ import annotations

import heapq
import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import log2, prod
from pathlib import Path
from typing import Any

GIB_PER_NS = 2**30 / 1e9
HIGHEST = 10**8
MIB = 2**20


def single(value: float) -> float:
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def scale(value: int, factor: float) -> int:
    # The product of two singles is exact in double precision, so that rounding it once more is right.
    return int(single(single(value) * single(factor)))


@dataclass
class Dim:
    topology: str
    size: int
    latency: float
    bandwidth: float
    """Bytes a nanosecond that one message has."""
    total: float
    """In units of the file, of all links; for Themis."""
    ring: int = 0
    """Ranks of the whole ring."""
    stride: int = 1

    def hops(self, distance: int) -> int:
        if self.topology == "FullyConnected":
            return 1
        if self.topology == "Switch":
            return 2
        links = distance * self.stride
        return min(links, self.ring - links)

    def message(self, size: int, distance: int = 1) -> int:
        return int(int(self.hops(distance) * self.latency) + size / self.bandwidth)


def read_network(path: Path) -> list[Dim]:
    net = json.loads(path.read_text())
    dims = []
    for topology, size, links, latency, bandwidth in zip(
        net["topologies-per-dim"],
        net["units-count"],
        net["links-count"],
        net["link-latency"],
        net["link-bandwidth"],
        strict=True,
    ):
        per_peer = links // max(1, size - 1)
        used = {"Ring": links // 2 * 2, "FullyConnected": per_peer, "Switch": links}[topology]
        total = used * (size - 1) if topology == "FullyConnected" else used
        dims.append(Dim(topology, size, latency, used * bandwidth * GIB_PER_NS, total * bandwidth, size))
    return dims


def read_system(path: Path) -> dict[str, str]:
    words = path.read_text().split()
    return {key.rstrip(":"): value for key, value in zip(words[::2], words[1::2], strict=True)}


@dataclass
class Collective:
    label: tuple[int, str]
    priority: int
    update: int
    issued: int
    left: int = 0
    finish: int = -1
    asked: int = -1


@dataclass
class Chunk:
    collective: Collective
    size: int
    phases: list[tuple[int, str]]
    """What is still to come: dimension and RS, AG, AR or A2A."""


@dataclass
class Queue:
    running: int = 0
    waiting: list[Chunk] = field(default_factory=list)


class Balancer:
    """Themis, from its description: a list of (dimension, load)."""

    def __init__(self, dims: list[Dim]) -> None:
        self.dims = dims
        self.now = -1
        self.list: list[list[float]] = []

    def cost(self, d: int, size: int, gathers: bool) -> tuple[float, int]:
        n, speed = self.dims[d].size, self.dims[d].total / self.dims[0].total
        if gathers:
            return size / MIB * (n - 1) / speed, size * n
        return size / MIB * ((n - 1) / n) / speed, size // n

    def order(self, now: int, gathers: bool, nominal: int, involved: list[int]) -> list[int]:
        if now != self.now:
            self.now, self.list = now, [[d, 0.0] for d in range(len(self.dims))]
        self.list = sorted(self.list, key=lambda entry: entry[1])
        if gathers:
            self.list = self.list[::-1]
        mine = [entry for entry in self.list if entry[0] in involved]
        x, y = mine[0], mine[-1]
        if gathers:
            n, speed = self.dims[int(y[0])].size, self.dims[int(y[0])].total / self.dims[0].total
            gap = int(abs(y[1] - x[1]) * speed / (n - 1) * MIB)
            for entry in mine[-2::-1]:
                gap //= self.dims[int(entry[0])].size
        else:
            n, speed = self.dims[int(x[0])].size, self.dims[int(x[0])].total / self.dims[0].total
            gap = int(abs(self.list[-1][1] - x[1]) * speed / ((n - 1) / n) * MIB)
        if gap < nominal // 16:
            self.list = sorted(self.list, key=lambda entry: entry[0], reverse=gathers)
            for position in involved:
                cost, nominal = self.cost(position, nominal, gathers)
                self.list[position][1] += cost
            return involved
        for entry in mine:
            cost, nominal = self.cost(int(entry[0]), nominal, gathers)
            entry[1] += cost
        return [int(entry[0]) for entry in mine]


class Reference:
    """One run. `total`, `compute` and `comm`, `exposed` (by layer and direction) are in nanoseconds."""

    def __init__(
        self,
        network: Path,
        system: Path,
        workload: Path,
        passes: int = 1,
        compute_scale: float = 1,
        comm_scale: float = 1,
    ) -> None:
        self.dims = read_network(network)
        self.system = read_system(system)
        self.words = {
            kind: self.system[f"{name}-implementation"].split("_")
            for kind, name in (
                ("AR", "all-reduce"),
                ("AG", "all-gather"),
                ("RS", "reduce-scatter"),
                ("A2A", "all-to-all"),
            )
        }
        self.endpoint = int(self.system["endpoint-delay"])
        self.splits = int(self.system["preferred-dataset-splits"])
        self.active = int(self.system["active-chunks-per-dimension"])
        self.is_scf = self.system.get("intra-dimension-scheduling", "FIFO") in ("SCF", "smallestFirst")
        self.is_themis = self.system.get("inter-dimension-scheduling") in ("themis", "offlineGreedy")
        self.is_lifo = self.system["scheduling-policy"] == "LIFO"
        self.passes, self.compute_scale, self.comm_scale = passes, compute_scale, comm_scale
        self.read(workload.read_text().split())
        self.queues = [Queue() for _ in self.dims]
        self.balancer = Balancer(self.dims)
        self.now = self.total = self.compute = 0
        self.issued = 0
        self.events: list[tuple[int, int, int, int, Any]] = []
        self.sequence = count()
        self.last_weight: dict[int, Collective] = {}
        self.comm: dict[tuple[int, str], int] = defaultdict(int)
        self.exposed: dict[tuple[int, str], int] = defaultdict(int)

    # The files

    def read(self, tokens: list[str]) -> None:
        word = iter(tokens)
        self.kind = next(word)
        self.bottom = int(next(word)) if "DLRM" in self.kind else -1
        self.checkpoints, self.initiates = [], []
        self.boundary = -1
        if "TRANSFORMER" in self.kind:
            next(word)
            self.split(int(next(word)))
        if "BCKWD" in self.kind:
            for into in (self.checkpoints, self.initiates):
                next(word)
                into += [int(next(word)) for _ in range(int(next(word)))]
        self.layers: list[dict[str, Any]] = []
        for _ in range(int(next(word))):
            layer: dict[str, Any] = {"name": next(word), "dependency": next(word), "kind": self.kind}
            for part in ("fwd", "ig", "wg"):
                layer[part] = scale(int(next(word)), self.compute_scale)
                layer["word", part] = next(word)
                layer["size", part] = scale(int(next(word)), self.comm_scale)
            layer["update"] = int(next(word))
            if self.kind == "HYBRID_CUSTOMIZED":
                layer["kind"] = next(word)
            self.layers.append(layer)

    def split(self, group: int) -> None:
        inside = 1
        for d, dim in enumerate(self.dims):
            if group == 1:
                return
            if inside * dim.size > group:
                inner = group // inside
                outer = Dim(**vars(dim) | {"size": dim.size // inner, "stride": inner})
                self.dims[d : d + 1] = [Dim(**vars(dim) | {"size": inner}), outer]
                for words in self.words.values():
                    words.insert(d, words[d])
            inside *= self.dims[d].size
            if inside == group:
                self.boundary = d
                return

    def involved(self, index: int, part: str) -> list[int]:
        all_dims = list(range(len(self.dims)))
        kind = self.layers[index]["kind"]
        if "DLRM" in kind:
            return all_dims if part == "wg" or index == 0 else []
        inner = {"DATA": 0, "MICRO": 0, "HYBRID_DATA_MODEL": 1, "HYBRID_MODEL_DATA": 1}.get(
            kind, len(all_dims)
        )
        if "TRANSFORMER" in kind:
            inner = self.boundary + 1
        return all_dims[inner:] if (part == "wg") != (kind == "HYBRID_MODEL_DATA") else all_dims[:inner]

    # The system layer

    def duration(self, kind: str, d: int, size: int, implementation: str) -> int:
        """Of one phase of one chunk."""
        dim, e = self.dims[d], self.endpoint
        n = dim.size

        def reduction(m: int) -> int:
            return 3 * (m // 500000)

        if implementation == "ring":
            m = size if kind == "AG" else size // n
            steps = {"AR": 2 * (n - 1), "A2A": n * (n - 1) // 2}.get(kind, n - 1)
            edges = [dim.message(m)] * (n - 1) + [dim.message(m, n - 1)]
            # A message's last receiver is as late as the edges that lead to it add up to.
            path = max(sum(edges[(last - k) % n] for k in range(steps)) for last in range(n))
            return path + (steps + 1) * e + ((n - 1) * reduction(m) if kind in ("RS", "AR") else 0)
        if implementation == "halvingDoubling":
            rounds = int(log2(n))
            assert n == 1 << rounds
            out = [dim.message(size >> r, 1 << (r - 1)) for r in range(1, rounds + 1)]
            # Turning back, an all-reduce halves once more and then doubles, so that it sends even sizes.
            last = size if kind == "AG" else size // n // 2 * 2
            back = [dim.message(last << r, n >> (r + 1)) for r in range(rounds)]
            steps_ns = {"RS": out, "AG": back, "AR": out + back}[kind]
            reductions = 0 if kind == "AG" else sum(reduction(size >> r) for r in range(2, rounds + 1))
            return sum(steps_ns) + (len(steps_ns) + 1) * e + reductions
        assert implementation == "direct", implementation
        m = size if kind == "AG" else size // n
        farthest = max(dim.message(m, distance) for distance in range(1, n))
        if kind == "AR":
            return 2 * farthest + 3 * e + reduction(m)
        return farthest + 2 * e + (reduction(m) if kind == "RS" else 0)

    def phases(self, kind: str, nominal: int, dims: list[int]) -> list[tuple[int, str]]:
        if kind == "A2A":
            return [(d, kind) for d in dims]
        if self.is_themis:
            dims = self.balancer.order(self.now, kind == "AG", nominal, dims)
            if kind == "AR":
                return [(d, "RS") for d in dims] + [(d, "AG") for d in reversed(dims)]
            return [(d, kind) for d in dims]
        if kind == "AG":
            return [(d, kind) for d in reversed(dims)]
        if kind == "RS" or self.system["collective-optimization"] == "baseline":
            return [(d, kind) for d in dims]
        up = dims[:-1]
        return [(d, "RS") for d in up] + [(dims[-1], "AR")] + [(d, "AG") for d in reversed(up)]

    def issue(self, index: int, part: str, highest: bool = False) -> Collective | None:
        layer = self.layers[index]
        names = {"ALLREDUCE": "AR", "ALLGATHER": "AG", "REDUCESCATTER": "RS", "ALLTOALL": "A2A"}
        kind = names.get(layer["word", part])
        dims = [d for d in self.involved(index, part) if self.dims[d].size > 1]
        if kind is None:
            return None
        self.issued += 1
        if not dims:
            return None
        priority = HIGHEST if highest else self.issued if self.is_lifo else -self.issued
        collective = Collective((index, part), priority, layer["update"], self.now)
        left = layer["size", part]
        nominal = left // self.splits
        chunks = []
        while left > 0:
            chunks.append(Chunk(collective, min(left, nominal), self.phases(kind, nominal, dims)))
            chunks[-1].phases = [(d, phase, self.words[kind][d]) for d, phase in chunks[-1].phases]  # type: ignore
            left -= nominal
        collective.left = len(chunks)
        for chunk in chunks:
            self.enter(chunk)
            self.start(chunk.phases[0][0])
        if part == "wg":
            self.last_weight[index] = collective
        return collective

    def enter(self, chunk: Chunk) -> None:
        waiting = self.queues[chunk.phases[0][0]].waiting
        if self.is_scf and chunk.phases[0][1] in ("RS", "AG"):
            before = [other.size < chunk.size for other in waiting]
        else:
            before = [other.collective.priority >= chunk.collective.priority for other in waiting]
        place = before.index(False) if False in before else len(before)
        waiting.insert(place, chunk)

    def start(self, d: int) -> None:
        queue = self.queues[d]
        while queue.waiting and queue.running < self.active:
            chunk = queue.waiting.pop(0)
            queue.running += 1
            end = self.now + self.duration(chunk.phases[0][1], d, chunk.size, chunk.phases[0][2])  # type: ignore
            heapq.heappush(self.events, (end, 0, d, next(self.sequence), chunk))

    def finish_phase(self, chunk: Chunk) -> None:
        d, kind, *_ = chunk.phases.pop(0)
        n = self.dims[d].size
        chunk.size = {"RS": chunk.size // n, "AG": chunk.size * n}.get(kind, chunk.size)
        self.queues[d].running -= 1
        if not chunk.phases:
            chunk.collective.left -= 1
            if chunk.collective.left == 0:
                self.later(chunk.collective.update, chunk.collective)
            self.start(d)
            return
        self.enter(chunk)
        self.start(d)
        self.start(chunk.phases[0][0])

    # The program counter

    def later(self, delay: int, what: Any) -> None:
        heapq.heappush(self.events, (self.now + delay, 1, 0, next(self.sequence), what))

    def run(self) -> Reference:
        counter = self.loop()
        waits_for: Collective | None = None
        self.later(0, "go")
        while self.events:
            self.now, category, _, _, what = heapq.heappop(self.events)
            if category == 0:
                self.finish_phase(what)
                continue
            if isinstance(what, Collective):
                what.finish = self.now
                self.comm[what.label] += self.now - what.issued
                if what.asked >= 0:
                    self.exposed[what.label] += self.now - what.asked
                if what is not waits_for:
                    continue
            waits_for = None
            for wish in counter:
                if isinstance(wish, int):
                    self.later(wish, "go")
                    break
                if wish is not None and wish.finish < 0:
                    wish.asked = self.now if wish.asked < 0 else wish.asked
                    waits_for = wish
                    break
        self.total = self.now
        return self

    def work(self, index: int, part: str) -> int:
        self.compute += self.layers[index][part]
        return self.layers[index][part]

    def forward(self, indexes: range) -> Iterator[Any]:
        """With blocking collectives."""
        for i in indexes:
            yield self.last_weight.get(i)
            yield self.work(i, "fwd")
            yield self.blocking(self.issue(i, "fwd"))
            yield 1

    def blocking(self, collective: Collective | None) -> Collective | None:
        if collective is not None:
            collective.asked = collective.issued
        return collective

    def loop(self) -> Iterator[Any]:
        n = len(self.layers)
        if self.kind == "MICRO":
            for _ in range(self.passes):
                self.issue(0, "wg")
        for _ in range(self.passes if self.kind != "MICRO" else 0):
            if self.kind == "DATA" or "DLRM" in self.kind:
                yield from self.weights_first()
                continue
            yield from self.forward(range(n))
            for i in range(n - 1, -1, -1) if self.kind != "DISTRIBUTED_INFERENCE" else ():
                if i in self.initiates:
                    yield 1
                    yield from self.forward(range(max(c for c in self.checkpoints if c <= i), i))
                yield self.work(i, "ig")
                pending = None
                if "TRANSFORMER" in self.kind:
                    yield self.blocking(self.issue(i, "ig"))
                elif i > 0:
                    pending = self.issue(i, "ig")
                yield 1
                yield self.work(i, "wg")
                self.issue(i, "wg")
                yield pending
                yield 1
        # As before another pass; the other layers are not asked for.
        yield self.last_weight.get(0)

    def weights_first(self) -> Iterator[Any]:
        """One pass of DATA and the DLRM kinds."""
        n, is_dlrm = len(self.layers), self.kind != "DATA"
        lookup = gradient = None
        for i in range(n):
            yield self.last_weight.get(i)
            yield self.work(i, "fwd")
            if is_dlrm and self.layers[i]["word", "fwd"] == "ALLTOALL":
                issued = self.issue(i, "fwd", highest=True)
                lookup = issued if i == 0 else lookup
            elif i == self.bottom:
                yield lookup
            yield 1
        for i in range(n - 1, -1, -1):
            yield self.work(i, "wg")
            self.issue(i, "wg")
            if i == 0 and self.kind == "HYBRID_DLRM":
                yield gradient
            yield 1
            if i > 0:
                yield self.work(i, "ig")
                if is_dlrm and i == self.bottom + 1:
                    gradient = self.issue(0, "ig", highest=True)
                yield 1


def ranks(network: Path) -> int:
    return prod(dim.size for dim in read_network(network))
