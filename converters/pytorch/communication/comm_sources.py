"""Facts about a communication from one source: a kernel's metadata, an operator's arguments, an annotation.

Nothing is decided here. A source that doesn't tell something leaves it absent; `communication` takes each
fact from the best source that has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from chakrasim.converters.pytorch.communication.operator_signatures import IN_PLACE, UNRECORDED, signature_of
from chakrasim.converters.pytorch.read.spellings import dtype_of, kind_of_operation
from chakrasim.traces.graph import NodeKind

RECORD = "record_param_comms"
Dtype = tuple[str, int]
"""Our name of a data type, and its bytes."""

_ARROW = re.compile(r"(\d+)\s*(->|<-)\s*(\d+)")
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class Facts:
    """Facts about a communication, of one source or merged from several. -1, None, "" and () are absent."""

    kind: tuple[NodeKind, int] | None = None
    """Node kind and `CommKind` number (-1 for send and receive)."""
    in_count: int = -1
    """Elements of the rank's input, over all its tensors."""
    out_count: int = -1
    dtype: Dtype | None = None
    unknown_dtype: str = ""
    """A recorded data type that we don't know."""
    group_name: str = ""
    group_size: int = -1
    ranks: tuple[int, ...] = ()
    first_ranks: tuple[int, ...] = ()
    """The ranks that PyTorch left in a list it shortened, but for the last, …"""
    last_rank: int = -1
    """… and the last."""
    rank_start: int = -1
    rank_stride: int = -1
    peer: int = -1
    """Root, or peer of a message; a rank within the group."""
    rank: int = -1
    """`peer` as the metadata has it; for collectives without a root, the rank's own number."""
    peer_or_own: int = -1
    """`peer` as a positional argument, which up to PyTorch 2.0 was always the rank's own number."""
    world_peer: int = -1
    tag: int = -1
    is_async: bool | None = None
    in_split: str = ""
    out_split: str = ""
    reduction: str = ""
    sequence: int = -1
    comms_id: str = ""
    issued_as: tuple[NodeKind, int] | None = None
    """Kind of the operator that issued it, which may differ from what the backend did."""

    def fill(self, other: Facts) -> None:
        """Take from `other` what is absent here."""
        for name, absent in _FIELDS:
            # -1, None, "" and () are one object each
            value = getattr(other, name)
            if value is not absent and getattr(self, name) is absent:
                setattr(self, name, value)


_FIELDS = tuple((f.name, f.default) for f in fields(Facts))


def facts_of_metadata(arguments: Mapping[str, Any]) -> Facts:
    """Facts from the keys that PyTorch 2.2 to 2.13 attaches to kernels and to `record_param_comms`."""
    get = arguments.get
    facts = Facts()
    name = get("Collective name", get("collective_name"))
    if name:
        facts.kind = kind_of_operation(str(name))
    facts.in_count = integer(get("In msg nelems", get("in_msg_nelems")))
    facts.out_count = integer(get("Out msg nelems", get("out_msg_nelems")))
    _put_dtype(facts, str(get("dtype") or ""))
    facts.group_name = _group_name(get("Process Group Name", get("pg_name", get("Process Group ID"))))
    facts.group_size = integer(get("Group size", get("pg_size")))
    _put_ranks(facts, get("Process Group Ranks"))
    facts.rank_start = integer(get("Global rank start", get("global_rank_start")))
    facts.rank_stride = integer(get("Global rank stride", get("global_rank_stride")))
    if facts.kind is not None:
        facts.rank = integer(get("Rank"))
        key = {NodeKind.SEND: "Dst Rank", NodeKind.RECV: "Src Rank"}.get(facts.kind[0], "")
        facts.world_peer = integer(get(key))
    facts.is_async = boolean(get("Is asynchronized op", get("is_asynchronized_op")))
    facts.in_split = _split(get("In split size", get("in_split_size")))
    facts.out_split = _split(get("Out split size", get("out_split_size")))
    facts.sequence = integer(get("Seq"))
    facts.comms_id = str(get("Comms Id", "") or "")
    return facts


def facts_of_record(arguments: Mapping[str, Any]) -> Facts:
    """Facts from a `record_param_comms`: its metadata, else its positional arguments, else its tensors.

    The arguments are [tensors,] sequence number, group, rank, name, input and output splits[, [start and
    stride of the ranks,] group size[, asynchronous]]; brackets came with later versions of PyTorch.
    """
    facts = facts_of_metadata(arguments)
    values, types = arguments.get("Concrete Inputs"), arguments.get("Input type")
    if isinstance(values, list):
        first = 1 if isinstance(types, list) and types and _is_tensor(str(types[0])) else 0
        if not isinstance(types, list):
            first = 1 if len(values) in (8, 10, 11) else 0
        rest = values[first:]
        if len(rest) >= 6:
            told = Facts(group_name=_group_name(rest[1]), in_split=_split(rest[4]), out_split=_split(rest[5]))
            if isinstance(rest[3], str) and rest[3]:
                told.kind = kind_of_operation(rest[3])
            told.peer_or_own = integer(rest[2])
            tail = rest[6:]
            if len(tail) in (1, 3, 4):
                told.group_size = integer(tail[0] if len(tail) == 1 else tail[2])
            if len(tail) in (3, 4):
                told.rank_start, told.rank_stride = integer(tail[0]), integer(tail[1])
            if len(tail) == 4:
                told.is_async = boolean(tail[3])
            if str(rest[1]).isdigit() and len(tail) < 3:
                told.group_name = ""  # up to 2.2 that is the group object's address
            facts.fill(told)
    count, dtype, _ = tensors(arguments, 0)
    facts.fill(Facts(in_count=count, dtype=dtype))
    return facts


def facts_of_operator(name: str, arguments: Mapping[str, Any]) -> Facts:
    """Facts from an operator with a known signature; none from any other."""
    signature = signature_of(name)
    facts = Facts()
    if signature is None:
        return facts
    facts.kind = facts.issued_as = kind_of_operation(name)
    count, dtype, splits = tensors(arguments, signature.input)
    facts.in_count, facts.dtype, facts.in_split = count, dtype, splits
    if signature.output == IN_PLACE:
        facts.out_count = count
    elif signature.output != UNRECORDED:
        facts.out_count, dtype, facts.out_split = tensors(arguments, signature.output)
        facts.dtype = facts.dtype or dtype
    values = arguments.get("Concrete Inputs")
    if not isinstance(values, list):
        return facts

    def at(position: int | None) -> Any:
        return values[position] if position is not None and position < len(values) else None

    facts.peer, facts.tag = integer(at(signature.peer)), integer(at(signature.tag))
    facts.in_split = _split(at(signature.in_split)) or facts.in_split
    facts.out_split = _split(at(signature.out_split)) or facts.out_split
    facts.group_size, facts.group_name = integer(at(signature.group_size)), _group_name(at(signature.group))
    facts.reduction = str(at(signature.reduction) or "").lower()
    _put_ranks(facts, at(signature.ranks))
    if name.startswith("c10d::"):  # `async_op` is the only flag they have
        flags = [flag for value in values if (flag := _flag(value)) is not None]
        facts.is_async = flags[0] if len(flags) == 1 else None
    else:
        facts.is_async = True  # `wait_tensor` waits
    return facts


def facts_of_annotation(name: str, arguments: Mapping[str, Any]) -> Facts:
    """Facts from `nccl:…`, `rccl:…` or `gloo:…`, whose arguments are the input tensors one by one."""
    facts = Facts(kind=kind_of_operation(name))
    counts = [
        (count, dtype)
        for position in range(len(arguments.get("Input Dims") or ()))
        for count, dtype, _ in [tensors(arguments, position)]
        if count >= 0 and dtype is not None
    ]
    if counts and len({dtype for _, dtype in counts}) == 1:
        facts.in_count, facts.dtype = sum(count for count, _ in counts), counts[0][1]
    arrow = _ARROW.search(name)
    if arrow:
        facts.peer = int(arrow.group(3))  # "nccl:send 0->1" and "nccl:recv 1<-0": the peer stands last
    return facts


def tensors(arguments: Mapping[str, Any], position: int) -> tuple[int, Dtype | None, str]:
    """Elements of the tensor, or list of tensors, at a position; their type; the list's uneven sizes.

    -1, None and "" where they aren't recorded. Kineto records no shapes of lists of lists.
    """
    dims, types = arguments.get("Input Dims"), arguments.get("Input type")
    if not isinstance(dims, list) or not isinstance(types, list) or position >= len(dims):
        return -1, None, ""
    recorded = str(types[position]) if position < len(types) else ""
    dtype, shape = dtype_of(recorded), dims[position]
    if not isinstance(shape, list) or not (dtype or _is_tensor(recorded)):
        return -1, None, ""
    if not _is_list(recorded) and not (shape and isinstance(shape[0], list)):
        return prod(shape), dtype, ""
    counts = _counts(shape)
    if not counts:
        return -1, dtype, ""
    return sum(counts), dtype, str(counts) if len(set(counts)) > 1 else ""


def _counts(shape: list[Any]) -> list[int]:
    """Elements of each tensor in a list of shapes, or a list of such lists."""
    counts: list[int] = []
    for inner in shape:
        if not isinstance(inner, list):
            return []
        counts += _counts(inner) if inner and isinstance(inner[0], list) else [prod(inner)]
    return counts


def _is_list(recorded: str) -> bool:
    return recorded == "TensorList" or recorded.startswith("GenericList")


def _is_tensor(recorded: str) -> bool:
    return _is_list(recorded) or dtype_of(recorded) is not None


def _put_dtype(facts: Facts, recorded: str) -> None:
    facts.dtype = dtype_of(recorded)
    facts.unknown_dtype = recorded if facts.dtype is None else ""


def _put_ranks(facts: Facts, recorded: Any) -> None:
    """Fill in a list of ranks, or what is left of it: "[0, 1, ..., 63]"."""
    if isinstance(recorded, (list, tuple)):
        facts.ranks = tuple(number for item in recorded if (number := integer(item)) >= 0)
        return
    text = str(recorded or "")
    if "..." not in text:
        facts.ranks = parse_ranks(text)
        return
    first, _, last = text.partition("...")
    facts.first_ranks = tuple(int(number) for number in _NUMBERS.findall(first))
    numbers = _NUMBERS.findall(last)
    facts.last_rank = int(numbers[-1]) if numbers else -1


def parse_ranks(text: str) -> tuple[int, ...]:
    """Ranks from "[0, 1, 2]"; empty where PyTorch shortened the list.

    >>> parse_ranks("[0, 1]"), parse_ranks("[0, 1, ..., 127]")
    ((0, 1), ())
    """
    return () if "..." in text else tuple(int(number) for number in _NUMBERS.findall(text))


def _group_name(recorded: Any) -> str:
    """A group's name; newer versions record a pair of name and description."""
    if isinstance(recorded, str) and recorded.startswith(("[", "(")):
        try:
            recorded = json.loads(recorded.replace("(", "[").replace(")", "]").replace("'", '"'))
        except ValueError:
            return str(recorded)
    if isinstance(recorded, (list, tuple)):
        recorded = recorded[0] if recorded else ""
    return "" if recorded is None else str(recorded)


def _split(recorded: Any) -> str:
    text = str(recorded) if recorded else ""
    return "" if text in ("[]", "()", "None") else text


def _flag(value: Any) -> bool | None:
    return boolean(value) if isinstance(value, bool) or str(value) in ("True", "False") else None


def boolean(value: Any) -> bool | None:
    """A flag as recorded: true, 1, "1", "True"; None if it is neither yes nor no."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())


def integer(value: Any) -> int:
    """A number as recorded, text or not; -1 where there is none. An unsigned -1 is none."""
    if isinstance(value, bool):
        return -1
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return -1
    return number if 0 <= number < 2**63 else -1
