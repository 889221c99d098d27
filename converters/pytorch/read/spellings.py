"""Spellings: collectives and data types as PyTorch, NCCL, RCCL and gloo write them."""

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
_KERNEL = re.compile(r"(?:void )?(?:nccl|rccl|msccl(?:pp)?)\w*Kernel_?", re.IGNORECASE)
_KERNEL_KIND = re.compile(r"(AllReduce|AllGather|ReduceScatter|Broadcast|Reduce|AllToAll)")

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

_KERNEL_DTYPES = {
    "f16": "half",
    "half": "half",
    "bf16": "bfloat16",
    "f32": "float",
    "float": "float",
    "f64": "double",
    "double": "double",
    "u8": "byte",
    "u32": "uint32",
    "u64": "uint64",
    "i8": "char",
    "i32": "int",
    "i64": "long",
}
_KERNEL_REDUCTION = re.compile(
    r"Reduce(?:Scatter)?_(?:\w*_)?(Sum|Prod|MinMax|Min|Max|PreMulSum|SumPostDiv|Avg)_([a-z0-9]+)",
    re.IGNORECASE,
)
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
    """Whether an operator's or annotation's arguments tell something of a communication.

    >>> describes_communication("_c10d_functional::all_reduce"), describes_communication("aten::gather")
    (True, False)
    """
    return name.startswith(_DESCRIBES)


def is_communication_kernel(name: str) -> bool:
    """Whether a kernel is one of NCCL's or RCCL's, by its name.

    >>> is_communication_kernel("ncclDevKernel_Generic(ncclDevKernelArgs)")
    True
    >>> is_communication_kernel("cross_device_reduce_1stage")
    False
    """
    return _KERNEL.match(name) is not None


_CUSTOM = re.compile(
    r"all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce|deep_?ep|nvshmem",
    re.IGNORECASE,
)


def may_communicate(name: str) -> bool:
    """Whether a kernel of neither NCCL nor RCCL sounds as if it communicated.

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


def kind_of_kernel(name: str) -> tuple[NodeKind, int] | None:
    """The same from a kernel's name, which can't tell all-to-all from send and receive.

    >>> kind_of_kernel("ncclKernel_ReduceScatter_RING_LL_Sum_half(ncclWorkElem)")
    (<NodeKind.COLL: 7>, <CommKind.REDUCE_SCATTER: 7>)
    >>> kind_of_kernel("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)") is None
    True
    """
    match = _KERNEL_KIND.search(name)
    return kind_of_operation(match.group(1)) if match else None


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


def dtype_of_kernel(name: str) -> tuple[str, int] | None:
    """The data type a reducing NCCL kernel is compiled for.

    >>> dtype_of_kernel("ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevComm*, unsigned long, ncclWork*)")
    ('fp16', 2)
    """
    match = _KERNEL_REDUCTION.search(name)
    return DTYPES.get(_KERNEL_DTYPES.get(match.group(2), "")) if match else None


def reduction_of_kernel(name: str) -> str:
    """What a reducing NCCL kernel computes, in lower case; "" of any other.

    >>> reduction_of_kernel("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)")
    'sum'
    >>> reduction_of_kernel("ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclWorkElem)")
    ''
    """
    match = _KERNEL_REDUCTION.search(name)
    return match.group(1).lower() if match else ""
