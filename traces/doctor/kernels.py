"""Nodes that contradict the name of their NCCL kernel: kind, bytes and group, mended where certain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from chakrasim.traces.doctor.draft import Change, Draft, set_attribute, value_of
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.names.nccl_names import is_communication_kernel, kind_of_kernel

_ALSO_RUNS = {
    CommKind.ALL_REDUCE: {CommKind.BARRIER},
    CommKind.REDUCE_SCATTER: {CommKind.REDUCE_SCATTER_BLOCK},
    CommKind.BROADCAST: {CommKind.ALL_GATHER, CommKind.SCATTER},
    CommKind.REDUCE: {CommKind.REDUCE_SCATTER, CommKind.GATHER},
}
"""Collectives that PyTorch runs on another one's kernel: a barrier is an all-reduce, an all-gather of unequal
shards a broadcast from each, a reduce-scatter of such a reduce to each (`ProcessGroupNCCL`)."""

TENSOR = re.compile(r"\[(\d+), (\d+), (\d+), (\d+), (\d+), '([^']*)'\]")
"""A tensor in a node's inputs or outputs: tensor id, storage id, offset, elements, bytes each, device."""


def input_bytes(node: Any) -> int | None:
    """Bytes of a node's input tensors, as its `inputs` record them; None where they record none."""
    sizes = [int(count) * int(each) for _, _, _, count, each, _ in TENSOR.findall(node.inputs.values)]
    return sum(sizes) or None


def is_device(node: Any) -> bool:
    """True if a node says that it runs on the accelerator, or doesn't say otherwise."""
    return not value_of(node, "is_cpu_op")


def retype_kernels(draft: Draft) -> Iterator[Change]:
    """Compute nodes with an NCCL kernel's name become collectives, where kind, bytes and group are certain.

    The group is the node's own, or the one that every other collective of the graph has; else the world, if
    the graph declares no group of several ranks.
    """
    mistyped = [
        node
        for node in draft.nodes
        if node.type == NodeKind.COMP and is_communication_kernel(node.name) and is_device(node)
    ]
    if not mistyped:
        return
    others = [node for node in draft.nodes if node.type == NodeKind.COLL and is_device(node)]
    groups = {value_of(node, "pg_name") or "" for node in others}
    if not groups and not any(len(ranks) != 1 for ranks in draft.graph().groups.values()):
        groups = {""}
    for node in mistyped:
        kind = kind_of_kernel(node.name)
        size = value_of(node, "comm_size")
        size = input_bytes(node) if size is None else size
        group = value_of(node, "pg_name")
        if group is None and len(groups) == 1:
            (group,) = groups
        missing = [
            what
            for what, value in (("which collective", kind), ("how many bytes", size), ("which group", group))
            if value is None
        ]
        if kind is None or missing:
            why = f"neither name nor attributes say {' and '.join(missing)}; it stays compute"
            yield Change("kernel", node.id, node.name, "compute", None, why)
            continue
        node.type = NodeKind.COLL
        set_attribute(node, "comm_type", int64_val=int(kind))
        set_attribute(node, "comm_size", int64_val=size)
        if group:
            set_attribute(node, "pg_name", string_val=group)
        after = f"{kind.label} of {size:,} bytes" + (f", group {group!r}" if group else ", all ranks")
        yield Change("kernel", node.id, node.name, "compute", after, "by its name and its record")


def correct_collectives(draft: Draft) -> Iterator[Change]:
    """Collectives of the device get the kind that their kernel's name states, where it can run no other."""
    for node in draft.nodes:
        if node.type != NodeKind.COLL or not is_device(node):
            continue
        kind, stated = kind_of_kernel(node.name), value_of(node, "comm_type")
        if kind is None or stated == kind or value_of(node, "not_understood") is not None:
            continue
        before = "no comm_type" if stated is None else _label(stated)
        if stated in _ALSO_RUNS.get(kind, ()):
            continue
        if stated is not None and not 0 <= stated <= max(CommKind):
            continue  # told by the check: nothing says what the number was meant to be
        set_attribute(node, "comm_type", int64_val=int(kind))
        yield Change("collective", node.id, node.name, before, kind.label, "the kernel's name says so")


def size_collectives(draft: Draft) -> Iterator[Change]:
    """Collectives without `comm_size` get the bytes of their recorded input tensors.

    Without those, one with a recorded duration is marked `not_understood`, so that it keeps the duration.
    """
    for node in draft.nodes:
        if (
            node.type != NodeKind.COLL
            or not is_device(node)
            or value_of(node, "comm_type") in (None, CommKind.BARRIER)
            or value_of(node, "comm_size") is not None
        ):
            continue
        size, kind = input_bytes(node), _label(value_of(node, "comm_type"))
        if size is not None:
            set_attribute(node, "comm_size", int64_val=size)
            yield Change(
                "size", node.id, node.name, f"{kind}, no comm_size", f"{size:,} bytes", "its inputs' bytes"
            )
        elif node.duration_micros:
            del node.attr[next(at for at, attr in enumerate(node.attr) if attr.name == "comm_type")]
            set_attribute(node, "not_understood", string_val=f"{kind} whose bytes the trace doesn't say")
            why = "neither comm_size nor inputs say how many bytes"
            yield Change(
                "size", node.id, node.name, f"{kind}, no comm_size", "keeps its recorded duration", why
            )


def host_calls(draft: Draft) -> Iterator[Change]:
    """The host's calls of collectives, typed collective without kind and size, become compute.

    Older converters wrote them beside the kernel, which is the real collective.
    """
    for node in draft.nodes:
        if (
            NodeKind.SEND <= node.type <= NodeKind.COLL
            and value_of(node, "is_cpu_op")
            and value_of(node, "comm_type") is None
            and value_of(node, "comm_size") is None
        ):
            before = NodeKind(node.type).label
            node.type = NodeKind.COMP
            yield Change(
                "host-call",
                node.id,
                node.name,
                before,
                "compute of the host",
                "it has neither kind nor bytes",
            )


def _label(kind: int) -> str:
    return CommKind(kind).label if 0 <= kind <= max(CommKind) else f"comm_type {kind}"
