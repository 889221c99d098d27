"""The backward operations of a unit, and which of its exchanges run beside them."""

from __future__ import annotations

from collections.abc import Sequence

from chakrasim.converters.synthetic.graph_writer.template import collective
from chakrasim.converters.synthetic.op_cost.operations import Exchange, Operation, Step
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.converters.synthetic.transformer.passes.surroundings import (
    backward_order,
    entered,
    is_product,
    kept,
    ring_before,
)
from chakrasim.converters.synthetic.transformer.passes.writer import PassWriter
from chakrasim.traces.graph import CommKind


def backward_steps(writer: PassWriter, prefix: str, steps: Sequence[Step], *, splits: bool) -> None:
    """Write backward operations, from the last; with `splits`, the gradients of weights are left out."""
    _BackwardSteps(writer, prefix, steps, splits=splits).write()


class _BackwardSteps:
    """The backward operations of consecutive steps, and what is still open while they are written."""

    def __init__(self, writer: PassWriter, prefix: str, steps: Sequence[Step], *, splits: bool) -> None:
        self.writer, self.plan, self.template = writer, writer.plan, writer.template
        self.prefix, self.steps, self.splits = prefix, steps, splits
        self._overlaps = self.plan.overlap_tensor != "none"
        self._done: set[int] = set()
        """Positions of exchanges that were written beside the product that needs them."""
        self._joins: list[int] = []
        """Rows of collectives that the node after the next product waits for."""

    def write(self) -> None:
        core_again = self.plan.recompute == "selective"
        for position in backward_order(self.steps):
            step = self.steps[position]
            if isinstance(step, Exchange):
                self._exchange(position, step)
            elif isinstance(step, Operation):
                if core_again and step.is_core:
                    self._recompute_core(position)
                    core_again = False
                if step.weights is None or self.plan.frozen:
                    self._inputs_only(position, step)
                else:
                    self._product(position, step, step.weights)

    def _exchange(self, position: int, step: Exchange) -> None:
        """A collective, beside what it overlaps with or in line."""
        if step.backward is None:
            return
        name = f"{self.prefix}{step.name}.backward"
        if self.plan.overlap_experts and step.group == "expert":
            self.writer.beside(name, step.group, step.backward)
        elif position not in self._done:
            feeds = position > 0 and is_product(self.steps[position - 1]) and step.group == "tensor"
            if self.plan.overlap_tensor == "full" and feeds and self.template.tail:
                # beside the product that its result feeds
                self._joins.append(self._beside_line(name, step.backward, step.group))
            else:
                collective(self.template, name, step.backward, step.group)

    def _recompute_core(self, end: int) -> None:
        """The attention's core, up to step `end`, forward once more."""
        for at, one in enumerate(self.steps[: end + 1]):
            if isinstance(one, Operation) and one.is_core:
                name, size = f"{self.prefix}{one.name}.recompute", one.saves - kept(one, "selective")
                ring = ring_before(self.steps, at)
                if ring is not None:
                    self.writer.ring_attention(name, one, ring, size, backward=False)
                else:
                    self.writer.compute(name, one, one.forward, allocates=size, is_temporary=True)

    def _inputs_only(self, position: int, step: Operation) -> None:
        """An operation without a kernel of its own for the gradient of weights."""
        name = f"{self.prefix}{step.name}.backward"
        ring = ring_before(self.steps, position)
        if ring is not None:
            self.writer.ring_attention(name, step, ring, step.saves, backward=True)
            return
        is_temporary = self.writer.is_again or kept(step, self.plan.recompute) < step.saves
        self.writer.compute(name, step, step.backward, frees=step.saves, is_temporary=is_temporary)

    def _product(self, position: int, step: Operation, weights: Work) -> None:
        """Gradients of a product's inputs and of its weights, the exchange before it beside the latter."""
        writer, template = self.writer, self.template
        at = entered(self.steps, position)
        exchange = self.steps[at] if at >= 0 else None
        assert exchange is None or isinstance(exchange, Exchange), "that is what was looked for"
        regathered = self._regather(exchange)
        writer.compute(f"{self.prefix}{step.name}.backward", step, step.backward)
        template.also += self._joins
        self._joins = []
        reduced: list[int] = []
        if exchange is not None and exchange.backward is not None and (self._overlaps or self.splits):
            self._done.add(at)
            name = f"{self.prefix}{exchange.name}.backward"
            reduced.append(self._beside_line(name, exchange.backward, exchange.group))
        template.also += regathered
        if not self.splits:
            name = f"{self.prefix}{step.name}.weights"
            writer.compute(name, step, weights, frees=step.saves, is_temporary=writer.is_again)
        template.also += reduced

    def _regather(self, exchange: Exchange | None) -> list[int]:
        """Row of the all-gather of a product's input, where only a part of it was kept."""
        if exchange is None or exchange.regathers is None:
            return []
        name, comm = f"{self.prefix}{exchange.name}.again", exchange.regathers
        if self._overlaps and self.template.tail:
            return [self._beside_line(name, comm, exchange.group)]
        return [collective(self.template, name, comm, exchange.group)]

    def _beside_line(self, name: str, comm: tuple[CommKind, int], group: str) -> int:
        """A collective that waits for the tail and that only `also` makes others wait for."""
        return collective(self.template, name, comm, group, after=self.template.tail, in_line=False)
