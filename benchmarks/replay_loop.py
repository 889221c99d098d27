"""How many nodes a second the replay loop runs, interpreted and compiled: `python benchmarks/replay_loop.py`.

Ranks with nodes of two parents each on three lanes, every 50th a collective of the world. Both ways must
give the same result, and the compiled loop must be at least five times as fast.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.program import Program, build_program
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.graph import Ints


def workload(ranks: int, nodes: int) -> Workload:
    """Every rank gets the same nodes, with durations of its own."""
    graphs = []
    for number in range(ranks):
        random = np.random.default_rng(number)
        durations_ps = random.integers(1, 10**6, nodes).tolist()
        back = random.integers(1, 40, (nodes, 2)).tolist()
        builder = GraphBuilder(number)
        for row in range(nodes):
            after = {max(row - step, 0) for step in back[row]} if row else ()
            lane = f"lane {row % 3}"
            if row % 50 == 0:
                builder.add(
                    NodeKind.COLL,
                    "all_reduce",
                    comm_kind=CommKind.ALL_REDUCE,
                    comm_bytes=1000,
                    lane=lane,
                    after=after,
                )
            else:
                builder.add(NodeKind.COMP, "comp", duration_ps=durations_ps[row], lane=lane, after=after)
        graphs.append(builder.build())
    return Workload.from_graphs(graphs)


def timed(program: Program, durations_ps: Ints, *, is_compiled: bool) -> tuple[float, Ints]:
    """Seconds of the loop alone, and when every node ended."""
    state = program.state(durations_ps, np.full(len(program.collectives), 10**6))
    begun = time.perf_counter()
    ends_ps = run(state, is_compiled=is_compiled)[1]
    return time.perf_counter() - begun, ends_ps


def main() -> None:
    """Print a line for each shape."""
    for ranks, nodes in ((4, 100_000), (1000, 400)):
        job = workload(ranks, nodes)
        program = build_program(job)
        durations_ps = np.concatenate([graph.durations_ps for graph in job.graphs.values()])
        timed(program, durations_ps, is_compiled=True)  # compiles
        plain_s, plain = timed(program, durations_ps, is_compiled=False)
        fast_s, fast = timed(program, durations_ps, is_compiled=True)
        assert (plain == fast).all(), "the compiled loop gives other results"
        assert (fast >= 0).all(), "not every node ended"
        count = len(program)
        print(
            f"{ranks} ranks x {nodes} nodes: interpreted {count / plain_s / 1e6:.2f} million nodes/s, "
            f"compiled {count / fast_s / 1e6:.1f}, {plain_s / fast_s:.0f} times as fast"
        )
        if plain_s < 5 * fast_s:
            sys.exit("the compiled loop isn't five times as fast as the interpreted one")


if __name__ == "__main__":
    main()
