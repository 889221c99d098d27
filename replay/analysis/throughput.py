"""Throughput of a step whose graphs state their purpose: tokens a second, model FLOPs utilisation.

Utilisation is operations that the model needs, whatever is computed again, over what all ranks' peaks allow
in the time of the step (Chowdhery et al., PaLM, 2022, appendix B). Attention counts all pairs of tokens
there, as in most published figures, though kernels skip those that a causal mask hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chakrasim.traces.attributes import metadata_object
from chakrasim.traces.units import PS_PER_S

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result

STEP = "step"
"""Metadata of graphs: an object with `tokens` and `model_operations` of the whole step, and the `dtype` of
its matrix products."""


@dataclass(frozen=True)
class Throughput:
    """Throughput of all ranks together."""

    tokens_per_s: float
    ranks: int
    model_flops: float
    """Operations a second and rank that the model needs."""
    peak_flops: float | None
    """Peak of one accelerator in the step's data type; None if the machine states none."""

    @property
    def utilisation(self) -> float | None:
        """Share of the peak, 0 to 1; None without a peak, and where it would be more: where times are scaled,
        or sequences so long that pairs of tokens which a mask hides, and kernels skip, outweigh the rest."""
        share = None if self.peak_flops is None else self.model_flops / self.peak_flops
        return None if share is None or share > 1 else share


def throughput(result: Result) -> Throughput | None:
    """None where the graphs don't say what the step is for, or it doesn't end or takes no time."""
    graph = next(iter(result.workload.graphs.values()))
    step: Mapping[str, object] | None = metadata_object(graph, STEP)
    if step is None or not result.step_time_ps:
        return None
    tokens, operations = step.get("tokens"), step.get("model_operations")
    if not isinstance(tokens, int) or not isinstance(operations, int):
        return None
    seconds = result.step_time_ps / PS_PER_S
    ranks = result.workload.world_size
    accelerator = result.machine.accelerator
    peak = None if accelerator is None else accelerator.peak_flops.get(str(step.get("dtype")))
    return Throughput(tokens / seconds, ranks, operations / ranks / seconds, peak)
