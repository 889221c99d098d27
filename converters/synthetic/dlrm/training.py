"""A training step of a recommendation model: embedding tables spread over ranks, dense parts data-parallel.

After Naumov et al., Deep learning recommendation model for personalization and recommendation systems (2019),
section 3: each rank looks up its own tables for the whole batch and adds up the rows of each sample; an
all-to-all hands every rank the embeddings of its own part of the batch, while the bottom MLP runs. Backward,
an all-to-all hands the gradients back, beside the bottom MLP's backward pass, and the gradients of both MLPs
are all-reduced in buckets. Only rows that were looked up take an optimizer step.

With B samples in all, b a rank, T tables of which t are the rank's own, E numbers an embedding, w bytes each
and L lookups a sample in all of the rank's tables:

- lookup: B L E additions; B L rows of 4 E bytes and as many indices of 8 are read, B t E w bytes written
- all-to-all: B t E w bytes given forward. Backward b T E w are given, but where a rank gets more, B t E w,
  that is what its node states: the busiest rank's links decide how long it takes
- gradients of rows: B L gradients of E w bytes and their indices read, a gradient of 4 E bytes written for
  each distinct row, of which a table has at most as many as lookups; B L E additions
- step of rows: for each distinct row its gradient is read, the row and its states read and written
- dot products: all F = T + 1 vectors with each other, 2 b F² E operations forward and twice that backward
- cross layer (Wang et al., DCN V2, 2021): x0 * (W (V x) + c) + x, with V of F E by r and W of r by F E

Caches don't count: every lookup reads memory, whether another has read that row or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from chakrasim.converters.synthetic.dlrm.model import Dlrm
from chakrasim.converters.synthetic.graph_writer.step import BACKWARD, FORWARD, OPTIMIZER, Buckets, StepWriter
from chakrasim.converters.synthetic.limits import require_least, require_nodes
from chakrasim.converters.synthetic.op_cost.layers import INDEX_BYTES, Formats, Layer, elementwise, linear
from chakrasim.converters.synthetic.op_cost.optimizers import (
    UNSHARDED,
    bytes_each,
    dense_step,
    held_bytes,
    optimizer,
)
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, ExecutionGraph
from chakrasim.traces.names.op_kinds import ELEMENTWISE, MATMUL
from chakrasim.traces.workload import Workload

SHARDINGS = ("round-robin", "greedy")
EMBEDDING, BOTTOM, INTERACTION, TOP = range(4)
"""The attribute `layer`."""
ROW_WIDTH = 4
"""Bytes of a number in a table."""


@dataclass(frozen=True)
class DlrmPlan:
    """Options of a recommendation model's training step or forward pass."""

    ranks: int = 1
    global_batch: int = 2048
    """Samples over all ranks."""
    sharding: str = "round-robin"
    """Placement of tables on ranks: `round-robin` in their order, which balances the exchange; `greedy`, the
    largest first, each to the rank with the fewest bytes so far, which balances memory."""
    dtype: str = "fp32"
    """Data type of activations, products and exchanged embeddings; tables are kept in 32 bits."""
    gradient_dtype: str = "fp32"
    """Data type in which the MLPs' gradients are reduced."""
    bucket_bytes: int = 25 * 2**20
    """Gradients reduced at once, but for a first bucket of a mebibyte."""
    overlaps: bool = True
    """Communication runs beside kernels."""
    optimizer: str = "sgd"
    has_host: bool = True
    """The host's launches take time; without, the step is one CUDA graph."""
    is_inference: bool = False


def shard_tables(rows: Sequence[int], ranks: int, sharding: str) -> list[list[int]]:
    """For each rank the tables it has, ascending. O(tables log tables + tables ranks).

    >>> shard_tables([10, 70, 30, 30], 2, "greedy")
    [[1], [0, 2, 3]]

    Raises UnknownName for a sharding that isn't known.
    """
    if sharding not in SHARDINGS:
        raise UnknownName("sharding", sharding, SHARDINGS)
    if sharding == "round-robin":
        return [list(range(rank, len(rows), ranks)) for rank in range(ranks)]
    tables: list[list[int]] = [[] for _ in range(ranks)]
    # the number of tables breaks ties, so that small ones don't all go to one rank
    loads = [(0, 0, rank) for rank in range(ranks)]
    for table in sorted(range(len(rows)), key=lambda table: (-rows[table], table)):
        load, count, rank = min(loads)
        tables[rank].append(table)
        loads[rank] = (load + rows[table], count + 1, rank)
    return [sorted(own) for own in tables]


def generate_dlrm(model: Dlrm, plan: DlrmPlan) -> Workload:
    """A training step, or with `is_inference` a forward pass.

    Nodes have the attributes `pass` (0 forward, 1 backward, 2 optimizer) and `layer` (0 embeddings, 1 bottom
    MLP, 2 interaction, 3 top MLP, -1 none). Ranks whose tables make equal work share columns. Raises
    ConfigError for a plan that can't be.
    """
    require_least(("ranks", plan.ranks, 1), ("the batch", plan.global_batch, 1))
    if plan.global_batch % plan.ranks:
        near = max(1, round(plan.global_batch / plan.ranks)) * plan.ranks
        raise ConfigError(
            f"a batch of {plan.global_batch:,} over {plan.ranks:,} ranks; expected a multiple, such as "
            f"{near:,}"
        )
    optimizer(plan.optimizer)
    made: dict[_Tables, ExecutionGraph] = {}
    graphs = {}
    for rank, own in enumerate(shard_tables(model.rows, plan.ranks, plan.sharding)):
        tables = _Tables.of(model, own, plan.global_batch)
        if tables not in made:
            made[tables] = _Step(model, plan, tables).graph()
            made[tables].children()  # once, for all ranks that share it
        graphs[rank] = replace(made[tables], rank=rank)
        require_nodes(plan.ranks * len(graphs[rank]))
    return Workload.from_graphs(graphs, name=model.name)


@dataclass(frozen=True)
class _Tables:
    """Figures of a rank's own embedding tables."""

    count: int
    rows: int
    lookups: int
    """Rows looked up for the whole batch."""
    distinct: int
    """Rows that are looked up, at most."""

    @classmethod
    def of(cls, model: Dlrm, own: Sequence[int], batch: int) -> _Tables:
        lookups = [batch * model.pools[table] for table in own]
        rows = [model.rows[table] for table in own]
        distinct = sum(min(pair) for pair in zip(lookups, rows, strict=True))
        return cls(len(own), sum(rows), sum(lookups), distinct)


class _Step:
    """Writes the step of a rank."""

    def __init__(self, model: Dlrm, plan: DlrmPlan, tables: _Tables) -> None:
        self.model, self.plan, self.tables = model, plan, tables
        self.formats = formats = Formats(plan.dtype, plan.gradient_dtype)
        self.batch = plan.global_batch // plan.ranks
        self.states = optimizer(plan.optimizer).states
        self.row_bytes = model.embedding * ROW_WIDTH
        of_tables = {"parameters": tables.rows * self.row_bytes}
        if plan.is_inference:
            held = {"parameters": model.dense_parameters * formats.width}
        else:
            held = held_bytes(bytes_each(plan.optimizer, formats), (model.dense_parameters, UNSHARDED))
            of_tables["optimizer"] = tables.rows * self.row_bytes * self.states
        self.writer = StepWriter(
            {
                "source": "chakrasim generate dlrm",
                "model": model.name,
                "memory": {part: size + of_tables.get(part, 0) for part, size in held.items()},
            },
            {group: range(plan.ranks) for group in ("data", "embedding")} if plan.ranks > 1 else {},
            has_host=plan.has_host,
        )

    def graph(self) -> ExecutionGraph:
        """All passes."""
        writer, plan, model = self.writer, self.plan, self.model
        parts = (
            (BOTTOM, "bottom", self._mlp((model.dense, *model.bottom), is_bottom=True)),
            (INTERACTION, "interaction", self._interaction()),
            (TOP, "top", self._mlp((model.top_inputs, *model.top), is_bottom=False)),
        )
        keeps = not plan.is_inference
        if self.tables.count:
            writer.begin("embedding", FORWARD, EMBEDDING, 1)
            writer.kernel("embedding.lookup", ELEMENTWISE, "fp32", self._lookup())
        exchanged = self._exchange("embedding.exchange", self._pooled_bytes)
        for layer, name, layers in parts:
            if layer == INTERACTION:
                writer.tail += exchanged
            writer.forward(name, layers, layer, keeps=keeps)
        if plan.is_inference:
            return writer.builder.build()
        buckets = Buckets(writer, plan.ranks, self.formats.gradient_width, plan.bucket_bytes, plan.overlaps)
        for layer, name, layers in reversed(parts):
            writer.backward(name, layers, layer, buckets)
            if layer == INTERACTION:
                all_tables = self.batch * model.tables * model.embedding * self.formats.width
                exchanged = self._exchange("embedding.exchange.backward", max(all_tables, self._pooled_bytes))
        buckets.finish("bottom.reduce")
        if self.tables.count:
            writer.begin("embedding.backward", BACKWARD, EMBEDDING, 2)
            writer.tail += exchanged
            writer.kernel("embedding.backward", ELEMENTWISE, "fp32", self._row_gradients())
            writer.attrs = {"pass": OPTIMIZER, "layer": EMBEDDING}
            writer.kernel("embedding.step", ELEMENTWISE, "fp32", self._row_step())
        writer.begin("optimizer", OPTIMIZER, -1, 1)
        writer.tail += buckets.rows
        dense = dense_step(plan.optimizer, model.dense_parameters, self.formats)
        writer.kernel("optimizer.step", ELEMENTWISE, "fp32", dense)
        return writer.builder.build()

    # --- embeddings

    @property
    def _pooled_bytes(self) -> int:
        """The rank's own tables, the whole batch."""
        return self.plan.global_batch * self.tables.count * self.model.embedding * self.formats.width

    def _exchange(self, name: str, size_bytes: int) -> list[int]:
        """The all-to-all, and what the next but one kernel has to wait for."""
        writer, plan = self.writer, self.plan
        if plan.ranks < 2:
            return []
        row = writer.collective(name, CommKind.ALL_TO_ALL, size_bytes, "embedding", writer.tail)
        if not plan.overlaps:
            writer.tail = [row]
        return [row]

    def _lookup(self) -> Work:
        lookups = self.tables.lookups
        read = lookups * (self.row_bytes + INDEX_BYTES)
        return Work(lookups * self.model.embedding, read + self._pooled_bytes)

    def _row_gradients(self) -> Work:
        lookups = self.tables.lookups
        read = lookups * (self.model.embedding * self.formats.width + INDEX_BYTES)
        return Work(lookups * self.model.embedding, read + self.tables.distinct * self.row_bytes)

    def _row_step(self) -> Work:
        distinct = self.tables.distinct
        ops = optimizer(self.plan.optimizer).ops * distinct * self.model.embedding
        return Work(ops, distinct * self.row_bytes * (1 + 2 * (1 + self.states)))

    # --- dense parts

    def _mlp(self, widths: Sequence[int], *, is_bottom: bool) -> list[Layer]:
        """Products with a ReLU after each; the top MLP ends in a sigmoid and, in training, the loss."""
        layers = []
        last = len(widths) - 2
        for at, (inputs, outputs) in enumerate(pairwise(widths)):
            is_first = is_bottom and at == 0
            layers.append(linear(f"fc{at}", self.batch, inputs, outputs, self.formats, is_first=is_first))
            elements = self.batch * outputs
            if at < last or is_bottom:
                # the next product keeps the result but for the last
                saves = 1 if at == last else 0
                layers.append(
                    elementwise(f"relu{at}", elements, self.formats, moves=2, moves_back=3, saves=saves)
                )
            else:
                layers.append(
                    elementwise("sigmoid", elements, self.formats, moves=2, moves_back=3, ops=4, saves=1)
                )
        if not is_bottom and not self.plan.is_inference:
            elements = self.batch * widths[-1]
            layers.append(
                elementwise("loss", elements, self.formats, moves=3, moves_back=3, ops=6, ops_back=4)
            )
        return layers

    def _interaction(self) -> list[Layer]:
        model, batch, formats = self.model, self.batch, self.formats
        vectors, size = model.vectors, model.embedding
        crossed = vectors * size
        joined = elementwise("concat", batch * crossed, formats, moves=2, moves_back=2)
        if model.cross_layers:
            layers = [joined]
            for at in range(model.cross_layers):
                layers += [
                    linear(f"cross{at}.v", batch, crossed, model.cross_rank, formats, has_bias=False),
                    linear(f"cross{at}.w", batch, model.cross_rank, crossed, formats),
                    # x0, x and W(V x) are read; backward, gradients of all three are written
                    elementwise(
                        f"cross{at}.add",
                        batch * crossed,
                        formats,
                        moves=4,
                        moves_back=6,
                        ops=2,
                        ops_back=3,
                        saves=1,
                    ),
                ]
            return layers
        ops = 2 * batch * vectors * vectors * size
        given, products = batch * crossed * formats.width, batch * vectors * vectors * formats.width
        dots = Layer(
            "dot",
            MATMUL,
            formats.dtype,
            forward=Work(ops, given + products),
            backward=Work(2 * ops, 2 * (products + 2 * given)),
            saves=given,
        )
        # the pairs are picked, and the bottom MLP's result is put beside them
        inputs = model.top_inputs
        back = (inputs + size + vectors * vectors) / inputs
        pairs = elementwise("pairs", batch * inputs, formats, moves=2, moves_back=back)
        return [joined, dots, pairs]
