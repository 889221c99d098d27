"""ASTRA-sim's rules where its own answers aren't followed, worked by hand."""

from __future__ import annotations

import pytest
from replay_cases import coll, comp, rank

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.rules import ASTRA_SIM_1, ASTRA_SIM_2, Rules
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, Workload

US = 10**6


def machine(rules: Rules) -> Machine:
    """Two ranks on a link."""
    return Machine(
        "two",
        "made up",
        None,
        (Dimension("link", "fully_connected", 2, 1e9, 1000),),
        dict.fromkeys(CommKind, ("ring",)),
        cycle_ps=1000,
        scheduling=Scheduling(rules=rules),
    )


@pytest.mark.parametrize("rules", [ASTRA_SIM_1, ASTRA_SIM_2])
def test_recorded_communication_is_exposed_where_no_compute_runs(rules: Rules) -> None:
    def first(builder: GraphBuilder) -> None:
        coll(builder, comp(builder, 10 * US), duration_ps=33 * US)

    def second(builder: GraphBuilder) -> None:
        comp(builder, 12 * US)
        coll(builder, duration_ps=42 * US)

    workload = Workload.from_graphs({0: rank(0, first), 1: rank(1, second)})
    result = simulate(workload, machine(rules), network="recorded")
    assert [times.finish_ps // US for times in result.ranks] == [43, 42]
    assert [times.exposed_communication_ps // US for times in result.ranks] == [33, 30]
