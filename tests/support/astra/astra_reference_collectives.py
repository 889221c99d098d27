"""The collective algorithms of the slow ASTRA-sim referee: one rank's part of one phase of one chunk.

Each is a small state machine that sends and receives every message itself, and tells when it is over.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from astra_reference_bus import Action, require

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import split_records

Node = dict[str, Any]
AR, AG, BROADCAST, A2A, RS = 0, 2, 5, 6, 7
TAG_SPAN = 500_000_000


class Host(Protocol):
    """What a phase asks of its rank."""

    id: int

    def timer(self, delay: int, action: Action) -> None: ...

    def send(self, tag: int, to: int, size: int, sent: Action = ...) -> None: ...

    def receive(self, tag: int, source: int, size: int, got: Action) -> None: ...

    def endpoint(
        self, size: int, inbound: bool, reduces: bool, sent_back: bool, sub_group: bool, done: Action
    ) -> None: ...


@dataclass
class Queue:
    """One dimension's queue on one rank: so many phases run, the others wait in arrival order."""

    running: int = 0
    waiting: deque[Chunk] = field(default_factory=deque)


@dataclass
class Chunk:
    """A slice of a collective's bytes, and the phases that it still has to go through."""

    phases: deque[Phase]
    over: Action
    phase: Phase | None = None


@dataclass
class Phase:
    """One chunk's work in one dimension, among `members`, given in ring order."""

    rank: Host
    queue: Queue
    clockwise: bool
    kind: int
    algorithm: str
    members: list[int]
    size: int
    tag: int = 0
    sub_group: bool = False
    max_tree: bool = True
    custom: list[Node] | None = None

    def result(self) -> int:
        if self.algorithm == "doubleBinaryTree" or self.kind in (AR, A2A):
            return self.size
        return self.size * len(self.members) if self.kind == AG else self.size // len(self.members)

    def run(self, over: Action) -> None:
        if self.custom is not None:
            CustomRun(self, over)
        elif self.algorithm == "doubleBinaryTree":
            TreeRun(self, over)
        else:
            TokenRun(self, over)


class TokenRun:
    """Ring, direct and halving-doubling: tokens wait for a credit, each receive makes a new token."""

    def __init__(self, phase: Phase, over: Action) -> None:
        self.phase, self.over, self.kind = phase, over, phase.kind
        n, name = len(phase.members), phase.algorithm
        self.place = phase.members.index(phase.rank.id)
        self.halving, self.direct = name == "halvingDoubling", name.startswith("direct")
        levels = math.log2(n)
        self.window, self.rest, self.left = 1, n - 1, 2 * (n - 1) if self.kind == AR else n - 1
        self.size = phase.size if self.kind == AG else phase.size // (2 if self.halving else n)
        self.offset, self.doubling = (n // 2, False) if self.kind == AG else (1, True)
        if self.halving:
            require(self.kind != A2A, "no all-to-all by halving and doubling")
            self.rest = int(levels) - 1
            self.left = int(2 * levels) if self.kind == AR else int(levels)
        elif self.direct:
            self.window = min(int(name[len("direct") :] or n - 1), n - 1)
            self.rest = (n - 1) * self.window if phase.sub_group else self.window
        elif self.kind == A2A:
            self.left = n * (n - 1) // 2
        self.step = 1 if phase.clockwise else -1
        self.ahead = 1  # direct: how far away the next token's peers are
        self.credits = self.made = self.received = 0
        self.tokens: deque[tuple[int, int, int]] = deque()
        for _ in range(self.window):
            self._make_token()

    def _make_token(self) -> None:
        phase, n, cycle = self.phase, len(self.phase.members), self.window + self.rest
        if self.halving:
            sign = 1 if self.offset == 0 or self.place // self.offset % 2 == 0 else -1
            to = source = phase.members[(self.place + sign * self.offset) % n]
        else:
            to = phase.members[(self.place + self.step * self.ahead) % n]
            source = phase.members[(self.place - self.step * self.ahead) % n]
        turn, slot = divmod(self.made, cycle)
        self.made += 1
        self.tokens.append((to, source, self.size))
        inbound = slot >= self.window
        reduces = inbound and (self.kind == RS or (self.kind == AR and turn % 2 == 0))
        phase.rank.endpoint(
            self.size, inbound, reduces, inbound and slot < self.rest, phase.sub_group, self._ready
        )
        if self.direct:
            self.ahead = self.ahead % (n - 1) + 1  # skips oneself
        elif self.halving:
            self._halve_or_double()
            if self.kind == AR and self.offset == n:  # the turning point
                self.doubling = False
                self._halve_or_double()

    def _halve_or_double(self) -> None:
        if self.doubling:
            self.offset, self.size = self.offset * 2, self.size // 2
        else:
            self.offset, self.size = self.offset // 2, self.size * 2

    def _ready(self) -> None:
        self.credits += 1
        tries, barrier = 1, len(self.phase.members) - 1
        if self.direct and self.kind == AR and self.left <= barrier:
            if self.received < barrier:
                return
            tries = self.window
        for _ in range(tries):
            self._fire()
        if self.left == 0 and self.credits == self.window:
            self.over()

    def _fire(self) -> None:
        if self.tokens and self.left > 0 and self.credits > 0:
            to, source, size = self.tokens.popleft()
            self.phase.rank.send(self.phase.tag, to, size)
            self.phase.rank.receive(self.phase.tag, source, size, self._got)
            self.left -= 1
            self.credits -= 1

    def _got(self) -> None:
        self.received += 1
        self._make_token()


class TreeRun:
    """A double binary tree's all-reduce, as one rank sees it: a leaf, a middle node or the root."""

    def __init__(self, phase: Phase, over: Action) -> None:
        self.phase, self.over = phase, over
        n = len(phase.members)
        require(n & (n - 1) == 0 and not phase.sub_group, "no such tree")
        place = phase.members.index(phase.rank.id)
        low, high = (0, n - 2) if phase.max_tree else (1, n - 1)
        node = n - 1 if phase.max_tree else 0
        self.parent, self.children = -1, [(low + high) // 2]
        while node != place:  # descend into low .. high, a complete tree laid out in order
            self.parent, node = node, (low + high) // 2
            self.children = [] if low == high else [(low + node - 1) // 2, (node + 1 + high) // 2]
            low, high = (low, node - 1) if place < node else (node + 1, high)
        self.came = self.summed = 0
        for child in self.children:
            self._receive(child, self._child_came)
        if not self.children:
            self._endpoint(False, False, False, self._up)

    def _endpoint(self, inbound: bool, reduces: bool, sent_back: bool, done: Action) -> None:
        self.phase.rank.endpoint(self.phase.size, inbound, reduces, sent_back, False, done)

    def _send(self, peer: int) -> None:
        self.phase.rank.send(self.phase.tag, self.phase.members[peer], self.phase.size)

    def _receive(self, peer: int, got: Action) -> None:
        self.phase.rank.receive(self.phase.tag, self.phase.members[peer], self.phase.size, got)

    def _child_came(self) -> None:
        self.came += 1
        self._endpoint(True, True, self.came == len(self.children), self._child_summed)

    def _child_summed(self) -> None:
        self.summed += 1
        if self.parent < 0:
            self._down()
        elif self.summed == 2:
            self._up()

    def _up(self) -> None:
        self._send(self.parent)
        self._receive(self.parent, self._parent_came)

    def _parent_came(self) -> None:
        middle = bool(self.children)  # a middle node pays for a reduction on the way down too
        self._endpoint(True, middle, middle, self._down)

    def _down(self) -> None:
        for child in self.children:
            self._send(child)
        self.over()


class CustomRun:
    """One rank's part of a collective that is itself a small trace: every free node starts at once."""

    def __init__(self, phase: Phase, over: Action) -> None:
        assert phase.custom is not None
        self.phase, self.over = phase, over
        self.nodes = {node["id"]: node for node in phase.custom}
        self.missing = {node["id"]: set(node["deps"]) for node in phase.custom}
        self.in_flight: set[int] = set()
        self._issue()

    def _issue(self) -> None:
        rank, members = self.phase.rank, self.phase.members
        free = sorted(i for i, deps in self.missing.items() if not deps)
        for i in free:
            del self.missing[i]
            self.in_flight.add(i)
        for i in free:
            node, done = self.nodes[i], partial(self._done, i)
            if node["type"] == "COMP":
                rank.timer(recorded(node), done)
                continue
            attr = node["attr"]
            tag = attr.get("comm_tag", 0) % TAG_SPAN + TAG_SPAN
            if node["type"] == "SEND":
                rank.send(tag, members[attr["comm_dst"]], attr["comm_size"], done)
            elif node["type"] == "RECV":
                rank.receive(tag, members[attr["comm_src"]], attr["comm_size"], done)

    def _done(self, i: int) -> None:
        self.in_flight.remove(i)
        for deps in self.missing.values():
            deps.discard(i)
        self._issue()
        if not self.in_flight:
            self.over()


def recorded(node: Node) -> int:
    return int(node.get("dur", 0) * 1000) or 1


def read_custom(path: Path) -> list[Node]:
    data = path.read_bytes()
    nodes: list[Node] = []
    for start, end in list(split_records(data))[1:]:
        node = schema.Node.FromString(data[start:end])
        attr = {a.name: getattr(a, a.WhichOneof("value")) for a in reversed(node.attr)}
        kind = schema.NodeType.Name(node.type).removesuffix("_NODE").removeprefix("COMM_")
        deps = {*node.data_deps, *node.ctrl_deps}
        nodes.append({"id": node.id, "type": kind, "deps": deps, "dur": node.duration_micros, "attr": attr})
    return nodes
