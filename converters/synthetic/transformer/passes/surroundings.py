"""Neighbours of a step, which decide what overlaps with it."""

from __future__ import annotations

from collections.abc import Sequence

from chakrasim.converters.synthetic.op_cost.operations import Exchange, Operation, Ring, Step
from chakrasim.traces.names.op_kinds import ATTENTION, ELEMENTWISE, MATMUL


def backward_order(steps: Sequence[Step]) -> list[int]:
    """Positions from the last to the first, but a gradient is cast before the product that takes it."""
    order = list(range(len(steps)))[::-1]
    for at in range(len(order) - 1):
        before = steps[order[at + 1]]
        if is_product(steps[order[at]]) and before.name.endswith(".cast"):
            order[at], order[at + 1] = order[at + 1], order[at]
    return order


def is_product(step: Step) -> bool:
    """True for a matrix product."""
    return isinstance(step, Operation) and step.kind == MATMUL


def entered(steps: Sequence[Step], position: int) -> int:
    """Position of the exchange that feeds the product at `position`; -1 if none does."""
    for at in range(position - 1, -1, -1):
        step = steps[at]
        if isinstance(step, Exchange):
            return at if step.group == "tensor" and step.backward is not None and at >= position - 2 else -1
        if not (isinstance(step, Operation) and step.kind == ELEMENTWISE and step.name.endswith(".cast")):
            return -1
    return -1


def ring_before(steps: Sequence[Step], position: int) -> Ring | None:
    """The ring that an attention's keys and values travel on, if they do."""
    step = steps[position]
    before = steps[position - 1] if position else None
    if isinstance(step, Operation) and step.kind == ATTENTION and isinstance(before, Ring):
        return before
    return None


def kept(operation: Operation, recompute: str) -> int:
    """Bytes that stay after the forward pass."""
    if recompute == "selective" and operation.is_core and operation.kind == ELEMENTWISE:
        return 0
    return operation.saves
