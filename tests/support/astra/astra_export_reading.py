"""Files for ASTRA-sim read record by record, without our reader, and run by the slow referee."""

from __future__ import annotations

from collections import Counter
from typing import Any

import astra_reference
import networkx
import orjson
from astra_sim_folders import NETWORK, SYSTEM

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import split_records
from chakrasim.traces.astra_export.export import Export

COMM_KINDS = {0, 2, 5, 6, 7}
"""All-reduce, all-gather, broadcast, all-to-all, reduce-scatter: those that ASTRA-sim has."""
INTEGERS = {
    "comm_type": "int64_val",
    "comm_size": "int64_val",
    "comm_src": "int32_val",
    "comm_dst": "int32_val",
    "comm_tag": "int32_val",
    "num_ops": "int64_val",
    "tensor_size": "uint64_val",
}


def read_strictly(export: Export) -> dict[int, list[dict[str, Any]]]:
    """The nodes of all files, as the referee takes them; whatever stops ASTRA-sim fails."""
    groups: dict[str, list[int]] = {}
    if export.groups_file is not None:
        groups = orjson.loads(export.groups_file.read_bytes())
    assert "0" not in groups
    assert all(int(number) > 0 and len(ranks) > 1 for number, ranks in groups.items())
    world = len(export.files)
    nodes: dict[int, list[dict[str, Any]]] = {}
    for rank, file in enumerate(export.files):
        assert file.name.endswith(f".{rank}.et")
        data = file.read_bytes()
        assert data[:2] != b"\x1f\x8b"
        (start, end), *records = split_records(data)
        schema.GlobalMetadata.FromString(data[start:end])
        messages = [schema.Node.FromString(data[start:end]) for start, end in records]
        ids = {message.id for message in messages}
        assert messages
        assert len(ids) == len(messages)
        nodes[rank] = [node_of(message, rank, world, ids, groups) for message in messages]
        graph = networkx.DiGraph((dep, node["id"]) for node in nodes[rank] for dep in node["deps"])
        assert networkx.is_directed_acyclic_graph(graph)
    sent, received = (Counter(message_keys(nodes, kind)) for kind in ("SEND", "RECV"))
    assert sent == received
    return nodes


def node_of(
    message: Any, rank: int, world: int, ids: set[int], groups: dict[str, list[int]]
) -> dict[str, Any]:
    deps = [*message.data_deps, *message.ctrl_deps]
    assert len(set(deps)) == len(deps)
    assert set(deps) <= ids - {message.id}
    attr: dict[str, Any] = {}
    for entry in message.attr:
        assert entry.name not in attr
        which = entry.WhichOneof("value")
        assert which == INTEGERS.get(entry.name, which)
        value = getattr(entry, which)
        attr[entry.name] = list(value.values) if which.endswith("_list") else value
        assert entry.name not in ("lane", "duration_ps")
    kind = {4: "COMP", 5: "SEND", 6: "RECV", 7: "COLL", 2: "MEM_LOAD", 3: "MEM_STORE"}[message.type]
    assert isinstance(attr["is_cpu_op"], bool)
    if kind == "COLL":
        group = attr.get("pg_name", "")
        assert isinstance(group, str)
        assert group == "" or rank in groups[group]
        assert attr["comm_type"] in COMM_KINDS
    if kind in ("SEND", "RECV"):
        peer = attr["comm_dst" if kind == "SEND" else "comm_src"]
        assert 0 <= peer < world
        assert peer != rank
        assert 0 <= attr["comm_tag"] < 500_000_000
    if kind in ("SEND", "RECV", "COLL"):
        assert not attr["is_cpu_op"]
        assert attr["comm_size"] > 0
    return {"id": message.id, "type": kind, "deps": deps, "dur": message.duration_micros, "attr": attr}


def message_keys(nodes: dict[int, list[dict[str, Any]]], kind: str) -> list[tuple[int, int, int, int]]:
    other = "comm_dst" if kind == "SEND" else "comm_src"
    found = []
    for rank, own in nodes.items():
        for node in own:
            if node["type"] == kind:
                attr = node["attr"]
                ends = (rank, attr[other]) if kind == "SEND" else (attr[other], rank)
                found.append((*ends, attr["comm_tag"], attr["comm_size"]))
    return found


def run_by_referee(export: Export) -> astra_reference.Outcome:
    """ASTRA-sim's run of an export, on a switch; it must end on every rank."""
    nodes = read_strictly(export)
    groups = orjson.loads(export.groups_file.read_bytes()) if export.groups_file else None
    network = NETWORK | {"topology": ["Switch"], "npus_count": [len(nodes)]}
    outcome = astra_reference.simulate(
        nodes, SYSTEM | {"preferred-dataset-splits": 1}, network, backend="unaware", groups=groups
    )
    assert None not in outcome.finish
    return outcome
