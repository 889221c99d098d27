"""Names of NCCL's and RCCL's kernels: which are communication, and which collective they run.

A name tells the collective where one is compiled into the kernel: `ncclDevKernel_AllReduce_Sum_f32_RING_LL`
(NCCL 2.19 and later), `ncclKernel_AllReduce_RING_LL_Sum_float` (before), `ncclSymDevKernel_…` (2.27). It does
not for `ncclDevKernel_Generic` (RCCL: any) and `ncclDevKernel_SendRecv` (sends, receives and all-to-alls).
"""

from __future__ import annotations

import re

from chakrasim.traces.graph import CommKind

_KERNEL = re.compile(r"(?:void )?(?:nccl|rccl|msccl(?:pp)?)\w*Kernel", re.IGNORECASE)
_KINDS = {
    "allreduce": CommKind.ALL_REDUCE,
    "allgather": CommKind.ALL_GATHER,
    "reducescatter": CommKind.REDUCE_SCATTER,
    "broadcast": CommKind.BROADCAST,
    "reduce": CommKind.REDUCE,
    "alltoall": CommKind.ALL_TO_ALL,
}
_KIND = re.compile("|".join(_KINDS), re.IGNORECASE)
_REDUCTION = re.compile(
    r"Reduce(?:Scatter)?_(?:\w*_)?(Sum|Prod|MinMax|Min|Max|PreMulSum|SumPostDiv|Avg)_([a-z0-9]+)",
    re.IGNORECASE,
)
_DTYPES = {
    "f16": ("fp16", 2),
    "half": ("fp16", 2),
    "bf16": ("bf16", 2),
    "f32": ("fp32", 4),
    "float": ("fp32", 4),
    "f64": ("fp64", 8),
    "double": ("fp64", 8),
    "u8": ("uint8", 1),
    "u32": ("uint32", 4),
    "u64": ("uint64", 8),
    "i8": ("int8", 1),
    "i32": ("int32", 4),
    "i64": ("int64", 8),
}


def is_communication_kernel(name: str) -> bool:
    """Tell kernels of NCCL, RCCL and MSCCL from others.

    >>> is_communication_kernel("ncclDevKernel_Generic(ncclDevKernelArgs)")
    True
    >>> is_communication_kernel("cross_device_reduce_1stage")
    False
    """
    return _KERNEL.match(name) is not None


def kind_of_kernel(name: str) -> CommKind | None:
    """The collective that a kernel's name states; None for other kernels and where the name can't tell.

    >>> kind_of_kernel("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)").label
    'reduce-scatter'
    >>> kind_of_kernel("ncclAllReduceRingLLKernel_sum_f32(ncclColl)").label
    'all-reduce'
    >>> kind_of_kernel("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)") is None
    True
    """
    stated = _KIND.search(name.partition("(")[0]) if is_communication_kernel(name) else None
    return _KINDS[stated[0].lower()] if stated else None


def dtype_of_kernel(name: str) -> tuple[str, int] | None:
    """The data type that a reducing kernel is compiled for, and its bytes; None for any other.

    >>> dtype_of_kernel("ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevComm*, unsigned long, ncclWork*)")
    ('fp16', 2)
    """
    match = _REDUCTION.search(name)
    return _DTYPES.get(match[2]) if match else None


def reduction_of_kernel(name: str) -> str:
    """The reduction that a kernel is compiled for, in lower case; "" for a kernel that doesn't reduce.

    >>> reduction_of_kernel("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)")
    'sum'
    >>> reduction_of_kernel("ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclWorkElem)")
    ''
    """
    match = _REDUCTION.search(name)
    return match[1].lower() if match else ""
