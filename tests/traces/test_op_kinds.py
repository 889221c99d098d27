"""What a node does, `op_kind`: kept in files and through edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces import ExecutionGraph, GraphBuilder, NodeKind, read_graph, write_graph
from chakrasim.traces.edits.merge import merge_rows
from chakrasim.traces.reading.decode import graph_from_messages
from chakrasim.traces.writing.encode import messages_from_graph


def kinds_of(graph: ExecutionGraph) -> list[str]:
    return [graph.op_kinds[k] if k >= 0 else "" for k in graph.op_kind_ids.tolist()]


def with_kinds(*kinds: str | None) -> ExecutionGraph:
    builder = GraphBuilder(0)
    for kind in kinds:
        builder.add(NodeKind.COMP, "kernel", duration_ps=1_000_000, op_kind=kind, lane="stream 7")
    return builder.build()


def test_the_kind_goes_through_a_file(tmp_path: Path) -> None:
    graph = with_kinds("matmul", None, "attention", "matmul", "made up")
    assert kinds_of(graph) == ["matmul", "", "attention", "matmul", "made up"]
    write_graph(graph, tmp_path / "t.0.et")
    back = read_graph(tmp_path / "t.0.et")
    assert kinds_of(back) == kinds_of(graph)
    assert back.op_kind_ids.dtype == np.int8
    assert back.attributes(0)["op_kind"] == "matmul"
    _, *nodes = messages_from_graph(back)
    assert ["op_kind" in [attr.name for attr in node.attr] for node in nodes] == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_kernels_of_two_kinds_are_not_merged() -> None:
    merged = merge_rows(with_kinds("matmul", "matmul", "attention", None, None), np.ones(5, dtype=np.bool_))
    assert kinds_of(merged) == ["matmul", "attention", ""]


def test_a_kind_that_is_no_text_and_too_many_kinds_are_defects() -> None:
    node = schema.Node(id=3, name="x", type=schema.COMP_NODE)
    node.attr.add(name="op_kind", double_val=1.5)
    (defect,) = graph_from_messages(0, schema.GlobalMetadata(), [node]).defects
    assert (defect.node_id, defect.message) == (3, "op_kind is 1.5; expected a string")
    nodes = [schema.Node(id=i, name="x", type=schema.COMP_NODE) for i in range(130)]
    for number, node in enumerate(nodes):
        node.attr.add(name="op_kind", string_val=f"kind {number}")
    graph = graph_from_messages(0, schema.GlobalMetadata(), nodes)
    assert [defect.node_id for defect in graph.defects] == [128, 129]
    assert "'kind 128' is one of over 128" in graph.defects[0].message
    assert kinds_of(graph)[126:] == ["kind 126", "kind 127", "", ""]
