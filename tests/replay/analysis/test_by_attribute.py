"""A replay's work added up by an attribute of its nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from replay_cases import result_of

from chakrasim.replay.analysis.by_attribute import Share, shares
from chakrasim.replay.cli.main import main
from chakrasim.replay.results.intervals import covered_by_group_ps, covered_ps
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload, save_workload
from chakrasim.traces.errors import ConfigError, UnknownName

NAMES = {"pass": ["forward", "backward"]}


def layers(rank: int = 0, slow: int = 1, metadata: dict[str, object] | None = None) -> ExecutionGraph:
    """Two layers of 10 and 20 ps, `slow` times as long, then an all-reduce of 100 ps and a step of 5 ps.

    Each node after the one before; the all-reduce is of layer 1, the step of none.
    """
    builder = GraphBuilder(rank, metadata=metadata or {})
    launch = builder.add(NodeKind.COMP, "launch", duration_ps=1, is_cpu=True, attrs={"layer": 0, "pass": 0})
    first = builder.add(
        NodeKind.COMP,
        "layer0",
        duration_ps=10 * slow,
        ops=100,
        tensor_bytes=7,
        after=[launch],
        attrs={"layer": 0, "pass": 0},
    )
    second = builder.add(
        NodeKind.COMP,
        "layer1",
        duration_ps=20 * slow,
        ops=300,
        after=[first],
        attrs={"layer": 1, "pass": 1},
    )
    reduce = builder.add(
        NodeKind.COLL,
        "all_reduce",
        comm_kind=CommKind.ALL_REDUCE,
        comm_bytes=1000,
        after=[second],
        attrs={"layer": 1, "pass": 1},
    )
    builder.add(NodeKind.COMP, "step", duration_ps=5, after=[reduce])
    return builder.build()


def by_name(found: list[Share]) -> dict[str, Share]:
    return {share.name: share for share in found}


def test_work_is_added_up_by_value() -> None:
    found = shares(result_of(Workload.from_graphs([layers()])), "layer")
    assert [share.value for share in found] == [0, 1, None]
    assert [share.maximum for share in found] == [
        {
            "nodes": 2,
            "compute_ps": 10,
            "communication_ps": 0,
            "operations": 100,
            "bytes": 7,
            "communication_bytes": 0,
        },
        {
            "nodes": 2,
            "compute_ps": 20,
            "communication_ps": 100,
            "operations": 300,
            "bytes": 0,
            "communication_bytes": 1000,
        },
        {
            "nodes": 1,
            "compute_ps": 5,
            "communication_ps": 0,
            "operations": 0,
            "bytes": 0,
            "communication_bytes": 0,
        },
    ]
    assert [share.mean for share in found] == [share.maximum for share in found]


def test_mean_and_maximum_are_over_the_ranks() -> None:
    found = shares(result_of(Workload.from_graphs([layers(0), layers(1, slow=3)])), "layer")
    first, second, _ = found
    assert (first.ranks, first.mean["compute_ps"], first.maximum["compute_ps"]) == (2, 20, 30)
    # rank 0 is at the all-reduce from 31 ps on, the other comes at 91 ps; it takes 100 ps from then on
    assert second.maximum["communication_ps"] == 160
    assert second.mean["communication_ps"] == 130


def test_ranks_without_nodes_of_a_value_are_not_in_its_mean() -> None:
    graphs = []
    for rank in range(2):
        builder = GraphBuilder(rank)
        builder.add(NodeKind.COMP, "a", duration_ps=4, attrs={"stage": rank})
        graphs.append(builder.build())
    found = shares(result_of(Workload.from_graphs(graphs)), "stage")
    assert [(share.value, share.ranks, share.mean["compute_ps"]) for share in found] == [(0, 1, 4), (1, 1, 4)]


def test_a_rank_counts_as_often_as_it_stands_for_others() -> None:
    graphs = []
    for rank, duration_ps in ((0, 10), (1, 20)):
        builder = GraphBuilder(rank)
        builder.add(NodeKind.COMP, "a", duration_ps=duration_ps, attrs={"layer": 0})
        graphs.append(builder.build())
    workload = Workload.from_graphs(graphs, world_size=4, stands_for={0: 3, 1: 1})
    (share,) = shares(result_of(workload), "layer")
    assert (share.ranks, share.mean["compute_ps"], share.maximum["compute_ps"]) == (4, 12.5, 20)


def test_bytes_of_a_message_count_where_it_is_sent() -> None:
    graphs = []
    for rank, kind in ((0, NodeKind.SEND), (1, NodeKind.RECV)):
        builder = GraphBuilder(rank)
        builder.add(kind, "message", comm_bytes=500, peer=1 - rank, tag=0, attrs={"stage": rank})
        graphs.append(builder.build())
    sends, receives = shares(result_of(Workload.from_graphs(graphs)), "stage")
    assert (sends.maximum["communication_bytes"], receives.maximum["communication_bytes"]) == (500, 0)
    assert sends.maximum["communication_ps"] == receives.maximum["communication_ps"] == 30


def test_nodes_side_by_side_count_once() -> None:
    builder = GraphBuilder(0)
    for lane, duration_ps in (("a", 10), ("b", 6)):
        builder.add(NodeKind.COMP, "n", duration_ps=duration_ps, lane=lane, attrs={"layer": 0})
    (share,) = shares(result_of(Workload.from_graphs([builder.build()])), "layer")
    assert share.maximum["compute_ps"] == 10


def test_values_that_have_names_are_called_by_them(tmp_path: Path) -> None:
    graphs = [layers(rank, metadata={"attribute_names": NAMES}) for rank in range(2)]
    found = shares(result_of(Workload.from_graphs(graphs)), "pass")
    assert [(share.value, share.name) for share in found] == [
        (0, "forward"),
        (1, "backward"),
        (None, "(none)"),
    ]
    other = layers(1, metadata={"attribute_names": {"pass": ["prefill", "decode"]}})
    differ = shares(result_of(Workload.from_graphs([graphs[0], other])), "pass")
    assert [share.name for share in differ] == ["0", "1", "(none)"]


def test_an_attribute_that_is_not_there_names_those_that_are() -> None:
    result = result_of(Workload.from_graphs([layers()]))
    with pytest.raises(UnknownName, match=r"'layers'; did you mean 'layer'\? \(known: layer, pass\)"):
        shares(result, "layers")
    builder = GraphBuilder(0)
    builder.add(NodeKind.COMP, "a", duration_ps=1)
    bare = result_of(Workload.from_graphs([builder.build()]))
    with pytest.raises(ConfigError, match="have no whole-number attributes"):
        shares(bare, "layer")


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 8)),
        max_size=20,
    )
)
def test_unions_by_group_are_those_of_each_group(intervals: list[tuple[int, int, int]]) -> None:
    groups, starts, lengths = np.array(intervals, dtype=np.int64).reshape(-1, 3).T
    ends = starts + lengths
    found = covered_by_group_ps(groups, starts, ends, 4)
    assert found.tolist() == [covered_ps(starts[groups == g], ends[groups == g]) for g in range(4)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-1, 3)), min_size=1, max_size=20))
def test_on_one_lane_the_parts_make_up_the_whole(nodes: list[tuple[int, int]]) -> None:
    builder = GraphBuilder(0)
    for duration_ps, layer in [*nodes, (1, 0)]:
        attrs = {} if layer < 0 else {"layer": layer}
        builder.add(NodeKind.COMP, "n", duration_ps=duration_ps, ops=duration_ps * 3, attrs=attrs)
    result = result_of(Workload.from_graphs([builder.build()]))
    found = shares(result, "layer")
    assert sum(share.maximum["compute_ps"] for share in found) == result.ranks[0].compute_ps
    assert sum(share.maximum["operations"] for share in found) == 3 * result.ranks[0].compute_ps
    assert sum(share.maximum["nodes"] for share in found) == len(nodes) + 1


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_replay_shows_the_table_and_the_json(tmp_path: Path) -> None:
    graphs = [layers(rank, metadata={"attribute_names": NAMES}) for rank in range(2)]
    save_workload(Workload.from_graphs(graphs), tmp_path, "step")
    out = run("replay", tmp_path, "--by", "pass").stdout
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("By pass"))
    assert [line.split()[0] for line in lines[at + 4 : at + 7]] == ["forward", "backward", "(none)"]
    by = orjson.loads(run("replay", tmp_path, "--by", "pass", "--json").stdout)["by"]
    assert by["attribute"] == "pass"
    forward = by["values"][0]
    assert (forward["value"], forward["name"], forward["ranks"]) == (0, "forward", 2)
    assert (forward["compute_mean_ns"], forward["operations_max"], forward["bytes_mean"]) == (0.01, 100, 7)
    assert by["values"][-1]["value"] is None
    text = (Path(__file__).parents[3] / "docs/json.md").read_text()
    assert not {key for key in {"by", *by, *forward} if f"`{key}`" not in text}


def test_without_the_option_nothing_is_added_up(tmp_path: Path) -> None:
    assert "by" not in orjson.loads(run("replay", "--json").stdout)


def test_an_unknown_attribute_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    save_workload(Workload.from_graphs([layers()]), tmp_path, "step")
    result = run("replay", tmp_path, "--by", "micro_batch")
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        "chakrasim: error: no whole-number attribute of nodes 'micro_batch' (known: layer, pass)"
    )


def test_a_profilers_own_attributes_serve_too() -> None:
    found = orjson.loads(run("replay", "sample:ddp_transformer", "--by", "segment", "--json").stdout)["by"]
    assert found["values"][-1]["value"] is None
    assert [entry["value"] for entry in found["values"][:-1]] == sorted(
        entry["value"] for entry in found["values"][:-1]
    )


def test_of_many_values_the_longest_are_shown(tmp_path: Path) -> None:
    builder = GraphBuilder(0)
    for layer in range(50):
        duration_ps = (50 - layer) * 1_000_000
        builder.add(NodeKind.COMP, "n", duration_ps=duration_ps, attrs={"layer": layer})
    save_workload(Workload.from_graphs([builder.build()]), tmp_path, "step")
    out = run("replay", tmp_path, "--by", "layer").stdout
    assert "… and 10 more values (--json lists them all)" in out
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("By layer"))
    assert [line.split()[0] for line in lines[at + 4 : at + 44]] == [str(layer) for layer in range(40)]
