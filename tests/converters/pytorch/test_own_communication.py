"""Every collective and message of small training jobs is recovered, in order, on every rank.

The jobs ran on four gloo ranks. What each of them sent follows from its script: the model's sizes, DDP's and
FSDP's rules for what travels together, the pipeline's schedule. None of it is read off the traces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

WORLD = (0, 1, 2, 3)
STEPS = 2

# the scripts' model: a decoder with 2 blocks, fp32
VOCABULARY, WIDTH, BLOCKS, TOKENS, BATCH, BYTES = 512, 64, 2, 32, 4, 4
NORM = 2 * WIDTH  # weight and bias
SQUARE = WIDTH * WIDTH  # each of the four attention matrices
WIDE = 4 * WIDTH * WIDTH  # either matrix of the MLP
BLOCK = 2 * NORM + 4 * SQUARE + 2 * WIDE
EMBEDDING = VOCABULARY * WIDTH  # and so many in the head
ACTIVATION = BATCH * TOKENS * WIDTH


@dataclass(frozen=True)
class Expected:
    """One communication. Sizes in elements."""

    kind: str
    given: int
    ranks: tuple[int, ...] = WORLD
    taken: int | None = None
    """Output of a collective; None: not compared."""
    peer: int = -1
    tag: int = -1
    is_async: bool | None = False
    issued_as: str | None = None


def reduce_scatter(given: int, ranks: tuple[int, ...] = WORLD) -> Expected:
    """gloo carries it out as an all-reduce."""
    taken = given // len(ranks)
    return Expected("all-reduce", given, ranks, taken, issued_as="reduce-scatter")


def all_gather(given: int, ranks: tuple[int, ...] = WORLD) -> Expected:
    return Expected("all-gather", given, ranks, given * len(ranks))


def all_reduce(size: int, ranks: tuple[int, ...] = WORLD, is_async: bool = False) -> Expected:
    return Expected("all-reduce", size, ranks, size, is_async=is_async)


def send(size: int, peer: int, tag: int = 0) -> Expected:
    return Expected("send", size, peer=peer, tag=tag, is_async=None)


def receive(size: int, peer: int, tag: int = 0) -> Expected:
    return Expected("receive", size, peer=peer, tag=tag, is_async=None)


def ddp(rank: int) -> list[Expected]:
    """Gradients in the order of the backward pass, in buckets closed once they hold 0.1 MiB."""
    attention = [SQUARE] * 4
    block = [WIDE, WIDE, WIDTH, WIDTH, *attention, WIDTH, WIDTH]  # down, up, norm, attention, norm
    gradients = [EMBEDDING, *block * BLOCKS, EMBEDDING]
    buckets, bucket = [], 0
    for size in gradients:
        bucket += size
        if bucket * BYTES >= int(0.1 * 1024 * 1024):
            buckets.append(bucket)
            bucket = 0
    buckets += [bucket] if bucket else []
    return [all_reduce(size, is_async=True) for size in buckets]


def fsdp(shard: int, ranks: tuple[int, ...], block: int) -> tuple[list[list[Expected]], list[list[Expected]]]:
    """All-gathers and reduce-scatters of a step, by the moment: before the root's forward, then each block's;
    before the backward, then after that of each block, and of the root.

    The blocks' parameters are gathered for the forward and once more for the backward, where the next block's
    are fetched before the first block's backward begins; the root keeps its own.
    """
    root = 2 * EMBEDDING
    gathers = [[all_gather(root // shard, ranks)], *[[all_gather(block // shard, ranks)]] * BLOCKS]
    fetched = [all_gather(block // shard, ranks)] * BLOCKS
    scatters = [*[[reduce_scatter(block, ranks)]] * BLOCKS, [reduce_scatter(root, ranks)]]
    return gathers, [fetched, *scatters]


def fsdp2(rank: int) -> list[Expected]:
    gathers, scatters = fsdp(4, WORLD, BLOCK)
    return [event for part in (*gathers, *scatters) for event in part]


def fsdp2_tp(rank: int) -> list[Expected]:
    """A 2 x 2 mesh: rows are data-parallel, columns tensor-parallel, which halves all but the norms.

    A block's forward sums the outputs of the two row-wise layers, its backward the input gradients of the
    four column-wise ones.
    """
    data, tensor = (rank % 2, rank % 2 + 2), (rank // 2 * 2, rank // 2 * 2 + 1)
    (root, *blocks), (fetched, *scattered, last) = fsdp(2, data, 2 * NORM + (BLOCK - 2 * NORM) // 2)
    summed = all_reduce(ACTIVATION, tensor, is_async=True)
    events = [*root]
    for gathered in blocks:
        events += [*gathered, summed, summed]
    events += fetched
    for scatter in scattered:
        events += [summed] * 4 + scatter
    return events + last


def pipeline(rank: int) -> list[Expected]:
    """GPipe by hand: four micro-batches forward, then backward in reverse; gradients have tags from 100."""
    events = []
    for batch in range(4):
        events += [receive(ACTIVATION, rank - 1, batch)] if rank > 0 else []
        events += [send(ACTIVATION, rank + 1, batch)] if rank < 3 else []
    for batch in reversed(range(4)):
        events += [receive(ACTIVATION, rank + 1, 100 + batch)] if rank < 3 else []
        events += [send(ACTIVATION, rank - 1, 100 + batch)] if rank > 0 else []
    return events


def one_forward_one_backward(rank: int) -> list[Expected]:
    """1F1B: `4 - rank` forwards, then a backward and a forward by turns, then the remaining backwards.

    What is sent after a pass is fused with what the next pass receives, and stands before it.
    """
    to_next = [send(ACTIVATION, rank + 1)] if rank < 3 else []
    from_next = [receive(ACTIVATION, rank + 1)] if rank < 3 else []
    to_last = [send(ACTIVATION, rank - 1)] if rank > 0 else []
    from_last = [receive(ACTIVATION, rank - 1)] if rank > 0 else []
    warm_up = 4 - rank
    passes = ["F"] * warm_up + ["B", "F"] * (4 - warm_up) + ["B"] * warm_up
    events = []
    for kind in passes:
        events += [*from_last, *to_next] if kind == "F" else [*from_next, *to_last]
    return events


def every_collective(rank: int) -> list[Expected]:
    size, pair = 1024, (rank // 2 * 2, rank // 2 * 2 + 1)
    return [
        all_reduce(size),
        all_reduce(size, pair),
        Expected("broadcast", size, taken=size, peer=0),
        Expected("reduce", size, taken=size, peer=0),
        all_gather(size),
        all_gather(size),
        reduce_scatter(size),
        Expected("gather", size, peer=0),
        Expected("scatter", 4 * 256, taken=256, peer=0),
        Expected("all-to-all", size, taken=size),
        Expected("all-to-all", 4 * 256, taken=4 * 256),
        send(size, (rank + 1) % 4),
        receive(size, (rank - 1) % 4),
        all_reduce(size, is_async=True),
        Expected("barrier", 0),
    ]


SCRIPTS: dict[str, Callable[[int], list[Expected]]] = {
    "ddp": ddp,
    "fsdp2": fsdp2,
    "fsdp2_tp": fsdp2_tp,
    "pp": pipeline,
    "pp_batch": one_forward_one_backward,
    "colls": every_collective,
}


@cache
def converted(folder: Path) -> Workload:
    return convert_pytorch(folder)


def recovered(workload: Workload, rank: int) -> list[tuple[Expected, str | None]]:
    """A rank's communications in the order of their issue, and their data types."""
    graph = workload.graphs[rank]
    found = []
    for row in np.flatnonzero(graph.kinds >= NodeKind.SEND).tolist():
        kind, attrs = NodeKind(int(graph.kinds[row])), graph.attributes(row)
        group, size, out = graph.group_name(row), int(graph.comm_bytes[row]), attrs.get("comm_out_bytes")
        event = Expected(
            CommKind(int(graph.comm_kinds[row])).label if kind == NodeKind.COLL else kind.label,
            size // BYTES,
            tuple(graph.groups[group]) if group else WORLD,
            out // BYTES if out is not None else None,
            int(graph.peers[row]),
            int(graph.tags[row]),
            attrs.get("async"),
            attrs.get("issued_as"),
        )
        assert size % BYTES == 0
        found.append((event, graph.dtypes[graph.dtype_ids[row]]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rank", WORLD)
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_sent_is_recovered_in_order(shared: Path, script: str, rank: int) -> None:
    expected = SCRIPTS[script](rank) * STEPS
    found = recovered(converted(shared / f"own_traces/out_{script}"), rank)
    assert len(found) == len(expected)
    for number, ((event, dtype), wanted) in enumerate(zip(found, expected, strict=True)):
        # Kineto doesn't record lists of lists; where it doesn't, the output is left out
        taken = wanted.taken if event.taken is not None and wanted.taken is not None else event.taken
        assert event == Expected(**{**vars(wanted), "taken": taken}), (script, rank, number)
        assert dtype == ("uint8" if wanted.kind == "barrier" else "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_outputs_are_recovered_wherever_they_are_single_tensors(shared: Path, script: str) -> None:
    for rank in WORLD:
        expected = SCRIPTS[script](rank) * STEPS
        found = recovered(converted(shared / f"own_traces/out_{script}"), rank)
        missing = [
            e.kind for (event, _), e in zip(found, expected, strict=True) if event.taken is None and e.taken
        ]
        assert set(missing) <= {"all-gather"}  # `all_gather` into a list of tensors
        assert len(missing) <= STEPS * (script == "colls")


@pytest.mark.parametrize("script", ["pp", "pp_batch"])
def test_every_message_sent_is_received(shared: Path, script: str) -> None:
    workload = converted(shared / f"own_traces/out_{script}")
    sent: dict[tuple[int, int], list[tuple[int, int]]] = {}
    received: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for rank in WORLD:
        for event, _ in recovered(workload, rank):
            side, pair = (
                (sent, (rank, event.peer)) if event.kind == "send" else (received, (event.peer, rank))
            )
            side.setdefault(pair, []).append((event.tag, event.given))
    assert sent == received
    assert len(sent) == 6  # three neighbours, both ways
