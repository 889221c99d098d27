"""What a communication kernel or gloo job did: kind, bytes, data type, process group, peer.

The sources, best first: the metadata on the kernel itself; on the `record_param_comms` operator around its
launch; the sizes that other operators and annotations around the launch recorded (`nccl:all_reduce`,
`c10d::allreduce_`); the kernel's name. Where kind, size or group stay unknown, `problem` says which: the node
then keeps its recorded duration and is reported as not understood.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from chakrasim.converters.pytorch.groups import Groups
from chakrasim.converters.pytorch.kineto import Recording
from chakrasim.converters.pytorch.names import (
    dtype_of,
    dtype_of_kernel,
    kind_of_kernel,
    kind_of_operation,
)
from chakrasim.traces.graph import CommKind, NodeKind

_INPUT = {
    "_allgather_base_": 1,
    "allgather_": 1,
    "allgather_coalesced_": 1,
    "allgather_into_tensor_coalesced_": 1,
    "_reduce_scatter_base_": 1,
    "reduce_scatter_": 1,
    "reduce_scatter_tensor_coalesced_": 1,
    "alltoall_base_": 1,
    "alltoall_": 1,
    "gather_": 1,
}
"""Which argument of a c10d operator is its input; of all others it is the first."""
_ROOT = {"broadcast_": 2, "reduce_": 3, "gather_": 3, "scatter_": 3}
"""Which argument is the root, a rank within the group."""
_ROOTED = (CommKind.BROADCAST, CommKind.REDUCE, CommKind.GATHER, CommKind.SCATTER)
_ARROW = re.compile(r"(\d+)\s*(->|<-)\s*(\d+)")


@dataclass(frozen=True)
class Source:
    """An operator or annotation that tells something of a communication."""

    name: str
    arguments: Mapping[str, Any]


@dataclass
class Communication:
    """What is known of one communication. -1 or None where nothing is."""

    kind: NodeKind = NodeKind.COLL
    comm_kind: int = -1
    comm_bytes: int = -1
    dtype: str | None = None
    group: str | None = None
    """Name of its process group, None for the world."""
    peer: int = -1
    """Peer of a send or receive, root of a rooted collective; a rank of the world."""
    tag: int = -1
    problem: str = ""
    attrs: dict[str, Any] = field(default_factory=dict)


def describe(
    name: str,
    own: Mapping[str, Any],
    around: Iterable[Source],
    groups: Groups,
    *,
    group: tuple[str | None, tuple[int, ...]] | None = None,
) -> Communication:
    """Put together what is known of a kernel or job called `name` with arguments `own`.

    `around` lists what enclosed its launch, outermost first. A `group` that is known otherwise goes first.
    """
    around = list(around)
    inner = [s for s in reversed(around) if s.name == "record_param_comms"]
    inner += [s for s in reversed(around) if s.name != "record_param_comms"]
    facts: dict[str, Any] = {}
    for arguments in (*(s.arguments for s in reversed(inner)), own):
        facts.update(arguments)
    if not any(s.name == "record_param_comms" for s in inner):
        facts.pop("Concrete Inputs", None)  # other operators' arguments mean other things
    result = Communication()
    found = _kind(name, facts, inner)
    dtype = dtype_of(str(facts.get("dtype", "")))
    if found is None:
        result.problem = "its kind isn't recorded"
        return result
    result.kind, comm_kind = found
    operator = next((s for s in inner if s.name.startswith("c10d::")), None)
    resolved = group or groups.resolve(facts, operator.name if operator else "")
    if resolved is None:
        result.problem = "its process group isn't recorded"
        return _as_unknown(result)
    result.group, ranks = resolved
    count, dtype = _elements(found, facts, dtype, name, own, inner, len(ranks))
    if comm_kind == CommKind.BARRIER:
        count, dtype = 0, dtype or ("uint8", 1)
    if count < 0 or dtype is None:
        result.problem = "its size isn't recorded"
        return _as_unknown(result)
    result.comm_kind, result.comm_bytes, result.dtype = comm_kind, count * dtype[1], dtype[0]
    _peer(result, facts, inner, operator, ranks)
    if result.kind != NodeKind.COLL and result.peer < 0:
        result.problem = "its peer isn't recorded"
        return _as_unknown(result)
    for key in ("In split size", "Out split size"):
        if facts.get(key) not in (None, "", "[]"):
            result.attrs[key.lower().replace(" ", "_")] = str(facts[key])
    return result


def _as_unknown(result: Communication) -> Communication:
    return Communication(problem=result.problem, group=result.group)


def _kind(name: str, facts: Mapping[str, Any], inner: list[Source]) -> tuple[NodeKind, int] | None:
    if name.startswith("gloo:"):
        return kind_of_operation(name)
    named = facts.get("Collective name")
    found = kind_of_operation(str(named)) if named else None
    for source in inner:
        if found is None and source.name != "record_param_comms":
            found = kind_of_operation(source.name)
    return found or kind_of_kernel(name)


def _elements(
    found: tuple[NodeKind, int],
    facts: Mapping[str, Any],
    dtype: tuple[str, int] | None,
    name: str,
    own: Mapping[str, Any],
    inner: list[Source],
    group_size: int,
) -> tuple[int, tuple[str, int] | None]:
    """Elements of the rank's input (-1 if unknown) and their type."""
    kind, comm_kind = found
    given, taken = facts.get("In msg nelems"), facts.get("Out msg nelems")
    if isinstance(given, int) and dtype is not None:
        taken = taken if isinstance(taken, int) else 0
        if kind != NodeKind.COLL or comm_kind in (CommKind.BROADCAST, CommKind.REDUCE):
            return max(given, taken), dtype
        if comm_kind == CommKind.SCATTER:  # only the root has an input
            return max(given, taken * group_size), dtype
        return given, dtype
    if comm_kind == CommKind.SCATTER:
        for source in inner:
            if source.name.startswith("c10d::scatter"):
                count, dtype = _recorded_size(source.arguments, 0)
                dtype = dtype or _recorded_size(own, 0)[1] or ("fp32", 4)
                return count * group_size if count >= 0 else -1, dtype
    sources = [Source(name, own), *(s for s in inner if s.name.startswith(("nccl:", "rccl:")))]
    sources += inner
    best = -1
    for source in sources:
        stem = source.name.removeprefix("c10d::")
        count, recorded = _recorded_size(source.arguments, _INPUT.get(stem, 0))
        if count >= 0 and best < 0:
            best = count
        dtype = dtype or recorded
    return best, dtype or dtype_of_kernel(name)


def _recorded_size(arguments: Mapping[str, Any], position: int) -> tuple[int, tuple[str, int] | None]:
    """Elements in the tensor or list of tensors at a position of `Input Dims`, and the recorded type."""
    dims, types = arguments.get("Input Dims"), arguments.get("Input type")
    if not isinstance(dims, list) or not isinstance(types, list) or position >= len(dims):
        return -1, None
    kind = str(types[position]) if position < len(types) else ""
    dtype = dtype_of(kind)
    shape = dims[position]
    if kind == "TensorList" or (shape and isinstance(shape[0], list)):
        return (sum(prod(s) for s in shape) if shape else -1), dtype
    if dtype is None:
        return -1, None
    if position == 0 and len(set(map(str, types))) == 1:  # a job lists each tensor as an argument
        return sum(prod(s) for s in dims), dtype
    return prod(shape), dtype


def _peer(
    result: Communication,
    facts: Mapping[str, Any],
    inner: list[Source],
    operator: Source | None,
    ranks: tuple[int, ...],
) -> None:
    """Fill peer and tag. Operators count ranks within their group; `Src Rank` and `Dst Rank` in the world."""
    is_rooted = result.kind == NodeKind.COLL and result.comm_kind in _ROOTED
    if result.kind == NodeKind.COLL and not is_rooted:
        return
    within = -1
    inputs = operator.arguments.get("Concrete Inputs") if operator else None
    if operator is not None and isinstance(inputs, list):
        stem = operator.name.removeprefix("c10d::")
        position = _ROOT.get(stem, 2)
        within = _int_at(inputs, position)
        if not is_rooted:
            result.tag = _int_at(inputs, 3)
    if within < 0:
        arrow = next((m for s in inner if (m := _ARROW.search(s.name))), None)
        if arrow:
            # "nccl:send 0->1" and "nccl:recv 1<-0": the peer stands last
            within = int(arrow.group(3))
        elif isinstance(facts.get("Rank"), int):
            within = facts["Rank"]
    keys = ("Dst Rank",) if result.kind == NodeKind.SEND else ("Src Rank",)
    for key in ("Root rank", "Root Rank") if is_rooted else keys:
        if key in facts:
            result.peer = _int_at([facts[key]], 0)
            return
    if 0 <= within < len(ranks):
        result.peer = ranks[within]


def _int_at(values: list[Any], position: int) -> int:
    try:
        return int(values[position])
    except (IndexError, TypeError, ValueError):
        return -1


class Surroundings:
    """Finds the operators and annotations about communication whose span holds a launch."""

    def __init__(self, recording: Recording) -> None:
        host = recording.host
        self.recording = recording
        self.spans: dict[int, list[tuple[int, int, Source]]] = {}
        for row, arguments in host.arguments.items():
            source = Source(recording.names[host.name_id[row]], arguments)
            span = int(host.start_ns[row]), int(host.end_ns[row]), source
            self.spans.setdefault(int(host.thread[row]), []).append(span)
        for note in recording.annotations:
            if not note.name.startswith("gloo:"):
                span = note.start_ns, note.end_ns, Source(note.name, note.arguments)
                self.spans.setdefault(note.thread, []).append(span)
        for spans in self.spans.values():
            spans.sort(key=lambda s: (s[0], -s[1]))
        self.starts = {thread: [s[0] for s in spans] for thread, spans in self.spans.items()}

    def of(self, launch: int) -> list[Source]:
        """Outermost first; empty if the launch wasn't recorded. They nest no deeper than a few."""
        if launch < 0:
            return []
        thread = int(self.recording.host.thread[launch])
        time = int(self.recording.host.start_ns[launch])
        spans = self.spans.get(thread, [])
        at = bisect_right(self.starts.get(thread, []), time)
        return [source for _, end, source in spans[max(0, at - 8) : at] if end >= time]
