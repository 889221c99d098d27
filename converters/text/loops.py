"""The training loops of ASTRA-sim 1.0, one for each kind of parallelism, as nodes and edges.

The original runs a program counter on every rank. It stands at one step at a time, of at most one compute,
and a tick of 1 ns parts it from the next step; a collective is issued when the compute before it ends and
goes on by itself until the loop waits for it. Here each compute, collective and tick is a node, and its
parents are what the counter had waited for when it got there. A collective is followed by a node of the
layer's update time, at the end of which it counts as done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from chakrasim.converters.text.read import (
    BOTH,
    DLRM_KINDS,
    RECOMPUTING_TRANSFORMER,
    TRANSFORMER,
    WEIGHT_GRADIENT,
    Layer,
    Part,
    TextWorkload,
    checkpoint_before,
)
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError, TraceError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.units import PS_PER_NS

HIGHEST_PRIORITY = 10**8
TICK_NS = 1
TICK_NAME, UPDATE_NAME, LOOP_LANE = "loop tick", "update", "loop"


class Program:
    """A rank's program counter, which leaves nodes behind."""

    def __init__(self, workload: TextWorkload, sizes: Sequence[int], builder: GraphBuilder) -> None:
        self.workload = workload
        self.layers = workload.layers
        self.sizes = sizes
        self.builder = builder
        self.at: tuple[int, ...] = ()
        """Parents of the next node."""
        self.weight_gradients: dict[int, int] = {}
        """By layer, the end of the last weight-gradient collective that nothing has waited for."""
        self.issued: set[tuple[int, str]] = set()
        """Layer and direction of every collective issued, dropped ones included."""
        self.dropped = 0
        """Collectives that had no dimension of more than one rank to run on."""

    @property
    def backwards(self) -> range:
        """Layers from the last to the first."""
        return range(len(self.layers) - 1, -1, -1)

    def compute(self, layer: Layer, part: Part) -> None:
        """Run one compute and stand at its end."""
        row = self.builder.add(
            NodeKind.COMP,
            f"{layer.name} {part.direction}",
            duration_ps=part.compute_ns * PS_PER_NS,
            after=self.at,
        )
        self.at = (row,)

    def forward(self, index: int) -> None:
        """Run a layer's forward compute, as soon as its weights of the pass before are there."""
        self.wait(self.weight_gradients.pop(index, None))
        self.compute(self.layers[index], self.layers[index].forward)

    def tick(self) -> None:
        """Go on to the next step."""
        row = self.builder.add(
            NodeKind.COMP,
            TICK_NAME,
            duration_ps=TICK_NS * PS_PER_NS,
            is_cpu=True,
            lane=LOOP_LANE,
            after=self.at,
        )
        self.at = (row,)

    def wait(self, done: int | None) -> None:
        """Don't go on before a collective is done, if there is one."""
        if done is not None:
            self.at = (*self.at, done)

    def issue(self, index: int, part: Part, *, is_highest: bool = False) -> int | None:
        """Start a collective where the counter stands; the row that ends it, None without one."""
        layer = self.layers[index]
        if part.word != BOTH and part.collective is None:
            return None
        self.issued.add((index, part.direction))
        involved = involved_dimensions(self.workload, index, part, self.sizes)
        if all(self.sizes[d] == 1 for d in involved):
            self.dropped += 1
            return None
        where = f"{self.workload.path}: layer {layer.name!r} ({index + 1} of {len(self.layers)})"
        if part.collective is None:
            raise TraceError(
                f"{where} has {BOTH} as the {part.direction} collective, which ASTRA-sim reads but can't run "
                "either; expected ALLREDUCE, ALLTOALL, ALLGATHER, REDUCESCATTER or NONE"
            )
        if part.size_bytes == 0:
            raise TraceError(
                f"{where} has a {part.direction} {part.collective.label} of 0 bytes, once scaled; expected 1 "
                "or more, or NONE"
            )
        is_everywhere = len(involved) == len(self.sizes)
        row = self.builder.add(
            NodeKind.COLL,
            f"{layer.name} {part.direction} {part.collective.label}",
            lane="",
            comm_kind=part.collective,
            comm_bytes=part.size_bytes,
            involved_dims=-1 if is_everywhere else sum(1 << d for d in involved),
            priority=HIGHEST_PRIORITY if is_highest else 0,
            after=self.at,
        )
        if layer.update_ns == 0:
            return row
        return self.builder.add(
            NodeKind.COMP,
            UPDATE_NAME,
            duration_ps=layer.update_ns * PS_PER_NS,
            is_cpu=True,
            lane="",
            after=[row],
        )

    def issue_weight_gradient(self, index: int) -> None:
        """Start the collective that the layer's next forward compute waits for."""
        done = self.issue(index, self.layers[index].weight_gradient)
        if done is not None:
            self.weight_gradients[index] = done


def involved_dimensions(
    workload: TextWorkload, index: int, part: Part, sizes: Sequence[int]
) -> tuple[int, ...]:
    """Dimensions of the network that take part in a collective of a layer. Raises ConfigError as
    `group_boundary`."""
    everything = tuple(range(len(sizes)))
    is_weight = part.direction == WEIGHT_GRADIENT
    kind = workload.layers[index].kind or workload.kind
    if kind in DLRM_KINDS:
        return everything if is_weight or index == 0 else ()
    if kind in ("DATA", "MICRO"):
        inner = 0
    elif kind in ("MODEL", "DISTRIBUTED_INFERENCE"):
        inner = len(sizes)
    elif kind == "HYBRID_MODEL_DATA":
        return everything[:1] if is_weight else everything[1:]
    elif kind == "HYBRID_DATA_MODEL":
        inner = 1
    else:
        assert workload.group is not None
        inner = group_boundary(workload.group, sizes) + 1
    return everything[inner:] if is_weight else everything[:inner]


def group_boundary(group: int, sizes: Sequence[int]) -> int:
    """The last dimension within a model-parallel group; -1 for none, or if all ranks are too few for one.

    The dimensions are those of a machine in which none is partly inside the group. Raises ConfigError
    otherwise.

    >>> group_boundary(8, [2, 4, 16])
    1
    """
    if group == 1:
        return -1
    for dimension in range(len(sizes)):
        ranks = prod(sizes[: dimension + 1])
        if ranks == group:
            return dimension
        if ranks > group:
            before = prod(sizes[:dimension])
            raise ConfigError(
                f"a model-parallel group of {group} ranks ends inside dimension {dimension} of the network, "
                f"which has {sizes[dimension]} ranks for each of the {before} before it; expected a machine "
                "in which that dimension is split in two, the inner one within the group"
            )
    return -1


def micro(program: Program, passes: int) -> None:
    """The first layer's weight-gradient collective, once a pass, all at the start and nothing else."""
    for _ in range(passes):
        program.issue(0, program.layers[0].weight_gradient)


def data(program: Program, passes: int) -> None:
    """The weight gradients' collectives overlap with everything up to the layer's next forward compute.

    The weight gradient comes before the input gradient, which the first layer doesn't need.
    """
    for _ in range(passes):
        for index in range(len(program.layers)):
            program.forward(index)
            program.tick()
        for index in program.backwards:
            layer = program.layers[index]
            program.compute(layer, layer.weight_gradient)
            program.issue_weight_gradient(index)
            program.tick()
            if index > 0:
                program.compute(layer, layer.input_gradient)
                program.tick()


def model(program: Program, passes: int) -> None:
    """Activations are waited for at once; their gradients overlap with the layer's weight gradient."""
    for _ in range(passes):
        _forward(program, range(len(program.layers)))
        for index in program.backwards:
            layer = program.layers[index]
            program.compute(layer, layer.input_gradient)
            done = program.issue(index, layer.input_gradient) if index > 0 else None
            program.tick()
            program.compute(layer, layer.weight_gradient)
            program.issue_weight_gradient(index)
            program.wait(done)
            program.tick()


def transformer(program: Program, passes: int) -> None:
    """Activations and their gradients are waited for at once.

    Layers that initiate it first repeat the forward pass from the checkpoint before, up to themselves.
    """
    workload = program.workload
    for _ in range(passes):
        _forward(program, range(len(program.layers)))
        for index in program.backwards:
            if index in workload.checkpoint_initiates:
                start = checkpoint_before(index, workload.checkpoints)
                assert start is not None
                program.tick()
                _forward(program, range(start, index))
            layer = program.layers[index]
            program.compute(layer, layer.input_gradient)
            program.wait(program.issue(index, layer.input_gradient))
            program.tick()
            program.compute(layer, layer.weight_gradient)
            program.issue_weight_gradient(index)
            program.tick()


def dlrm(program: Program, passes: int) -> None:
    """The first layer is the embedding: its all-to-all overlaps with the bottom MLP, that of its gradient
    with the bottom MLP's backward pass.

    The plain kind waits for the latter in the first layer's step, the enhanced one never does.
    """
    bottom = program.workload.last_bottom_layer
    assert bottom is not None
    embedding = program.layers[0]
    for _ in range(passes):
        lookup = gradient = None
        for index, layer in enumerate(program.layers):
            program.forward(index)
            if layer.forward.collective == CommKind.ALL_TO_ALL:
                done = program.issue(index, layer.forward, is_highest=True)
                lookup = done if index == 0 else lookup
            elif index == bottom:
                program.wait(lookup)
            program.tick()
        for index in program.backwards:
            layer = program.layers[index]
            program.compute(layer, layer.weight_gradient)
            program.issue_weight_gradient(index)
            if index == 0 and program.workload.kind == "HYBRID_DLRM":
                program.wait(gradient)
            program.tick()
            if index > 0:
                program.compute(layer, layer.input_gradient)
                if index == bottom + 1:
                    gradient = program.issue(0, embedding.input_gradient, is_highest=True)
                program.tick()


def inference(program: Program, passes: int) -> None:
    """Forward passes only, one after the other."""
    for _ in range(passes):
        _forward(program, range(len(program.layers)))


def _forward(program: Program, indexes: range) -> None:
    for index in indexes:
        program.forward(index)
        program.wait(program.issue(index, program.layers[index].forward))
        program.tick()


LOOPS: dict[str, Callable[[Program, int], None]] = {
    "MICRO": micro,
    "DATA": data,
    "MODEL": model,
    "HYBRID_DATA_MODEL": model,
    "HYBRID_MODEL_DATA": model,
    "HYBRID_CUSTOMIZED": model,
    TRANSFORMER: transformer,
    RECOMPUTING_TRANSFORMER: transformer,
    "HYBRID_DLRM": dlrm,
    "HYBRID_DLRM_ENHANCED": dlrm,
    "DISTRIBUTED_INFERENCE": inference,
}
"""By kind of parallelism: appends so many passes to a program."""
