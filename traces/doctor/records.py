"""Mistakes in single records: ids, attributes, node kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chakrasim.traces.doctor.draft import Change, Draft, find_attribute, set_attribute, value_of
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.names.nccl_names import is_communication_kernel
from chakrasim.traces.reading.decode import attribute_value

USUAL_KINDS = {
    "is_cpu_op": ("bool",),
    "comm_type": ("int64",),
    "comm_size": ("int64",),
    "num_ops": ("int64",),
    "tensor_size": ("uint64",),
    "tensor_loc": ("uint32",),
    "comm_src": ("int32",),
    "comm_dst": ("int32",),
    "comm_root": ("int32",),
    "comm_tag": ("int32", "int64"),
    "comm_priority": ("int32", "int64"),
    "pg_name": ("string",),
    "stream": ("int64",),
    "tid": ("int64",),
}
"""Value kinds by attribute, as Chakra's generator and feeders have them, the usual one first. Strict feeders
read another kind as 0. Tags and priorities past int32 have to be int64."""

_LIMITS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "int64": (-(2**63), 2**63), "uint64": (0, 2**64)}

_HOST_NAMES = (
    "aten::",
    "autograd::",
    "c10d::",
    "_c10d_functional::",
    "nccl:",
    "record_param_comms",
    "Optimizer.",
    "ProfilerStep",
    "[pytorch|",
    "## process_group:init",
)


def renumber_duplicates(draft: Draft) -> Iterator[Change]:
    """Renumber nodes that share an id: the first keeps it, copies are dropped, others get the next free id.

    Dependencies on the id mean the first.
    """
    first_of: dict[int, Any] = {}
    kept: list[Any] = []
    later: list[Any] = []
    repeated: list[Change] = []
    for node in draft.nodes:
        first = first_of.setdefault(node.id, node)
        if first is node:
            kept.append(node)
        elif first == node:
            why = "the record is there twice"
            repeated.append(Change("id", node.id, node.name, f"id {node.id} again", "dropped", why))
        else:
            kept.append(node)
            later.append(node)
    draft.nodes[:] = kept
    yield from repeated
    next_id = max(first_of, default=-1) + 1
    for node in later:
        before = f"id {node.id}, which {first_of[node.id].name!r} has"
        node.id, next_id = next_id, next_id + 1
        yield Change(
            "id",
            node.id,
            node.name,
            before,
            f"id {node.id}",
            "dependencies on the old id mean its first node",
        )


def drop_empty_attributes(draft: Draft) -> Iterator[Change]:
    """Attributes without a value are removed: they say nothing, and some readers take them for 0."""
    for node in draft.nodes:
        empty = [at for at, attr in enumerate(node.attr) if attr.WhichOneof("value") is None]
        names = [node.attr[at].name for at in empty]
        for at in reversed(empty):
            del node.attr[at]
        for name in names:
            yield Change(
                "empty", node.id, node.name, f"{name} without a value", f"no {name}", "it says nothing"
            )


def usual_value_kinds(draft: Draft) -> Iterator[Change]:
    """Integer attributes of another kind than Chakra's get that one, where it can hold the value."""
    for node in draft.nodes:
        for attr in node.attr:
            usual = USUAL_KINDS.get(attr.name)
            if usual is None:
                continue
            kind = (attr.WhichOneof("value") or "").removesuffix("_val")
            if kind in ("", *usual):
                continue
            value = attribute_value(attr)
            if not isinstance(value, int):
                continue  # no integer at all: the check says so
            target = next((k for k in usual if _fits(value, k)), None)
            if target is None:
                why = f"Chakra has {attr.name} as {usual[0]}, which can't hold it"
                yield Change("kind", node.id, node.name, f"{attr.name} is {kind} {value}", None, why)
                continue
            before = f"{attr.name} is {kind} {_shown(value)}"
            kept = str(int(value)) if target == "string" else bool(value) if target == "bool" else int(value)
            setattr(attr, f"{target}_val", kept)
            why = f"Chakra has {attr.name} as {target}"
            yield Change("kind", node.id, node.name, before, f"{target} {_shown(kept)}", why)


def _fits(value: int, kind: str) -> bool:
    if kind == "string":
        return True
    if kind == "bool":
        return value in (0, 1)
    low, high = _LIMITS[kind]
    return low <= value < high


def _shown(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def legacy_group_names(draft: Draft) -> Iterator[Change]:
    """`comm_group` (older STAGE) and `pg_id` (a fork of the converter) become `pg_name`."""
    for node in draft.nodes:
        if not (NodeKind.SEND <= node.type <= NodeKind.COLL or is_communication_kernel(node.name)):
            continue
        if find_attribute(node, "pg_name") is not None:
            continue
        for name in ("comm_group", "pg_id"):
            value = value_of(node, name)
            if isinstance(value, int | str) and not isinstance(value, bool):
                set_attribute(node, "pg_name", string_val=str(value))
                yield Change(
                    "pg-name",
                    node.id,
                    node.name,
                    f"no pg_name, {name} {value}",
                    f"pg_name '{value}'",
                    f"{name} is older",
                )
                break


def say_where_nodes_run(draft: Draft) -> Iterator[Change]:
    """Nodes without `is_cpu_op` get it: true for operators of PyTorch's host, else false.

    False is what ASTRA-sim's feeders take for absent; the one of Chakra 0.0.4 took true.
    """
    for node in draft.nodes:
        if find_attribute(node, "is_cpu_op") is not None:
            continue
        is_host = node.name.startswith(_HOST_NAMES) or node.type == NodeKind.METADATA
        why = "its name is a host operator's" if is_host else "absent means the device"
        set_attribute(node, "is_cpu_op", bool_val=is_host)
        yield Change("is-cpu", node.id, node.name, "no is_cpu_op", str(is_host).lower(), why)


def metadata_in_the_order(draft: Draft) -> Iterator[Change]:
    """`METADATA` nodes that nodes wait for, or that wait, become compute of the host, as long as recorded.

    ASTRA-sim has no place for a metadata node in its statistics and stops.
    """
    needed = {parent for node in draft.nodes for parent in (*node.data_deps, *node.ctrl_deps)}
    for node in draft.nodes:
        if node.type == NodeKind.METADATA and (node.id in needed or node.data_deps or node.ctrl_deps):
            node.type = NodeKind.COMP
            set_attribute(node, "is_cpu_op", bool_val=True)
            yield Change(
                "metadata", node.id, node.name, "metadata", "compute of the host", "metadata runs nowhere"
            )
