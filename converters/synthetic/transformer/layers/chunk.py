"""Consecutive layers of a pipeline stage, as one rank has them."""

from __future__ import annotations

from dataclasses import dataclass

from chakrasim.converters.synthetic.op_cost.operations import Operation, Step
from chakrasim.converters.synthetic.transformer.plan.plan import Plan


@dataclass(frozen=True)
class Unit:
    """A layer, the embedding or the output layer: what is recomputed, gathered and reduced together."""

    name: str
    """Prefix of its operations' names."""
    layer: int
    """-1 for the embedding and the output layer."""
    steps: tuple[Step, ...]
    input_bytes: int
    """Bytes of the input activation."""

    def is_recomputed(self, recompute: str) -> bool:
        """True if the backward pass computes the whole unit again."""
        return self.layer >= 0 and (recompute == "full" or (recompute == "alternate" and self.layer % 2 == 0))

    def parameters(self, *, of_experts: bool) -> int:
        """Number of the unit's parameters on this rank."""
        return sum(
            step.parameters
            for step in self.steps
            if isinstance(step, Operation) and step.is_expert == of_experts
        )


@dataclass(frozen=True)
class Chunk:
    """Consecutive units of one rank, and the messages at their ends."""

    plan: Plan
    stage: int
    units: tuple[Unit, ...]
    receives: int
    """Bytes of the activation from the stage before; 0 for none."""
    sends: int
    """Bytes of the activation for the stage after; 0 for none."""
    tag: int
    """Tag of its first message; there are two for each micro-batch."""
    receive_tag: int
    data_ranks: int
    """Ranks that reduce gradients of parameters with this one."""
    expert_data_ranks: int
    parameter_bytes: float
    gradient_bytes: float
