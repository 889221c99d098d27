"""Chakra's two JSON forms, turned into the same messages as the binary one.

* `{"workload_graph": [{"Id", "Name", "NodeType", "data_deps", "runtime", ...}]}`, spelt in several
  ways in the wild; `runtime` is in whole microseconds.
* protobuf JSON: the GlobalMetadata and Node objects written one after another, without separator
  (what `chakra_jsonizer` writes) or as a list.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.traces.errors import TraceError

_ATTRIBUTES = {
    "is_cpu_op": "is_cpu_op",
    "num_ops": "num_ops",
    "tensor_size": "tensor_size",
    "comm_type": "comm_type",
    "comm_priority": "comm_priority",
    "comm_size": "comm_size",
    "comm_src": "comm_src",
    "comm_dst": "comm_dst",
    "comm_tag": "comm_tag",
    "pg_name": "pg_name",
}


def messages_from_json(data: bytes, source: str) -> tuple[Any, list[Any]]:
    """A GlobalMetadata and Node messages from either JSON form.

    Raises TraceError if the text isn't JSON or has neither form.
    """
    documents = _documents(data, source)
    first = documents[0] if documents else None
    if isinstance(first, dict) and "workload_graph" in first:
        nodes = first["workload_graph"]
        if not isinstance(nodes, list):
            raise TraceError(f"{source}: workload_graph is not a list of nodes")
        return schema.GlobalMetadata(), [_node(node, source) for node in nodes]
    if isinstance(first, dict) and "traceEvents" in first:
        raise TraceError(
            f"{source}: this is a profiler trace, not a Chakra execution graph; "
            "`chakrasim convert` turns it into one"
        )
    if isinstance(first, dict) and "nodes" in first and "schema" in first:
        raise TraceError(
            f"{source}: this is a PyTorch host trace (execution trace observer), not a Chakra "
            "execution graph; convert the profiler trace recorded with it"
        )
    if len(documents) == 1 and isinstance(first, list):
        documents = first
    if not documents or not all(isinstance(d, dict) for d in documents):
        raise TraceError(f"{source}: the JSON is not a Chakra execution graph")
    try:
        metadata = schema.GlobalMetadata()
        if documents and "type" not in documents[0] and "id" not in documents[0]:
            json_format.ParseDict(documents[0], metadata, ignore_unknown_fields=False)
            documents = documents[1:]
        return metadata, [json_format.ParseDict(d, schema.Node()) for d in documents]
    except json_format.ParseError as error:
        # The parser's own words are about the schema; the first of its lines names the field.
        reason = str(error).splitlines()[0].replace("chakrasim.schema.", "")
        raise TraceError(f"{source}: JSON, but not a Chakra execution graph: {reason}") from None


def _documents(data: bytes, source: str) -> list[Any]:
    decoder = json.JSONDecoder()
    documents: list[Any] = []
    try:
        text = data.decode()
        position = 0
        while position < len(text):
            if text[position].isspace():
                position += 1
                continue
            document, position = decoder.raw_decode(text, position)
            documents.append(document)
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"{source}: not valid JSON ({error}); the file is cut, damaged or not a Chakra execution graph"
        ) from None
    return documents


def _node(record: Any, source: str) -> Any:
    if not isinstance(record, dict):
        raise TraceError(f"{source}: workload_graph holds {record!r}; expected an object a node")
    fields = {key.lower().replace("_", ""): value for key, value in record.items()}
    try:
        node = schema.Node(
            id=fields["id"],
            name=fields.get("name", ""),
            type=fields["nodetype"],
            data_deps=fields.get("datadeps", []),
            ctrl_deps=fields.get("ctrldeps", []),
            duration_micros=fields.get("runtime", 0),
        )
        for key, name in _ATTRIBUTES.items():
            value = fields.get(key.replace("_", ""))
            if isinstance(value, bool):
                node.attr.add(name=name, bool_val=value)
            elif isinstance(value, int):
                node.attr.add(name=name, int64_val=value)
            elif isinstance(value, str):
                node.attr.add(name=name, string_val=value)
    except KeyError as error:
        raise TraceError(f"{source}: a node has no {error}: {str(record)[:80]}") from None
    except (TypeError, ValueError) as error:
        raise TraceError(f"{source}: node {fields.get('id')}: {error}") from None
    return node
