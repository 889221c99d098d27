"""Memory of each rank over time, from what graphs say they hold, allocate and free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.analysis.memory import activations, memory_notes, memory_of_ranks
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.report.result.timeline import timeline_json
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces import ExecutionGraph, GraphBuilder, NodeKind, Workload, load_workload, save_workload
from chakrasim.traces.attributes import NodeAttributes, attribute_column
from chakrasim.traces.errors import TraceError
from chakrasim.traces.units import PS_PER_US

GB = 10**9
HELD = {"parameters": 2 * GB, "optimizer": 6 * GB}
US = PS_PER_US


def machine(memory_bytes: int | None) -> Machine:
    """A machine whose accelerators have so much memory."""
    known = load_machine("dgx-a100")
    assert known.accelerator is not None
    return replace(known, accelerator=replace(known.accelerator, memory_bytes=memory_bytes))


def step(rank: int = 0, memory: object = HELD) -> ExecutionGraph:
    """Two forward passes of 10 us that keep 3 and 1 GB, and the backward passes that free them again.

    Over time: 8 + 3 GB from 0 us, + 1 GB from 10 us, - 1 GB at 30 us, - 3 GB at 50 us.
    """
    builder = GraphBuilder(rank, metadata={} if memory is None else {"memory": memory})
    last: list[int] = []
    for name, duration_us, attrs in (
        ("forward0", 10, {"allocates": 3 * GB}),
        ("forward1", 10, {"allocates": 1 * GB}),
        ("backward1", 10, {"frees": 1 * GB}),
        ("backward0", 20, {"frees": 3 * GB}),
    ):
        node = builder.add(NodeKind.COMP, name, duration_ps=duration_us * US, after=last, attrs=attrs)
        last = [node]
    return builder.build()


def replayed(*graphs: ExecutionGraph, memory_bytes: int | None = 80 * GB) -> Result:
    return simulate(Workload.from_graphs(graphs), machine(memory_bytes))


def test_the_peak_is_what_is_held_and_the_most_that_is_allocated_at_once() -> None:
    (memory,) = memory_of_ranks(replayed(step()))
    assert memory.held == HELD
    assert memory.held_bytes == 8 * GB
    assert (memory.allocated_bytes, memory.peak_ps) == (4 * GB, 10 * US)
    assert memory.peak_bytes == 12 * GB


def test_memory_comes_at_the_start_of_a_node_and_goes_at_its_end() -> None:
    times_ps, size_bytes = activations(replayed(step()), 0)
    assert (times_ps // US).tolist() == [0, 10, 30, 50]
    assert (size_bytes // GB).tolist() == [3, 4, 3, 0]


def test_what_is_temporary_counts_too() -> None:
    builder = GraphBuilder(0, metadata={"memory": {}})
    attrs = {"allocates": 3, "allocates_temporary": 4, "frees_temporary": 4}
    first = builder.add(NodeKind.COMP, "gather", duration_ps=5, attrs=attrs)
    builder.add(NodeKind.COMP, "next", duration_ps=5, after=[first], attrs={"frees": 3})
    result = replayed(builder.build())
    assert [column.tolist() for column in activations(result, 0)] == [[0, 5, 10], [7, 3, 0]]


def test_what_is_freed_when_something_else_is_allocated_serves_it() -> None:
    builder = GraphBuilder(0, metadata={"memory": {}})
    first = builder.add(NodeKind.COMP, "a", duration_ps=5 * US, attrs={"allocates": 7, "frees": 7})
    builder.add(NodeKind.COMP, "b", duration_ps=5 * US, after=[first], attrs={"allocates": 7})
    result = replayed(builder.build())
    assert [column.tolist() for column in activations(result, 0)] == [[0], [7]]
    assert (memory_of_ranks(result)[0].allocated_bytes, memory_of_ranks(result)[0].peak_ps) == (7, 0)


@pytest.mark.parametrize("memory", [None, "80GB", 80, "[1, 2]"])
def test_a_graph_without_such_metadata_states_no_memory(memory: object) -> None:
    result = replayed(step(memory=memory))
    assert memory_of_ranks(result) == ()
    assert "memory" not in json_document(result)
    assert memory_notes(result) == []


def test_nodes_that_allocate_nothing_leave_what_is_held() -> None:
    builder = GraphBuilder(0, metadata={"memory": {"kv_cache": 5}})
    builder.add(NodeKind.COMP, "decode", duration_ps=US)
    (rank,) = json_document(replayed(builder.build()))["memory"]["ranks"]
    assert (rank["peak_bytes"], rank["allocated_bytes"], rank["peak_at_ns"]) == (5, 0, None)


@pytest.mark.parametrize(
    ("memory_bytes", "fits", "spare_bytes"),
    [(12 * GB, True, 0), (12 * GB - 1, False, -1), (80 * GB, True, 68 * GB), (None, None, None)],
)
def test_the_verdict_holds_the_peak_against_the_machine(
    memory_bytes: int | None, fits: bool | None, spare_bytes: int | None
) -> None:
    result = replayed(step(), memory_bytes=memory_bytes)
    memory = json_document(result)["memory"]
    assert (memory["capacity_bytes"], memory["fits"]) == (memory_bytes, fits)
    assert [rank["spare_bytes"] for rank in memory["ranks"]] == [spare_bytes]
    assert len(memory_notes(result)) == (fits is False)


def test_what_does_not_fit_is_replayed_and_noted_in_one_line() -> None:
    result = replayed(step(), step(1, {**HELD, "kv_cache": GB}), memory_bytes=10 * GB)
    assert result.step_time_ps == 50 * US
    note = json_document(result)["notes"][0]
    assert note.startswith(
        "2 of 2 ranks do not fit into the machine's memory: rank 1 needs 13 GB of 10 GB and lacks 3 GB"
    )


def test_ranks_that_stand_for_others_are_counted_as_those() -> None:
    workload = Workload.from_graphs([step()], world_size=8, stands_for={0: 8})
    result = simulate(workload, machine(GB))
    assert memory_notes(result)[0].startswith("8 of 8 ranks do not fit")
    assert json_document(result)["memory"]["ranks"][0]["stands_for"] == 8


def test_freeing_what_nothing_allocated_is_noted() -> None:
    builder = GraphBuilder(0, metadata={"memory": {}})
    builder.add(NodeKind.COMP, "a", duration_ps=US, attrs={"frees": 3 * GB})
    (note,) = memory_notes(replayed(builder.build()))
    assert "free memory that none has allocated before, up to 3 GB on rank 0" in note


@pytest.mark.parametrize(
    ("memory", "attrs", "message"),
    [
        ({"parameters": 2.5}, {}, "'parameters' is 2.5; expected bytes"),
        ({"parameters": -1}, {}, "'parameters' is -1; expected bytes"),
        ({"parameters": True}, {}, "'parameters' is True; expected bytes"),
        ({}, {"allocates": -5}, r"\('a'\) allocates -5 bytes; expected 0 or more"),
        ({}, {"allocates": 2**62}, "'allocates' of over"),
        ({}, {"frees": 2**64 - 1}, "'frees' is 18446744073709551615; expected 64 bits"),
    ],
)
def test_sizes_that_can_not_be_are_told(
    memory: dict[str, object], attrs: dict[str, int], message: str
) -> None:
    builder = GraphBuilder(0, metadata={"memory": memory})
    builder.add(NodeKind.COMP, "a", duration_ps=US, attrs=attrs)
    result = replayed(builder.build())
    with pytest.raises(TraceError, match=message):
        _ = memory_of_ranks(result)


def test_memory_of_a_rank_that_does_not_finish_is_told_as_far_as_it_came() -> None:
    builder = GraphBuilder(0, metadata={"memory": {"parameters": 1}})
    first = builder.add(NodeKind.COMP, "a", duration_ps=US, attrs={"allocates": 2})
    never = builder.add(
        NodeKind.RECV, "recv", comm_bytes=8, peer=1, tag=0, after=[first], attrs={"allocates": 4, "frees": 6}
    )
    builder.add(NodeKind.COMP, "b", duration_ps=US, after=[never], attrs={"allocates": 100})
    other = GraphBuilder(1)
    waits = other.add(NodeKind.RECV, "recv", comm_bytes=8, peer=0, tag=1)
    other.add(NodeKind.SEND, "send", comm_bytes=8, peer=0, tag=0, after=[waits])
    result = replayed(builder.build(), other.build())
    assert result.deadlock is not None
    assert [(memory.rank, memory.peak_bytes) for memory in memory_of_ranks(result)] == [(0, 7)]


@pytest.mark.parametrize("has_columns", [False, True])
def test_memory_goes_through_files(tmp_path: Path, has_columns: bool) -> None:
    graph = step()
    if has_columns:
        columns = {name: attribute_column(graph, name) for name in ("allocates", "frees")}
        graph = replace(graph, read_attributes=NodeAttributes(columns))
    save_workload(Workload.from_graphs([graph]), tmp_path, "step")
    read = load_workload(tmp_path)
    for name in ("allocates", "frees"):
        assert attribute_column(read.graphs[0], name).tolist() == attribute_column(graph, name).tolist()
    before, after = replayed(graph), simulate(read, machine(80 * GB))
    assert memory_of_ranks(after) == memory_of_ranks(before)
    # and once more, from columns that were read
    again = replace(read.graphs[0], records=None)
    save_workload(Workload.from_graphs([again]), tmp_path / "again", "step")
    assert memory_of_ranks(simulate(load_workload(tmp_path / "again"), machine(80 * GB))) == memory_of_ranks(
        before
    )


def test_attribute_columns_read_rows_columns_and_files_alike() -> None:
    graph = step()
    assert attribute_column(graph, "allocates").tolist() == [3 * GB, GB, -1, -1]
    assert attribute_column(graph, "colour").tolist() == [-1] * 4
    through_function = replace(graph, read_attributes=lambda row: {"allocates": row, "frees": True, "x": "y"})
    assert attribute_column(through_function, "allocates").tolist() == [0, 1, 2, 3]
    assert attribute_column(through_function, "frees").tolist() == [-1] * 4
    assert attribute_column(replace(graph, read_attributes=None), "frees").tolist() == [-1] * 4


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=12
    )
)
def test_the_timeline_is_what_adding_up_at_every_moment_gives(
    nodes: list[tuple[int, int, int, int]],
) -> None:
    """Nodes of a duration, on a lane, that allocate and free: against the sums by hand."""
    builder = GraphBuilder(0, metadata={"memory": {"parameters": 4}})
    for duration_ps, lane, allocates, frees in nodes:
        attrs = {"allocates": allocates, "frees": frees}
        builder.add(NodeKind.COMP, "n", duration_ps=duration_ps, lane=f"lane{lane}", attrs=attrs)
    builder.add(NodeKind.COMP, "end", lane="lane0")
    result = replayed(builder.build())
    moments = sorted({*result.starts_ps.tolist(), *result.ends_ps.tolist()})
    expected = []
    for moment in moments:
        sizes = [
            allocates * (start <= moment) - frees * (end <= moment)
            for (_, _, allocates, frees), start, end in zip(
                nodes, result.starts_ps, result.ends_ps, strict=False
            )
        ]
        expected.append(sum(sizes))
    times_ps, size_bytes = activations(result, 0)
    assert (np.diff(times_ps) > 0).all()
    at = np.searchsorted(times_ps, moments, side="right") - 1
    found = np.where(at < 0, 0, np.append(size_bytes, 0)[at])
    assert found.tolist() == expected
    (memory,) = memory_of_ranks(result)
    assert memory.allocated_bytes == max([0, *expected])
    assert memory.min_bytes == min([0, *expected])


def test_the_timeline_has_a_counter_for_ranks_that_state_memory() -> None:
    result = replayed(step(), step(1, None))
    events = orjson.loads(timeline_json(result))["traceEvents"]
    counters = [event for event in events if event["ph"] == "C"]
    assert {(event["pid"], event["name"]) for event in counters} == {(0, "memory")}
    assert [(event["ts"], event["args"]) for event in counters] == [
        (0, {"GB": 11}),
        (10, {"GB": 12}),
        (30, {"GB": 11}),
        (50, {"GB": 8}),
    ]


def test_a_counter_begins_with_what_is_held() -> None:
    builder = GraphBuilder(0, metadata={"memory": HELD})
    first = builder.add(NodeKind.COMP, "load", duration_ps=2 * US)
    builder.add(NodeKind.COMP, "forward", duration_ps=US, after=[first], attrs={"allocates": GB})
    events = orjson.loads(timeline_json(replayed(builder.build())))["traceEvents"]
    assert [(e["ts"], e["args"]["GB"]) for e in events if e["ph"] == "C"] == [(0, 8), (2, 9)]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_people_see_the_table_the_verdict_and_the_note(tmp_path: Path) -> None:
    large = {"parameters": 90 * GB}
    save_workload(Workload.from_graphs([step(), step(1, large)]), tmp_path, "step")
    out = run("replay", tmp_path, "--machine", "hgx-h100")
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("Memory (80 GB a rank)"))
    assert "parameters" in lines[at + 1]
    rows = [" ".join(line.split()) for line in lines[at + 3 : at + 5]]
    assert rows == [
        "0 2 GB 6 GB 4 GB 10 us 12 GB fits, 68 GB to spare",
        "1 90 GB 0 B 4 GB 10 us 94 GB lacks 14 GB",
    ]
    assert "1 of 2 ranks does not fit into the machine's memory: rank 1 needs 94 GB of 80 GB" in out
    shown = run("replay", "--machine", "hgx-h100")
    assert "Memory" not in shown


def test_many_ranks_are_summarised(tmp_path: Path) -> None:
    graphs = [step(i, {"parameters": (i + 1) * GB}) for i in range(20)]
    save_workload(Workload.from_graphs(graphs), tmp_path, "step")
    lines = run("replay", tmp_path, "--machine", "hgx-h100").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("Memory"))
    assert [line.split()[:3] for line in lines[at + 3 : at + 6]] == [
        ["min", "1", "GB"],
        ["median", "10.5", "GB"],
        ["max", "20", "GB"],
    ]
    assert [line.split()[:3] for line in lines[at + 6 : at + 9]] == [
        ["full:", str(rank), str(rank + 1)] for rank in (19, 18, 17)
    ]


def test_inspect_shows_what_is_held(tmp_path: Path) -> None:
    save_workload(Workload.from_graphs([step(), step(1, {"kv_cache": 3})]), tmp_path, "step")
    out = run("inspect", tmp_path)
    assert "Memory held throughout" in out
    assert ["0", "2", "GB", "6", "GB", "0", "B", "8", "GB"] in [line.split() for line in out.splitlines()]
    ranks = orjson.loads(run("inspect", tmp_path, "--json"))["ranks"]
    assert [rank["held"] for rank in ranks] == [HELD, {"kv_cache": 3}]
    assert "held" not in orjson.loads(run("inspect", "sample:ddp_transformer", "--json"))["ranks"][0]


def test_the_keys_are_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/json.md").read_text()
    memory = json_document(replayed(step()))["memory"]
    keys = {"memory", *memory, *memory["ranks"][0]}
    assert not {key for key in keys if f"`{key}`" not in text}
