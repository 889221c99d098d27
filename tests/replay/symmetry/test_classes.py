"""Ranks that do the same are replayed once, and nothing comes out different for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from class_cases import astra_sim_ring, random_job, random_machine
from click.testing import CliRunner
from replay_cases import coll, comp, rank, recv, send

from chakrasim.converters.synthetic.transformer import Model, Plan, generate_training
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.report.result.symmetry_table import document
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate, simulate_many
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload, save_workload
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import CLOCK

MODEL = Model("m", "made up", 8, 256, 8, 4, 32, 1024, True, 1024, False, 256)


def compared(workload: Workload, machine: Machine, **options: Any) -> Result:
    """The result with classes, which is to the bit that without."""
    options = {"compute": "measured", **options}
    result, every = (simulate(workload, machine, classes=on, **options) for on in (True, False))
    assert every.classes.is_whole
    np.testing.assert_array_equal(result.starts_ps, every.starts_ps)
    np.testing.assert_array_equal(result.ends_ps, every.ends_ps)
    assert json_document(result) == json_document(every)
    assert result.has_recorded_rendezvous == every.has_recorded_rendezvous
    return result


def explained(result: Result) -> list[str]:
    """Why each class but the first is one of its own."""
    found = document(result.classes)["classes"]
    assert [one["replayed"] for one in found] == list(result.classes.representatives)
    assert sorted(rank for one in found for rank in one["ranks"]) == list(result.workload.ranks)
    for place, one in enumerate(found[1:], 1):
        assert one["unlike"] in result.classes.representatives[:place]
    return [one["because"] for one in found[1:]]


@pytest.mark.parametrize("seed", range(150))
def test_random_jobs_come_out_the_same(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    workload = random_job(random, 256 if seed % 10 == 0 else 64).workload()
    machine = random_machine(random, workload.world_size, tmp_path)
    network = str(random.choice(["analytical", "analytical", "measured", "recorded"]))
    scales = Scales(patterns=(("comp", 1.5),)) if random.random() < 0.2 else Scales()
    result = compared(workload, machine, network=network, scales=scales)
    assert all(explained(result))


def job(ranks: int, build: Callable[[GraphBuilder], object], *groups: list[int]) -> Workload:
    """The same graph for each rank, which knows its first group as `mine`."""
    graphs = []
    for number in range(ranks):
        own = next((group for group in groups if number in group), None)
        graphs.append(rank(number, build, groups={"mine": own} if own else {}))
    return Workload.from_graphs(graphs, world_size=ranks)


def test_ranks_that_do_the_same_are_one_class() -> None:
    result = compared(job(16, lambda b: coll(b, comp(b, 5))), load_machine("hgx-h100"))
    assert result.classes.representatives == (0,)
    assert result.classes.ranks_of(0) == tuple(range(16))
    assert len(result.replayed.program) == 2
    assert len(result.program) == 32


def test_a_straggler_is_a_class_of_its_own() -> None:
    # The others still do the same: all of them wait for it.
    workload = job(8, lambda b: coll(b, comp(b, 9_000_000 if b.rank == 5 else 5_000_000)))
    result = compared(workload, load_machine("hgx-h100"))
    assert result.classes.representatives == (0, 5)
    assert explained(result) == ["node 0 ('comp') takes 9 us, on rank 0 5 us"]


def test_whoever_meets_a_straggler_is_like_no_other() -> None:
    # Groups of two; those of rank 5's neighbour wait, the others don't.
    workload = job(
        8,
        lambda b: coll(b, comp(b, 9 if b.rank == 5 else 5), group="mine"),
        *([first, first + 1] for first in range(0, 8, 2)),
    )
    result = compared(workload, load_machine("hgx-h100"))
    assert [result.classes.ranks_of(n) for n in range(3)] == [(0, 1, 2, 3, 6, 7), (4,), (5,)]
    assert explained(result)[0] == (
        "in its group 'mine (4,5)' it meets rank 5, which has no like in 'mine (0,1)' of rank 0"
    )


def test_a_group_across_hosts_isn_t_like_one_inside() -> None:
    # hosts of eight
    groups = [[0, 1], [2, 3], [4, 5], [6, 8], [7, 9], [10, 11], [12, 13], [14, 15]]
    result = compared(job(16, lambda b: coll(b, group="mine"), *groups), load_machine("hgx-h100"))
    assert result.classes.ranks_of(1) == (6, 7, 8, 9)
    assert explained(result) == [
        "its group 'mine (6,8)' lies otherwise on the machine than 'mine (0,1)' of rank 0"
    ]
    # on one switch they are all the same
    assert len(compared(result.workload, load_machine("ethernet-10g")).classes) == 1


def test_stages_of_a_pipeline_are_classes() -> None:
    # Eight stages with two ranks each, that pass something on: graphs alone tell the ends from the middle.
    def build(b: GraphBuilder) -> None:
        last = [recv(b, b.rank - 2)] if b.rank >= 2 else []
        last = [comp(b, 1_000_000, *last)]
        if b.rank < 14:
            send(b, b.rank + 2, *last)

    result = compared(job(16, build), load_machine("ethernet-10g"))
    assert [result.classes.ranks_of(n) for n in range(8)] == [(2 * n, 2 * n + 1) for n in range(8)]
    assert explained(result)[:2] == [
        "it has 3 nodes, rank 0 2; the first that isn't alike is node 0 ('recv')",
        "node 0 ('recv') is a message from rank 2, which isn't like rank 0, with which rank 2 exchanges it",
    ]


def test_a_message_over_another_way_isn_t_like_one_inside_a_host() -> None:
    def build(b: GraphBuilder) -> None:
        send(b, b.rank ^ 1 if b.rank not in (6, 7, 8, 9) else 14 - b.rank + (b.rank % 2) * 2)
        recv(b, b.rank ^ 1 if b.rank not in (6, 7, 8, 9) else 14 - b.rank + (b.rank % 2) * 2)

    result = compared(job(16, build), load_machine("hgx-h100"))
    assert result.classes.ranks_of(1) == (6, 7, 8, 9)
    assert explained(result)[0].startswith("node 0 ('send') is a message to rank 8 and takes ")


def test_a_rank_may_meet_its_own_class_in_two_places() -> None:
    # Each rank shares a group with the next one and one with the one before: all do the same, and the one
    # that is replayed meets itself.
    def build(b: GraphBuilder) -> None:
        comp(b, 3_000_000, coll(b, comp(b, 7_000_000, lane="x"), group="next", lane="a"))
        coll(b, comp(b, 4_000_000, lane="y"), group="before", lane="b")

    graphs = [rank(n, build, groups={"next": [n, (n + 1) % 6], "before": [(n - 1) % 6, n]}) for n in range(6)]
    shared = {f"pair {n}": [n, (n + 1) % 6] for n in range(6)}
    workload = Workload.from_graphs(
        [
            renamed(graph, {"next": f"pair {graph.rank}", "before": f"pair {(graph.rank - 1) % 6}"})
            for graph in graphs
        ],
        groups=shared,
    )
    result = compared(workload, load_machine("ethernet-10g"))
    assert len(result.classes) == 1
    meeting = result.replayed.program.members()[1].tolist()
    assert len(meeting) == 2


def renamed(graph: ExecutionGraph, names: dict[str, str]) -> ExecutionGraph:
    return replace(graph, group_names=tuple(names[name] for name in graph.group_names), groups={})


def test_ranks_that_don_t_come_make_the_same_deadlock() -> None:
    # Rank 3 lacks the second collective.
    def build(b: GraphBuilder) -> None:
        first = coll(b)
        if b.rank != 3:
            coll(b, first)

    result = compared(job(4, build), load_machine("ethernet-10g"))
    assert result.deadlock is not None
    assert result.classes.why_all == "the members of group 'world' don't issue the same collectives"


def test_ranks_that_never_come_make_the_same_deadlock() -> None:
    result = compared(
        job(4, lambda b: comp(b, 5) if b.rank == 3 else coll(b, comp(b, 5))), load_machine("ethernet-10g")
    )
    assert result.deadlock is not None
    assert result.classes.why_all == "not all members of group 'world' take part in its collectives"


def test_a_message_that_nobody_sends_makes_the_same_deadlock() -> None:
    def build(b: GraphBuilder) -> None:
        send(b, b.rank ^ 1)
        recv(b, b.rank ^ 1)
        if b.rank == 2:
            recv(b, 3, comp(b, 5))

    result = compared(job(4, build), load_machine("ethernet-10g"))
    assert result.deadlock is not None
    assert result.classes.why_all == "a message of rank 2 has one end only"


def test_which_message_comes_first_tells_ranks_apart() -> None:
    # Ranks 0 and 1 send one message early and one late. Rank 3 has the late one in the row in which rank 2
    # has the early one. Tags, which tell them apart, are no difference by themselves.
    def build(b: GraphBuilder) -> None:
        if b.rank < 2:
            send(b, b.rank + 2, tag=7)
            send(b, b.rank + 2, comp(b, 90_000_000), tag=8)
        else:
            for tag in (7, 8) if b.rank == 2 else (8, 7):
                comp(b, 5, recv(b, b.rank - 2, tag=tag))

    result = compared(job(4, build), load_machine("ethernet-10g"))
    assert len(result.classes) == 4
    assert explained(result)[-1] == (
        "node 0 ('recv') is a message from rank 1, which meets another node there than that of rank 2 from "
        "rank 0"
    )


def test_the_root_of_a_recorded_broadcast_is_like_nobody_else() -> None:
    # Ranks 0 and 2 were recorded alike, long before the others came. Only rank 2, the root, hadn't waited.
    def build(b: GraphBuilder) -> None:
        start_ps = 20_000_000 * (b.rank % 2)
        last = [comp(b, start_ps)] if start_ps else []
        options = {"comm_kind": CommKind.BROADCAST, "peer": 2, "start_ps": start_ps, "duration_ps": 4_000_000}
        comp(b, 7, coll(b, *last, **options))

    graphs = [rank(n, build, metadata={CLOCK: 0}) for n in range(4)]
    workload, machine = Workload.from_graphs(graphs), load_machine("hgx-h100")
    result = compared(workload, machine, network="measured")
    assert [result.classes.ranks_of(n) for n in range(3)] == [(0,), (1, 3), (2,)]
    assert [int(result.ends_ps[result.rows(n)][-1]) for n in (0, 2)] == [20_000_007, 4_000_007]
    assert explained(result)[-1] == "it is the root of node 0 ('all_reduce')"
    assert len(compared(workload, machine).classes) == 2


def test_a_recorded_meeting_of_one_class_is_still_one_of_several_ranks() -> None:
    def build(b: GraphBuilder) -> None:
        coll(b, start_ps=0, duration_ps=4_000_000)

    graphs = [rank(n, build, metadata={CLOCK: 0}) for n in range(4)]
    result = compared(Workload.from_graphs(graphs), load_machine("hgx-h100"), network="measured")
    assert len(result.classes) == 1
    assert result.has_recorded_rendezvous


def test_notes_count_every_rank() -> None:
    def build(b: GraphBuilder) -> None:
        b.add(NodeKind.COMP, "untyped", ops=10**9)

    result = compared(job(4, build), load_machine("hgx-h100"), compute="roofline")
    assert len(result.classes) == 1
    assert any("4 of them" in note for note in result.notes), result.notes


def test_by_the_rules_of_astra_sim_recorded_times_are_replayed_for_all(tmp_path: Path) -> None:
    # Ends at one instant have an order there, which depends on the ranks' numbers.
    machine = astra_sim_ring(tmp_path, 4)
    workload = job(4, lambda b: coll(b, duration_ps=10_000))
    assert "order" in compared(workload, machine, network="measured").classes.why_all
    assert len(compared(workload, machine).classes) == 1


@pytest.mark.parametrize("network", ["shared-ports", "congestion-aware"])
def test_where_messages_meet_every_rank_is_replayed(network: str) -> None:
    result = compared(job(4, lambda b: coll(b)), load_machine("ethernet-10g"), network=network)
    assert result.classes.is_whole
    assert document(result.classes)["every_rank_because"].endswith("messages of different ranks meet")


@pytest.mark.parametrize(
    "plan",
    [
        Plan(tensor=2, pipeline=4, data=4, global_batch=16),
        Plan(tensor=8, data=4, sharding="zero3", global_batch=8),
        Plan(pipeline=2, virtual_stages=2, data=4, context=2, global_batch=32),
    ],
)
def test_the_stages_of_a_generated_job_are_its_classes(plan: Plan) -> None:
    made = generate_training(MODEL, plan)
    everyone = made.complete_for(None)
    assert len(everyone.graphs) == everyone.world_size > len(made.graphs)
    result = compared(everyone, load_machine("hgx-h100"), compute="roofline")
    # the generator tells places in a ring of context parallelism apart, which do the same
    assert len(result.classes) == plan.pipeline
    assert result.step_time_ps == simulate(made, load_machine("hgx-h100"), compute="roofline").step_time_ps


def test_scales_by_name_tell_ranks_apart_that_only_names_do() -> None:
    def build(b: GraphBuilder) -> None:
        b.add(NodeKind.COMP, "even" if b.rank % 2 == 0 else "odd", duration_ps=10)

    workload, machine = job(4, build), load_machine("ethernet-10g")
    assert len(compared(workload, machine).classes) == 1
    slower = compared(workload, machine, scales=Scales(patterns=(("odd", 2.0),)))
    assert len(slower.classes) == 2
    assert slower.ends_ps.tolist() == [10, 20, 10, 20]
    assert explained(slower) == ["node 0 ('odd') takes 20 ps, on rank 0 10 ps"]


def test_several_machines_have_classes_of_their_own() -> None:
    groups = [[0, 1], [2, 3], [4, 5], [6, 8], [7, 9], [10, 11], [12, 13], [14, 15]]
    workload = job(16, lambda b: coll(b, comp(b, 5), group="mine"), *groups)
    machines = [load_machine(name) for name in ("hgx-h100", "ethernet-10g", "dgx-a100")]
    found = simulate_many(workload, machines, compute="measured")
    assert [len(result.classes) for result in found] == [2, 1, 2]
    for result, machine in zip(found, machines, strict=True):
        alone = simulate(workload, machine, compute="measured", classes=False)
        np.testing.assert_array_equal(result.ends_ps, alone.ends_ps)


def test_the_command_line_explains(tmp_path: Path) -> None:
    save_workload(job(8, lambda b: coll(b, comp(b, 9_000_000 if b.rank == 5 else 5_000_000))), tmp_path)
    arguments = ["replay", str(tmp_path), "--machine", "hgx-h100"]

    def run(*more: str) -> str:
        found = CliRunner().invoke(main, [*arguments, *more])
        assert found.exit_code == 0, found.output
        return found.output

    shown = run("--explain-symmetry")
    assert "Rank classes: 2 of 8 ranks are replayed, 4 of 16 nodes" in shown
    assert "node 0 ('comp') takes 9 us, on rank 0 5 us" in shown
    assert "since it was asked for" in run("--explain-symmetry", "--no-classes")
    plain = orjson.loads(run("--json"))
    assert plain == orjson.loads(run("--json", "--no-classes"))
    symmetry = orjson.loads(run("--json", "--explain-symmetry"))["symmetry"]
    assert symmetry["classes"][1] == {
        "replayed": 5,
        "size": 1,
        "ranks": [5],
        "unlike": 0,
        "because": "node 0 ('comp') takes 9 us, on rank 0 5 us",
    }
    several = CliRunner().invoke(main, [*arguments, "--machine", "dgx-a100", "--explain-symmetry"])
    assert several.exit_code == 2
    assert "--explain-symmetry shows one replay; give one --machine" in several.output
