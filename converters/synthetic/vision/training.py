"""Training steps and inference of vision networks, data-parallel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chakrasim.converters.synthetic.graph_writer.step import OPTIMIZER, Buckets, StepWriter
from chakrasim.converters.synthetic.limits import require_least, require_nodes
from chakrasim.converters.synthetic.op_cost.layers import Formats
from chakrasim.converters.synthetic.op_cost.optimizers import (
    UNSHARDED,
    bytes_each,
    dense_step,
    held_bytes,
    optimizer,
)
from chakrasim.converters.synthetic.vision.networks import Images, Network, network
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.names.op_kinds import ELEMENTWISE
from chakrasim.traces.workload import Workload


@dataclass(frozen=True)
class VisionPlan:
    """Options of a network's training step or forward pass."""

    ranks: int = 1
    batch: int = 32
    """Images a rank."""
    image_size: int = 224
    dtype: str = "fp32"
    """Data type of activations and products; parameters are kept in 32 bits."""
    gradient_dtype: str = "fp32"
    """Data type in which gradients are reduced."""
    bucket_bytes: int = 25 * 2**20
    """Gradients reduced at once, but for a first bucket of a mebibyte."""
    overlaps: bool = True
    """Gradients are reduced beside the backward pass."""
    optimizer: str = "momentum"
    has_host: bool = True
    """The host's launches take time; without, the step is one CUDA graph."""
    is_inference: bool = False


def generate_vision(name: str, plan: VisionPlan) -> Workload:
    """A training step, or with `is_inference` a forward pass, of a network by its name (see `NETWORKS`).

    Nodes have the attributes `pass` (0 forward, 1 backward, 2 optimizer) and `layer`, the number of the
    block, -1 for none. All ranks share the columns of one graph. O(layers + ranks). Raises ConfigError for a
    plan that can't be, UnknownName for a name that isn't known.
    """
    require_least(("ranks", plan.ranks, 1), ("the bucket", plan.bucket_bytes, 1))
    optimizer(plan.optimizer)
    formats = Formats(plan.dtype, plan.gradient_dtype)
    made = network(name, Images(plan.batch, plan.image_size, formats, not plan.is_inference))
    graph = _graph(made, plan, formats)
    require_nodes(plan.ranks * len(graph))
    graph.children()  # once, for all ranks
    return Workload.from_graphs({rank: replace(graph, rank=rank) for rank in range(plan.ranks)}, name=name)


def _graph(made: Network, plan: VisionPlan, formats: Formats) -> ExecutionGraph:
    held = held_bytes(bytes_each(plan.optimizer, formats), (made.parameters, UNSHARDED))
    if plan.is_inference:
        held = {"parameters": made.parameters * formats.width}
    writer = StepWriter(
        {"source": "chakrasim generate vision", "model": made.name, "memory": held},
        {"data": range(plan.ranks)} if plan.ranks > 1 else {},
        has_host=plan.has_host,
    )
    for index, unit in enumerate(made.units):
        writer.forward(unit.name, unit.layers, index, keeps=not plan.is_inference)
    if not plan.is_inference:
        buckets = Buckets(writer, plan.ranks, formats.gradient_width, plan.bucket_bytes, plan.overlaps)
        for index, unit in reversed(list(enumerate(made.units))):
            writer.backward(unit.name, unit.layers, index, buckets)
        buckets.finish("last.reduce")
        writer.tail += buckets.rows
        writer.begin("optimizer", OPTIMIZER, -1, 1)
        work = dense_step(plan.optimizer, made.parameters, formats)
        writer.kernel("optimizer.step", ELEMENTWISE, "fp32", work)
    return writer.builder.build()
