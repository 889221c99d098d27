"""Text workloads of ASTRA-sim 1.0: the format, the loops as graphs, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chakrasim.converters.registry import TEXT, format_of, formats_of
from chakrasim.converters.text import convert_text, read_text
from chakrasim.replay.astra_sim.version1 import transformer_split
from chakrasim.replay.cli.main import main
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind


def write(folder: Path, header: str, *layers: str) -> Path:
    """A workload file."""
    path = folder / "workload.txt"
    path.write_text("\n".join([header, str(len(layers)), *layers]) + "\n")
    return path


def layer(name: str, fwd: str = "NONE 0", ig: str = "NONE 0", wg: str = "NONE 0", update: int = 0) -> str:
    """A layer that computes 100 ns forward, 200 for its input and 300 for its weights."""
    return f"{name} -1 100 {fwd} 200 {ig} 300 {wg} {update}"


def edges(graph: ExecutionGraph) -> dict[str, list[str]]:
    """Each node's parents, by name; a name that comes twice gets a number."""
    seen: dict[str, int] = {}
    names = []
    for row in range(len(graph)):
        name = graph.name(row)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return {names[row]: sorted(names[p] for p in graph.parents_of(row)) for row in range(len(graph))}


def test_data_parallel_backward_passes_from_the_last_layer_to_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "DATA", layer("a", wg="ALLREDUCE 64", update=7), layer("b"))
    graph = convert_text(path, sizes=[2]).graphs[1]
    assert edges(graph) == {
        "a forward": [],
        "loop tick": ["a forward"],
        "b forward": ["loop tick"],
        "loop tick 2": ["b forward"],
        "b weight gradient": ["loop tick 2"],
        "loop tick 3": ["b weight gradient"],
        "b input gradient": ["loop tick 3"],
        "loop tick 4": ["b input gradient"],
        "a weight gradient": ["loop tick 4"],
        "a weight gradient all-reduce": ["a weight gradient"],
        "update": ["a weight gradient all-reduce"],
        "loop tick 5": ["a weight gradient"],
    }
    durations_ns = {graph.name(row): int(graph.durations_ps[row]) // 1000 for row in range(len(graph))}
    assert (durations_ns["loop tick"], durations_ns["update"], durations_ns["a forward"]) == (1, 7, 100)


def test_model_parallel_waits_for_its_activations(tmp_path: Path) -> None:
    path = write(tmp_path, "MODEL", layer("a", fwd="ALLGATHER 64"), layer("b", ig="ALLREDUCE 64"))
    found = edges(convert_text(path, sizes=[2]).graphs[0])
    assert "a forward all-gather" in found["loop tick"]
    # The input gradient's collective runs beside the weight gradient; the next step waits for both.
    assert found["b input gradient all-reduce"] == ["b input gradient"]
    assert "b input gradient all-reduce" in found["loop tick 4"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("DATA", {"weight": -1}),
        ("MODEL", {"forward": -1}),
        ("HYBRID_DATA_MODEL", {"forward": 0b01, "weight": 0b10}),
        ("HYBRID_MODEL_DATA", {"forward": 0b10, "weight": 0b01}),
    ],
)
def test_which_dimensions_take_part(tmp_path: Path, kind: str, expected: dict[str, int]) -> None:
    path = write(tmp_path, kind, layer("a", fwd="ALLREDUCE 64", wg="ALLREDUCE 64"))
    graph = convert_text(path, sizes=[4, 2]).graphs[0]
    found = {
        graph.name(row).split()[1]: int(graph.involved_dims[row])
        for row in range(len(graph))
        if graph.kinds[row] == NodeKind.COLL
    }
    every = {-1: -1, 0b11: -1}
    assert {part: every.get(mask, mask) for part, mask in found.items()} == expected


def test_scales_are_single_precision_and_round_down(tmp_path: Path) -> None:
    path = write(tmp_path, "DATA", "a -1 20000001 NONE 0 1 NONE 0 1 ALLREDUCE 1001 0")
    graph = convert_text(path, sizes=[2], communication_scale=0.5).graphs[0]
    rows = {graph.name(row): row for row in range(len(graph))}
    assert graph.durations_ps[rows["a forward"]] == 20_000_000 * 1000
    assert graph.comm_bytes[rows["a weight gradient all-reduce"]] == 500
    assert graph.comm_kinds[rows["a weight gradient all-reduce"]] == CommKind.ALL_REDUCE


def test_where_a_transformers_model_parallel_group_ends() -> None:
    assert transformer_split(1, [4, 2]) == (-1, (4, 2), None)
    assert transformer_split(4, [4, 2]) == (0, (4, 2), None)
    assert transformer_split(8, [4, 16]) == (1, (4, 2, 8), 1)
    assert transformer_split(64, [4, 2]) == (-1, (4, 2), None)


def test_all_ranks_share_one_graph(tmp_path: Path) -> None:
    workload = convert_text(write(tmp_path, "DATA", layer("a", wg="ALLREDUCE 64")), sizes=[8, 8])
    assert len(workload.graphs) == 64
    assert len({id(graph.kinds) for graph in workload.graphs.values()}) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("DATTA\n1\n", "DATTA"),
        ("DATA\nmany\n", "many"),
        ("DATA\n1\na -1 100 NONE 0 200 NONE\n", "layer"),
        ("DATA\n1\na -1 fast NONE 0 200 NONE 0 300 NONE 0 1\n", "fast"),
        ("HYBRID_TRANSFORMER\n1\n", "model-parallel group"),
        ("MODEL\n1\na -1 1 ALLREDUCEALLTOALL 64 1 NONE 0 1 NONE 0 0\n", "ALLREDUCEALLTOALL"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "workload.txt"
    path.write_text(text)
    with pytest.raises(TraceError, match=problem) as error:
        convert_text(path, sizes=[2])
    assert str(path) in str(error.value)


def test_a_text_workload_is_told_from_other_files(tmp_path: Path) -> None:
    path = write(tmp_path, "HYBRID_TRANSFORMER model_parallel_NPU_group: 4", layer("a"))
    assert format_of(path).name == TEXT
    assert read_text(path).group == 4
    path.write_text("data\n")  # wrong, but what else could it be
    assert format_of(path).name == TEXT
    path.write_bytes(b"\xff\xfe\x00")
    assert formats_of(path) == []
    path.write_text("name: machine\n")
    assert formats_of(path) == []


def test_the_command_says_what_a_text_workload_needs(tmp_path: Path) -> None:
    path = write(tmp_path, "DATA", layer("a", wg="ALLREDUCE 64"))
    result = CliRunner().invoke(main, ["convert", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "--dimensions 16x8" in result.stderr
    result = CliRunner().invoke(main, ["replay", "--num-passes", "2"])
    assert result.exit_code == 2
    assert "text workloads" in result.stderr
