"""Sends and receives that belong together, under every network model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replay_cases import rank, recv, send

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import GraphBuilder, Workload

NO_TAG = NO_SIZE = -1
CARRIERS = ["analytical", "congestion-aware", "shared-ports", "measured", "rendezvous", "bus"]


def carried(workload: Workload, how: str) -> Result:
    """Replay on two hosts, by a network model or by a scheduling that plays messages."""
    machine = load_machine("ethernet-10g")
    if how == "rendezvous":
        machine = replace(machine, scheduling=Scheduling(rendezvous=True))
    elif how == "bus":
        machine = replace(machine, scheduling=Scheduling(bus=Bus(1, 1, 1, 0, 1)))
    return simulate(workload, machine, network=how if how in CARRIERS[:4] else "analytical")


@pytest.mark.parametrize("how", CARRIERS)
@pytest.mark.parametrize(
    ("sent", "awaited"),
    [
        ({"tag": NO_TAG}, {"tag": 0}),
        ({"tag": 0}, {"tag": NO_TAG}),
        ({"comm_bytes": NO_SIZE}, {"comm_bytes": 0}),
        ({"comm_bytes": 0}, {"comm_bytes": NO_SIZE}),
    ],
)
def test_what_is_not_stated_is_zero(how: str, sent: dict[str, int], awaited: dict[str, int]) -> None:
    def source(builder: GraphBuilder) -> None:
        send(builder, 1, **sent)

    def destination(builder: GraphBuilder) -> None:
        recv(builder, 0, **awaited)

    result = carried(Workload.from_graphs({0: rank(0, source), 1: rank(1, destination)}), how)
    assert result.deadlock is None
    assert result.step_time_ps == result.times(0).finish_ps


@pytest.mark.parametrize("how", CARRIERS)
@pytest.mark.parametrize("other", [{"tag": 1}, {"comm_bytes": 501}])
def test_messages_that_differ_do_not_meet(how: str, other: dict[str, int]) -> None:
    # Sent one after the other, awaited at once.
    def source(builder: GraphBuilder) -> None:
        send(builder, 1, send(builder, 1), **other)

    def destination(builder: GraphBuilder) -> None:
        recv(builder, 0, **other)
        recv(builder, 0)

    result = carried(Workload.from_graphs({0: rank(0, source), 1: rank(1, destination)}), how)
    assert result.deadlock is None
    assert result.ends_ps[result.rows(1)].tolist() == result.ends_ps[result.rows(0)].tolist()[::-1]
