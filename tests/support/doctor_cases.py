"""Small broken Chakra files for the tests of the trace doctor, and what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner, Result

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records, split_records
from chakrasim.replay.cli.main import main
from chakrasim.traces import ExecutionGraph, NodeKind
from chakrasim.traces.check import check_workload
from chakrasim.traces.doctor import Mend, mend
from chakrasim.traces.workload_files import read_workload

COMP, COLL, METADATA = NodeKind.COMP, NodeKind.COLL, NodeKind.METADATA
ALL_REDUCE_KERNEL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
ALL_GATHER_KERNEL = "ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)"

HOST = {"is_cpu_op": ("bool", True)}
DEVICE = {"is_cpu_op": ("bool", False)}
REDUCED = DEVICE | {"comm_type": ("int64", 0), "comm_size": ("int64", 64)}


def node(
    node_id: int,
    name: str = "gemm",
    kind: int = COMP,
    attrs: dict[str, tuple[str, Any] | None] | None = None,
    *,
    data: tuple[int, ...] = (),
    control: tuple[int, ...] = (),
    reads: str = "",
    writes: str = "",
) -> Any:
    """A record of 5 us on the device. An attribute is its value's kind and the value, or None: no value."""
    message = schema.Node(
        id=node_id, name=name, type=kind, data_deps=data, ctrl_deps=control, duration_micros=5
    )
    for key, value in (DEVICE if attrs is None else attrs).items():
        message.attr.add(name=key) if value is None else message.attr.add(
            name=key, **{f"{value[0]}_val": value[1]}
        )
    message.inputs.values, message.outputs.values = reads, writes
    return message


def tensor(storage: int, elements: int = 16) -> str:
    """One float tensor as PyTorch's observer writes it."""
    return f"[[{storage + 100}, {storage}, 0, {elements}, 4, 'cuda:0']]"


def write(folder: Path, *ranks: list[Any], first: int = 0) -> Path:
    for rank, nodes in enumerate(ranks, first):
        records = [m.SerializeToString() for m in (schema.GlobalMetadata(), *nodes)]
        (folder / f"t.{rank}.et").write_bytes(frame_records(records))
    return folder


class Treated:
    """A workload before and after, and what was found."""

    def __init__(self, path: Path, groups: dict[str, tuple[int, ...]] | None = None) -> None:
        self.before = read_workload(path, groups=groups, partial=True)
        self.workload, self.found = mend(self.before, groups)

    def mended(self, kind: str, rank: int = 0) -> list[tuple[int | None, str, str | None]]:
        """The first changes of a kind: node, before, after."""
        return [(c.node_id, c.before, c.after) for m in self._of(kind, rank, True) for c in m.first]

    def left(self, kind: str, rank: int = 0) -> list[tuple[int | None, str, str]]:
        """What was told only: node, what is wrong, why it stays."""
        return [(c.node_id, c.before, m.why) for m in self._of(kind, rank, False) for c in m.first]

    def _of(self, kind: str, rank: int, is_mended: bool) -> Iterator[Mend]:
        return (m for m in self.found if (m.kind, m.rank, m.is_mended) == (kind, rank, is_mended))

    def kinds(self) -> set[str]:
        return {m.kind for m in self.found}

    def graph(self, rank: int = 0) -> ExecutionGraph:
        return self.workload.graphs[rank]

    def parents(self, node_id: int, rank: int = 0) -> set[int]:
        own = self.graph(rank)
        return {int(own.ids[p]) for p in own.parents_of(own.ids.tolist().index(node_id))}

    def record(self, node_id: int, rank: int = 0) -> Any:
        records = self.graph(rank).records
        assert records is not None
        data = records()
        spans = list(split_records(data))[1:]
        found = [schema.Node.FromString(data[start:end]) for start, end in spans]
        return next(n for n in found if n.id == node_id)

    def attribute(self, node_id: int, name: str) -> Any:
        attr = next((a for a in self.record(node_id).attr if a.name == name), None)
        which = attr and attr.WhichOneof("value")
        return (which.removesuffix("_val"), getattr(attr, which)) if which else None

    def problems(self) -> list[str]:
        return [str(problem) for problem in check_workload(self.workload)]


def in_group(name: str, size: int = 64) -> list[Any]:
    attrs = REDUCED | {"pg_name": ("string", name), "comm_size": ("int64", size)}
    return [node(0, "all", COLL, attrs)]


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def run_json(*arguments: str | Path) -> dict[str, Any]:
    return orjson.loads(run(*arguments, "--json").stdout)


def fail(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.output
