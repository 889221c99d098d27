"""What `export` writes is what ASTRA-sim takes: none of what stops it, and it runs to the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from astra_export_reading import read_strictly, run_by_referee
from click.testing import CliRunner

from chakrasim.replay.cli.main import main
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload, load_workload
from chakrasim.traces.astra_export.export import adapt, export_for_astra_sim
from chakrasim.traces.errors import TraceError
from chakrasim.traces.units import PS_PER_US

US = PS_PER_US


def two_ranks(build: Callable[[GraphBuilder], object], other: Callable[[GraphBuilder], object]) -> Workload:
    graphs = []
    for rank, add in enumerate((build, other)):
        builder = GraphBuilder(rank)
        add(builder)
        graphs.append(builder.build())
    return Workload.from_graphs(graphs)


def comp(builder: GraphBuilder, name: str, us: float, *after: int, **options: Any) -> int:
    return builder.add(NodeKind.COMP, name, duration_ps=round(us * US), after=after, **options)


def names_by_parent(graph: ExecutionGraph) -> set[tuple[str, str]]:
    return {(graph.name(int(p)), graph.name(row)) for row in range(len(graph)) for p in graph.parents_of(row)}


def test_the_children_of_what_is_left_out_wait_for_its_parents(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        first = comp(builder, "first", 1)
        marker = builder.add(NodeKind.INVALID, "marker", after=[first])
        text = builder.add(NodeKind.METADATA, "text", after=[marker])
        comp(builder, "last", 1, text)

    export = export_for_astra_sim(two_ranks(build, build), tmp_path)
    assert names_by_parent(load_workload(tmp_path).graphs[0]) == {("first", "last")}
    assert export.adapted.changes["nodes_removed"] == 4
    assert run_by_referee(export).finish == [2000, 2000]


def test_a_graph_without_threads_and_streams_keeps_its_ids_and_edges(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        first = comp(builder, "first", 3)
        builder.add(NodeKind.METADATA, "text")
        builder.add(NodeKind.COLL, "sum", comm_kind=0, comm_bytes=8, after=[first])
        comp(builder, "beside", 5)

    export = export_for_astra_sim(two_ranks(build, build), tmp_path)
    graph = load_workload(tmp_path).graphs[1]
    assert graph.ids.tolist() == [0, 2, 3]
    assert names_by_parent(graph) == {("first", "sum")}
    assert export.adapted.changes == {"nodes_removed": 2}
    assert export.groups_file is None


def test_rounding_carries_the_rest_along_a_lane(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        after: list[int] = []
        for number in range(10):
            after = [comp(builder, f"n{number}", 0.4, *after, lane="stream 7")]

    export_for_astra_sim(two_ranks(build, build), tmp_path)
    graph = load_workload(tmp_path).graphs[0]
    # Ends are at 0.4, 0.8, 1.2, 1.6, 2.0 …; each to the nearest whole.
    assert np.cumsum(graph.durations_ps // US).tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 4, 4]


def test_nodes_of_a_stream_follow_each_other_as_recorded(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        comp(builder, "second", 1, lane="stream 7", start_ps=5 * US)
        comp(builder, "first", 1, lane="stream 7", start_ps=2 * US)
        comp(builder, "host", 9, lane="thread", is_cpu=True, start_ps=0)

    export_for_astra_sim(two_ranks(build, build), tmp_path)
    graph = load_workload(tmp_path).graphs[0]
    assert names_by_parent(graph) == {("first", "second")}
    assert [graph.name(row) for row in range(3)] == ["first", "second", "host"]
    assert (graph.lanes == -1).all()


def test_threads_that_ran_side_by_side_end_as_recorded(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        comp(builder, "long", 10, lane="main", is_cpu=True, start_ps=0)
        comp(builder, "short", 1, lane="other", is_cpu=True, start_ps=4 * US)
        comp(builder, "later", 2, lane="other", is_cpu=True, start_ps=20 * US)

    export = export_for_astra_sim(two_ranks(build, build), tmp_path)
    graph = load_workload(tmp_path).graphs[0]
    # The host was busy from 0 to 10 and from 20 to 22; the ends were at 5, 10 and 22.
    assert [graph.name(row) for row in range(3)] == ["short", "long", "later"]
    assert (graph.durations_ps // US).tolist() == [5, 5, 2]
    assert run_by_referee(export).finish == [12_000, 12_000]


def test_what_astra_sim_lacks_is_written_as_what_it_has(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        common: dict[str, Any] = {"comm_bytes": 64, "duration_ps": 7 * US, "is_cpu": True}
        after = [comp(builder, "host", 1, is_cpu=True)]
        for kind in CommKind:
            after = [builder.add(NodeKind.COLL, kind.name, comm_kind=kind, after=after, **common)]
        opaque = builder.add(NodeKind.COLL, "opaque", after=after, attrs={"not_understood": "?"}, **common)
        memory = builder.add(NodeKind.MEM_STORE, "copy", duration_ps=3 * US, after=[opaque])
        builder.add(NodeKind.MEM_LOAD, "fetch", tensor_bytes=100, after=[memory])

    export = export_for_astra_sim(two_ranks(build, build), tmp_path)
    nodes = read_strictly(export)[0]
    kinds = [node["attr"].get("comm_type", node["type"]) for node in nodes]
    assert kinds == ["COMP", 0, 5, 2, 5, 5, 5, 6, 7, 7, 0, "COMP", "COMP", "MEM_LOAD"]
    assert [node["dur"] for node in nodes[-3:-1]] == [7, 3]
    said = " ".join(export.adapted.notes)
    for word in ("reduces", "gathers", "scatters", "barriers", "weren't understood", "remote memory"):
        assert word in said


def test_groups_get_numbers_and_so_does_the_world_beside_them(tmp_path: Path) -> None:
    """Rank 0 and 1 run one group collective more than 2: ASTRA-sim would lose the collective of all."""

    def graph(rank: int) -> ExecutionGraph:
        builder = GraphBuilder(rank)
        after: list[int] = []
        if rank < 2:
            after = [builder.add(NodeKind.COLL, "dp", comm_kind=0, comm_bytes=64, group="data parallel")]
        builder.add(NodeKind.COLL, "all", comm_kind=0, comm_bytes=64, after=after)
        return builder.build()

    workload = Workload.from_graphs([graph(r) for r in range(3)], groups={"data parallel": [1, 0]})
    export = export_for_astra_sim(workload, tmp_path, "step")
    assert export.groups_file == tmp_path / "step.groups.json"
    assert orjson.loads(export.groups_file.read_bytes()) == {"1": [1, 0], "2": [0, 1, 2]}
    assert export.adapted.group_names == {"1": "data parallel", "2": "world"}
    run_by_referee(export)


def test_ranks_that_took_groups_in_different_orders_are_brought_into_one(tmp_path: Path) -> None:
    """Each of four ranks has a row and a column collective, on two streams: half took the row first."""

    def graph(rank: int) -> ExecutionGraph:
        builder = GraphBuilder(rank)
        for order, name in enumerate(("row", "column") if rank in (0, 3) else ("column", "row")):
            builder.add(
                NodeKind.COLL,
                name,
                comm_kind=0,
                comm_bytes=64,
                group=name,
                lane=name,
                start_ps=order * US,
                duration_ps=9 * US,
            )
        return builder.build()

    pairs = {0: ([0, 1], [0, 2]), 1: ([0, 1], [1, 3]), 2: ([2, 3], [0, 2]), 3: ([2, 3], [1, 3])}
    graphs = [graph(rank) for rank in range(4)]
    named = []
    for rank, own in enumerate(graphs):
        row, column = pairs[rank]
        object.__setattr__(own, "groups", {"row": tuple(row), "column": tuple(column)})
        named.append(own)
    run_by_referee(export_for_astra_sim(Workload.from_graphs(named), tmp_path))


def test_streams_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """One stream on each rank, and the collectives of two groups on it the other way round."""

    def graph(rank: int) -> ExecutionGraph:
        builder = GraphBuilder(rank, groups={"a": [0, 1], "b": [1, 0]})
        for order, name in enumerate("ab" if rank == 0 else "ba"):
            builder.add(
                NodeKind.COLL, name, comm_kind=0, comm_bytes=64, group=name, lane="s", start_ps=order * US
            )
        return builder.build()

    with pytest.raises(TraceError, match="wait for each other in a circle"):
        export_for_astra_sim(Workload.from_graphs([graph(0), graph(1)]), tmp_path)


def test_the_command_replaces_an_export_only_when_told(tmp_path: Path) -> None:
    def export(*options: str) -> Any:
        return CliRunner().invoke(main, ["export", "sample:ddp_transformer", "-o", str(tmp_path), *options])

    (tmp_path / "ddp_transformer.groups.json").write_text('{"1": [0, 1]}')
    done = export()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "ddp_transformer.groups.json: is there already; replace it with --force" in done.stderr
    done = export("--force")
    assert done.exit_code == 0
    assert f"--workload-configuration={tmp_path}/ddp_transformer" in done.stdout
    # A file of groups that this trace doesn't need would be misleading.
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"ddp_transformer.{r}.et" for r in range(4)]
    done = export()
    assert done.exit_code == 2
    assert "already holds ddp_transformer.0.et" in done.stderr


def test_messages_meet_their_own_partners(tmp_path: Path) -> None:
    def build(builder: GraphBuilder) -> None:
        peer = 1 - builder.rank
        kind = NodeKind.SEND if builder.rank == 0 else NodeKind.RECV
        for tag in (2**31, 7, 7):
            builder.add(kind, f"{tag}", peer=peer, tag=tag, comm_bytes=0, is_cpu=True)
        comp(builder, "host", 1, is_cpu=True)

    export = export_for_astra_sim(two_ranks(build, build), tmp_path)
    nodes = read_strictly(export)
    sent, received = ([node["attr"]["comm_tag"] for node in nodes[rank][:3]] for rank in (0, 1))
    assert sorted(sent) == [0, 1, 2]
    assert sent == received
    # Statistics would abort ASTRA-sim on a host node where a rank ends in a message.
    assert nodes[1][-1]["type"] == "COMP"
    assert set(nodes[1][-1]["deps"]) == {0, 1, 2}
    run_by_referee(export)


def test_a_partial_workload_is_refused(tmp_path: Path) -> None:
    builder = GraphBuilder(0, metadata={"world_size": 4})
    comp(builder, "a", 1)
    with pytest.raises(TraceError, match=r"rank 1, 2, 3 of 4 has no trace"):
        export_for_astra_sim(Workload.from_graphs([builder.build()]), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TraceError, match="one rank only"):
        adapt(Workload.from_graphs({0: builder.build()}, world_size=1))


def test_a_file_of_groups_that_astra_sim_would_overlook_is_refused(tmp_path: Path) -> None:
    graphs = []
    for rank in range(3):
        builder = GraphBuilder(rank, groups={"few": [0, 1]})
        comp(builder, "a", 1)
        if rank < 2:
            builder.add(NodeKind.COLL, "dp", comm_kind=0, comm_bytes=64, group="few")
        graphs.append(builder.build())
    with pytest.raises(TraceError, match="'empty'"):
        export_for_astra_sim(Workload.from_graphs(graphs), tmp_path / "nonempty")


def test_one_rank_of_many_is_exported_with_mirrored_peers(shared: Path, tmp_path: Path) -> None:
    one = str(shared / "real_traces/megatron_tp2_v100/device.0.json.gz")
    refused = CliRunner().invoke(main, ["export", one, "-o", str(tmp_path)])
    assert refused.exit_code == 2
    assert "--mirror" in refused.output
    done = CliRunner().invoke(main, ["export", one, "-o", str(tmp_path), "--mirror"])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in tmp_path.glob("*.et")) == ["device.0.et", "device.1.et"]
