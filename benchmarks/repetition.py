"""What it saves to skip iterations that repeat exactly: `python benchmarks/repetition.py`.

A chain of 10^6 nodes and training steps of 1,000 micro-batches, each replayed with and without; both must
give the same times, and the interpreted loop must be at least three times as fast with it. Timed is the
replay alone, with the search for what repeats, after everything has been costed. The compiled loop is faster
than the search; `simulate` takes it where numba is loaded already, which otherwise takes half a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from chakrasim.converters.synthetic.transformer import Plan, generate_training, load_model
from chakrasim.replay.compute.durations import NodeDurations, compute_model
from chakrasim.replay.costs import cost
from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import State
from chakrasim.replay.engine.program import Program, build_program
from chakrasim.replay.engine.repetition.extrapolate import repetition_in
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.network import network_model
from chakrasim.traces import GraphBuilder, NodeKind, Workload
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import Ints


def chain(nodes: int) -> Workload:
    """One node after the other, every fourth alike."""
    builder = GraphBuilder(0)
    last: list[int] = []
    for index in range(nodes):
        duration_ps = 1000 + index % 4
        last = [builder.add(NodeKind.COMP, "layer", duration_ps=duration_ps, after=last)]
    return Workload.from_graphs([builder.build()])


def step(micro_batches: int, pipeline: int) -> Workload:
    """A training step of a pipeline's stages."""
    plan = Plan(pipeline=pipeline, data=2, global_batch=2 * micro_batches)
    return generate_training(load_model("llama3-8b"), plan)


def fresh(program: Program, machine: Machine) -> Callable[[], State]:
    """Makes the same state again and again."""
    compute = "roofline" if program.workload.graphs[0].ops.max() > 0 else "measured"
    costs = cost(
        program,
        machine,
        network_model("analytical"),
        NodeDurations.of(program.workload, compute_model(compute, machine), Scales()),
        asks=False,
    )
    return partial(
        program.state, costs.durations_ps, costs.collectives_ps, costs.roles, costs.lanes, costs.rendezvous
    )


def timed(state: State, sizes: list[int], *, extrapolate: bool, is_compiled: bool) -> tuple[float, Ints, int]:
    """Seconds, ends, and how many nodes were skipped."""
    begun = time.perf_counter()
    watch = repetition_in(state, sizes) if extrapolate else None
    ends_ps = run(state, watch=watch, is_compiled=is_compiled)[1]
    return time.perf_counter() - begun, ends_ps, 0 if watch is None else watch.skipped


def main() -> None:
    """Print a line for each workload and loop."""
    machine = load_machine("hgx-h100")
    shapes = {
        "chain of 10^6 nodes": chain(10**6),
        "1,000 micro-batches": step(1000, 1),
        "1,000 micro-batches, 4 stages": step(1000, 4),
    }
    for name, workload in shapes.items():
        program = build_program(workload.complete_for(machine.blocks(workload.world_size)))
        sizes = [len(graph) for graph in program.workload.graphs.values()]
        make = fresh(program, machine)
        run(make(), is_compiled=True)  # compiles
        for is_compiled in (False, True):
            plain_s, plain_ps, _ = timed(make(), sizes, extrapolate=False, is_compiled=is_compiled)
            short_s, short_ps, skipped = timed(make(), sizes, extrapolate=True, is_compiled=is_compiled)
            assert np.array_equal(plain_ps, short_ps), "skipping changes the result"
            assert skipped > 0.8 * len(program), f"only {skipped} of {len(program)} nodes were skipped"
            print(
                f"{name}, {'compiled' if is_compiled else 'interpreted'}: {len(program):,} nodes, "
                f"{skipped / len(program):.1%} skipped; {plain_s:.3f} s without, {short_s:.3f} s with, "
                f"{plain_s / short_s:.1f} times as fast"
            )
            if not is_compiled and plain_s < 3 * short_s:
                sys.exit("skipping isn't three times as fast as replaying everything")


if __name__ == "__main__":
    main()
