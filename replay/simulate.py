"""The main flow: a workload and a machine in, a `Result` out. Start reading here.

1. `rank_classes` finds ranks that do the same, of which one each is replayed (`symmetry/`). `build_program`
   lays their nodes out in columns, with matched collectives and messages (`engine/program.py`,
   `symmetry/representatives.py`).
2. `cost` works out, before anything runs, how long each node, message and collective takes: by a compute
   model (`compute/`) and by the machine's network (`network/`, `collectives/`).
3. `run` replays: nodes start when their parents have ended and their lane is free (`engine/kernel.py`).
4. `Result` holds when each node started and ended, and derives the rest on demand (`results/result.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.compute.durations import NodeDurations, compute_model, default_compute
from chakrasim.replay.costs import cost
from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import NEVER_PS, PLAIN
from chakrasim.replay.engine.program import WholeProgram
from chakrasim.replay.network import network_model
from chakrasim.replay.network.interface import asks_network
from chakrasim.replay.results.result import Replayed, Result
from chakrasim.replay.symmetry.classes import every_rank, rank_classes
from chakrasim.replay.symmetry.fingerprint import kinds_of_graphs
from chakrasim.replay.symmetry.representatives import representative_program
from chakrasim.replay.symmetry.scheduled import all_ranks_symmetric
from chakrasim.traces.edits.scale import Scales

if TYPE_CHECKING:
    from chakrasim.replay.costs import Costs
    from chakrasim.replay.engine.program import Program
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.replay.network.interface import NetworkModel
    from chakrasim.replay.symmetry.classes import RankClasses
    from chakrasim.replay.symmetry.fingerprint import Kinds
    from chakrasim.traces.graph import Ints
    from chakrasim.traces.workload import Workload

UNSCALED = Scales()
NOT_SPLIT = (
    "recorded communication times are inconsistent across rank clocks; the shortest recorded duration of "
    "each is used as its transfer time"
)


class Prepared:
    """A workload laid out once, to be replayed on any number of machines."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._programs: dict[int, WholeProgram] = {}
        self._everyone: Workload | None = None
        self._representative_programs: dict[bytes, Program] = {}
        self._kinds: dict[tuple[int, bool], Kinds] = {}

    def simulate(
        self,
        machine: Machine,
        *,
        compute: str | None = None,
        network: str = "analytical",
        scales: Scales = UNSCALED,
        classes: bool = True,
        extrapolate: bool = True,
    ) -> Result:
        """Simulate the workload like the function `simulate`."""
        compute = compute or default_compute(self.workload, machine.compute)
        model = network_model(network)
        description, machine = machine, _sized(machine, self.workload.world_size)
        asks = asks_network(model, self.workload, machine)
        workload = self._workload_for(machine, asks)
        durations = NodeDurations.of(workload, compute_model(compute, machine), scales)
        if classes:
            found = self._classes(workload, machine, network, model, durations, asks)
        else:
            found = every_rank(workload, "it was asked for")
        program = self._program_of(found)
        costs = cost(program, machine, model, durations, asks)
        starts_ps, ends_ps, notes, skipped = run_program(program, machine, model, costs, extrapolate)
        if costs.rendezvous is not None and (ends_ps < 0).any():
            # Clocks that are wrong after all, or edits, can make senders wait for each other.
            costs = replace(costs, rendezvous=None)
            starts_ps, ends_ps, notes, skipped = run_program(program, machine, model, costs, extrapolate)
            if (ends_ps >= 0).all():
                notes = (*notes, NOT_SPLIT)
        return Result(
            replayed=Replayed(program, starts_ps[: len(program)], ends_ps[: len(program)]),
            classes=found,
            whole=self._whole(workload),
            machine=description,
            compute=compute,
            network=network,
            waits=model.waits,
            notes=(*workload.notes, *costs.notes, *notes),
            has_recorded_rendezvous=costs.rendezvous is not None,
            extrapolated=skipped,
        )

    def _workload_for(self, machine: Machine, asks: bool) -> Workload:
        """With graphs of all ranks where the machine needs those; they are made once.

        Those without one are like the others only where nothing depends on what else is under way.
        """
        blocks = None if asks else machine.blocks(self.workload.world_size)
        if self.workload.stands_for_all_on(blocks):
            return self.workload
        if self._everyone is None:
            self._everyone = self.workload.complete_for(None)
        return self._everyone

    def _classes(
        self,
        workload: Workload,
        machine: Machine,
        network: str,
        model: NetworkModel,
        durations: NodeDurations,
        asks: bool,
    ) -> RankClasses:
        """The ranks of which one each is enough."""
        if len(workload.graphs) < 2:
            return every_rank(workload, "there is only one")
        if not model.is_symmetric:
            why = "ranks that do the same can differ in time"
            if not model.prices_ahead:
                why = "messages of different ranks meet"
            return every_rank(workload, f"with --network {network} {why}")
        if machine.system.rules.ends_one_by_one and model.splits_recording:
            return every_rank(workload, "by ASTRA-sim's rules the ranks' order matters")
        key = len(workload.graphs), model.splits_recording
        if key not in self._kinds:
            self._kinds[key] = kinds_of_graphs(workload, by_root=model.splits_recording)
        kinds = self._kinds[key].with_durations(list(durations.by_rank.values()))
        prices = model.waits and not asks
        classes = rank_classes(workload, machine if prices else None, kinds)
        if asks and not (len(classes) == 1 and all_ranks_symmetric(workload, machine)):
            return every_rank(workload, "the machine schedules collectives by rank, and not all do the same")
        return classes

    def _program_of(self, classes: RankClasses) -> Program:
        if classes.is_whole:
            return self._whole(classes.workload).program
        key = classes.index.tobytes()
        if key not in self._representative_programs:
            self._representative_programs[key] = representative_program(classes)
        return self._representative_programs[key]

    def _whole(self, workload: Workload) -> WholeProgram:
        """One for the ranks that have graphs, one for all where a machine needs those."""
        return self._programs.setdefault(len(workload.graphs), WholeProgram(workload))


def _sized(machine: Machine, world_size: int) -> Machine:
    """The machine with every size known. One that is too small stays so: it is refused where it is needed."""
    return machine.sized_for(world_size) if machine.holds(world_size) else machine


def simulate(
    workload: Workload,
    machine: Machine,
    *,
    compute: str | None = None,
    network: str = "analytical",
    scales: Scales = UNSCALED,
    classes: bool = True,
    extrapolate: bool = True,
) -> Result:
    """Replay a workload on a machine.

    `compute` is one of `compute.COMPUTE`; None takes what the machine's file says, but the roofline where no
    time was recorded and nodes state operations. `network` is one of `plugins.NETWORKS`, and `scales`
    multiplies durations. The same arguments give the same result, to the picosecond.
    `classes` and `extrapolate` change nothing of it: of ranks that do the same one is enough (`classes.py`),
    and iterations that repeat exactly needn't all be replayed (`engine/repetition/`).

    A replay that can't go on doesn't raise: `Result.deadlock` says who waits for what, and nodes that never
    ran have times of -1. Raises UnknownName for an unknown model, ConfigError for a machine that is too
    small.
    """
    return Prepared(workload).simulate(
        machine, compute=compute, network=network, scales=scales, classes=classes, extrapolate=extrapolate
    )


def simulate_many(
    workload: Workload,
    machines: Iterable[Machine],
    *,
    compute: str | None = None,
    network: str = "analytical",
    scales: Scales = UNSCALED,
    classes: bool = True,
    extrapolate: bool = True,
) -> list[Result]:
    """Replay a workload on each of several machines; what doesn't depend on them is done once.

    The results are those of `simulate` for each of them. Raises as that does, for the first that it concerns.
    """
    prepared = Prepared(workload)
    return [
        prepared.simulate(
            machine, compute=compute, network=network, scales=scales, classes=classes, extrapolate=extrapolate
        )
        for machine in machines
    ]


def run_program(
    program: Program, machine: Machine, model: NetworkModel, costs: Costs, extrapolate: bool = True
) -> tuple[Ints, Ints, tuple[str, ...], int]:
    """Starts and ends of all nodes, int64[N and the begins], assumptions of the network, and how many nodes
    were extrapolated."""
    network = None
    if (costs.durations_ps < 0).any():
        from chakrasim.replay.network.coupled import NodeNetwork

        sized = machine.sized_for(program.workload.world_size)
        network = NodeNetwork(program, sized, model, costs.timers_ps)
    one_by_one = machine.system.rules.ends_one_by_one and not (
        network is None and _are_chains(program, costs)
    )
    state = program.state(
        costs.durations_ps, costs.collectives_ps, costs.roles, costs.lanes, costs.rendezvous
    )
    watch = None
    if extrapolate and network is None and not one_by_one and _fits_the_clock(costs):
        from chakrasim.replay.engine.repetition.extrapolate import watch_for

        watch = watch_for(state, [len(graph) for graph in program.workload.graphs.values()])
    starts_ps, ends_ps = run(state, network=network, one_by_one=one_by_one, watch=watch)
    notes = () if network is None else network.notes
    return starts_ps, ends_ps, notes, 0 if watch is None else watch.finish()


def _fits_the_clock(costs: Costs) -> bool:
    """True if even all nodes one after the other would end before the clock does."""
    total_ps = costs.durations_ps.sum(dtype=np.float64) + costs.collectives_ps.sum(dtype=np.float64)
    return bool(total_ps < NEVER_PS)


def _are_chains(program: Program, costs: Costs) -> bool:
    """True if each rank's nodes come one after the other and none waits for another rank: then nothing of a
    rank happens at once, and no order of what does matters."""
    return int(np.diff(program.child_offsets).max(initial=0)) < 2 and bool((costs.roles == PLAIN).all())
