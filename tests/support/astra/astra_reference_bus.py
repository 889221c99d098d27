"""What carries bytes in the slow ASTRA-sim referee: its clock, both network backends, and the memory bus.

Written from the rules, message by message and move by move; nothing is summed up in a formula.
"""

from __future__ import annotations

import heapq
import math
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

Action = Callable[[], None]

FREE, SENDING, RECEIVING = "free", "sending", "receiving"
MAX_IN_A_ROW = 8
INNER_GAP_PER_BYTE = 0.0038


class Abort(Exception):
    """The real simulator stops here with an error, a failed assertion or a crash."""


def require(condition: object, why: str) -> None:
    if not condition:
        raise Abort(why)


class Clock:
    """Events in time order, first scheduled first; a rank's timers for one tick run as one batch."""

    def __init__(self) -> None:
        self.now = self.count = 0
        self.heap: list[tuple[int, int, Action]] = []
        self.batches: dict[tuple[int, int], list[Action]] = {}

    def at(self, tick: int, action: Action) -> None:
        heapq.heappush(self.heap, (tick, self.count, action))
        self.count += 1

    def timer(self, rank: int, delay: int, action: Action) -> None:
        key = rank, self.now + delay
        if key not in self.batches:
            self.batches[key] = []
            self.at(key[1], partial(self._run_batch, key))
        self.batches[key].append(action)

    def _run_batch(self, key: tuple[int, int]) -> None:
        for action in self.batches[key]:  # a timer set meanwhile for this tick joins the same loop
            action()
        del self.batches[key]

    def run(self) -> None:
        while self.heap:
            tick, _, action = heapq.heappop(self.heap)
            require(tick > 0, "time must advance")
            self.now = tick
            action()


class Network:
    """Both backends. A message crosses only the lowest dimension in which its ends differ."""

    def __init__(self, clock: Clock, network: dict[str, Any], aware: bool) -> None:
        self.clock, self.aware = clock, aware
        self.kinds, self.sizes, self.latencies = (
            network[key] for key in ("topology", "npus_count", "latency")
        )
        self.rates = [rate * 2**30 / 1e9 for rate in network["bandwidth"]]
        self.strides = [math.prod(self.sizes[:d]) for d in range(len(self.sizes))]
        self.ranks = math.prod(self.sizes)
        self.links: dict[tuple[Any, ...], deque[tuple[int, Action]]] = {}

    def line(self, rank: int, d: int) -> list[int]:
        """The ranks that differ from this one in dimension d only."""
        first = rank - rank // self.strides[d] % self.sizes[d] * self.strides[d]
        return [first + i * self.strides[d] for i in range(self.sizes[d])]

    def send(self, source: int, to: int, size: int, landed: Action) -> None:
        require(0 <= to < self.ranks and source != to and size > 0, "bad message")
        d = next(d for d, n in enumerate(self.sizes) if (source - to) % (self.strides[d] * n))
        n, kind = self.sizes[d], self.kinds[d]
        members = self.line(source, d)
        here = members.index(source)
        onward = (to // self.strides[d] - source // self.strides[d]) % n
        clockwise, hops = onward <= n - onward, 1
        if kind == "Ring":
            hops = min(onward, n - onward)
        elif kind == "Switch":
            hops = 2
        if not self.aware:
            delay = int(hops * self.latencies[d] + size / self.rates[d])
            self.clock.at(self.clock.now + delay, landed)
            return
        path: list[tuple[Any, ...]] = [(d, source, (here + onward) % n)]
        if kind == "Switch":
            path = [(d, source, "up"), (d, members[(here + onward) % n], "down")]
        elif kind == "Ring":
            step = 1 if clockwise else -1
            path = [(d, members[(here + step * i) % n], step) for i in range(hops)]
        self._hop(path, size, landed)

    def _hop(self, path: list[tuple[Any, ...]], size: int, landed: Action) -> None:
        onward = partial(self._hop, path[1:], size, landed) if len(path) > 1 else landed
        if path[0] in self.links:  # busy: the whole message waits its turn
            self.links[path[0]].append((size, onward))
        else:
            self.links[path[0]] = deque()
            self._transmit(path[0], size, onward)

    def _transmit(self, link: tuple[Any, ...], size: int, arrived: Action) -> None:
        wire = size / self.rates[link[0]]
        self.clock.at(self.clock.now + int(self.latencies[link[0]] + wire), arrived)
        self.clock.at(self.clock.now + int(wire), partial(self._freed, link))

    def _freed(self, link: tuple[Any, ...]) -> None:
        if self.links[link]:
            self._transmit(link, *self.links[link].popleft())
        else:
            del self.links[link]


class Mailbox:
    """Pairs the k-th send with the k-th receive of the same tag, source, destination and size."""

    def __init__(self, clock: Clock, network: Network, rendezvous: bool) -> None:
        self.clock, self.network, self.rendezvous = clock, network, rendezvous
        self.counts: Counter[tuple[Any, ...]] = Counter()
        self.landed: set[tuple[Any, ...]] = set()
        self.waiting: dict[tuple[Any, ...], Action] = {}

    def send(self, tag: int, source: int, to: int, size: int, sent: Action) -> None:
        start = partial(self._send, tag, source, to, size, sent)
        if self.rendezvous:
            self._receive(tag + 10**9, to, source, 8192, start)
        else:
            start()

    def receive(self, tag: int, source: int, to: int, size: int, got: Action) -> None:
        start = partial(self._receive, tag, source, to, size, got)
        if self.rendezvous:
            self._send(tag + 10**9, to, source, 8192, start)
        else:
            start()

    def _number(self, *name: object) -> tuple[object, ...]:
        self.counts[name] += 1
        return (*name[1:], self.counts[name])

    def _send(self, tag: int, source: int, to: int, size: int, sent: Action) -> None:
        name = self._number("send", tag, source, to, size)
        self.network.send(source, to, size, partial(self._land, name, sent))

    def _land(self, name: tuple[object, ...], sent: Action) -> None:
        got = self.waiting.pop(name, None)
        sent()  # the sender first
        if got is None:
            self.landed.add(name)
        else:
            got()

    def _receive(self, tag: int, source: int, to: int, size: int, got: Action) -> None:
        name = self._number("receive", tag, source, to, size)
        if name in self.landed:
            self.landed.remove(name)
            self.clock.at(self.clock.now, got)
        else:
            self.waiting[name] = got


@dataclass
class Move:
    """Bytes to bring to the other side, what happens to them there, and whom to tell at the end."""

    size: int
    reduces: bool
    sent_back: bool
    done: Action


class Side:
    """One side of a bus. Its `inner` bus, if any, carries the bytes to and from the local memory."""

    partner: Side

    def __init__(self, costs: Costs, per_byte: float, inner: Bus | None) -> None:
        self.costs, self.per_byte, self.inner = costs, per_byte, inner
        self.state = self.previous = FREE
        self.last_end = 0
        self.sent_in_a_row = 0
        self.sends: deque[Move] = deque()
        self.receives: deque[Move] = deque()
        self.work: deque[Move] = deque()
        self.working = False

    def request(self, move: Move) -> None:
        if self.inner is None:
            self._queue(move)
        else:
            self.inner.inbound(move.size, False, False, lambda: self._queue(move))

    def _queue(self, move: Move) -> None:
        self.sends.append(move)
        self._pump()

    def _pump(self) -> None:
        if self.state != FREE or not self.sends:
            return
        partner = self.partner
        if self.sent_in_a_row > MAX_IN_A_ROW and partner.sends and partner.sent_in_a_row <= MAX_IN_A_ROW:
            partner._pump()
            return
        costs, offset = self.costs, self.costs.o
        if self.previous == SENDING:
            idle = costs.now() - self.last_end
            offset = costs.o if costs.o + idle > costs.g else costs.g - idle
        move = self.sends.popleft()
        wire = (move.size - 1) * self.per_byte
        partner._expect(move, int(offset + wire + costs.L + costs.o))
        self.state = SENDING
        costs.after(int(offset + wire), self._sent)

    def _expect(self, move: Move, delay: int) -> None:
        self.receives.append(move)
        self.previous, self.state = self.state, RECEIVING
        self.sent_in_a_row = 0
        self.costs.after(delay, self._received)

    def _sent(self) -> None:
        self.last_end = self.costs.now()
        self.previous, self.state = self.state, FREE
        self.sent_in_a_row += 1
        self._pump()

    def _received(self) -> None:
        move = self.receives.popleft()
        self.last_end = self.costs.now()
        self.previous = self.state
        if not self.receives:
            self.state = FREE
        if not move.reduces:
            self._dispose(move)
        elif self.inner is None:
            self._enter_work(move)
        else:
            self.inner.there_and_back(move.size, lambda: self._enter_work(move))
        self._pump()

    def _enter_work(self, move: Move) -> None:
        self.work.append(move)
        self._start_work()
        self._pump()

    def _start_work(self) -> None:
        if self.work and not self.working:
            self.working = True
            self.costs.after(self.work[0].size // 100 * self.costs.reduction + 50, self._worked)

    def _worked(self) -> None:
        self.working = False
        self._dispose(self.work.popleft())
        self._start_work()
        self._pump()

    def _dispose(self, move: Move) -> None:
        """Send the bytes back over this bus, or deliver them: both touch the local memory first."""
        if move.sent_back:
            back = Move(move.size, False, False, move.done)
            if self.inner is None:
                self.sends.append(back)
            else:
                self.inner.there_and_back(move.size, lambda: self._queue(back))
        elif self.inner is None:
            move.done()
        else:
            self.inner.outbound(move.size, lambda: self._deliver(move))

    def _deliver(self, move: Move) -> None:
        move.done()
        self._pump()


@dataclass
class Costs:
    """The LogGP numbers and the rank's clock."""

    now: Callable[[], int]
    after: Callable[[int, Action], None]
    L: int
    o: int
    g: int
    reduction: int


class Bus:
    """A bus between the rank (side N) and its network adapter (side A)."""

    def __init__(self, costs: Costs, per_byte: float, inner: Bus | None = None) -> None:
        self.near, self.far = Side(costs, per_byte, inner), Side(costs, per_byte, None)
        self.near.partner, self.far.partner = self.far, self.near

    def outbound(self, size: int, done: Action) -> None:
        self.near.request(Move(size, False, False, done))

    def there_and_back(self, size: int, done: Action) -> None:
        self.near.request(Move(size, False, True, done))

    def inbound(self, size: int, reduces: bool, sent_back: bool, done: Action) -> None:
        self.far.request(Move(size, reduces, sent_back, done))


def build_bus(system: dict[str, Any], now: Callable[[], int], after: Callable[[int, Action], None]) -> Bus:
    """The bus that a system file asks for. G is read in single precision."""
    latency, overhead, gap = (int(system.get(key, 0)) for key in ("L", "o", "g"))
    costs = Costs(now, after, latency, overhead, gap, int(system.get("local-reduction-delay", 1)))
    per_byte = struct.unpack("f", struct.pack("f", system.get("G", 0)))[0]
    return Bus(costs, per_byte, Bus(costs, INNER_GAP_PER_BYTE))
