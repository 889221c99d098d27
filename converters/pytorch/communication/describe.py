"""Description of a communication kernel or gloo job: kind, bytes, data type, process group, peer.

The sources, best first: the metadata on the kernel itself; the `record_param_comms` around its launch; other
operators and annotations around it (`c10d::allreduce_`, `_c10d_functional::all_reduce`, `nccl:all_reduce`),
innermost first; the kernel's name. A library's own kernels are known by a table (`custom_kernels`). Where
kind, size or group stay unknown, `problem` says which: the node then keeps its recorded duration and is
reported as not understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chakrasim.converters.pytorch.communication.comm_sources import (
    RECORD,
    Facts,
    facts_of_annotation,
    facts_of_metadata,
    facts_of_operator,
    facts_of_record,
)
from chakrasim.converters.pytorch.communication.custom_kernels import WORLD, KernelTable, Row
from chakrasim.converters.pytorch.communication.enclosing_ops import Source
from chakrasim.converters.pytorch.communication.groups import Group, Groups
from chakrasim.converters.pytorch.read.spellings import kind_of_operation
from chakrasim.traces.graph import CommKind, NodeKind
from chakrasim.traces.names.nccl_names import (
    dtype_of_kernel,
    is_communication_kernel,
    kind_of_kernel,
    reduction_of_kernel,
)

__all__ = ["Communication", "Source", "describe", "facts_of", "is_operation"]

_ROOTED = (CommKind.BROADCAST, CommKind.REDUCE, CommKind.GATHER, CommKind.SCATTER)
_REDUCING = (CommKind.ALL_REDUCE, CommKind.REDUCE, CommKind.REDUCE_SCATTER)
_GATHERING = (CommKind.ALL_GATHER, CommKind.GATHER)
_SCATTERING = (CommKind.REDUCE_SCATTER, CommKind.SCATTER)
_EMPTY_INPUT = "its input was recorded as empty; its size is the output's"
_ASSUMED_FP32 = "its data type isn't recorded; taken as fp32"


@dataclass
class Communication:
    """One collective, send or receive. -1 or None for what isn't known."""

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
    """Further attributes where recorded: `comm_out_bytes`; `async`; `in_split_size` and `out_split_size`, in
    rows or elements for each rank; `reduction`; `comm_seq` and `comms_id`, which tell collectives apart;
    `issued_as`, the collective that was called where the backend did another."""
    repairs: list[str] = field(default_factory=list)
    """Corrections of the recorded metadata, and assumptions."""
    is_custom: bool = False
    """Known by the table of a library's own kernels."""


def describe(
    name: str,
    own: Mapping[str, Any],
    around: Iterable[Source],
    groups: Groups,
    *,
    group: tuple[str | None, tuple[int, ...]] | None = None,
    kernels: KernelTable | None = None,
    batch: Sequence[Facts] = (),
    facts: Facts | None = None,
) -> Communication:
    """Describe a kernel or job called `name` with arguments `own`.

    `around` lists what enclosed its launch, outermost first. A `group` that is known otherwise goes first.
    `batch` holds what was issued before and launched together as this kernel. `facts` are `facts_of` all
    these, where the caller has them. O(sources).
    """
    around = list(around)
    is_foreign = not is_communication_kernel(name) and "Collective name" not in own
    row = kernels.match(name) if kernels is not None and is_foreign else None
    if row is not None or facts is None:
        facts = row.facts(name, around) if row is not None else facts_of(name, own, around)
    result = Communication(is_custom=row is not None)
    if batch and facts.in_count < 0 and facts.kind in (None, batch[0].kind):
        facts = _joined(batch, result)
    if result.problem:
        return result
    if facts.kind is None:
        result.problem = "its kind isn't recorded"
        return result
    result.kind, comm_kind = facts.kind
    result.attrs = _attributes(facts)
    resolved = Group(*group) if group else _row_group(row, around, groups) if row else groups.resolve(facts)
    if not resolved.ranks:
        return _as_unknown(result, resolved.problem)
    result.group = resolved.name
    result.repairs += [resolved.repair] if resolved.repair else []
    count = _count(facts, len(resolved.ranks), result)
    dtype = facts.dtype or dtype_of_kernel(name)
    if comm_kind == CommKind.BARRIER:
        count, dtype = 0, dtype or ("uint8", 1)
    if dtype is None and count >= 0 and facts.issued_as == (NodeKind.COLL, CommKind.SCATTER):
        dtype = ("fp32", 4)  # a list's type isn't recorded, and only the root has another
        result.repairs.append(_ASSUMED_FP32)
    if count >= 0 and dtype is None and facts.unknown_dtype:
        return _as_unknown(result, f"its data type {facts.unknown_dtype} isn't known")
    if count < 0 or dtype is None:
        return _as_unknown(result, "its size isn't recorded")
    result.comm_kind, result.comm_bytes, result.dtype = comm_kind, count * dtype[1], dtype[0]
    if facts.out_count >= 0 and comm_kind not in (-1, CommKind.BARRIER):
        result.attrs["comm_out_bytes"] = facts.out_count * dtype[1]
    _put_peer(result, facts, resolved.ranks, groups)
    if result.kind != NodeKind.COLL and result.peer < 0:
        return _as_unknown(result, "its peer isn't recorded")
    if comm_kind in _REDUCING and (reduction := facts.reduction or reduction_of_kernel(name)):
        result.attrs["reduction"] = reduction
    return result


def facts_of(name: str, own: Mapping[str, Any], around: Sequence[Source]) -> Facts:
    """Facts about a kernel or job, each from the best source that has it.

    `around` lists what enclosed its launch, outermost first.
    """
    facts = facts_of_metadata(own)
    if facts.in_count == 0 and facts.out_count == 0 and facts.kind != (NodeKind.COLL, CommKind.BARRIER):
        facts.in_count = facts.out_count = -1  # a kernel that ran moved something
    inner_first = list(reversed(around))
    if name.startswith("gloo:"):
        facts.fill(facts_of_annotation(name, own))
    for source in inner_first:
        if source.name == RECORD and is_operation(source.arguments):
            facts.fill(facts_of_record(source.arguments))
    for source in inner_first:
        if source.name.startswith(("nccl:", "rccl:")):
            facts.fill(facts_of_annotation(source.name, source.arguments))
        elif source.name != RECORD:
            facts.fill(facts_of_operator(source.name, source.arguments))
    if (kind := kind_of_kernel(name)) is not None:
        facts.fill(Facts(kind=(NodeKind.COLL, kind)))
    return facts


def is_operation(arguments: Mapping[str, Any]) -> bool:
    """False for a record of waiting or of something else that isn't a communication."""
    name = str(arguments.get("Collective name") or "")
    return not name or kind_of_operation(name) is not None


def _as_unknown(known: Communication, problem: str) -> Communication:
    return Communication(
        problem=problem,
        group=known.group,
        attrs=known.attrs,
        repairs=known.repairs,
        is_custom=known.is_custom,
    )


def _attributes(facts: Facts) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    if facts.is_async is not None:
        attrs["async"] = facts.is_async
    if facts.sequence >= 0:
        attrs["comm_seq"] = facts.sequence
    for key, value in (
        ("in_split_size", facts.in_split),
        ("out_split_size", facts.out_split),
        ("comms_id", facts.comms_id),
    ):
        if value:
            attrs[key] = value
    if facts.issued_as and facts.issued_as != facts.kind and facts.issued_as[0] == NodeKind.COLL:
        attrs["issued_as"] = CommKind(facts.issued_as[1]).label
    return attrs


def _row_group(row: Row, around: Sequence[Source], groups: Groups) -> Group:
    """The group a row names; of a row for the world, a group that an operator's argument names."""
    if row.group != WORLD:
        return groups.named(row.group)
    for source in reversed(around):
        if any(operator.search(source.name) for operator, _ in row.operators):
            values, types = source.arguments.get("Concrete Inputs"), source.arguments.get("Input type")
            pairs = zip(values, types, strict=False) if values and types else ()
            for value, kind in pairs:
                if not str(kind).startswith("Scalar") and str(value) in groups.configured:
                    return groups.named(str(value))
    if len(groups.world) > 1:
        groups.doubts["custom kernels of no known process group were taken as the whole world's"] += 1
    return groups.named(WORLD)


def _count(facts: Facts, group_size: int, result: Communication) -> int:
    """Elements of the rank's input, -1 if unknown: of all ranks' inputs where only the root has one.

    An input of 0 elements is that of a rank that only receives, or a mistake: then the output tells.
    """
    kind, comm_kind = facts.kind or (NodeKind.COLL, -1)
    given, taken = facts.in_count, facts.out_count
    if comm_kind == CommKind.SCATTER:
        return max(given, taken * group_size) if taken >= 0 else given
    if given > 0:
        return given
    is_even = not facts.in_split and not facts.out_split
    if taken > 0 and (kind != NodeKind.COLL or comm_kind not in (*_GATHERING, CommKind.ALL_TO_ALL)):
        if given == 0 and kind == NodeKind.COLL:
            result.repairs.append(_EMPTY_INPUT)
        return taken * group_size if comm_kind in _SCATTERING else taken
    if given < 0 and taken > 0 and is_even:
        if comm_kind == CommKind.ALL_TO_ALL:
            return taken
        if comm_kind == CommKind.ALL_GATHER and taken % group_size == 0:
            return taken // group_size
    return given


def _joined(batch: Sequence[Facts], result: Communication) -> Facts:
    """Merge coalesced operations executed by one kernel: sizes add up if kind, data type and group agree."""
    joined = replace(batch[0])
    if len(batch) == 1:
        return joined
    alike = {(f.kind, f.dtype, f.group_name, f.ranks, f.group_size, f.peer, f.rank) for f in batch}
    if len(alike) == 1 and joined.kind is not None and joined.kind[0] == NodeKind.COLL:
        counts = [(f.in_count, f.out_count) for f in batch]
        joined.in_count, joined.out_count = (
            sum(column) if min(column) >= 0 else -1 for column in zip(*counts, strict=True)
        )
        joined.in_split = joined.out_split = ""
        return joined
    result.problem = "it is several messages in one kernel"
    result.attrs["messages"] = ", ".join(_message(facts) for facts in batch)
    return joined


def _message(facts: Facts) -> str:
    kind, comm_kind = facts.kind or (NodeKind.COLL, -1)
    label = kind.label if kind != NodeKind.COLL else CommKind(comm_kind).label if comm_kind >= 0 else "?"
    peer = facts.world_peer if facts.world_peer >= 0 else facts.rank if facts.peer < 0 else facts.peer
    count, dtype = max(facts.in_count, facts.out_count), facts.dtype[0] if facts.dtype else "?"
    return f"{label} {count} {dtype} {'from' if kind == NodeKind.RECV else 'to'} {peer}"


def _put_peer(result: Communication, facts: Facts, ranks: tuple[int, ...], groups: Groups) -> None:
    """Fill peer and tag. `Src Rank` and `Dst Rank` are ranks of the world, all else counts in the group."""
    is_rooted = result.kind == NodeKind.COLL and result.comm_kind in _ROOTED
    if result.kind == NodeKind.COLL and not is_rooted:
        return
    if not is_rooted:
        result.tag = facts.tag
    if facts.world_peer >= 0:
        result.peer = facts.world_peer
        return
    within = facts.peer if facts.peer >= 0 else facts.rank
    if within < 0 and 0 <= facts.peer_or_own < len(ranks) and ranks[facts.peer_or_own] != groups.rank:
        within = facts.peer_or_own
    if 0 <= within < len(ranks):
        result.peer = ranks[within]
