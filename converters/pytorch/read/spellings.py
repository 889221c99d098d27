"""Names of operations and data types as PyTorch and its backends write them (kernels: `nccl_names`)."""

from __future__ import annotations

import re

from chakrasim.traces.graph import CommKind, NodeKind

_KINDS: tuple[tuple[str, NodeKind, int], ...] = (
    ("allreduce", NodeKind.COLL, CommKind.ALL_REDUCE),
    ("allgather", NodeKind.COLL, CommKind.ALL_GATHER),
    ("reducescatter", NodeKind.COLL, CommKind.REDUCE_SCATTER),
    ("alltoall", NodeKind.COLL, CommKind.ALL_TO_ALL),
    ("broadcast", NodeKind.COLL, CommKind.BROADCAST),
    ("reduce", NodeKind.COLL, CommKind.REDUCE),
    ("gather", NodeKind.COLL, CommKind.GATHER),
    ("scatter", NodeKind.COLL, CommKind.SCATTER),
    ("barrier", NodeKind.COLL, CommKind.BARRIER),
    ("monitoredbarrier", NodeKind.COLL, CommKind.BARRIER),
    ("send", NodeKind.SEND, -1),
    ("isend", NodeKind.SEND, -1),
    ("recv", NodeKind.RECV, -1),
    ("irecv", NodeKind.RECV, -1),
)
"""Beginnings of names without punctuation; a longer word stands before a shorter one it begins with."""

_SCOPE = re.compile(r"^(nccl|rccl|gloo):|^_?c10d(_functional)?(_autograd)?::")
_NOT_LETTERS = re.compile(r"[^a-z]")

DTYPES: dict[str, tuple[str, int]] = {
    "float": ("fp32", 4),
    "half": ("fp16", 2),
    "bfloat16": ("bf16", 2),
    "double": ("fp64", 8),
    "byte": ("uint8", 1),
    "char": ("int8", 1),
    "short": ("int16", 2),
    "int": ("int32", 4),
    "long": ("int64", 8),
    "bool": ("bool", 1),
    "complexhalf": ("complex32", 4),
    "complexfloat": ("complex64", 8),
    "complexdouble": ("complex128", 16),
    "unsigned char": ("uint8", 1),
    "signed char": ("int8", 1),
    "long int": ("int64", 8),
    "short int": ("int16", 2),
    "unsigned short": ("uint16", 2),
    "unsigned int": ("uint32", 4),
    "unsigned long": ("uint64", 8),
    "uint16": ("uint16", 2),
    "uint32": ("uint32", 4),
    "uint64": ("uint64", 8),
    "float8_e4m3fn": ("fp8", 1),
    "float8_e5m2": ("fp8", 1),
    "float8_e4m3fnuz": ("fp8", 1),
    "float8_e5m2fnuz": ("fp8", 1),
    "float8_e8m0fnu": ("fp8", 1),
    "c10::complex<c10::half>": ("complex32", 4),
    "c10::complex<float>": ("complex64", 8),
    "c10::complex<double>": ("complex128", 16),
}
"""Our name and the size in bytes, by ATen's name or C++'s, in lower case."""

_HOST_DTYPE = re.compile(r"Tensor\(([^)]*)\)")


_DESCRIBES = (
    "record_param_comms",
    "c10d::",
    "_c10d_functional",
    "c10d_functional::",
    "nccl:",
    "rccl:",
    "gloo:",
)


def describes_communication(name: str) -> bool:
    """Tell operators and annotations whose arguments describe a communication.

    >>> describes_communication("_c10d_functional::all_reduce"), describes_communication("aten::gather")
    (True, False)
    """
    return name.startswith(_DESCRIBES)


_CUSTOM = re.compile(
    r"all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce|deep_?ep|nvshmem",
    re.IGNORECASE,
)


def may_communicate(name: str) -> bool:
    """Tell kernels of neither NCCL nor RCCL that seem to communicate, by their names.

    >>> may_communicate("void multimem_all_reduce_kernel<c10::BFloat16, 4>"), may_communicate("gemm")
    (True, False)
    """
    return _CUSTOM.search(name) is not None


def kind_of_operation(name: str) -> tuple[NodeKind, int] | None:
    """Node kind and `CommKind` (-1 for send and receive) of an operation's name; None if it is unknown.

    >>> kind_of_operation("_allgather_base"), kind_of_operation("c10d::reduce_scatter_")
    ((<NodeKind.COLL: 7>, <CommKind.ALL_GATHER: 2>), (<NodeKind.COLL: 7>, <CommKind.REDUCE_SCATTER: 7>))
    """
    letters = _NOT_LETTERS.sub("", _SCOPE.sub("", name).lower())
    return next(((kind, comm) for begin, kind, comm in _KINDS if letters.startswith(begin)), None)


def dtype_of(name: str) -> tuple[str, int] | None:
    """Our name and the size in bytes of a recorded data type; None if it is unknown.

    Host traces wrap it, and list the types of a list's tensors: the first is taken.

    >>> dtype_of("BFloat16"), dtype_of("c10::Half"), dtype_of("TensorList")
    (('bf16', 2), ('fp16', 2), None)
    >>> dtype_of("GenericList[Tensor(float),Tensor(float)]")
    ('fp32', 4)
    """
    wrapped = _HOST_DTYPE.search(name)
    lower = (wrapped.group(1) if wrapped else name).lower()
    return DTYPES.get(lower) or DTYPES.get(lower.removeprefix("c10::"))
