"""Algorithms in the XML of Microsoft's MSCCL: read, proved, and turned into tasks.

The files are what msccl-tools writes and the MSCCL runtime runs (github.com/microsoft/msccl-tools,
github.com/Azure/msccl-executor-nccl). Where the two differ the runtime counts: a step that receives and
reduces adds what comes to its own gpu's `srcbuf`, and a dependence ends with the first step from `deps` on
that has `hasdep`. Not read: the protocol, and the range of sizes for which the runtime would take the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

from chakrasim.replay.collectives.algorithms.msccl.proof import prove
from chakrasim.replay.collectives.algorithms.msccl.steps import (
    INPUT,
    OUTPUT,
    SCRATCH,
    TYPES,
    Chunks,
    MscclAlgorithm,
    MscclBlock,
    MscclStep,
)
from chakrasim.replay.collectives.execution.endpoint import INBOUND, SENT_BACK, Operation
from chakrasim.replay.collectives.execution.task_graph import OPERATE, RECEIVE, SEND, WAIT, Task
from chakrasim.traces.errors import ConfigError, nearest
from chakrasim.traces.graph import CommKind

__all__ = ["MscclAlgorithm", "msccl_tasks", "prove", "read_msccl"]

COLLECTIVES = {
    "allreduce": CommKind.ALL_REDUCE,
    "allgather": CommKind.ALL_GATHER,
    "reducescatter": CommKind.REDUCE_SCATTER,
    "reduce_scatter": CommKind.REDUCE_SCATTER,  # as msccl-tools spells it
    "alltoall": CommKind.ALL_TO_ALL,
    "broadcast": CommKind.BROADCAST,
    "reduce": CommKind.REDUCE,
}
BUFFERS = (INPUT, OUTPUT, SCRATCH)
MAX_NUMBER = 2**20
"""Maximum of chunks in a buffer, and of any other number in a file."""
MAX_OUTPUTS = 2**21
"""Maximum of chunks of all outputs together, each of which the proof looks at."""
KEPT_FILES = 32


def read_msccl(path: Path) -> MscclAlgorithm:
    """The algorithm of a file, checked and proved.

    Raises ConfigError, with file, gpu, thread block and step, for what can't be read, what the MSCCL runtime
    would refuse, and what `prove` refuses.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from None
    return _proved(str(path), content)


@lru_cache(maxsize=KEPT_FILES)
def _proved(source: str, content: bytes) -> MscclAlgorithm:
    parser = ET.XMLParser(target=_Builder())
    try:
        root = ET.fromstring(content, parser)
    except ET.ParseError as error:
        raise ConfigError(f"{source}: is no XML: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python has not, or that expat can't take
        raise ConfigError(f"{source}: is no XML that can be read: {error}") from None
    except _DoctypeError:
        raise ConfigError(f"{source}: has a DOCTYPE; an MSCCL file has none") from None
    algorithm = _algorithm(_Element(root, source, "the file"))
    prove(algorithm)
    return algorithm


class _DoctypeError(Exception):
    """A document type declaration, where entities without end could be declared."""


class _Builder(ET.TreeBuilder):
    def doctype(self, _name: str, _public: str | None, _system: str | None) -> NoReturn:
        raise _DoctypeError


class _Element:
    """An element of a file, with the words to say where it stands."""

    def __init__(self, element: ET.Element, source: str, where: str) -> None:
        self.element, self.source, self.where = element, source, where

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.source}: {self.where}: {message}")

    def named(self, name: str) -> None:
        """Refuse any other element."""
        if self.element.tag != name:
            self.fail(f"has an element <{self.element.tag}>; expected <{name}>")

    def inner(self, name: str, where: str) -> Iterator[_Element]:
        """The elements within, which all have this name; `where` leads to them, {} is the id."""
        for index, child in enumerate(self.element):
            found = _Element(child, self.source, self.where)
            found.named(name)
            label = where.format(child.get("s" if name == "step" else "id", f"number {index}"))
            found.where = label if name == "gpu" else f"{self.where}, {label}"
            yield found

    def text(self, key: str, known: Collection[str] = ()) -> str:
        """An attribute, one of the known ones if any are given."""
        value = self.element.get(key)
        if value is None:
            guess = nearest(key, self.element.attrib)
            hint = f" (has {guess!r})" if guess else ""
            self.fail(f"lacks the attribute {key!r}{hint}")
        if known and value not in known:
            guess = nearest(value, known)
            hint = f"did you mean {guess!r}? " if guess else ""
            self.fail(f"has {key}={value!r}; {hint}expected one of {', '.join(known)}")
        return value

    def whole(self, key: str, minimum: int, maximum: int = MAX_NUMBER) -> int:
        """A whole number."""
        value = self.text(key).strip()
        digits = value.removeprefix("-")
        # Digits alone: Python also reads other scripts' and underscores; and not too many to be read fast.
        if not (
            digits.isascii() and digits.isdigit() and len(digits) < 20 and minimum <= int(value) <= maximum
        ):
            self.fail(f"has {key}={value[:40]!r}; expected a whole number in {minimum}..{maximum}")
        return int(value)

    def flag(self, key: str) -> bool:
        """1 or 0."""
        return self.whole(key, 0, 1) == 1


def _algorithm(root: _Element) -> MscclAlgorithm:
    root.named("algo")
    root.where = "algo"
    kind = COLLECTIVES[root.text("coll", COLLECTIVES)]
    gpus, chunks = root.whole("ngpus", 1), root.whole("nchunksperloop", 1)
    channels = root.whole("nchannels", 1)
    if gpus * chunks > MAX_OUTPUTS:
        root.fail(
            f"has ngpus={gpus} and nchunksperloop={chunks}; expected a product of at most {MAX_OUTPUTS:,}"
        )
    is_shared = kind in (CommKind.ALL_GATHER, CommKind.REDUCE_SCATTER, CommKind.ALL_TO_ALL)
    if is_shared and chunks % gpus:
        root.fail(
            f"has nchunksperloop={chunks}; expected a multiple of ngpus={gpus}, so that all have as many"
        )
    in_place = [True] * root.flag("inplace")
    # Older files know in place or not; newer ones say both apart.
    if root.flag("outofplace") if "outofplace" in root.element.attrib else not in_place:
        in_place.append(False)
    if not in_place:
        root.fail("has inplace='0' and outofplace='0'; expected one of them to be 1")
    frame = MscclAlgorithm(root.source, kind, gpus, chunks, tuple(in_place), ())
    by_id: dict[int, tuple[MscclBlock, ...]] = {}
    for gpu in root.inner("gpu", "gpu {}"):
        own = gpu.whole("id", 0, gpus - 1)
        if own in by_id:
            gpu.fail("is there twice; expected each gpu once")
        by_id[own] = _GpuReader(gpu, own, frame, channels).blocks()
    missing = sorted(set(range(gpus)) - set(by_id))
    if missing:
        root.fail(f"has ngpus={gpus} and no <gpu id={str(missing[0])!r}>")
    return replace(frame, blocks=tuple(by_id[gpu] for gpu in range(gpus)))


class _GpuReader:
    """Reads the thread blocks of one gpu."""

    def __init__(self, element: _Element, gpu: int, frame: MscclAlgorithm, channels: int) -> None:
        self.element, self.gpu, self.frame, self.channels = element, gpu, frame, channels
        self.stated = {buffer: element.whole(f"{buffer}_chunks", 0) for buffer in BUFFERS}
        self.elements = [
            (block, list(block.inner("step", "step {}"))) for block in element.inner("tb", "tb {}")
        ]
        self.position: dict[int, int] = {}
        for index, (block, steps) in enumerate(self.elements):
            number = block.whole("id", 0)
            if number in self.position:
                block.fail("is there twice; expected an id for each thread block")
            self.position[number] = index
            for place, step in enumerate(steps):
                if step.whole("s", 0) != place:
                    step.fail(f"has s={step.text('s')!r}; expected {place}, steps in order from 0 on")

    def blocks(self) -> tuple[MscclBlock, ...]:
        """Thread blocks of one gpu. No two may use one connection to the same end."""
        blocks: list[MscclBlock] = []
        users: dict[tuple[str, int, int], int] = {}
        for element, steps in self.elements:
            block = MscclBlock(
                element.whole("id", 0),
                self._peer(element, "send"),
                self._peer(element, "recv"),
                element.whole("chan", 0, self.channels - 1),
                tuple(self._step(element, step) for step in steps),
            )
            for key, peer in (("send", block.to), ("recv", block.from_)):
                if not any(step.type.sends if key == "send" else step.type.receives for step in block.steps):
                    continue
                other = users.setdefault((key, peer, block.channel), block.id)
                if other != block.id:
                    element.fail(
                        f"has {key}={peer} on chan={block.channel}, as tb {other} has; "
                        "expected one thread block for each end of a connection"
                    )
            blocks.append(block)
        return tuple(blocks)

    def _peer(self, block: _Element, key: str) -> int:
        peer = block.whole(key, -1, self.frame.gpus - 1)
        if peer == self.gpu:
            block.fail(f"has {key}={peer}, its own gpu; expected another one, or -1 for none")
        return peer

    def _step(self, block: _Element, step: _Element) -> MscclStep:
        name = step.text("type", TYPES)
        type_ = TYPES[name]
        for key, is_used in (("send", type_.sends), ("recv", type_.receives)):
            if is_used and block.whole(key, -1) < 0:
                step.fail(f"has type={name!r}, and its tb has {key}=-1; expected the gpu to {key} to or from")
        step.flag("hasdep")
        # A nop moves nothing, and what it says of chunks means nothing.
        count = 0 if name == "nop" else step.whole("cnt", 1)
        return MscclStep(
            name,
            self._chunks(step, "src", count, is_used=type_.reads),
            self._chunks(step, "dst", count, is_used=type_.writes),
            count,
            self._after(step),
        )

    def _chunks(self, step: _Element, end: str, count: int, *, is_used: bool) -> Chunks:
        buffer = step.text(f"{end}buf", BUFFERS)
        if not is_used:
            return Chunks(buffer, 0)
        offset = step.whole(f"{end}off", 0)
        most = self.stated[buffer]
        why = f"its gpu has {buffer}_chunks={most}"
        if buffer != SCRATCH and self.frame.buffer_chunks(buffer) < most:
            most = self.frame.buffer_chunks(buffer)
            why = f"that buffer has {most} chunks in this {self.frame.kind.label}"
        if offset + count > most:
            step.fail(f"has {end}buf={buffer!r}, {end}off={offset} and cnt={count}, and {why}")
        return Chunks(buffer, offset)

    def _after(self, step: _Element) -> tuple[int, int] | None:
        """The step whose end the runtime would wait for."""
        depid, deps = step.whole("depid", -1), step.whole("deps", -1)
        if depid < 0:
            return None
        if depid not in self.position:
            known = ", ".join(map(str, sorted(self.position)))
            step.fail(f"has depid={depid}; expected a tb of its gpu ({known}), or -1")
        _, steps = self.elements[self.position[depid]]
        if not 0 <= deps < len(steps):
            step.fail(f"has depid={depid} and deps={deps}; expected a step of that tb, 0..{len(steps) - 1}")
        tells = (s.flag("hasdep") and s.text("type", TYPES) != "nop" for s in steps[deps:])
        place = next((place for place, does in enumerate(tells, deps) if does), None)
        if place is None:
            step.fail(f"waits for tb {depid}, step {deps}, which never tells; expected hasdep='1' and no nop")
        return self.position[depid], place


def msccl_tasks(
    algorithm: MscclAlgorithm,
    kind: CommKind,
    size_bytes: int,
    *,
    endpoint_ps: int,
    reduction_ps: Callable[[int], int],
) -> list[list[Task]]:
    """Each gpu's tasks. `size_bytes` is what a member puts in: its share for an all-gather, else all of it.

    A chunk has as many whole bytes as come out. A thread block does one thing at a time, and a message is on
    its way until it has landed. Each message that comes takes `endpoint_ps`, and `reduction_ps` of its bytes
    where it is added; so does what a thread block sends before anything has come to it take `endpoint_ps`. A
    local sum takes its `reduction_ps`, a local copy no time. Raises ConfigError if `kind` isn't the file's.
    """
    wanted = CommKind.REDUCE_SCATTER if kind == CommKind.REDUCE_SCATTER_BLOCK else kind
    if wanted != algorithm.kind:
        raise ConfigError(
            f"{algorithm.source}: coll is for {algorithm.kind.label}; expected an algorithm for {kind.label}"
        )
    whole_bytes = size_bytes * (algorithm.gpus if kind == CommKind.ALL_GATHER else 1)
    chunk_bytes = whole_bytes // algorithm.chunks
    return [_gpu_tasks(blocks, chunk_bytes, endpoint_ps, reduction_ps) for blocks in algorithm.blocks]


def _gpu_tasks(
    blocks: tuple[MscclBlock, ...], chunk_bytes: int, endpoint_ps: int, reduction_ps: Callable[[int], int]
) -> list[Task]:
    drafts: list[list[list[Task]]] = [[] for _ in blocks]
    ends: dict[tuple[int, int], int] = {}
    made = 0
    for position, block in enumerate(blocks):
        is_fresh = True
        for number, step in enumerate(block.steps):
            draft = _step_tasks(block, step, chunk_bytes, endpoint_ps, reduction_ps, is_fresh=is_fresh)
            is_fresh &= step.type.is_local
            drafts[position].append(draft)
            made += len(draft)
            ends[position, number] = made - 1
    tasks: list[Task] = []
    for position, block in enumerate(blocks):
        for number, (step, draft) in enumerate(zip(block.steps, drafts[position], strict=True)):
            needs = {ends[position, number - 1]} if number else set()
            if step.after is not None:
                needs.add(ends[step.after])
            for task in draft:
                tasks.append(replace(task, needs=tuple(sorted(needs))))
                needs = {len(tasks) - 1}
    return tasks


def _step_tasks(
    block: MscclBlock,
    step: MscclStep,
    chunk_bytes: int,
    endpoint_ps: int,
    reduction_ps: Callable[[int], int],
    *,
    is_fresh: bool,
) -> list[Task]:
    """Tasks of one step, one after the other. `is_fresh`: its thread block sent and received nothing."""
    size, does = step.count * chunk_bytes, step.type
    tasks = []
    reduction = reduction_ps(size) if does.reduces else 0
    if does.receives:
        operation = Operation(
            size, SENT_BACK if does.sends else INBOUND, endpoint_ps + reduction, does.reduces, reduction
        )
        tasks += [
            Task(RECEIVE, peer=block.from_, size_bytes=size, tag=block.channel),
            Task(OPERATE, operation=operation),
        ]
    elif does.sends and is_fresh:
        tasks.append(Task(OPERATE, operation=Operation(size, takes_ps=endpoint_ps)))
    elif does.reduces:
        tasks.append(Task(OPERATE, operation=Operation(size, INBOUND, reduction, True, reduction)))
    if does.sends:
        tasks.append(Task(SEND, peer=block.to, size_bytes=size, tag=block.channel))
    return tasks or [Task(WAIT)]
