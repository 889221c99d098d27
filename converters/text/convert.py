"""A text workload to one graph that all ranks run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chakrasim.converters.text.loops import LOOPS, Program
from chakrasim.converters.text.read import MAX_NS, Layer, Part, TextWorkload, read_text
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.errors import ConfigError, TraceError
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.units import MAX_TIME_PS, PS_PER_S
from chakrasim.traces.workload import Workload


def convert_text(
    path: str | os.PathLike[str],
    *,
    sizes: Sequence[int],
    passes: int = 1,
    compute_scale: float = 1,
    communication_scale: float = 1,
) -> Workload:
    """The graph of `passes` iterations of a text workload, for a network of these sizes.

    `sizes` are the ranks along each dimension of the machine that it is to run on, the innermost first. For a
    transformer whose model-parallel group ends inside a dimension, that machine has two dimensions in its
    place. Times and bytes are multiplied by their scales in single precision and rounded down, as in the
    original, which also cuts numbers above 2**24 when the scale is 1. Update times are not scaled.

    Computes are nodes of the device. Collectives occupy no lane, since any number may be under way; on which
    dimensions each runs stands in its `involved_dims`. Loop ticks and update times are host nodes called
    `loop tick` and `update`: they take time but are no work.

    All ranks share the columns of one graph; time and memory are O(passes * layers + ranks).

    Raises TraceError for a file that can't be right, or holds nothing to run, ConfigError for arguments that
    can't be, OSError for a file that can't be opened.
    """
    _check_arguments(sizes, passes, compute_scale, communication_scale)
    workload = scaled(read_text(path), compute_scale, communication_scale)
    builder = GraphBuilder(0, metadata={"source": f"ASTRA-sim 1.0 text workload {workload.path.name}"})
    program = Program(workload, tuple(sizes), builder)
    LOOPS[workload.kind](program, passes)
    if not len(builder):
        raise TraceError(
            f"{workload.path}: nothing to run: {workload.kind} only has the weight-gradient collective of "
            f"the first layer, here {workload.layers[0].weight_gradient.word!r} on {math.prod(sizes)} ranks"
        )
    graph = builder.build()
    total_ps = float(graph.durations_ps.sum(dtype=np.float64))
    if total_ps > MAX_TIME_PS:
        raise TraceError(
            f"{workload.path}: {passes:,} passes compute for {total_ps / PS_PER_S:,.0f} s; expected at most "
            f"{MAX_TIME_PS / PS_PER_S:,.0f} s"
        )
    return Workload.from_graphs(
        {rank: _of_rank(graph, rank) for rank in range(math.prod(sizes))},
        name=workload.path.stem,
        sources=dict.fromkeys(range(math.prod(sizes)), str(workload.path)),
        notes=_notes(program),
    )


def scaled(workload: TextWorkload, compute_scale: float, communication_scale: float) -> TextWorkload:
    """The workload with its compute times and bytes scaled.

    Raises TraceError for a layer that gets too large.
    """

    def part(layer: Layer, part: Part) -> Part:
        compute_ns = scale_single(part.compute_ns, compute_scale)
        size_bytes = scale_single(part.size_bytes, communication_scale)
        for what, value in (("compute time (ns)", compute_ns), ("bytes", size_bytes)):
            if value > MAX_NS:
                raise TraceError(
                    f"{workload.path}: layer {layer.name!r}: the {part.direction} {what}, once scaled, is "
                    f"{value:.3g}; expected at most {MAX_NS:.3g}"
                )
        return replace(part, compute_ns=int(compute_ns), size_bytes=int(size_bytes))

    layers = (
        replace(
            layer,
            forward=part(layer, layer.forward),
            input_gradient=part(layer, layer.input_gradient),
            weight_gradient=part(layer, layer.weight_gradient),
        )
        for layer in workload.layers
    )
    return replace(workload, layers=tuple(layers))


def scale_single(value: int, scale: float) -> float:
    """A product in single precision, which has 24 bits, not yet rounded down.

    >>> scale_single(20_000_001, 1)
    20000000.0
    """
    with np.errstate(over="ignore"):
        return float(np.float32(value) * np.float32(scale))


def _check_arguments(
    sizes: Sequence[int], passes: int, compute_scale: float, communication_scale: float
) -> None:
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"the network's sizes are {list(sizes)}; expected one or more of 1 or more")
    if passes < 1:
        raise ConfigError(f"the number of passes is {passes}; expected 1 or more")
    for what, scale in (("compute", compute_scale), ("communication", communication_scale)):
        if not 0 <= scale < float("inf"):
            raise ConfigError(f"the {what} scale is {scale}; expected a factor of 0 or more")


def _of_rank(graph: ExecutionGraph, rank: int) -> ExecutionGraph:
    """The graph as another rank's, sharing its columns and its `children`."""
    copy = replace(graph, rank=rank)
    # `replace` carries fields only; the cached property would be computed again for every rank.
    vars(copy)["_children"] = graph.children()
    return copy


def _notes(program: Program) -> list[str]:
    workload = program.workload
    notes = []
    if program.dropped:
        notes.append(
            f"{program.dropped:,} collectives have no dimension of more than one rank to run on and are left "
            "out, as in ASTRA-sim"
        )
    idle = sum(
        part.collective is not None and (index, part.direction) not in program.issued
        for index, layer in enumerate(workload.layers)
        for part in layer.parts
    )
    if idle:
        notes.append(f"{workload.kind} never issues {idle:,} of the collectives in the file, as in ASTRA-sim")
    group = workload.group
    if group is not None and group > math.prod(program.sizes):
        notes.append(
            f"the model-parallel group of {group} is larger than the network; all dimensions are "
            "data-parallel, as in ASTRA-sim"
        )
    return notes
