"""In which order a pipeline stage runs its passes.

GPipe runs all forward passes, then all backward ones (Huang et al., GPipe, 2019). 1F1B alternates as soon as
it can (Narayanan et al., PipeDream-Flush, 2021), and interleaved 1F1B does so over several chunks of layers a
stage (Narayanan et al., Efficient large-scale language model training, 2021, section 2.2). Zero-bubble splits
the backward pass: gradients of inputs, which the stage before waits for, go first, and those of weights fill
what would be idle; here in the variant that holds no more activations than 1F1B (Qi et al., Zero Bubble
Pipeline Parallelism, 2023, ZB-H1).
"""

from __future__ import annotations

from typing import NamedTuple

FORWARD, BACKWARD, WEIGHTS, OPTIMIZER = range(4)
PASS_NAMES = ("forward", "backward", "weights", "optimizer")
"""A backward pass makes the gradients of weights, too, but for zero-bubble, whose weights pass does."""


class Pass(NamedTuple):
    """One micro-batch through one chunk of a stage's layers."""

    kind: int
    micro_batch: int
    chunk: int


def passes(schedule: str, stage: int, stages: int, micro_batches: int, chunks: int = 1) -> list[Pass]:
    """The passes of a stage in their order. O(micro-batches x chunks).

    `schedule` is one of `plan.SCHEDULES`; with more than one chunk 1f1b is interleaved, for which the
    micro-batches have to be a multiple of the stages.

    >>> ["FBW"[p.kind] + str(p.micro_batch) for p in passes("1f1b", stage=0, stages=2, micro_batches=3)]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']
    """
    if schedule == "gpipe":
        forward = [Pass(FORWARD, m, c) for c in range(chunks) for m in range(micro_batches)]
        backward = [Pass(BACKWARD, m, c) for c in reversed(range(chunks)) for m in range(micro_batches)]
        return forward + backward
    total = micro_batches * chunks
    if chunks == 1:
        warm_up = min(stages - stage - 1, total)
    else:
        warm_up = min((stages - stage - 1) * 2 + (chunks - 1) * stages, total)
    forward = [_interleaved(FORWARD, k, stages, chunks) for k in range(total)]
    backward = [_interleaved(BACKWARD, k, stages, chunks) for k in range(total)]
    order = forward[:warm_up]
    for k in range(total - warm_up):
        order += [forward[warm_up + k], backward[k]]
    order += backward[total - warm_up :]
    return _split_backward(order, stage) if schedule == "zero-bubble" else order


def _interleaved(kind: int, k: int, stages: int, chunks: int) -> Pass:
    """The k-th forward or backward pass: `stages` micro-batches through a chunk, then through the next."""
    if chunks == 1:
        return Pass(kind, k, 0)
    group, within = divmod(k, stages * chunks)
    chunk, offset = divmod(within, stages)
    return Pass(kind, group * stages + offset, chunk if kind == FORWARD else chunks - 1 - chunk)


def _split_backward(order: list[Pass], stage: int) -> list[Pass]:
    """Weights passes, as many passes behind their backward pass as the stage holds fewer activations."""
    out: list[Pass] = []
    waiting: list[Pass] = []
    for one in order:
        out.append(one)
        if one.kind == BACKWARD:
            waiting.append(Pass(WEIGHTS, one.micro_batch, one.chunk))
            if len(waiting) > stage:
                out.append(waiting.pop(0))
    return out + waiting
