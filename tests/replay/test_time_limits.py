"""Times beyond what int64 holds: an error that names what takes so long, never a 0 or a negative time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from replay_cases import coll, comp, rank, recv, send

from chakrasim.replay.cli.main import main
from chakrasim.replay.machine import Machine
from chakrasim.replay.machine.files.read import read_machine
from chakrasim.replay.machine.machine import Accelerator, Dimension, RemoteMemory
from chakrasim.replay.machine.rules import ASTRA_SIM_2
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.edits.scale import Scales, scale
from chakrasim.traces.errors import ConfigError, TraceError
from chakrasim.traces.io import write_graph
from chakrasim.traces.units import MAX_TIME_PS, whole_ps, whole_ps_of

SLOW = Machine(
    "slow",
    "made up",
    Accelerator("abacus", {"fp32": 1.0}, 1.0, None, 0),
    (Dimension("link", "ring", 4, 1.0, 0),),
    dict.fromkeys(CommKind, ("ring",)),
)
"""A byte and an operation a second."""
HUGE = 10**15


def everywhere(build: object) -> Workload:
    """Four ranks that do the same."""
    return Workload.from_graphs({number: rank(number, build) for number in range(4)})  # type: ignore[arg-type]


def message() -> Workload:
    """One message of so many bytes."""
    graphs = {number: rank(number, lambda builder: comp(builder, 1)) for number in range(4)}
    graphs[0] = rank(0, lambda builder: send(builder, 1, comm_bytes=HUGE))
    graphs[1] = rank(1, lambda builder: recv(builder, 0, comm_bytes=HUGE))
    return Workload.from_graphs(graphs)


def one_node(kind: NodeKind, **options: object) -> Workload:
    return everywhere(lambda builder: builder.add(kind, "it", **options))


@pytest.mark.parametrize("network", ["analytical", "congestion-aware", "shared-ports", "measured"])
def test_a_message_that_never_arrives_is_named(network: str) -> None:
    with pytest.raises(
        TraceError, match=r"a message of 1,000,000,000,000,000 bytes .*'slow' would take 1e\+15 s"
    ):
        simulate(message(), SLOW, network=network)


@pytest.mark.parametrize("network", ["analytical", "congestion-aware", "shared-ports", "measured"])
@pytest.mark.parametrize("kind", [CommKind.ALL_REDUCE, CommKind.BROADCAST])
def test_a_collective_that_never_ends_is_named(network: str, kind: CommKind) -> None:
    workload = everywhere(lambda builder: coll(builder, comm_bytes=HUGE, comm_kind=kind))
    with pytest.raises(TraceError, match=r"bytes .*'slow' would take .* s; expected at most 1,000,000 s"):
        simulate(workload, SLOW, network=network)


@pytest.mark.parametrize("scheduling", [Scheduling(), Scheduling(rules=ASTRA_SIM_2, subgroup="ring")])
def test_a_scheduled_collective_that_never_ends_is_named(scheduling: Scheduling) -> None:
    workload = everywhere(lambda builder: coll(builder, comm_bytes=HUGE))
    with pytest.raises(TraceError, match="'slow' would take"):
        simulate(workload, replace(SLOW, scheduling=scheduling, cycle_ps=1000))


def test_messages_that_only_together_take_too_long_are_found() -> None:
    # 6 messages of a quarter of a million bytes at a byte a second: each fits, all of them don't.
    workload = everywhere(lambda builder: coll(builder, comm_bytes=10**6))
    assert simulate(workload, SLOW, network="congestion-aware").step_time_ps == 6 * 250_000 * 10**12
    with pytest.raises(TraceError, match=r"over 4 ranks on 'slow' would take 1.5e\+06 s"):
        simulate(workload, replace(SLOW, scheduling=Scheduling()))


def test_reductions_that_never_end_are_named() -> None:
    machine = replace(SLOW, dimensions=(replace(SLOW.dimensions[0], bandwidth_Bps=1e12),))
    workload = everywhere(lambda builder: coll(builder, comm_bytes=HUGE))
    with pytest.raises(TraceError, match=r"reducing a message of 250,000,000,000,000 bytes on 'slow'"):
        simulate(workload, replace(machine, scheduling=Scheduling(reduction_Bps=1.0)))


def test_a_bus_that_never_delivers_is_found() -> None:
    # A second a byte over the bus, a picosecond over the links.
    dimensions = (replace(SLOW.dimensions[0], bandwidth_Bps=1e12),)
    machine = replace(SLOW, dimensions=dimensions, scheduling=Scheduling(bus=Bus(0, 0, 0, 1e9, 1)))
    workload = everywhere(lambda builder: coll(builder, comm_bytes=10**7))
    with pytest.raises(TraceError, match=r"the replay would take over 4,611,686 s"):
        simulate(workload, machine)


@pytest.mark.parametrize("options", [{"ops": 10**18}, {"tensor_bytes": HUGE}])
def test_a_kernel_that_never_ends_is_named(options: dict[str, int]) -> None:
    with pytest.raises(TraceError, match=r"rank 0 node 0 \('it'\) would take 1e\+1[58] s"):
        simulate(one_node(NodeKind.COMP, **options), SLOW, compute="roofline")


@pytest.mark.parametrize("remote", [None, RemoteMemory(1.0, 0), RemoteMemory(1.0, 0, "pool")])
@pytest.mark.parametrize("scheduling", [None, Scheduling()])
def test_a_memory_access_that_never_ends_is_named(
    remote: RemoteMemory | None, scheduling: Scheduling | None
) -> None:
    machine = replace(SLOW, remote_memory=remote, scheduling=scheduling)
    with pytest.raises(TraceError, match=r"1,000,000,000,000,000 bytes of .*memory.* would take 1e\+15 s"):
        simulate(one_node(NodeKind.MEM_LOAD, tensor_bytes=HUGE), machine)


@pytest.mark.parametrize("scales", [Scales(device=1e30), Scales(patterns=(("it", 1e30),))])
def test_a_scaled_duration_that_never_ends_is_named(scales: Scales) -> None:
    workload = one_node(NodeKind.COMP, duration_ps=10**12)
    with pytest.raises(TraceError, match=r"scaled, rank 0 node 0 \('it'\) would take 1e\+30 s"):
        simulate(workload, SLOW, scales=scales)
    with pytest.raises(TraceError, match="would take"):
        scale(workload, scales)


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("count", [4, 10])
def test_nodes_that_only_together_take_too_long_are_found(count: int, classes: bool) -> None:
    def chain(builder: GraphBuilder) -> None:
        for before in range(count):
            comp(builder, MAX_TIME_PS, *([before - 1] if before else []))

    workload = everywhere(chain)
    if count == 4:
        assert simulate(workload, SLOW, classes=classes).step_time_ps == 4 * MAX_TIME_PS
        return
    with pytest.raises(TraceError, match="the replay would take over 4,611,686 s"):
        simulate(workload, SLOW, classes=classes)


def test_a_machines_cycle_is_no_age(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(
        "name: m\nsource: made up\ncollectives: {default: ring}\ncycle_ps: 9000000000000000000\n"
        "network: [{name: l, source: made up, topology: ring, size: 2, bandwidth_GBps: 1, latency_ns: 0}]\n"
    )
    with pytest.raises(ConfigError, match=r"has cycle_ps: 9000000000000000000; expected at most"):
        read_machine(path)


@pytest.mark.parametrize(
    "options",
    [
        ["--network", "analytical"],
        ["--network", "congestion-aware"],
        ["--network", "shared-ports"],
        ["--compute", "roofline"],
        ["--scale", "it=1e30"],
    ],
)
def test_the_command_line_refuses_such_a_time(options: list[str], tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        builder.add(NodeKind.COMP, "it", duration_ps=10**12, ops=HUGE)
        coll(builder, 0, comm_bytes=HUGE)

    for number in range(4):
        write_graph(rank(number, build), tmp_path / f"t.{number}.et")
    machine = tmp_path / "slow.yaml"
    machine.write_text(
        "name: slow\nsource: made up\ncollectives: {default: ring}\n"
        "accelerator:\n"
        "  {name: a, source: made up, peak_FLOPs: {fp32: 1}, memory_Bps: 1, launch_overhead_us: 0}\n"
        "network: [{name: l, source: made up, topology: ring, size: 4, bandwidth_Bps: 1, latency_ns: 0}]\n"
    )
    result = CliRunner().invoke(main, ["replay", str(tmp_path / "t"), "--machine", str(machine), *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "would take" in result.stderr
    assert "expected at most 1,000,000 s" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("time", [np.nan, np.inf, 1.1 * MAX_TIME_PS, 2.0**64])
def test_no_float_becomes_another_time(time: float) -> None:
    with pytest.raises(TraceError, match="the second would take"):
        whole_ps(np.array([0.0, time]), ["the first", "the second"].__getitem__)
    with pytest.raises(TraceError, match="it would take"):
        whole_ps_of(time, lambda: "it")


def test_times_up_to_the_limit_are_kept() -> None:
    assert whole_ps(np.array([0.9, 1e18]), str).tolist() == [0, 10**18]
    assert whole_ps_of(1e18, str) == 10**18
    assert whole_ps_of(2.5, str, 1000) == 2000
