"""The main flow: a workload and a machine in, a `Result` out. Start reading here.

1. `lower` lays all ranks' nodes out in columns and matches collectives and messages between ranks
   (`lower.py`).
2. `cost` works out, before anything runs, how long each node, message and collective takes: by a compute
   model (`compute/`) and by the machine's network (`network/`, `collectives/`).
3. `run` replays: nodes start when their parents have ended and their lane is free (`kernel.py`).
4. `Result` holds when each node started and ended, and derives the rest on demand (`result.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chakrasim.replay.compute.measured import Scales
from chakrasim.replay.costs import cost
from chakrasim.replay.kernel import run
from chakrasim.replay.lower import lower
from chakrasim.replay.result import Result

if TYPE_CHECKING:
    from chakrasim.replay.machine import Machine
    from chakrasim.traces.workload import Workload

UNSCALED = Scales()


def simulate(
    workload: Workload,
    machine: Machine,
    *,
    compute: str = "measured",
    network: str = "analytical",
    scales: Scales = UNSCALED,
) -> Result:
    """Replay a workload on a machine.

    `compute` is one of `compute.COMPUTE`, `network` one of `costs.NETWORKS`, and `scales` multiplies
    durations. The same arguments give the same result, to the picosecond.

    A replay that can't go on doesn't raise: `Result.deadlock` says who waits for what, and nodes that never
    ran have times of -1. Raises UnknownName for an unknown model, ConfigError for a machine that is too
    small.
    """
    program = lower(workload)
    costs = cost(program, machine, compute, network, scales)
    shared = None
    if network == "shared-ports":
        from chakrasim.replay.network.shared_ports import SharedPorts

        shared = SharedPorts.of(program, machine.sized_for(workload.world_size))
    starts_ps, ends_ps = run(program.state(costs.durations_ps, costs.collectives_ps), network=shared)
    return Result(
        program=program,
        machine=machine,
        compute=compute,
        network=network,
        starts_ps=starts_ps[: len(program)],
        ends_ps=ends_ps[: len(program)],
        notes=(*workload.notes, *costs.notes),
    )
