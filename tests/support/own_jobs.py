"""Small training jobs as a profiler would record them, with the communication that each was built from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kineto_trace import Trace

from chakrasim.traces.graph import CommKind, NodeKind

COMPUTE, SIDE, NETWORK = 7, 9, 20
"""Streams."""


class Sent(NamedTuple):
    """One communication of a rank."""

    kind: NodeKind
    collective: int
    """A CommKind; -1 for messages."""
    size_bytes: int
    peer: int = -1


class Rank:
    """A rank's host, which launches a kernel every few microseconds, and its streams."""

    def __init__(self, rank: int, world: int, *, api: str = "cuda", backend: str = "nccl") -> None:
        self.trace = Trace(distributedInfo={"rank": rank, "world_size": world, "backend": backend})
        self.world = world
        self.api = api
        self.clock = 0.0
        self.number = 0
        self.sent: list[Sent] = []

    def call(self, name: str, duration: float = 1.0) -> int:
        """A runtime call inside an operator; returns its correlation."""
        self.number += 1
        self.trace.op(f"aten::op{self.number}", self.clock, duration + 2)
        self.trace.call(f"{self.api}{name}", self.clock + 1, duration, self.number)
        self.clock += duration + 3
        return self.number

    def kernel(self, name: str, start: float, duration: float, stream: int = COMPUTE) -> None:
        """A launch now and its kernel."""
        self.trace.kernel(name, start, duration, self.call("LaunchKernel"), stream)

    def wait(self) -> None:
        """Let what is launched next on another stream follow what was launched last."""
        self.call("EventRecord")
        self.call("StreamWaitEvent")

    def collective(self, name: str, kind: CommKind, size: int, start: float, duration: float) -> None:
        """A collective of the world, of `size` floats that each rank gives."""
        taken = {CommKind.ALL_GATHER: size * self.world, CommKind.REDUCE_SCATTER: size // self.world}
        self._communication(start, duration, name, size, taken.get(kind, size), {})
        self.sent.append(Sent(NodeKind.COLL, kind, 4 * size))

    def message(self, name: str, peer: int, size: int, start: float, duration: float) -> None:
        """A `send` or `recv` of floats."""
        self._communication(
            start, duration, name, size, size, {"Dst Rank" if name == "send" else "Src Rank": peer}
        )
        kind = NodeKind.SEND if name == "send" else NodeKind.RECV
        self.sent.append(Sent(kind, -1, 4 * size, peer))

    def _communication(
        self, start: float, duration: float, name: str, given: int, taken: int, more: dict[str, int]
    ) -> None:
        metadata = {
            "Collective name": name,
            "In msg nelems": given,
            "Out msg nelems": taken,
            "Group size": self.world,
            "dtype": "Float",
            "Process Group Name": "0",
            "Process Group Ranks": str(list(range(self.world))),
            **more,
        }
        kernel = "ncclDevKernel_Generic(ncclDevKernelArgs)"
        self.trace.kernel(kernel, start, duration, self.call("LaunchKernelExC"), NETWORK, **metadata)


def ddp() -> dict[int, Rank]:
    """Two buckets of gradients are reduced while the backward pass goes on; the optimizer awaits both."""
    ranks = {}
    for rank in (0, 1):
        own = ranks[rank] = Rank(rank, 2)
        own.kernel("forward", 10, 30)
        own.kernel("backward_2", 40, 20 + rank)
        own.wait()
        own.collective("allreduce", CommKind.ALL_REDUCE, 6000, 70, 25)
        own.kernel("backward_1", 61 + rank, 30)
        own.wait()
        own.collective("allreduce", CommKind.ALL_REDUCE, 1500, 96, 12)
        own.wait()
        own.kernel("optimizer", 110, 15)
        own.call("DeviceSynchronize", 125 - own.clock)
    return ranks


def tensor_parallel() -> dict[int, Rank]:
    """A sharded layer: its input is gathered, its output scattered, its norm reduced, each awaited."""
    ranks = {}
    for rank in range(4):
        own = ranks[rank] = Rank(rank, 4)
        own.kernel("norm", 5, 4 + rank)
        own.wait()
        own.collective("_allgather_base", CommKind.ALL_GATHER, 256, 20, 8)
        own.wait()
        own.kernel("gemm", 30, 40)
        own.wait()
        own.collective("_reduce_scatter_base", CommKind.REDUCE_SCATTER, 1024, 72, 9)
        own.collective("allreduce", CommKind.ALL_REDUCE, 16, 82, 5)
    return ranks


def pipeline() -> dict[int, Rank]:
    """Activations go forward to the second stage, gradients come back."""
    first, second = Rank(0, 2), Rank(1, 2)
    first.kernel("forward", 5, 20)
    first.wait()
    first.message("send", 1, 2048, 26, 10)
    first.message("recv", 1, 512, 40, 60)
    first.wait()
    first.kernel("backward", 102, 30)
    second.message("recv", 0, 2048, 5, 31)
    second.wait()
    second.kernel("forward", 38, 20)
    second.kernel("backward", 58, 30)
    second.wait()
    second.message("send", 0, 512, 90, 10)
    return {0: first, 1: second}


def streams() -> dict[int, Rank]:
    """Kernels on two streams that await each other, and one that awaits nothing."""
    own = Rank(0, 1)
    own.kernel("produce", 5, 20)
    own.wait()
    own.kernel("consume", 27, 10, SIDE)
    own.kernel("independent", 26, 50)
    own.call("StreamSynchronize", 80 - own.clock)
    own.kernel("after", 85, 5)
    return {0: own}


def rccl() -> dict[int, Rank]:
    """The same names on AMD's runtime."""
    ranks = {}
    for rank in (0, 1):
        own = ranks[rank] = Rank(rank, 2, api="hip")
        own.kernel("Cijk_Ailk_Bljk_SB_MT64x64x16", 6, 30)
        own.wait()
        own.collective("allreduce", CommKind.ALL_REDUCE, 4096, 40 + rank, 20)
        own.call("DeviceSynchronize", 62 - own.clock)
    return ranks


def gloo() -> dict[int, Rank]:
    """A blocking all-reduce of hosts, carried out by a thread of its own."""
    ranks = {}
    for rank in (0, 1):
        own = ranks[rank] = Rank(rank, 2, backend="gloo")
        arguments = {
            "Record function id": 5,
            "Concrete Inputs": ["", "", "", "", "False", "-1"],
            "Input Dims": [[[700]], [], [], [], [], []],
            "Input type": ["TensorList", "", "", "", "Scalar", "Scalar"],
        }
        own.trace.op("aten::mm", 0, 20 + rank).op("c10d::allreduce_", 25, 10, **arguments)
        job = {"Record function id": 6, "Input Dims": [[700]], "Input type": ["float"]}
        own.trace.note("gloo:all_reduce", 40, 40, tid=200, **job)
        own.trace.op("aten::add", 90, 5, **{"Record function id": 9})
        own.sent.append(Sent(NodeKind.COLL, CommKind.ALL_REDUCE, 2800))
    return ranks


def missing_rank() -> dict[int, Rank]:
    """Four ranks of which one wasn't recorded."""
    ranks = tensor_parallel()
    del ranks[2]
    return ranks


def early_kernels() -> dict[int, Rank]:
    """Clocks that disagree: kernels start during their launch, and before it."""
    own = Rank(0, 1)
    own.trace.call("cudaLaunchKernel", 0, 10, 101).kernel("during", 4, 8, 101)
    own.trace.call("cudaLaunchKernel", 20, 5, 102).kernel("before", 18, 8, 102)
    own.trace.op("aten::add", 30, 6)
    return {0: own}


JOBS: dict[str, Callable[[], dict[int, Rank]]] = {
    job.__name__: job
    for job in (ddp, tensor_parallel, pipeline, streams, rccl, gloo, missing_rank, early_kernels)
}


def write_job(name: str, folder: Path) -> Path:
    """Write a trace a rank, as `device.RANK.json`."""
    folder = folder / name
    folder.mkdir(parents=True)
    for rank, own in JOBS[name]().items():
        own.trace.write(folder / f"device.{rank}.json")
    return folder
