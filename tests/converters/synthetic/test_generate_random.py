"""Random workloads: valid, without deadlock, and the same for the same seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.synthetic.micro.random_graphs import RandomPlan, generate_random
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload
from chakrasim.traces.workload_files import save_workload

plans = st.builds(
    RandomPlan,
    ranks=st.integers(1, 9),
    operations=st.integers(0, 150),
    communication=st.floats(0, 1),
    messages=st.floats(0, 1),
    groups=st.integers(0, 5),
    max_bytes=st.sampled_from([0, 1, 10**6, 10**9]),
    seed=st.integers(0, 2**63 - 1),
)


def of_kind(workload: Workload, kind: NodeKind) -> list[tuple[ExecutionGraph, int]]:
    return [
        (graph, int(row)) for graph in workload.graphs.values() for row in np.flatnonzero(graph.kinds == kind)
    ]


@pytest.mark.slow
@settings(max_examples=60)
@given(plans, st.sampled_from(["analytical", "shared-ports", "congestion-aware"]))
def test_every_seed_is_valid_and_replays_without_deadlock(plan: RandomPlan, network: str) -> None:
    workload = generate_random(plan)
    assert workload.world_size == plan.ranks
    assert check_workload(workload) == []
    machine = load_machine("dgx-a100")
    for compute in ("measured", "roofline"):
        simulate(workload, machine, compute=compute, network=network)


@settings(max_examples=60)
@given(plans)
def test_what_is_sent_is_received(plan: RandomPlan) -> None:
    workload = generate_random(plan)
    sent = Counter(
        (graph.rank, int(graph.peers[row]), int(graph.tags[row]), int(graph.comm_bytes[row]))
        for graph, row in of_kind(workload, NodeKind.SEND)
    )
    received = Counter(
        (int(graph.peers[row]), graph.rank, int(graph.tags[row]), int(graph.comm_bytes[row]))
        for graph, row in of_kind(workload, NodeKind.RECV)
    )
    assert sent == received
    assert all(source != target for source, target, _, _ in sent)


@settings(max_examples=60)
@given(plans)
def test_every_operation_is_there_once(plan: RandomPlan) -> None:
    workload = generate_random(plan)
    kernels = len(of_kind(workload, NodeKind.COMP))
    sends = len(of_kind(workload, NodeKind.SEND))
    members: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    for graph, row in of_kind(workload, NodeKind.COLL):
        group = graph.group_name(row) or ""
        name = graph.name(row)
        sizes[name] = len(graph.groups[group]) if group in graph.groups else plan.ranks
        members[name] += 1
    assert members == sizes
    assert kernels + sends + len(members) == plan.operations


def test_the_share_of_communication_is_what_was_asked_for() -> None:
    plan = RandomPlan(operations=4000, communication=0.25, messages=0.6)
    workload = generate_random(plan)
    kernels = len(of_kind(workload, NodeKind.COMP))
    sends = len(of_kind(workload, NodeKind.SEND))
    # five standard deviations of a binomial distribution
    assert abs(kernels - 3000) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    assert abs(sends - 600) < 5 * (4000 * 0.15 * 0.85) ** 0.5
    only = generate_random(RandomPlan(operations=50, communication=1, messages=1))
    assert len(of_kind(only, NodeKind.SEND)) == 50


def test_a_seed_gives_the_same_bytes_for_ever(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for path in save_workload(generate_random(RandomPlan(seed=2024)), tmp_path / "once"):
        digest.update(path.read_bytes())
    again = save_workload(generate_random(RandomPlan(seed=2024)), tmp_path / "again")
    assert hashlib.sha256(b"".join(path.read_bytes() for path in again)).digest() == digest.digest()
    # Of the drawn numbers alone: files may get new attributes, the draws may not change.
    drawn = hashlib.sha256()
    for graph in generate_random(RandomPlan(seed=2024)).graphs.values():
        for column in (
            graph.kinds,
            graph.durations_ps,
            graph.ops,
            graph.comm_bytes,
            graph.peers,
            graph.parents,
        ):
            drawn.update(np.asarray(column, dtype="<i8").tobytes())
    assert drawn.hexdigest()[:16] == "fdba3ebe456d4cd5"


def test_other_seeds_give_other_workloads() -> None:
    totals = {
        sum(int(g.ops.sum()) for g in generate_random(RandomPlan(seed=s)).graphs.values()) for s in range(20)
    }
    assert len(totals) == 20


@pytest.mark.parametrize(
    "plan",
    [
        RandomPlan(ranks=0),
        RandomPlan(operations=-1),
        RandomPlan(communication=1.5),
        RandomPlan(messages=-0.1),
        RandomPlan(communication=float("nan")),
        RandomPlan(seed=-1),
        RandomPlan(seed=2**63),
        RandomPlan(max_bytes=10**18),
        RandomPlan(operations=10**9),
    ],
)
def test_numbers_that_cant_be_are_refused(plan: RandomPlan) -> None:
    with pytest.raises(ConfigError):
        generate_random(plan)


def test_the_command_writes_what_can_be_replayed(tmp_path: Path) -> None:
    arguments = [
        "generate",
        "random",
        "--seed",
        "3",
        "--ranks",
        "5",
        "--operations",
        "80",
        "-o",
        str(tmp_path),
    ]
    run = CliRunner().invoke(main, [*arguments, "--json"])
    assert run.exit_code == 0, run.output
    assert orjson.loads(run.stdout)["world_size"] == 5
    run = CliRunner().invoke(main, ["replay", str(tmp_path), "--machine", "dgx-a100", "--json"])
    assert run.exit_code == 0, run.output
