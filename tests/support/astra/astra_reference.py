"""A slow referee for the ASTRA-sim replay: every message of every collective, one event at a time.

Written from the simulator's rules alone, without a line of the engine that it judges, and checked
against runs of the real binaries. O(messages log messages) time. Its quirks are kept: the group
chunks that advance a rank's world counter, the starvation of an instant node's children, hangs.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from astra_reference_bus import Abort, Action, Clock, Mailbox, Network, build_bus, require
from astra_reference_collectives import (
    A2A,
    AG,
    AR,
    BROADCAST,
    RS,
    TAG_SPAN,
    Chunk,
    Node,
    Phase,
    Queue,
    read_custom,
    recorded,
)

__all__ = ["Abort", "Outcome", "run_case", "simulate"]

KEYS = {AR: "all-reduce", AG: "all-gather", A2A: "all-to-all", RS: "reduce-scatter"}
GROUP_SPAN = 1_000_000
SUB_GROUP_DELAY = 10  # ns, whatever the endpoint delay is


@dataclass
class Outcome:
    """Per rank: finish and exposed time (None: never), and (tick, 'issue' or 'callback', node)."""

    finish: list[int | None]
    exposed: list[int | None]
    events: dict[int, list[tuple[int, str, int]]]


class Server:
    """Remote memory that serves one request at a time."""

    def __init__(self) -> None:
        self.busy, self.pending = False, deque[tuple[Rank, int, Action]]()

    def request(self, rank: Rank, delay: int, done: Action) -> None:
        self.pending.append((rank, delay, done))
        if not self.busy:
            self._next()

    def _next(self) -> None:
        if self.pending:
            self.busy = True
            rank, delay, done = self.pending.popleft()
            rank.timer(delay, partial(self._over, done))

    def _over(self, done: Action) -> None:
        done()
        self.busy = False
        self._next()


@dataclass
class Machine:
    """What all ranks share."""

    system: dict[str, Any]
    network: Network
    clock: Clock
    mail: Mailbox
    groups: dict[int, list[int]]
    memory: dict[str, Any]
    queues: int
    injection_scale: float
    folder: Path
    servers: defaultdict[int, Server] = field(default_factory=lambda: defaultdict(Server))

    def on(self, key: str) -> bool:
        value = self.system.get(key, 0)
        return value is False or value != 0  # JSON's false is not the number 0, so it turns things on


class Rank:
    """A rank's nodes and units, its queues of chunks, and its endpoint."""

    def __init__(self, machine: Machine, rank: int, nodes: list[Node]) -> None:
        self.id, self.machine, system = rank, machine, machine.system
        self.nodes = {node["id"]: node for node in nodes}
        self.missing: dict[int, set[int]] = {node["id"]: set() for node in nodes}
        for node in nodes:
            self.missing[node["id"]].update(node.get("deps", ()))
        require(all(deps <= self.nodes.keys() for deps in self.missing.values()), "unknown dependency")
        self.children: defaultdict[int, list[int]] = defaultdict(list)
        for i, deps in self.missing.items():
            for parent in deps:
                self.children[parent].append(i)
        self.ready = {i for i, deps in self.missing.items() if not deps}
        require(self.ready, "no free node")
        self.in_flight: dict[int, str] = {}
        self.compute = 0
        self.finish: int | None = None
        self.events: list[tuple[int, str, int]] = []
        self.delay = int(system.get("endpoint-delay", 10))
        if "endpoint-delay" in system:
            self.delay = int(self.delay * machine.injection_scale)
        self.memory_rate = system.get("local-mem-bw", 0) * 1e9
        shared = system.get("model-shared-bus", 0) == 1
        self.bus = build_bus(system, lambda: machine.clock.now, self.timer) if shared else None
        active = system.get("active-chunks-per-dimension", 1)
        self.slots = math.ceil(active / machine.queues)
        self.chunk_queues: defaultdict[tuple[int, int], Queue] = defaultdict(Queue)
        self.turns: Counter[tuple[Any, ...]] = Counter()
        self.world_chunks = 0
        self.group_chunks: Counter[int] = Counter()
        self.chosen: dict[tuple[int, int], str | None] = {}

    def timer(self, delay: int, action: Action) -> None:
        self.machine.clock.timer(self.id, delay, action)

    def send(self, tag: int, to: int, size: int, sent: Action = lambda: None) -> None:
        self.machine.mail.send(tag, self.id, to, size, sent)

    def receive(self, tag: int, source: int, size: int, got: Action) -> None:
        self.machine.mail.receive(tag, source, self.id, size, got)

    def endpoint(
        self, size: int, inbound: bool, reduces: bool, sent_back: bool, sub_group: bool, done: Action
    ) -> None:
        """Let one message's bytes pass the endpoint, then pay for its reduction."""
        after = done
        if reduces:
            cost = 3 * int(size / self.memory_rate * 1e9) if self.memory_rate else 0
            after = partial(self.timer, cost, done)
        if self.bus is None or sub_group:
            self.timer(SUB_GROUP_DELAY if sub_group else self.delay, after)
        elif inbound:
            self.bus.inbound(size, reduces, sent_back, after)
        else:
            self.bus.outbound(size, after)

    def issue_pass(self) -> None:
        for i in sorted(self.ready):
            unit = self._unit(self.nodes[i])
            if not unit or unit not in self.in_flight.values():
                self.ready.remove(i)
                self.events.append((self.machine.clock.now, "issue", i))
                self._issue(i, self.nodes[i], unit)

    def _unit(self, node: Node) -> str:
        if node["type"] == "COMP":
            return "cpu" if node.get("attr", {}).get("is_cpu_op") else "compute"
        return "" if node["type"] == "RECV" else "comm"

    def _issue(self, i: int, node: Node, unit: str) -> None:
        kind, attr, done = node["type"], node.get("attr", {}), partial(self._complete, i)
        require(kind != "METADATA", "metadata nodes abort")
        replay, roofline = self.machine.on("replay-only"), self.machine.on("roofline-enabled")
        instant = kind == "INVALID" or (
            kind == "COMP" and roofline and unit == "compute" and attr["tensor_size"] == 0
        )
        if instant and not replay:
            self.events.append((self.machine.clock.now, "callback", i))
            self._free_children(i)
            return
        self.in_flight[i] = unit
        if replay or kind == "COMP":
            time = recorded(node)
            if roofline and unit == "compute" and not replay:
                operations = float(attr["num_ops"])
                peak = self.machine.system.get("peak-perf", 0) * 1e12
                rate = min(self.memory_rate * (operations / attr["tensor_size"]), peak)
                time = int(operations / rate * 1e9)
            if unit == "compute" or (replay and unit != "cpu"):
                self.compute += time
            self.timer(time, done)
        elif kind == "SEND":
            self.send(attr["comm_tag"] % TAG_SPAN, attr["comm_dst"], attr["comm_size"], done)
        elif kind == "RECV":
            self.receive(attr["comm_tag"] % TAG_SPAN, attr["comm_src"], attr["comm_size"], done)
        elif kind == "COLL":
            self._collective(node, attr, done)
        else:
            self._remote_memory(attr["tensor_size"], done)

    def _complete(self, i: int) -> None:
        self.events.append((self.machine.clock.now, "callback", i))
        del self.in_flight[i]
        self._free_children(i)
        self.start()

    def _free_children(self, i: int) -> None:
        for child in self.children[i]:
            self.missing[child].remove(i)
            if not self.missing[child]:
                self.ready.add(child)

    def start(self) -> None:
        self.issue_pass()
        if not self.ready and not self.in_flight:
            self.finish = self.machine.clock.now

    def _remote_memory(self, size: int, done: Action) -> None:
        memory = self.machine.memory
        kind = memory["memory-type"]
        require(kind != "NO_MEMORY_EXPANSION", "no remote memory")
        delay = int(memory.get("remote-mem-latency", 0)) + int(size / int(memory.get("remote-mem-bw", 0)))
        if kind == "PER_NPU_MEMORY_EXPANSION":
            self.timer(delay, done)
            return
        per_node = memory["num-npus-per-node"] if kind == "PER_NODE_MEMORY_EXPANSION" else self.id + 1
        self.machine.servers[self.id // per_node].request(self, delay, done)

    def _collective(self, node: Node, attr: dict[str, Any], done: Action) -> None:
        kind, size, group = attr["comm_type"], attr["comm_size"], int(attr.get("pg_name") or 0)
        require(kind in (*KEYS, BROADCAST), "unsupported collective")
        require(group == 0 or self.id in self.machine.groups.get(group, ()), "not in the group")
        if kind == BROADCAST:
            self.timer(recorded(node), done)
            return
        everyone = self.machine.network.ranks
        splits = self.machine.system["preferred-dataset-splits"]
        chunk = size // splits
        if kind != AG and chunk < everyone:
            chunk, size = everyone, splits * everyone
        require(chunk or not size, "chunks of zero bytes, for ever")
        count = -(-size // chunk) if size else 0
        left = Counter({"chunks": count})

        def chunk_over() -> None:
            left["chunks"] -= 1
            if not left["chunks"]:
                done()

        custom = self._custom(node["id"], kind, group)
        for _ in range(min(count, 1) if custom is not None else count):
            if custom is not None:
                phases = [self._custom_phase(custom, kind, group)]
            else:
                phases = self._phases(kind, group, chunk, attr.get("involved_dim", [True] * 4))
            number = self.group_chunks[group] + group * GROUP_SPAN if group else self.world_chunks
            self.group_chunks[group] += 1
            self.world_chunks += 1  # by a group's chunks too
            for phase in phases:
                phase.tag = number % TAG_SPAN + TAG_SPAN
            if phases:
                self._next_phase(Chunk(deque(phases), chunk_over))

    def _custom(self, node: int, kind: int, group: int) -> str | None:
        system, folder = self.machine.system, self.machine.folder
        if group and (group, kind) in self.chosen:
            return self.chosen[group, kind]
        chosen: str | None = (system.get(f"{KEYS[kind]}-implementation-custom") or [None])[0]
        if "per-node-custom-implementation" in system:
            by_node = yaml.safe_load((folder / system["per-node-custom-implementation"]).read_text())
            chosen = by_node.get(node, chosen)
        self.chosen[group, kind] = chosen
        return chosen

    def _custom_phase(self, prefix: str, kind: int, group: int) -> Phase:
        members = self.machine.groups[group] if group else list(range(self.machine.network.ranks))
        place = sorted(members).index(self.id)
        nodes = read_custom(self.machine.folder / f"{prefix}.{place}.et")
        queue, clockwise = self._next_queue(0, "all")
        return Phase(self, queue, clockwise, kind, "", members, 0, custom=nodes)

    def _next_queue(self, d: int, part: str) -> tuple[Queue, bool]:
        half, queues = self.machine.queues // 2, self.machine.queues
        low, high = {"up": (0, max(1, half)), "down": (half, queues), "all": (0, queues)}[part]
        place = low + self.turns[d, part] % (high - low)
        self.turns[d, part] += 1
        clockwise = part == "up" or (part == "all" and (queues == 1 or place < half))
        return self.chunk_queues[d, place], clockwise

    def _phases(self, kind: int, group: int, size: int, involved: list[bool]) -> list[Phase]:
        network, members = self.machine.network, self.machine.groups.get(group, [])
        names: list[str] = self.machine.system[f"{KEYS[kind]}-implementation"]
        require(len(names) <= len(network.sizes), "more algorithms than dimensions")
        sub_group = bool(group) and len(members) < network.ranks
        lines: list[tuple[int, str, list[int]]] = []  # dimension, algorithm, members
        if sub_group:
            lines = [(0, names[0] if len(names) == 1 else "ring", members)]
        for d, name in enumerate([] if sub_group else names):
            whole = name.startswith("one")  # one logical ring over all ranks: no further dimension
            ring = list(range(network.ranks)) if whole else network.line(self.id, d)
            if group or involved[d : d + 1] == [True]:
                lines.append((d, name, ring))
            if whole:
                break
        lines = [line for line in lines if len(line[2]) > 1]
        plan = [(kind, line, "all") for line in (reversed(lines) if kind == AG else lines)]
        if kind == AR and self.machine.system["collective-optimization"] == "localBWAware" and lines:
            *below, top = lines
            plan = [(RS, line, "up") for line in below] + [(AR, top, "up")]
            plan += [(AG, line, "down") for line in reversed(below)]
        phases: list[Phase] = []
        for step, (d, name, ring), part in plan:
            queue, clockwise = self._next_queue(d, part)
            name = name[3].lower() + name[4:] if name.startswith("one") else name
            phase = Phase(self, queue, clockwise, step, name, ring, size, sub_group=sub_group)
            if name == "doubleBinaryTree":
                phase.max_tree = self.turns["tree", kind, d] % 2 == 0
                self.turns["tree", kind, d] += 1
            size = phase.result()
            phases.append(phase)
        return phases

    def _next_phase(self, chunk: Chunk) -> None:
        old = chunk.phase
        if chunk.phases:
            chunk.phase = chunk.phases.popleft()
            chunk.phase.queue.waiting.append(chunk)
        else:
            chunk.over()  # may issue new nodes before this chunk's slot is free
            chunk.phase = None
        if old is not None:
            old.queue.running -= 1
            self._start_chunks(old.queue)
        if chunk.phase is not None:
            self._start_chunks(chunk.phase.queue)

    def _start_chunks(self, queue: Queue) -> None:
        while queue.waiting and queue.running < self.slots:
            queue.running += 1
            chunk = queue.waiting.popleft()
            assert chunk.phase is not None
            chunk.phase.run(partial(self._next_phase, chunk))


def simulate(
    nodes: dict[int, list[Node]],
    system: dict[str, Any],
    network: dict[str, Any],
    *,
    backend: str,
    groups: dict[Any, list[int]] | None = None,
    remote_memory: dict[str, Any] | None = None,
    queues: int = 1,
    injection_scale: float = 1,
    rendezvous: bool = False,
    folder: Path | None = None,
) -> Outcome:
    """Replay every rank's nodes on an 'aware' or 'unaware' network. Raises Abort where ASTRA-sim stops."""
    clock = Clock()
    wires = Network(clock, network, backend == "aware")
    machine = Machine(
        system,
        wires,
        clock,
        Mailbox(clock, wires, rendezvous),
        {int(group): members for group, members in (groups or {}).items()},
        remote_memory or {"memory-type": "NO_MEMORY_EXPANSION"},
        queues,
        injection_scale,
        folder or Path(),
    )
    ranks = [Rank(machine, rank, nodes[rank]) for rank in range(wires.ranks)]
    for rank in ranks:
        rank.start()
    clock.run()
    exposed = [None if r.finish is None else (r.finish - r.compute) % 2**64 for r in ranks]
    return Outcome([rank.finish for rank in ranks], exposed, {rank.id: rank.events for rank in ranks})


def run_case(case: dict[str, Any], folder: Path) -> Outcome:
    """Run one entry of the oracle, whose files lie in `folder`."""
    flags = dict(flag.removeprefix("--").split("=") for flag in case["cli"])
    nodes = case["workload"]["nodes"]
    return simulate(
        {rank: nodes["all"] if "all" in nodes else nodes[str(rank)] for rank in range(case["npus"])},
        case["system"],
        case["network"],
        backend=case["backend"],
        groups=case["comm_groups"],
        remote_memory=case["remote_memory"],
        queues=int(flags.get("num-queues-per-dim", 1)),
        injection_scale=float(flags.get("injection-scale", 1)),
        rendezvous=flags.get("rendezvous-protocol") == "true",
        folder=folder,
    )
