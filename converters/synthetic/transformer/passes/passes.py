"""A micro-batch through a chunk of layers: forward, backward, or the gradients of weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from chakrasim.converters.synthetic.graph_writer.template import ATTRIBUTES, Tables, Template, collective
from chakrasim.converters.synthetic.op_cost.operations import Operation, Step
from chakrasim.converters.synthetic.transformer.layers.chunk import Chunk, Unit
from chakrasim.converters.synthetic.transformer.passes.backward import backward_steps
from chakrasim.converters.synthetic.transformer.passes.writer import NEXT_STAGE, PREVIOUS_STAGE, PassWriter
from chakrasim.converters.synthetic.transformer.plan.schedule import BACKWARD, FORWARD, OPTIMIZER, WEIGHTS
from chakrasim.traces.graph import CommKind, NodeKind

SHARDS_GRADIENTS = ("zero2", "zero3")
GROUPS = (("data", False), ("expert-data", True))
"""Process groups that reduce gradients, and whether those are of experts."""


def forward_pass(
    chunk: Chunk, tables: Tables, *, is_first: bool, keeps: bool = True, kind: int = FORWARD
) -> Template:
    """A micro-batch forward. `is_first`: the step's first through this chunk, which may have to wait for
    parameters that the optimizer's shards are gathered into. Without `keeps`, nothing is kept for a backward
    pass."""
    writer = PassWriter(chunk, tables, kind)
    template, plan = writer.template, chunk.plan
    _receive(template, chunk, chunk.receives, PREVIOUS_STAGE, chunk.receive_tag, "receive")
    gathered: dict[int, list[int]] = {}
    refetches = plan.sharding == "zero3"
    once = is_first and plan.sharding in ("zero1", "zero2") and plan.overlap_gradients and not plan.frozen
    for index, unit in enumerate(chunk.units):
        if refetches:
            for ahead in range(0 if index == 0 else plan.prefetch, plan.prefetch + 1):
                if index + ahead < len(chunk.units):
                    gathered[index + ahead] = writer.gather(chunk.units[index + ahead], "gather", early=False)
        elif once:
            gathered[index] = writer.gather(unit, "gather", early=True)
        template.also += gathered.get(index, [])
        writer.begin_unit(unit)
        again = unit.is_recomputed(plan.recompute)
        writer.forward_steps(unit.name, unit.steps, keeps=keeps and not again)
        if keeps and again:
            _change(template, "allocates", unit.input_bytes)
        if refetches:
            _release(template, unit, chunk)
        writer.end_unit()
    _set_gate(writer)
    _send(template, chunk, chunk.sends, NEXT_STAGE, chunk.tag, "send")
    return template


def backward_pass(chunk: Chunk, tables: Tables, *, is_last: bool, splits: bool) -> Template:
    """A micro-batch backward. `is_last`: the step's last through this chunk, after which gradients are
    complete. With `splits`, the gradients of weights have a pass of their own."""
    writer = PassWriter(chunk, tables, BACKWARD)
    template, plan = writer.template, chunk.plan
    tag = chunk.tag + plan.micro_batches
    _receive(template, chunk, chunk.sends, NEXT_STAGE, tag, "backward.receive")
    units = chunk.units[::-1]
    bucket = _Bucket(writer, is_last, has_gradients=not splits)
    gathered: dict[int, list[int]] = {}
    refetches = plan.sharding == "zero3"
    for index, unit in enumerate(units):
        if refetches:
            for ahead in range(0 if index == 0 else plan.prefetch, plan.prefetch + 1):
                if index + ahead < len(units):
                    gathered[index + ahead] = writer.gather(
                        units[index + ahead], "gather.backward", early=False
                    )
        template.also += gathered.get(index, [])
        writer.begin_unit(unit)
        again = unit.is_recomputed(plan.recompute)
        writer.is_again = again
        if again:
            writer.forward_steps(unit.name, unit.steps, keeps=True, suffix=".recompute")
        steps = _as_kept(unit.steps) if again else unit.steps
        backward_steps(writer, unit.name, steps, splits=splits)
        if again:
            _change(template, "frees", unit.input_bytes)
        if refetches:
            _release(template, unit, chunk)
        writer.end_unit()
        bucket.add(unit)
    _set_gate(writer)
    tag = chunk.receive_tag + plan.micro_batches
    _send(template, chunk, chunk.receives, PREVIOUS_STAGE, tag, "backward.send")
    bucket.flush("last.")
    return template


def weights_pass(chunk: Chunk, tables: Tables, *, is_last: bool) -> Template:
    """The gradients of weights that a split backward pass has left."""
    writer = PassWriter(chunk, tables, WEIGHTS)
    bucket = _Bucket(writer, is_last, has_gradients=True)
    for unit in chunk.units[::-1]:
        writer.begin_unit(unit)
        for step in reversed(unit.steps):
            if isinstance(step, Operation) and step.weights is not None:
                writer.compute(
                    f"{unit.name}{step.name}.weights",
                    step,
                    step.weights,
                    frees=step.saves,
                    is_temporary=unit.is_recomputed(chunk.plan.recompute),
                )
        writer.end_unit()
        bucket.add(unit)
    _set_gate(writer)
    bucket.flush("last.")
    return writer.template


def reduce_pass(chunks: Sequence[Chunk], tables: Tables) -> Template:
    """Gradients that nothing hides, once all passes are through."""
    plan = chunks[0].plan
    writers = PassWriter(chunks[0], tables, OPTIMIZER)
    if plan.overlap_gradients or plan.sharding in SHARDS_GRADIENTS or plan.frozen:
        return writers.template
    for chunk in chunks:
        counts = {
            group: sum(unit.parameters(of_experts=of_experts) for unit in chunk.units)
            for group, of_experts in GROUPS
        }
        writers.reduce("reduce", counts)
    return writers.template


class _Bucket:
    """Gradients that are reduced together."""

    def __init__(self, writer: PassWriter, is_last: bool, *, has_gradients: bool) -> None:
        plan = writer.plan
        self.writer = writer
        self.counts: dict[str, int] = {}
        # Sharded gradients have no place for those of other ranks: each pass's are reduced at once.
        self.shards = plan.sharding in SHARDS_GRADIENTS
        self.active = has_gradients and not plan.frozen
        self.active &= self.shards or (is_last and plan.overlap_gradients)
        self.limit = 0.0 if plan.sharding == "zero3" else plan.bucket_MB * 1e6

    def add(self, unit: Unit) -> None:
        if not self.active:
            return
        for group, of_experts in GROUPS:
            self.counts[group] = self.counts.get(group, 0) + unit.parameters(of_experts=of_experts)
        if self.shards:
            _change(self.writer.template, "allocates_temporary", self.writer.unsharded_bytes(unit))
        if max(self.counts.values()) * self.writer.chunk.gradient_bytes >= self.limit:
            self.flush(unit.name)

    def flush(self, name: str) -> None:
        if self.active and any(self.counts.values()):
            self.writer.reduce(f"{name}reduce", self.counts, frees=self.shards)
            self.counts = {}


def _receive(template: Template, chunk: Chunk, size: int, peer: int, tag: int, name: str) -> None:
    """Every tensor rank sends and receives its part of an activation. Where that isn't cut along the sequence
    anyway, parts are gathered on arrival (Narayanan 2021, section 4.1)."""
    if not size:
        return
    # posted once the pass before is through, so that its time is that of waiting
    row = template.add(NodeKind.RECV, name, lane="", comm_bytes=size, peer=peer, tag=tag, in_line=False)
    template.also.append(row)
    if chunk.plan.tensor > 1 and not chunk.plan.sequence_parallel:
        collective(template, f"{name}.gather", (CommKind.ALL_GATHER, size), "tensor")


def _send(template: Template, chunk: Chunk, size: int, peer: int, tag: int, name: str) -> None:
    if not size:
        return
    lane = "pipeline" if peer == NEXT_STAGE else "pipeline-back"
    row = template.add(
        NodeKind.SEND,
        name,
        lane=lane,
        comm_bytes=size,
        peer=peer,
        tag=tag,
        after=[*template.tail, *template.also],
        in_line=False,
    )
    if not chunk.plan.overlap_pipeline:
        template.tail = [*template.tail, *template.also, row]
        template.also = []


def _set_gate(writer: PassWriter) -> None:
    """Parameters of the next pass may be gathered while this one's last units compute."""
    ends = writer.ends
    if ends:
        writer.template.gate = [ends[max(0, len(ends) - 1 - writer.plan.prefetch)]]
    writer.template.tail += [*writer.template.also, *writer.pending]
    writer.template.also = []


def _as_kept(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps whose core needs no further recomputation."""
    return tuple(replace(step, is_core=False) if isinstance(step, Operation) else step for step in steps)


def _change(template: Template, attribute: str, size: int) -> None:
    """More bytes that the last node in line allocates or frees."""
    row, column = template.tail[0], ATTRIBUTES.index(attribute)
    values = list(template.more[row])
    values[column] = max(values[column], 0) + size
    template.more[row] = tuple(values)


def _release(template: Template, unit: Unit, chunk: Chunk) -> None:
    """Gathered parameters are dropped."""
    held = 0
    for of_experts, ranks in ((False, chunk.data_ranks), (True, chunk.expert_data_ranks)):
        count = unit.parameters(of_experts=of_experts)
        held += ceil(count * chunk.parameter_bytes / ranks) * ranks if ranks > 1 else 0
    if held:
        _change(template, "frees_temporary", held)
