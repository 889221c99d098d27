"""PyTorch's host execution traces (ExecutionTraceObserver): what ran, on which tensors, without times.

Schemas 1.0.1 (flat nodes) to 1.1.1 (nested ones, with attributes) are read into the same columns. What a node
read and wrote stays as it was recorded and is looked at when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from chakrasim.converters.pytorch.read.json_chunks import collector_paused, read_bytes
from chakrasim.traces.errors import TraceError

Ints = NDArray[np.int64]

_COLUMNS = ("rf_id", "seq_id", "scope", "tid")
_FLAT = {
    "inputs": ("inputs", "input_shapes", "input_types"),
    "outputs": ("outputs", "output_shapes", "output_types"),
}
GROUPS = "## process_group:init ##"


@dataclass(frozen=True)
class Values:
    """Inputs or outputs of a node: equally long lists of values, shapes and types, as recorded."""

    values: Sequence[Any]
    shapes: Sequence[Any]
    types: Sequence[Any]


@dataclass
class HostTrace:
    """One rank's host trace. Columns of length n, in ascending order of id."""

    source: str
    schema: str
    header: Mapping[str, Any]
    ids: Ints
    parents: Ints
    """Id of the caller."""
    names: list[str]
    rf_id: Ints
    """PyTorch's record-function id; 0 where there is none."""
    """Id of the forward node of an autograd thread's node, 0 for none."""
    seq_id: Ints
    """Autograd's sequence number, -1 for none: a forward operator and its backward share it."""
    scope: Ints
    """PyTorch's RecordScope: 0 function, 1 backward, 7 user annotation."""
    tid: Ints
    """The thread, numbered from 1 in order of appearance."""
    nodes: list[dict[str, Any]]
    """Nodes as recorded, by row."""

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, row: int) -> Values:
        """Inputs of a node."""
        return self._values(row, "inputs")

    def outputs(self, row: int) -> Values:
        """Outputs of a node."""
        return self._values(row, "outputs")

    def attributes(self, row: int) -> dict[str, Any]:
        """Attributes beside those with a column, such as `collective_name` and `pg_name`."""
        attrs = self.nodes[row].get("attrs")
        if not isinstance(attrs, list):
            return {}
        return {
            str(attr["name"]): attr.get("value")
            for attr in attrs
            if isinstance(attr, dict) and attr.get("name") not in (None, *_COLUMNS)
        }

    def group_declarations(self) -> list[str]:
        """The texts of `process_group:init` nodes: JSON lists of process groups."""
        rows = [row for row, name in enumerate(self.names) if name == GROUPS]
        texts = [value for row in rows for value in self.inputs(row).values]
        return [text for text in texts if isinstance(text, str)]

    def _values(self, row: int, which: str) -> Values:
        node = self.nodes[row]
        nested = node.get(which)
        if isinstance(nested, dict):
            lists = [nested.get(key) for key in ("values", "shapes", "types")]
        else:
            lists = [node.get(key) for key in _FLAT[which]]
        return Values(*(found if isinstance(found, list) else [] for found in lists))


def read_host_trace(path: Path) -> HostTrace:
    """Read one host trace, plain or gzipped. O(n log n).

    Raises TraceError for what isn't JSON, isn't a host trace, or has nodes without id, name or caller.
    """
    path = Path(path)
    with collector_paused():
        try:
            document = orjson.loads(read_bytes(path))
        except orjson.JSONDecodeError as error:
            raise TraceError(
                f"{path}: isn't complete JSON ({error}); was it cut off while it was written or copied?"
            ) from None
        return _from_document(path, document)


def _from_document(path: Path, document: Any) -> HostTrace:
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(nodes, list):
        raise TraceError(f"{path}: has no 'nodes'; expected a host execution trace (ExecutionTraceObserver)")
    if not nodes:
        raise TraceError(f"{path}: has no nodes")
    schema = str(document.get("schema", ""))
    rows = [_row(path, schema, number, node) for number, node in enumerate(nodes)]
    table = np.array([row[:-1] for row in rows], dtype=np.int64)
    order = np.argsort(table[:, 0], kind="stable")
    ids = table[order, 0]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise TraceError(f"{path}: node {ids[twice[0]]} stands there twice; {len(twice):,} ids do")
    columns = dict(zip(("ids", "parents", *_COLUMNS), table[order].T.copy(), strict=True))
    return HostTrace(
        source=str(path),
        schema=schema,
        header={key: value for key, value in document.items() if key != "nodes"},
        names=[rows[k][-1] for k in order.tolist()],
        nodes=[nodes[k] for k in order.tolist()],
        **columns,
    )


def _row(path: Path, schema: str, number: int, node: Any) -> tuple[Any, ...]:
    """(id, parent, those of `_COLUMNS`, name)"""
    try:
        caller = node["ctrl_deps"] if "ctrl_deps" in node else node["parent"]
        attrs = node.get("attrs")
        stated = {attr["name"]: attr["value"] for attr in attrs if "value" in attr} if attrs else node
        numbers = [_integer(stated.get(name, -1 if name == "seq_id" else 0)) for name in _COLUMNS]
        return _identity(node["id"]), _identity(caller), *numbers, str(node["name"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise TraceError(
            f"{path}: node number {number} lacks what a node of a host trace has ({what}); the trace states "
            f"schema {schema!r}, the known ones are 1.0.1 to 1.1.1"
        ) from None


def _identity(value: Any) -> int:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError(f"{number} is no id")
    return number


def _integer(value: Any) -> int:
    number = int(value)
    return number if -(2**63) <= number < 2**63 else 0
