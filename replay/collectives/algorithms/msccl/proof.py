"""Proving an MSCCL algorithm: its steps are replayed on chunks that know what has been added up in them.

One order of the steps is replayed. That it stands for all of them is proved too: of two steps that touch the
same chunk, one of them writing, one has to come after the other by the order of a thread block, by
dependences and by messages. That is kept in vector clocks: C. Fidge, "Timestamps in message-passing systems
that preserve the partial ordering", ACSC 1988.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from chakrasim.replay.collectives.algorithms.msccl.steps import (
    INPUT,
    OUTPUT,
    Chunks,
    MscclAlgorithm,
    MscclStep,
)
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind

Value = tuple[int, int] | str
"""Contents of a chunk: a place in the input, and bit g for gpu g's share of the sum; or what went wrong."""

Block = tuple[int, int]
"""Gpu, and position of a thread block on it."""

Connection = tuple[int, int, int]
"""Sender, receiver, channel."""

Past = dict[Block, int]
"""Number of steps of each thread block that are known to be over."""


class _Message(NamedTuple):
    values: list[Value]
    past: Past
    block: Block
    step: int


class _Cell:
    """One chunk of a buffer: what it holds, and who touched it last."""

    __slots__ = ("readers", "value", "writer")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.writer: tuple[Block, int] | None = None
        self.readers: dict[Block, int] = {}
        """The last step of each thread block that read it since it was written."""


def prove(algorithm: MscclAlgorithm) -> None:
    """Replay the steps, and check that they end and do what the collective promises.

    Raises ConfigError, with the place, for a deadlock, a message that nobody waits for, two steps that touch
    one chunk in no order, and an output that isn't right. O(chunks moved), times thread blocks at worst.
    """
    for in_place in algorithm.in_place:
        replay = _Replay(algorithm, in_place=in_place)
        replay.run()
        replay.check_outputs()


class _Replay:
    def __init__(self, algorithm: MscclAlgorithm, *, in_place: bool) -> None:
        self.algorithm, self.in_place = algorithm, in_place
        self.share = algorithm.chunks // algorithm.gpus
        self.cells: dict[tuple[int, str, int], _Cell] = {}
        self.mail: dict[Connection, deque[_Message]] = defaultdict(deque)
        self.blocks: list[Block] = [
            (gpu, block) for gpu, own in enumerate(algorithm.blocks) for block in range(len(own))
        ]
        self.done = dict.fromkeys(self.blocks, 0)
        self.past: dict[Block, Past] = {block: {} for block in self.blocks}
        self.waiting: dict[object, list[Block]] = defaultdict(list)
        """Thread blocks by what they wait for: a connection, or a step."""
        self.targets = {
            (gpu, *step.after)
            for gpu, own in enumerate(algorithm.blocks)
            for block in own
            for step in block.steps
            if step.after is not None
        }
        self.past_at: dict[tuple[int, int, int], Past] = {}
        """Knowledge at the end of steps that others depend on."""

    def fail(self, message: str) -> ConfigError:
        return ConfigError(f"{self.algorithm.source}: {message}")

    def run(self) -> None:
        """Carry out all steps. Raises ConfigError for a deadlock and for messages that are left over."""
        ready = deque(self.blocks)
        while ready:
            block = ready.popleft()
            steps = self._steps(block)
            while self.done[block] < len(steps):
                step = steps[self.done[block]]
                awaited = self._awaited(block, step)
                if awaited is not None:
                    self.waiting[awaited].append(block)
                    break
                self._carry_out(block, step, ready)
        if any(done < len(self._steps(block)) for block, done in self.done.items()):
            raise self.fail(self._deadlock())
        for (_, receiver, channel), messages in self.mail.items():
            for message in messages:
                raise self.fail(
                    f"{self._place(message.block, message.step)} sends to gpu {receiver} on channel "
                    f"{channel}, which never receives it"
                )

    def _steps(self, block: Block) -> tuple[MscclStep, ...]:
        return self.algorithm.blocks[block[0]][block[1]].steps

    def _place(self, block: Block, step: int) -> str:
        return self.algorithm.place(*block, step)

    def _incoming(self, block: Block) -> Connection:
        own = self.algorithm.blocks[block[0]][block[1]]
        return own.from_, block[0], own.channel

    def _awaited(self, block: Block, step: MscclStep) -> object | None:
        """Unmet need of a thread block's next step."""
        if step.after is not None and self.done[block[0], step.after[0]] <= step.after[1]:
            return block[0], *step.after, "step"
        if step.type.receives and not self.mail[self._incoming(block)]:
            return self._incoming(block)
        return None

    def _carry_out(self, block: Block, step: MscclStep, ready: deque[Block]) -> None:
        gpu, number, past = block[0], self.done[block], self.past[block]
        if step.after is not None:
            target = gpu, *step.after
            _learn(past, self.past_at[target])
        came: list[Value] = []
        if step.type.receives:
            message = self.mail[self._incoming(block)].popleft()
            came = message.values
            if len(came) != step.count:
                raise self.fail(
                    f"{self._place(block, number)} receives cnt={step.count}; "
                    f"{self._place(message.block, message.step)} sends cnt={len(came)}"
                )
            _learn(past, message.past)
        past[block] = number + 1
        values = self._read(block, step.source, step.count) if step.type.reads else came
        if step.type.reduces:
            others = came if step.type.receives else self._read(block, step.destination, step.count)
            place = self._place(block, number)
            values = [_sum(a, b, place) for a, b in zip(others, values, strict=True)]
        if step.type.writes:
            self._write(block, step.destination, values)
        self.done[block] += 1
        end = *block, number
        if end in self.targets:
            self.past_at[end] = dict(past)
            ready.extend(self.waiting.pop((*end, "step"), ()))
        if step.type.sends:
            own = self.algorithm.blocks[gpu][block[1]]
            connection = gpu, own.to, own.channel
            self.mail[connection].append(_Message(values, dict(past), block, number))
            ready.extend(self.waiting.pop(connection, ()))

    def _cell(self, gpu: int, buffer: str, index: int) -> _Cell:
        """The chunk, in place the one that input and output share."""
        kind, is_output = self.algorithm.kind, buffer == OUTPUT
        if self.in_place and is_output and kind != CommKind.ALL_GATHER:
            index += gpu * self.share * (kind == CommKind.REDUCE_SCATTER)
            buffer = INPUT
        elif self.in_place and buffer == INPUT and kind == CommKind.ALL_GATHER:
            index += gpu * self.share
            buffer = OUTPUT
        key = gpu, buffer, index
        if key not in self.cells:
            self.cells[key] = _Cell(self._first(gpu, buffer, index))
        return self.cells[key]

    def _first(self, gpu: int, buffer: str, index: int) -> Value:
        """Contents of a chunk before the first step."""
        if buffer == INPUT:
            return index, 1 << gpu
        if self.in_place and buffer == OUTPUT and index // self.share == gpu:  # of an all-gather
            return index % self.share, 1 << gpu
        return "nothing (no step writes it)"

    def _read(self, block: Block, chunks: Chunks, count: int) -> list[Value]:
        values = []
        for index in range(chunks.offset, chunks.offset + count):
            cell = self._cell(block[0], chunks.buffer, index)
            if cell.writer is not None:
                self._check_order(block, *cell.writer, Chunks(chunks.buffer, index), "reads", "writes")
            cell.readers[block] = self.done[block]
            values.append(cell.value)
        return values

    def _write(self, block: Block, chunks: Chunks, values: list[Value]) -> None:
        for index, value in enumerate(values, chunks.offset):
            cell, place = self._cell(block[0], chunks.buffer, index), Chunks(chunks.buffer, index)
            if cell.writer is not None:
                self._check_order(block, *cell.writer, place, "writes", "writes")
            for reader, step in cell.readers.items():
                self._check_order(block, reader, step, place, "writes", "reads")
            cell.value, cell.writer, cell.readers = value, (block, self.done[block]), {}

    def _check_order(self, block: Block, other: Block, step: int, chunk: Chunks, does: str, did: str) -> None:
        if self.past[block].get(other, 0) <= step:
            raise self.fail(
                f"{self._place(block, self.done[block])} {does} chunk {chunk.offset} of buffer "
                f"{chunk.buffer!r}, {self._place(other, step)} {did} it, and nothing says which comes first; "
                "expected a dependence (depid, deps)"
            )

    def _deadlock(self) -> str:
        """Explanation why the steps that are left can't be done."""
        waits_for: dict[Block, Block] = {}
        senders = {
            (gpu, own.to, own.channel): (gpu, position)
            for gpu, position in self.blocks
            for own in [self.algorithm.blocks[gpu][position]]
            if any(step.type.sends for step in own.steps)
        }
        for block in self.blocks:
            if self.done[block] == len(self._steps(block)):
                continue
            step = self._steps(block)[self.done[block]]
            if step.after is not None and self.done[block[0], step.after[0]] <= step.after[1]:
                waits_for[block] = block[0], step.after[0]
                continue
            peer, _, channel = connection = self._incoming(block)
            sender = senders.get(connection)
            if sender is None or not any(s.type.sends for s in self._steps(sender)[self.done[sender] :]):
                return (
                    f"{self._place(block, self.done[block])} receives from gpu {peer} on channel {channel}, "
                    f"which sends nothing {'more ' if sender else ''}to it there"
                )
            waits_for[block] = sender
        circle = [next(iter(waits_for))]
        while circle.count(circle[-1]) == 1:
            circle.append(waits_for[circle[-1]])
        circle = circle[circle.index(circle[-1]) :]
        places = [self._place(block, self.done[block]) for block in circle]
        return f"deadlock: {places[0]} waits for {', which waits for '.join(places[1:])}"

    def check_outputs(self) -> None:
        """Raises ConfigError for the first chunk that isn't what the collective promises."""
        algorithm, share = self.algorithm, self.share
        kind, gpus = algorithm.kind, algorithm.gpus
        everyone, root = (1 << gpus) - 1, 0
        members: list[int] = list(range(gpus))
        if kind == CommKind.BROADCAST:
            # The file doesn't name its root: the gpu whose input comes out on the first one.
            value = self._cell(0, OUTPUT, 0).value
            root = 0 if isinstance(value, str) else value[1].bit_length() - 1
        elif kind == CommKind.REDUCE:
            whole = (gpu for gpu in members if self._cell(gpu, OUTPUT, 0).value == (0, everyone))
            members = [next(whole, 0)]
        for gpu in members:
            for index in range(algorithm.buffer_chunks(OUTPUT)):
                expected = index, everyone
                if kind == CommKind.ALL_GATHER:
                    expected = index % share, 1 << index // share
                elif kind == CommKind.ALL_TO_ALL:
                    expected = gpu * share + index % share, 1 << index // share
                elif kind == CommKind.REDUCE_SCATTER:
                    expected = gpu * share + index, everyone
                elif kind == CommKind.BROADCAST:
                    expected = index, 1 << root
                value = self._cell(gpu, OUTPUT, index).value
                if value != expected:
                    way = "in place" if self.in_place else "out of place"
                    raise self.fail(
                        f"gpu {gpu}, buffer 'o', chunk {index}: after the last step of this {kind.label} "
                        f"({way}) expected {_said(expected)}, got {_said(value)}"
                    )


def _learn(past: Past, other: Past) -> None:
    for block, steps in other.items():
        if steps > past.get(block, 0):
            past[block] = steps


def _sum(one: Value, other: Value, place: str) -> Value:
    """Two values added up; anything that no collective wants is told by where it arose."""
    for value in (one, other):
        if isinstance(value, str):
            return value if " at " in value else f"a sum with {value}, at {place}"
    assert not isinstance(one, str)
    assert not isinstance(other, str)
    if one[0] != other[0]:
        return f"a sum of {_said(one)} and {_said(other)}, at {place}"
    if one[1] & other[1]:
        return f"a sum with {_said((one[0], one[1] & other[1]))} in it twice, at {place}"
    return one[0], one[1] | other[1]


def _said(value: Value) -> str:
    if isinstance(value, str):
        return value
    index, mask = value
    gpus = [str(gpu) for gpu in range(mask.bit_length()) if mask >> gpu & 1]
    if len(gpus) == 1:
        return f"input chunk {index} of gpu {gpus[0]}"
    return f"the sum of input chunk {index} of gpus {', '.join(gpus)}"
