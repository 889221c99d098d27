"""Nodes of host execution traces, as PyTorch's ExecutionTraceObserver writes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = '[{"pg_name": "0", "pg_desc": "default_pg", "ranks": [], "group_size": 2, "group_count": 1}]'
CUDA = [7, 8, 0, 1024, 4, "cuda:0"]
"""Tensor 7 in storage 8, no offset, 1,024 elements of 4 bytes."""


def nested(number: int, name: str, caller: int, rf_id: int, tid: int = 1, **more: Any) -> dict[str, Any]:
    """A node of schema 1.0.2 and later."""
    inputs = more.pop("inputs", ([], [], []))
    outputs = more.pop("outputs", ([], [], []))
    stated = {"rf_id": rf_id, "fw_parent": 0, "seq_id": -1, "scope": 0, "tid": tid, "fw_tid": 0, **more}
    return {
        "id": number,
        "name": name,
        "ctrl_deps": caller,
        "inputs": dict(zip(("values", "shapes", "types"), inputs, strict=True)),
        "outputs": dict(zip(("values", "shapes", "types"), outputs, strict=True)),
        "attrs": [{"name": key, "type": "uint64", "value": value} for key, value in stated.items()],
    }


def flat(number: int, name: str, caller: int, rf_id: int, tid: int = 1, **more: Any) -> dict[str, Any]:
    """A node of schema 1.0.1."""
    inputs = more.pop("inputs", ([], [], []))
    outputs = more.pop("outputs", ([], [], []))
    node = {"id": number, "name": name, "parent": caller, "rf_id": rf_id, "fw_parent": 0, "seq_id": -1}
    node |= {"scope": 0, "tid": tid, "fw_tid": 0, "op_schema": "", **more}
    node |= dict(zip(("inputs", "input_shapes", "input_types"), inputs, strict=True))
    return node | dict(zip(("outputs", "output_shapes", "output_types"), outputs, strict=True))


def write(path: Path, nodes: list[dict[str, Any]], schema: str = "1.1.1-chakra.0.0.4") -> Path:
    text = json.dumps({"schema": schema, "pid": 1, "start_ts": 5, "nodes": nodes})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def tensor(*shape: int, size: int = 4, storage: int = 8, device: str = "cuda:0") -> tuple[list, list, list]:
    """The values, shapes and types of one tensor."""
    count = int(np.prod(shape))
    return [[[7, storage, 0, count, size, device]], [list(shape)], ["Tensor(float)"]]  # type: ignore[return-value]
