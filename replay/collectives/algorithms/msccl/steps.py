"""MSCCL algorithms: thread blocks of gpus, each with steps one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chakrasim.traces.graph import CommKind

INPUT, OUTPUT, SCRATCH = "i", "o", "s"


class StepType(NamedTuple):
    """Actions of a step type, in the order in which they happen."""

    receives: bool = False
    reads: bool = False
    """It takes what `srcbuf` has."""
    reduces: bool = False
    writes: bool = False
    """The result stays in `dstbuf`."""
    sends: bool = False

    @property
    def is_local(self) -> bool:
        """The step sends and receives nothing."""
        return not self.receives and not self.sends


TYPES = {
    "s": StepType(reads=True, sends=True),
    "r": StepType(receives=True, writes=True),
    "rcs": StepType(receives=True, writes=True, sends=True),
    "rrs": StepType(receives=True, reads=True, reduces=True, sends=True),
    "rrc": StepType(receives=True, reads=True, reduces=True, writes=True),
    "rrcs": StepType(receives=True, reads=True, reduces=True, writes=True, sends=True),
    "re": StepType(reads=True, reduces=True, writes=True),
    "cpy": StepType(reads=True, writes=True),
    "nop": StepType(),
}
"""Step types by the word in the file: send, receive, receive-copy-send, receive-reduce-send, and so on."""


class Chunks(NamedTuple):
    """Neighbours in a buffer of the step's own gpu."""

    buffer: str
    offset: int


@dataclass(frozen=True)
class MscclStep:
    """One step of a thread block."""

    name: str
    """Its type."""
    source: Chunks
    destination: Chunks
    count: int
    """Chunks that it moves."""
    after: tuple[int, int] | None
    """The step that it waits for, beside the one before: position of the block on the gpu, and step."""

    @property
    def type(self) -> StepType:
        """Actions of the step."""
        return TYPES[self.name]


@dataclass(frozen=True)
class MscclBlock:
    """A thread block."""

    id: int
    to: int
    """The gpu that it sends to; -1 is none."""
    from_: int
    """The gpu that it receives from; -1 is none."""
    channel: int
    steps: tuple[MscclStep, ...]


@dataclass(frozen=True)
class MscclAlgorithm:
    """A file, checked."""

    source: str
    """The file, for messages."""
    kind: CommKind
    gpus: int
    chunks: int
    """Number of chunks in the largest buffer: a member's output of an all-gather, else its input."""
    in_place: tuple[bool, ...]
    """Ways in which the file says it can be used: with one buffer for input and output, or with two."""
    blocks: tuple[tuple[MscclBlock, ...], ...]
    """Thread blocks by gpu."""

    def place(self, gpu: int, block: int, step: int) -> str:
        """Where a step stands, by position."""
        return f"gpu {gpu}, tb {self.blocks[gpu][block].id}, step {step}"

    def buffer_chunks(self, buffer: str) -> int:
        """Chunks of a member's input or output."""
        shared = OUTPUT if self.kind == CommKind.REDUCE_SCATTER else INPUT
        has_share = self.kind in (CommKind.REDUCE_SCATTER, CommKind.ALL_GATHER) and buffer == shared
        return self.chunks // self.gpus if has_share else self.chunks
