"""Random graphs, and recorded traces, exported: they run, and what waited for what still does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import orjson
import pytest
from astra_cases import random_case, workload_of
from astra_export_reading import read_strictly, run_by_referee
from astra_sim_folders import SYSTEM
from click.testing import CliRunner
from conftest import shared_files
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.cli.main import main
from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload, load_workload
from chakrasim.traces.astra_export.export import export_for_astra_sim
from chakrasim.traces.units import PS_PER_US

US = PS_PER_US


def reachable(graph: ExecutionGraph, tokens: list[int]) -> set[tuple[int, int]]:
    """Pairs of nodes, told apart by a number they carry, of which the second waits for the first."""
    view = networkx.DiGraph()
    view.add_nodes_from(range(len(graph)))
    view.add_edges_from((int(p), row) for row in range(len(graph)) for p in graph.parents_of(row))
    return {(tokens[a], tokens[b]) for a in view for b in networkx.descendants(view, a)}


def random_graphs(seed: int, lanes: tuple[str | None, ...]) -> Workload:
    """Three ranks with the same collectives and messages in random graphs; names tell nodes apart."""
    draw = random.Random(seed)
    program = [draw.choice(["all", "pair", "message", "odd"]) for _ in range(draw.randrange(6))]
    graphs = []
    for rank in range(3):
        builder = GraphBuilder(rank, groups={"pair": [2, 0]})
        clock, chain = 0, []
        for step in [*program, "end"]:
            for _ in range(draw.randrange(4)):
                clock += draw.randrange(3 * US)
                near = draw.sample(range(len(builder)), min(len(builder), draw.randrange(3)))
                builder.add(
                    draw.choice([NodeKind.COMP, NodeKind.COMP, NodeKind.METADATA, NodeKind.INVALID]),
                    f"{len(builder)}",
                    duration_ps=draw.randrange(3 * US),
                    start_ps=draw.choice([clock, clock, -1]),
                    is_cpu=draw.random() < 0.5,
                    lane=draw.choice(lanes),
                    after=near,
                    control_after=near[:1],
                )
            chain = _add_step(builder, step, draw, lanes, chain)
        graphs.append(builder.build())
    return Workload.from_graphs(graphs)


def _add_step(
    builder: GraphBuilder, step: str, draw: random.Random, lanes: tuple[str | None, ...], chain: list[int]
) -> list[int]:
    """Add what the ranks do together; each waits for the one before, as a program's do."""
    before = draw.sample(range(len(builder)), min(len(builder), 2)) + chain
    common: dict[str, Any] = {"lane": draw.choice(lanes), "after": before, "is_cpu": draw.random() < 0.5}
    name = f"{len(builder)}"
    kinds = {"all": CommKind.ALL_REDUCE, "odd": CommKind.BARRIER, "pair": CommKind.ALL_GATHER}
    if step == "end" or (step == "pair" and builder.rank == 1) or (step == "message" and builder.rank == 2):
        return chain
    if step == "message":
        kind = (NodeKind.SEND, NodeKind.RECV)[builder.rank]
        return [builder.add(kind, name, peer=1 - builder.rank, tag=3, comm_bytes=10, **common)]
    group = "pair" if step == "pair" else None
    return [builder.add(NodeKind.COLL, name, comm_kind=kinds[step], comm_bytes=100, group=group, **common)]


@pytest.mark.slow
@given(st.integers(0, 10**9), st.booleans())
@settings(max_examples=150)
def test_random_graphs_run_and_keep_what_waits_for_what(
    tmp_path_factory: pytest.TempPathFactory, seed: int, has_lanes: bool
) -> None:
    workload = random_graphs(seed, (None, "", "a", "b") if has_lanes else (None,))
    folder = tmp_path_factory.mktemp("out")
    export = export_for_astra_sim(workload, folder)
    run_by_referee(export)
    again = load_workload(folder, groups_file=export.groups_file)
    for rank, graph in workload.graphs.items():
        written = again.graphs[rank]
        kept = [int(row) for row in np.flatnonzero(graph.kinds > NodeKind.METADATA)]
        names = [written.name(row) for row in range(len(written)) if written.name(row).isdigit()]
        assert sorted(map(int, names)) == kept
        before = {
            (a, b) for a, b in reachable(graph, list(range(len(graph)))) if a in set(kept) and b in set(kept)
        }
        tokens = [int(name) if (name := written.name(row)).isdigit() else -1 for row in range(len(written))]
        after = {(a, b) for a, b in reachable(written, tokens) if a >= 0 and b >= 0}
        assert before <= after
        if not has_lanes:
            assert before == after
        for lane in range(len(graph.lane_names)):
            on_lane = [row for row in kept if graph.lanes[row] == lane]
            assert all((a, b) in after or (b, a) in after for a in on_lane for b in on_lane if a != b)


@given(st.integers(0, 10**9))
@settings(max_examples=25)
def test_what_astra_sim_runs_is_exported_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    case = random_case(seed, backend="unaware")
    workload = workload_of(case["nodes"], case["groups"])
    export = export_for_astra_sim(workload, tmp_path_factory.mktemp("out"))
    for rank, nodes in read_strictly(export).items():
        for node, before in zip(nodes, case["nodes"][rank], strict=True):
            assert (node["id"], node["type"], node["deps"]) == (
                before["id"],
                before["type"],
                sorted(before["deps"]),
            )
            assert node["dur"] == before.get("dur", 0)
            for name in set(before["attr"]) & {"comm_type", "comm_size", "comm_dst", "comm_tag"} - {
                "comm_dst"
            }:
                assert node["attr"][name] == before["attr"][name]


FAST = "topology: [ Switch ]\nnpus_count: [ {} ]\nbandwidth: [ 1000000.0 ]\nlatency: [ 0.0 ]\n"
"""A network that takes next to no time, for ASTRA-sim and for us."""
FAST_HERE = """name: fast
source: none
network:
  - {name: net, source: none, topology: switch, size: any, bandwidth_GBps: 1000000, latency_ns: 0}
collectives:
  default: ring
"""
TRACES = ["sample:ddp_transformer", *map(str, shared_files("real_traces/megatron_tp[28]_*"))]
TRACES += ["own_traces/out_fsdp2_tp", "own_traces/out_pp"]


@pytest.mark.slow
@pytest.mark.parametrize("trace", TRACES)
def test_a_recorded_trace_takes_as_long_there_as_here(
    trace: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not trace.startswith("sample:"):
        folder = tmp_path / "traces"
        folder.mkdir()
        for file in (request.getfixturevalue("shared") / trace).glob("device.*"):
            (folder / file.name).symlink_to(file.resolve())
        trace = str(folder)
    done = CliRunner().invoke(main, ["export", trace, "-o", str(tmp_path), "--prefix", "t", "--json"])
    assert done.exit_code == 0, done.output
    document = orjson.loads(done.stdout)
    (tmp_path / "network.yml").write_text(FAST.format(document["world_size"]))
    (tmp_path / "system.json").write_bytes(orjson.dumps(SYSTEM | {"local-mem-bw": 10**6}))
    (tmp_path / "fast.yaml").write_text(FAST_HERE)
    options = ["--astra-network", str(tmp_path / "network.yml")]
    options += ["--astra-system", str(tmp_path / "system.json")]
    if document["groups_file"]:
        options += ["--astra-groups", document["groups_file"]]
    done = CliRunner().invoke(main, ["replay", document["workload_configuration"], *options, "--json"])
    assert done.exit_code == 0, done.output
    there_ns = orjson.loads(done.stdout)["step_time_ns"]
    here = simulate(open_workload(trace), load_machine(tmp_path / "fast.yaml"), network="analytical")
    assert here.step_time_ps is not None
    assert there_ns * 1000 == pytest.approx(here.step_time_ps, rel=0.01)


CASES = [path.parent for path in shared_files("oracle/cases/*/network.yml")]


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_a_recorded_run_takes_as_long_after_an_export(shared: Path, case: Path, tmp_path: Path) -> None:
    """The files of recorded runs of ASTRA-sim, exported, end on every rank when they ended before."""
    folder = shared / case
    groups = folder / "groups.json"
    workload = load_workload(folder / "t", groups_file=groups if groups.exists() else None)
    export = export_for_astra_sim(workload, tmp_path)
    again = load_workload(tmp_path / "trace", groups_file=export.groups_file)
    finishes = []
    for own, file in ((workload, groups if groups.exists() else None), (again, export.groups_file)):
        imported = read_astra_sim(
            network=folder / "network.yml",
            system=folder / "system.json",
            remote_memory=folder / "remote.json",
            groups=file,
        )
        network = "recorded" if imported.replay_only else "analytical"
        result = simulate(own, imported.machine, compute=imported.machine.compute, network=network)
        finishes.append([times.finish_ps for times in result.ranks])
    assert finishes[0] == finishes[1]
