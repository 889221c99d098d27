"""Signatures of PyTorch's communication operators: which argument is the input, the root, the group's name …

Positions are those of the operators' schemas from PyTorch 1.13 to 2.13 (`c10d`, `_c10d_functional` and its
autograd wrappers, the older `c10d_functional`). Arguments were only ever added behind the ones named here.
"""

from __future__ import annotations

from typing import NamedTuple

IN_PLACE = -1
UNRECORDED = -2


class Signature(NamedTuple):
    """Positions in an operator's arguments; None where it has no such argument."""

    input: int = 0
    output: int = IN_PLACE
    """`IN_PLACE`: the output is the input; `UNRECORDED`: the output is what the operator returns."""
    peer: int | None = None
    """Root of a rooted collective, peer of a message; a rank within the group."""
    tag: int | None = None
    out_split: int | None = None
    in_split: int | None = None
    reduction: int | None = None
    group_size: int | None = None
    group: int | None = None
    """The group's name."""
    ranks: int | None = None


_C10D = {
    "send": Signature(peer=2, tag=3),
    "recv_": Signature(peer=2, tag=3),
    "recv_any_source_": Signature(tag=2),
    "broadcast_": Signature(peer=2),
    "allreduce_": Signature(),
    "allreduce_coalesced_": Signature(),
    "reduce_": Signature(peer=3),
    "_allgather_base_": Signature(1, 0),
    "allgather_": Signature(1, 0),
    "allgather_coalesced_": Signature(1, 0),
    "allgather_into_tensor_coalesced_": Signature(1, 0),
    "_reduce_scatter_base_": Signature(1, 0),
    "reduce_scatter_": Signature(1, 0),
    "reduce_scatter_tensor_coalesced_": Signature(1, 0),
    "gather_": Signature(1, 0, peer=3),
    "scatter_": Signature(1, 0, peer=3),
    "alltoall_": Signature(1, 0),
    "alltoall_base_": Signature(1, 0, out_split=3, in_split=4),
    "barrier": Signature(),
    "monitored_barrier_": Signature(),
}

_GATHER = Signature(0, UNRECORDED, group_size=1, group=2)
_REDUCE = Signature(0, UNRECORDED, reduction=1, group=2)
_SCATTER = Signature(0, UNRECORDED, reduction=1, group_size=2, group=3)
_FUNCTIONAL = {
    "all_reduce": _REDUCE,
    "all_reduce_": _REDUCE._replace(output=IN_PLACE),
    "all_reduce_coalesced": _REDUCE,
    "all_reduce_coalesced_": _REDUCE._replace(output=IN_PLACE),
    "all_gather_into_tensor": _GATHER,
    "all_gather_into_tensor_out": _GATHER,
    "all_gather_into_tensor_coalesced": _GATHER,
    "reduce_scatter_tensor": _SCATTER,
    "reduce_scatter_tensor_out": _SCATTER,
    "reduce_scatter_tensor_coalesced": _SCATTER,
    "all_to_all_single": Signature(0, UNRECORDED, out_split=1, in_split=2, group=3),
    "broadcast": Signature(peer=1, group=2),
    "broadcast_": Signature(peer=1, group=2),
    "isend": Signature(peer=1, tag=2, group=3),
    "irecv": Signature(peer=1, tag=2, group=3),
}

_OLD_REDUCE = Signature(0, UNRECORDED, reduction=1, ranks=3, group_size=4)
_OLD_GATHER = Signature(0, UNRECORDED, ranks=2, group_size=3)
_OLD_FUNCTIONAL = {
    "all_reduce": _OLD_REDUCE,
    "all_reduce_coalesced": _OLD_REDUCE,
    "all_gather_into_tensor": _OLD_GATHER,
    "all_gather_into_tensor_coalesced": _OLD_GATHER,
    "reduce_scatter_tensor": _OLD_REDUCE,
    "reduce_scatter_tensor_coalesced": _OLD_REDUCE,
    "all_to_all_single": Signature(0, UNRECORDED, out_split=1, in_split=2, ranks=4, group_size=5),
    "broadcast": Signature(peer=1, ranks=3, group_size=4),
}

_SIGNATURES = {
    "c10d": _C10D,
    "_c10d_functional": _FUNCTIONAL,
    "_c10d_functional_autograd": _FUNCTIONAL,
    "c10d_functional": _OLD_FUNCTIONAL,
}


def signature_of(name: str) -> Signature | None:
    """The signature of a communication operator; None for any other.

    >>> signature_of("c10d::reduce_").peer
    3
    >>> signature_of("_c10d_functional::wait_tensor") is None
    True
    """
    namespace, _, stem = name.partition("::")
    return _SIGNATURES.get(namespace, {}).get(stem)
