"""The nodes of one pass through a chunk of layers, operation by operation.

Compute nodes stand in line, as on one stream; what communicates stands in line with them where they need it
at once, and beside them where the plan lets it overlap. The host's work on a unit is one node ahead of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from chakrasim.converters.synthetic.graph_writer.template import Tables, Template, collective
from chakrasim.converters.synthetic.op_cost.operations import Exchange, Operation, Ring, Step
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.converters.synthetic.transformer.layers.chunk import Chunk, Unit
from chakrasim.converters.synthetic.transformer.passes.surroundings import (
    is_product,
    kept,
)
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.names.op_kinds import ATTENTION, LAUNCH

NEXT_STAGE, PREVIOUS_STAGE, NEXT_CONTEXT, PREVIOUS_CONTEXT = range(4)
"""Placeholders for the ranks that a template's messages go to or come from."""
COMPUTE, HOST = "compute", "host"


class PassWriter:
    """Writes the nodes of a pass into a template."""

    def __init__(self, chunk: Chunk, tables: Tables, kind: int) -> None:
        self.chunk, self.plan, self.kind = chunk, chunk.plan, kind
        self.template = Template(tables, {"stage": chunk.stage, "pass": kind})
        self.ends: list[int] = []
        """Last row of each unit."""
        self.is_again = False
        """The unit is computed again: what its operations keep is temporary."""
        self.pending: list[int] = []
        """Rows that the end of the pass waits for."""
        self._rings = 0
        self._prefix = ""
        self._host_row = -1
        self._launched = 0

    # --- units

    def begin_unit(self, unit: Unit) -> None:
        """Start emitting nodes of `unit`."""
        template = self.template
        template.attributes = {**template.attributes, "layer": unit.layer}
        self._prefix = unit.name
        self._launch(())

    def end_unit(self) -> None:
        """Finish the unit that `begin_unit` started."""
        self._count_launched()
        self.ends.append(self.template.tail[0] if self.template.tail else -1)

    def _launch(self, after: Sequence[int]) -> None:
        """Begin a node of the host, whose operations `_count_launched` counts."""
        self._host_row = -1
        self._launched = 0
        if not self.plan.has_host:
            return
        row = self.template.add(
            NodeKind.COMP,
            f"{self._prefix}launch",
            lane=HOST,
            op_kind=LAUNCH,
            is_cpu=True,
            ops=0,
            after=after,
            in_line=False,
        )
        self.template.keep_order(HOST, row)
        self.template.also.append(row)
        self._host_row = row

    def _count_launched(self) -> None:
        """The host's node has issued all rows since."""
        rows = self.template.rows
        if self._host_row >= 0:
            communications = sum(row[0] != NodeKind.COMP for row in rows[self._host_row + 1 :])
            head, rest = rows[self._host_row][:2], rows[self._host_row][3:]  # operations stand between
            rows[self._host_row] = (*head, self._launched + communications, *rest)

    # --- operations

    def compute(
        self,
        name: str,
        operation: Operation,
        work: Work,
        *,
        allocates: int = 0,
        frees: int = 0,
        is_temporary: bool = False,
    ) -> int:
        """A kernel in line."""
        self._launched += operation.kernels
        return self.template.add(
            NodeKind.COMP,
            name,
            lane=COMPUTE,
            op_kind=operation.kind,
            dtype=operation.dtype,
            ops=work.ops,
            size_bytes=work.size_bytes,
            allocates=allocates,
            frees=frees,
            is_temporary=is_temporary,
        )

    def forward_steps(self, prefix: str, steps: Sequence[Step], *, keeps: bool, suffix: str = "") -> None:
        """Forward operations; with `keeps`, what the backward pass needs is allocated."""
        template, plan = self.template, self.plan
        joins: list[int] = []
        ring: Ring | None = None
        for position, step in enumerate(steps):
            name = f"{prefix}{step.name}{suffix}"
            if isinstance(step, Ring):
                ring = step
            elif isinstance(step, Exchange):
                if step.forward is None:
                    continue
                if plan.overlap_experts and step.group == "expert":
                    self.beside(name, step.group, step.forward)
                    continue
                overlaps = plan.overlap_tensor == "full" and step.group == "tensor" and template.tail
                if overlaps and step.regathers is not None:
                    # beside the product that it feeds
                    joins.append(
                        collective(
                            template, name, step.forward, step.group, after=template.tail, in_line=False
                        )
                    )
                    continue
                if overlaps and position and is_product(steps[position - 1]):
                    # beside the product that feeds it
                    before = [parent for child, parent in template.edges if child == template.tail[0]]
                    row = collective(template, name, step.forward, step.group, after=before, in_line=False)
                    template.also.append(row)
                    continue
                collective(template, name, step.forward, step.group)
            else:
                saves = kept(step, plan.recompute if not suffix else "none") if keeps else 0
                if ring is not None and step.kind == ATTENTION:
                    self.ring_attention(name, step, ring, saves, backward=False)
                    ring = None
                else:
                    self.compute(name, step, step.forward, allocates=saves, is_temporary=self.is_again)
                if step.stops_host:
                    self._count_launched()
                    self._launch(template.tail)
                if joins and is_product(step):
                    template.also += joins
                    joins = []

    def beside(self, name: str, group: str, comm: tuple[CommKind, int]) -> None:
        """A collective that only the end of the pass waits for."""
        tail = self.template.tail
        row = collective(self.template, name, comm, group, after=tail, in_line=False)
        if not tail:
            self.template.entries.append(row)
        self.pending.append(row)

    def ring_attention(
        self, name: str, operation: Operation, ring: Ring, size: int, *, backward: bool
    ) -> None:
        """Attention in as many parts as the context has ranks, each on another rank's keys and values. On the
        way back the gradients of keys and values travel with them."""
        template, parts = self.template, ring.steps + 1
        work = operation.backward if backward else operation.forward
        part = Work(ceil(work.ops / parts), ceil(work.size_bytes / parts))
        block = ring.size_bytes * (2 if backward else 1)
        held = list(template.tail)
        for index in range(parts):
            if index:
                tag, posted = self._ring_tag(), template.tail or ()
                template.add(
                    NodeKind.SEND,
                    f"{name}.send",
                    lane="context",
                    comm_bytes=block,
                    peer=NEXT_CONTEXT,
                    tag=tag,
                    after=held or None,
                    in_line=False,
                )
                received = template.add(
                    NodeKind.RECV,
                    f"{name}.receive",
                    lane="",
                    comm_bytes=block,
                    peer=PREVIOUS_CONTEXT,
                    tag=tag,
                    after=posted,
                    in_line=False,
                )
                held = [received]
                template.also.append(received)
            last = index == parts - 1
            self.compute(
                f"{name}.{index}",
                operation,
                part,
                allocates=size if last and not backward else 0,
                frees=size if last and backward else 0,
                is_temporary=self.is_again,
            )

    def _ring_tag(self) -> int:
        """A tag for each message of a pass, apart from those between stages."""
        self._rings += 1
        distinct = (self.chunk.tag * 4 + self.kind) * 65536 + self._rings
        return (1 << 40) + distinct * max(1, self.plan.micro_batches)

    # --- parameters and gradients

    def gather(self, unit: Unit, name: str, *, early: bool) -> list[int]:
        """All-gathers of a unit's sharded parameters, which wait for the tail or, early, for nothing."""
        template = self.template
        rows = []
        for group, of_experts, ranks in self._sharing():
            count = unit.parameters(of_experts=of_experts)
            if not count or ranks < 2:
                continue
            size = ceil(count * self.chunk.parameter_bytes / ranks)
            row = collective(
                template,
                f"{unit.name}{name}",
                (CommKind.ALL_GATHER, size),
                group,
                after=() if early or not template.tail else template.tail,
                in_line=False,
                gathers=size * ranks if self.plan.sharding == "zero3" else 0,
            )
            if not early and not template.tail:
                template.early.append(row)
            rows.append(row)
        return rows

    def _sharing(self) -> list[tuple[str, bool, int]]:
        return [
            ("data", False, self.chunk.data_ranks),
            ("expert-data", True, self.chunk.expert_data_ranks),
        ]

    def unsharded_bytes(self, unit: Unit) -> int:
        """Bytes of a unit's gradients that are reduced over other ranks."""
        return sum(
            ceil(unit.parameters(of_experts=of_experts) * self.chunk.gradient_bytes)
            for _, of_experts, ranks in self._sharing()
            if ranks > 1
        )

    def reduce(self, name: str, counts: dict[str, int], *, frees: bool = False) -> None:
        """Reduce the gradients of so many parameters a group: beside what follows, or in line. What isn't the
        rank's own shard of them is dropped then, if this `frees` it."""
        kind = CommKind.ALL_REDUCE if self.plan.sharding == "none" else CommKind.REDUCE_SCATTER
        for group, _, ranks in self._sharing():
            count = counts.get(group, 0)
            if count and ranks > 1:
                size = ceil(count * self.chunk.gradient_bytes)
                freed = size if frees else 0
                if self.plan.overlap_gradients:
                    tail = self.template.tail
                    row = collective(
                        self.template, name, (kind, size), group, after=tail, in_line=False, drops=freed
                    )
                    self.template.loose.append(row)
                else:
                    collective(self.template, name, (kind, size), group, drops=freed)
