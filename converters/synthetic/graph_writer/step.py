"""Writes a step of one rank: kernels in line as on one stream, and what communicates beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chakrasim.converters.synthetic.limits import require_work
from chakrasim.converters.synthetic.op_cost.layers import Layer
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.memory import ALLOCATES, FREES
from chakrasim.traces.names.op_kinds import LAUNCH

FORWARD, BACKWARD, OPTIMIZER = range(3)
"""The attribute `pass`."""
PASS_NAMES = ("forward", "backward", "optimizer")
FIRST_BUCKET_BYTES = 2**20
"""The first bucket is small, so that communication begins early (PyTorch's DistributedDataParallel)."""


class StepWriter:
    """Nodes of a step. `tail` is what the next kernel waits for besides the host's launch."""

    def __init__(
        self,
        metadata: Mapping[str, Any],
        groups: Mapping[str, Sequence[int]] | None = None,
        *,
        has_host: bool = True,
    ) -> None:
        names = {"attribute_names": {"pass": list(PASS_NAMES)}}
        self.builder = GraphBuilder(0, metadata={**metadata, **names}, groups=groups)
        self.tail: list[int] = []
        self.attrs: dict[str, int] = {}
        self._has_host = has_host
        self._on_lane: dict[str, int] = {}

    def begin(self, name: str, kind: int, layer: int, launches: int) -> None:
        """Start a part of the step: a pass of a layer, -1 for none, with so many kernels to launch."""
        self.attrs = {"pass": kind, "layer": layer}
        if self._has_host and launches:
            row = self.builder.add(
                NodeKind.COMP,
                f"{name}.launch",
                is_cpu=True,
                lane="host",
                op_kind=LAUNCH,
                ops=launches,
                attrs=self.attrs,
            )
            self.tail.append(row)

    def kernel(
        self, name: str, op_kind: str, dtype: str, work: Work, *, allocates: int = 0, frees: int = 0
    ) -> int:
        """A kernel in line; returns its row. Raises ConfigError for more work than a graph can hold."""
        require_work(name, work.ops, work.size_bytes)
        changes = {ALLOCATES: allocates, FREES: frees}
        row = self.builder.add(
            NodeKind.COMP,
            name,
            lane="compute",
            op_kind=op_kind,
            dtype=dtype,
            ops=work.ops,
            tensor_bytes=work.size_bytes,
            after=self.tail,
            attrs=self.attrs | {name: size for name, size in changes.items() if size},
        )
        self.tail = [row]
        return row

    def collective(self, name: str, kind: CommKind, size_bytes: int, group: str, after: Iterable[int]) -> int:
        """A collective on its group's lane, behind the last one there; nothing waits for it yet."""
        last = self._on_lane.get(group)
        row = self.builder.add(
            NodeKind.COLL,
            name,
            lane=group,
            comm_kind=kind,
            comm_bytes=size_bytes,
            group=group,
            after=after,
            control_after=() if last is None else (last,),
            attrs=self.attrs,
        )
        self._on_lane[group] = row
        return row

    def forward(self, prefix: str, layers: Sequence[Layer], index: int, *, keeps: bool = True) -> None:
        """The layers' kernels, launched together; with `keeps`, what the backward pass needs stays."""
        self.begin(prefix, FORWARD, index, sum(layer.forward is not None for layer in layers))
        for layer in layers:
            if layer.forward is not None:
                self.kernel(
                    f"{prefix}.{layer.name}",
                    layer.op_kind,
                    layer.dtype,
                    layer.forward,
                    allocates=layer.saves if keeps else 0,
                )

    def backward(self, prefix: str, layers: Sequence[Layer], index: int, buckets: Buckets) -> None:
        """The layers' gradients from the last to the first: of the input, then of the weights."""
        launches = sum((layer.backward is not None) + (layer.weights is not None) for layer in layers)
        self.begin(f"{prefix}.backward", BACKWARD, index, launches)
        for layer in reversed(layers):
            name = f"{prefix}.{layer.name}"
            gradients = [("backward", layer.backward), ("weights", layer.weights)]
            made = [(suffix, work) for suffix, work in gradients if work is not None]
            for suffix, work in made:
                frees = layer.saves if suffix == made[-1][0] else 0
                self.kernel(f"{name}.{suffix}", layer.op_kind, layer.dtype, work, frees=frees)
            if layer.parameters:
                buckets.add(f"{name}.reduce", layer.parameters)


@dataclass
class Buckets:
    """Gradients that are reduced together over the group `data`, in the order in which they are made.

    A bucket is full when it holds `bucket_bytes`, the first when it holds a mebibyte (Li et al., PyTorch
    Distributed, VLDB 2020, section 4.2). With `overlaps` it is reduced at once beside the kernels that
    follow, else at the end.
    """

    writer: StepWriter
    ranks: int
    gradient_width: int
    bucket_bytes: int
    overlaps: bool

    def __post_init__(self) -> None:
        if self.bucket_bytes < 1:
            raise ConfigError(f"a bucket of {self.bucket_bytes} bytes; expected 1 or more")
        self.rows: list[int] = []
        """Rows of the all-reduces."""
        self._limit = min(FIRST_BUCKET_BYTES, self.bucket_bytes)
        self._held = 0
        self._waiting: list[tuple[str, int]] = []

    def add(self, name: str, parameters: int) -> None:
        """The gradients of so many parameters are ready with the writer's last kernel."""
        self._held += parameters * self.gradient_width
        if self._held >= self._limit:
            self._close(name)

    def finish(self, name: str) -> None:
        """Reduce what is left; `rows` are then what the optimizer waits for."""
        if self._held:
            self._close(name)
        for waiting, size in self._waiting:
            self._reduce(waiting, size)
        self._waiting = []

    def _close(self, name: str) -> None:
        if self.overlaps:
            self._reduce(name, self._held)
        else:
            self._waiting.append((name, self._held))
        self._held, self._limit = 0, self.bucket_bytes

    def _reduce(self, name: str, size: int) -> None:
        if self.ranks > 1:
            row = self.writer.collective(name, CommKind.ALL_REDUCE, size, "data", self.writer.tail)
            self.rows.append(row)
