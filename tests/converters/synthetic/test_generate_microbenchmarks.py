"""Microbenchmarks: who runs what with whom, and how long it takes on a machine worked by hand."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.converters.synthetic.micro.collective import generate_collective
from chakrasim.converters.synthetic.micro.microbenchmarks import (
    generate_halo,
    generate_ping_pong,
    generate_pipeline,
    generate_sweep,
)
from chakrasim.converters.synthetic.micro.patterns import Pattern, rounds, size_series
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.workload import Workload

US = 10**6


@pytest.fixture
def line(tmp_path: Path) -> Machine:
    """Every link 1 GB/s, a message 1 us more: a kilobyte takes 2 us."""
    path = tmp_path / "line.yaml"
    path.write_text(
        "name: line\nsource: made up\nnetwork:\n"
        "  - {name: wire, source: made up, topology: fully_connected, size: any, bandwidth_GBps: 1, "
        "latency_ns: 1000}\n"
        "collectives: {default: ring}\n"
    )
    return load_machine(str(path))


def step_us(workload: Workload, machine: Machine) -> float:
    return json_document(simulate(workload, machine))["step_time_ns"] / 1000


def messages(workload: Workload) -> Counter[tuple[int, int, int, int]]:
    """Sends by source, target, tag and bytes; that receives are the same ones is checked here."""
    found: dict[NodeKind, Counter[tuple[int, int, int, int]]] = {}
    for kind in (NodeKind.SEND, NodeKind.RECV):
        found[kind] = Counter()
        for rank, graph in workload.graphs.items():
            for row in np.flatnonzero(graph.kinds == kind).tolist():
                ends = (rank, int(graph.peers[row]))
                source, target = ends if kind == NodeKind.SEND else ends[::-1]
                found[kind][source, target, int(graph.tags[row]), int(graph.comm_bytes[row])] += 1
    assert found[NodeKind.SEND] == found[NodeKind.RECV]
    return found[NodeKind.SEND]


def test_sizes_go_up_by_a_factor_to_the_last_that_fits() -> None:
    assert size_series(1000, 8000) == [1000, 2000, 4000, 8000]
    assert size_series(1000, 7999) == [1000, 2000, 4000]
    assert size_series(4, 10, 1.5) == [4, 6, 9]
    assert size_series(1, 4, 1.1) == [1, 2, 3, 4]
    assert size_series(5, 5) == [5]


@pytest.mark.parametrize(
    "arguments",
    [(0, 10, 2), (10, 5, 2), (1, 10, 1), (1, 10, 0.5), (1, 10**15, 1.0000000001), (1, 9, float("nan"))],
)
def test_a_series_of_sizes_that_never_ends_is_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ConfigError):
        size_series(*arguments)


def test_patterns_of_eight_ranks() -> None:
    assert rounds(Pattern.parse("all"), 8) == [[(0, 1, 2, 3, 4, 5, 6, 7)]]
    assert rounds(Pattern.parse("consecutive:4"), 8) == [[(0, 1, 2, 3), (4, 5, 6, 7)]]
    assert rounds(Pattern.parse("strided:4"), 8) == [[(0, 2, 4, 6), (1, 3, 5, 7)]]
    assert rounds(Pattern.parse("strided:2"), 8) == [[(0, 4), (1, 5), (2, 6), (3, 7)]]


@given(st.integers(2, 40))
def test_every_two_ranks_meet_once_and_none_twice_in_a_round(ranks: int) -> None:
    found = rounds(Pattern("pairs"), ranks)
    assert len(found) == ranks - 1 + ranks % 2
    for pairs in found:
        members = [rank for pair in pairs for rank in pair]
        assert len(set(members)) == len(members) == ranks - ranks % 2
    assert sorted(pair for pairs in found for pair in pairs) == list(combinations(range(ranks), 2))


@pytest.mark.parametrize("text", ["some", "all:2", "consecutive", "consecutive:0", "strided:x", "pairs:2"])
def test_a_pattern_that_isnt_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Pattern.parse(text)


@pytest.mark.parametrize("pattern", ["all", "consecutive:3", "strided:2", "pairs"])
def test_a_sweep_runs_every_kind_and_size_in_every_group(pattern: str) -> None:
    sizes = [1000, 4000]
    workload = generate_sweep(list(CommKind), sizes, 6, Pattern.parse(pattern), repeat=2)
    assert check_workload(workload) == []
    by_round = rounds(Pattern.parse(pattern), 6)
    for rank, graph in workload.graphs.items():
        mine = sum(rank in group for groups in by_round for group in groups)
        is_point = np.array([name != "between" for name in graph.names])[graph.name_ids]
        points = Counter(
            zip(graph.comm_kinds[is_point].tolist(), graph.comm_bytes[is_point].tolist(), strict=True)
        )
        assert points == {
            (int(kind), size): 2 * mine
            for kind in CommKind
            for size in ([0] if kind == CommKind.BARRIER else sizes)
        }
    simulate(workload, load_machine("dgx-a100"))


def test_a_sweep_over_all_ranks_is_its_collectives_one_after_the_other() -> None:
    machine = load_machine("hgx-h100")
    sizes = [1 << 10, 1 << 20]
    sweep = generate_sweep([CommKind.ALL_REDUCE], sizes, 8)
    alone = [generate_collective(CommKind.ALL_REDUCE, size, 8) for size in sizes]
    assert step_us(sweep, machine) == pytest.approx(sum(step_us(one, machine) for one in alone), abs=1e-6)


def test_groups_that_run_at_the_same_time_wait_for_each_other_between_sizes() -> None:
    graph = generate_sweep([CommKind.ALL_REDUCE], [8, 16], 4, Pattern("consecutive", 2)).graphs[3]
    assert [graph.name(row) for row in range(3)] == ["all-reduce.8B", "between", "all-reduce.16B"]
    assert [graph.group_name(row) for row in (0, 2)] == ["consecutive 1"] * 2
    assert graph.groups["consecutive 1"] == (2, 3)
    assert graph.comm_kinds[1] == CommKind.BARRIER


def test_ranks_of_one_group_share_columns() -> None:
    graphs = generate_sweep([CommKind.ALL_REDUCE], [8], 1000).graphs
    assert len(graphs) == 1000
    assert all(graph.ops is graphs[0].ops for graph in graphs.values())


def test_a_ping_pong_takes_two_messages_a_round_trip(line: Machine) -> None:
    workload = generate_ping_pong([1000, 3000], repeat=5)
    # five round trips of 2 + 2 us and five of 4 + 4 us
    assert step_us(workload, line) == 5 * 2 * 2 + 5 * 2 * 4
    assert check_workload(workload) == []
    assert len(messages(workload)) == 20


def test_a_ping_pong_of_far_ranks_leaves_the_others_idle() -> None:
    workload = generate_ping_pong([64], (5, 2), ranks=8)
    assert messages(workload) == {(5, 2, 0, 64): 1, (2, 5, 0, 64): 1}
    assert [len(graph) for graph in workload.graphs.values()] == [1, 1, 2, 1, 1, 2, 1, 1]


@given(st.integers(1, 5), st.integers(1, 6))
def test_a_pipeline_fills_and_drains(stages: int, micro_batches: int) -> None:
    machine = load_machine("dgx-a100")
    send_us = step_us(generate_pipeline(2, 1, 1000, 0), machine)
    assert 0 < send_us < 50
    workload = generate_pipeline(stages, micro_batches, 1000, 50)
    assert step_us(workload, machine) == pytest.approx(
        (stages + micro_batches - 1) * 50 + (stages - 1) * send_us, abs=1e-5
    )
    assert sum(messages(workload).values()) == (stages - 1) * micro_batches


def test_a_slow_link_paces_the_pipeline(line: Machine) -> None:
    # Two stages, messages of 11 us, of which 10 are on the wire, and compute of 3 us: the last of four comes
    # after 3 + 4 * 11 us, where a send holds its lane until it is received, and computes for 3.
    assert step_us(generate_pipeline(2, 4, 10_000, 3), line) == 3 + 4 * 11 + 3


def test_a_ring_sends_to_both_neighbours() -> None:
    sent = messages(generate_halo((4,), 100))
    assert sent == {(r, (r + by) % 4, tag, 100): 1 for r in range(4) for by, tag in ((1, 0), (-1, 1))}


def test_a_halo_exchange_in_two_dimensions() -> None:
    #  0 1 2
    #  3 4 5
    sent = messages(generate_halo((2, 3), 100, is_periodic=False))
    edges = {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}
    assert {(source, target) for source, target, _, _ in sent} == edges | {(b, a) for a, b in edges}
    assert sum(sent.values()) == 2 * len(edges)


@pytest.mark.slow
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.booleans())
def test_any_halo_exchange_is_valid_and_ends(grid: list[int], repeat: int, is_periodic: bool) -> None:
    workload = generate_halo(grid, 1000, repeat, 5, is_periodic=is_periodic)
    assert check_workload(workload) == []
    faces = sum(2 * np.prod(grid) // n * ((n if is_periodic else n - 1) if n > 1 else 0) for n in grid)
    assert sum(messages(workload).values()) == faces * repeat
    simulate(workload, load_machine("dgx-a100"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: generate_sweep([], [8], 2),
        lambda: generate_sweep([CommKind.REDUCE], [8], 0),
        lambda: generate_sweep([CommKind.REDUCE], [8], 7, Pattern("consecutive", 2)),
        lambda: generate_sweep([CommKind.REDUCE], [8], 1, Pattern("pairs")),
        lambda: generate_sweep([CommKind.REDUCE], [8], 10**4, Pattern("pairs"), repeat=100),
        lambda: generate_ping_pong([8], (1, 1)),
        lambda: generate_ping_pong([8], (0, 8), ranks=8),
        lambda: generate_ping_pong([-1]),
        lambda: generate_pipeline(0, 1, 8, 1),
        lambda: generate_pipeline(1, 1, 8, float("inf")),
        lambda: generate_halo((), 8),
        lambda: generate_halo((2, 0), 8),
        lambda: generate_halo((10**5, 10**5), 8),
    ],
)
def test_numbers_that_cant_be_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("arguments", "ranks"),
    [
        (["sweep", "--kind", "all-gather", "--kind", "barrier", "--last", "4KiB", "--ranks", "4"], 4),
        (["sweep", "--last", "2KiB", "--ranks", "4", "--pattern", "pairs"], 4),
        (["pingpong", "--pair", "0,3", "--last", "2KiB"], 4),
        (["pipeline", "--stages", "3", "--micro-batches", "2", "--size", "1MB", "--compute-us", "7"], 3),
        (["halo", "--grid", "2x2", "--size", "1MB", "--open"], 4),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_a_command_writes_can_be_replayed(arguments: list[str], ranks: int, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["generate", *arguments, "-o", str(tmp_path), "--json"])
    assert run.exit_code == 0, run.output
    assert orjson.loads(run.stdout)["world_size"] == ranks
    run = CliRunner().invoke(main, ["replay", str(tmp_path), "--machine", "dgx-a100", "--json"])
    assert run.exit_code == 0, run.output
    assert orjson.loads(run.stdout)["step_time_ns"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "--ranks", "4", "--pattern", "rings"], "no pattern 'rings'"),
        (["sweep", "--ranks", "4", "--kind", "allreduce"], "did you mean 'all-reduce'"),
        (["sweep", "--ranks", "4", "--factor", "1"], "more than 1"),
        (["pingpong", "--pair", "0-1"], "expected for example 0,8"),
        (["halo", "--grid", "4by4", "--size", "1"], "expected for example 16x8"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["generate", *arguments, "-o", str(tmp_path / "out")])
    assert run.exit_code == 2
    assert said in run.output
    assert len(run.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()
