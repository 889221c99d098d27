"""Bit-identical results of two versions, shown over a few hundred commands:
`python benchmarks/compare_versions.py --before PYTHON --after PYTHON`.

Two Python executables in which a version of chakrasim is installed each (or can be imported from
`--before-path`, `--after-path`) run the same commands on the same inputs: workloads that the version before
generates, and machine files written here in many topologies, with many algorithms, `scheduling` and `nccl`
blocks, and kinds of remote memory. With `--shared FOLDER` also recorded traces, ASTRA-sim's cases and its
tutorial. What the commands print is compared as JSON, number by number, timelines and written graphs
included. Wording isn't compared, only counted; keys may be added.

Mended defects that change results stand in `EXPECTED`, with the reason. Exits 1 for any other difference, and
for a traceback. Each version runs all its commands in one process, which takes one to three minutes; `--only
REGEX` chooses commands by their label. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EXPECTED: dict[str, str] = {
    r"replay random1 (ring|direct) congestion-aware on fc8$": (
        "rooted collectives send from and to their root by their algorithm; without them nothing differs"
    ),
    r"replay .* congestion-aware (on|timeline)(?!.* fc8$)": (
        "a message cuts through the links of its way by packets instead of whole"
    ),
    r"replay .* shared-ports on scheduled ": "shared-ports honours the machine's scheduling block",
    r"replay .* shared-ports on pooled": "shared-ports honours memory that ranks share",
    r"replay .* measured on (scheduled|pooled)": "what has no recording is costed by the whole machine file",
    r"replay odd-sizes \S+ (on scheduled|with direct:2)": (
        "a collective is cut into as many chunks as the machine file says"
    ),
    r"replay (random1|random4|sweep-pairs) \S+ (on scheduled|with) ": (
        "rooted collectives and barriers are queued and played by the machine's algorithm and rules"
    ),
    r"replay rooted \S+ on algorithm ": "rooted collectives are played by their algorithm, or refused",
}
"""Beginning of a command's label, as a pattern, to the defect that was mended, in one line."""

WORDING = {"notes", "assumptions", "edits", "because", "every_rank_because", "source", "waits_for", "error"}
"""Keys whose values are sentences for people."""
LEFT_OUT = {"version", "chakrasim", "displayTimeUnit", "otherData"}
"""Keys that name the version or the program."""
COMMANDS_AT_LEAST = 200


@dataclass(frozen=True)
class Case:
    """One command, and the folder or file that it writes, if any."""

    label: str
    arguments: tuple[str, ...]
    writes: str | None = None


# Machines


def dimension(topology: str, size: int | str, GBps: float = 25, latency_ns: float = 700) -> dict[str, Any]:
    """One dimension of a machine file's network."""
    return {
        "topology": topology,
        "size": size,
        "bandwidth_GBps": GBps,
        "latency_ns": latency_ns,
        "source": "made up",
    }


NETWORKS = {
    "ring8": [dimension("ring", 8)],
    "fc8": [dimension("fully_connected", 8, 12.5, 300)],
    "switch8": [dimension("switch", 8, 50, 1000.5)],
    "ring4-switch": [dimension("ring", 4, 100, 250), dimension("switch", "any", 12.5, 5000)],
    "fc2-ring4": [dimension("fully_connected", 2, 33.3, 100), dimension("ring", 4, 7.7, 900)],
    "switch4-switch": [dimension("switch", 4, 450, 1700), dimension("switch", "any", 50, 7000)],
    "ring2-fc2-switch2": [
        dimension("ring", 2, 200, 100),
        dimension("fully_connected", 2, 50, 500),
        dimension("switch", 2, 10, 2000),
    ],
}
SCHEDULING: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks": {"chunks": 4},
    "active": {"chunks": 8, "active_chunks": 2, "queues": 2},
    "themis": {"chunks": 8, "dimension_order": "themis"},
    "per-dimension": {"chunks": 2, "all_reduce": "per-dimension"},
    "smallest-first": {"chunks": 4, "queue_order": "smallest-first", "priority": "fifo"},
    "explicit": {"chunks": 2, "priority": "explicit"},
    "endpoint": {"chunks": 2, "endpoint_ns": 10, "reduction_GBps": 1600},
    "one-ring": {"chunks": 2, "subgroup": "ring"},
    "rendezvous": {"chunks": 2, "rendezvous": True},
    "astra-2": {"rules": "astra-sim-2", "chunks": 4, "endpoint_ns": 10},
    "bus": {
        "rules": "astra-sim-1",
        "chunks": 2,
        "bus": {
            "latency_ns": 5,
            "overhead_ns": 2,
            "gap_ns": 1,
            "ns_per_byte": 0.01,
            "reduction_ns_per_100_bytes": 1,
        },
    },
}
ALGORITHMS = ("direct:2", "halving-doubling", "double-binary-tree", "one-ring", "one-direct")
REMOTE = {
    "per-rank": {"sharing": "per-rank"},
    "per-node": {"sharing": "per-node", "ranks_per_node": 4},
    "pool": {"sharing": "pool"},
}
NCCL = {
    "source": "made up",
    "protocols": {
        "LL": {"overhead_us": 5.5, "most_GBps": 4.7},
        "LL128": {"overhead_us": 30, "most_GBps": 138},
        "Simple": {"overhead_us": 40},
    },
    "tree_efficiency": 0.8,
    "ring_ends": 0.5,
    "peer_us": 2,
    "links": {
        "dim0": {
            "efficiency": 0.81,
            "hop_us": {"LL": 1.6, "LL128": 0.3, "Simple": 5.4},
            "message_us": 13,
            "message_efficiency": 0.92,
            "exchange_efficiency": 0.78,
        },
        "dim1": {
            "efficiency": 0.66,
            "hop_us": {"LL": 8.5, "LL128": 16, "Simple": 5.5},
            "message_us": 24,
            "message_efficiency": 0.66,
            "exchange_efficiency": 0.66,
        },
    },
}
CATALOGUE = ("dgx-a100", "hgx-h100", "hgx-b200", "gb200-nvl72", "mi300x", "tpu-v5e", "ethernet-10g")


def write_machines(folder: Path) -> None:
    """Write the machine files; JSON is YAML too."""
    for name, network in NETWORKS.items():
        for default in ("ring", "direct"):
            write_machine(folder, f"{name}-{default}", network, {"default": default})
        for scheduling, block in SCHEDULING.items():
            write_machine(folder, f"{name}-s-{scheduling}", network, {"default": "ring"}, scheduling=block)
        for algorithm in ALGORITHMS:
            write_machine(
                folder,
                f"{name}-a-{algorithm.replace(':', '')}",
                network,
                {"default": algorithm},
                scheduling={"chunks": 2},
            )
    for name, sharing in REMOTE.items():
        remote = {"source": "made up", "bandwidth_GBps": 64, "latency_ns": 900, **sharing}
        write_machine(
            folder, f"pooled-{name}", NETWORKS["switch8"], {"default": "ring"}, remote_memory=remote
        )
        write_machine(
            folder,
            f"scheduled-pooled-{name}",
            NETWORKS["fc2-ring4"],
            {"default": "ring"},
            remote_memory=remote,
            scheduling={"chunks": 2},
        )
    write_machine(
        folder, "mixed", NETWORKS["fc2-ring4"], {"default": "ring", "all-to-all": ["direct", "ring"]}
    )
    for name in ("switch4-switch", "fc2-ring4"):
        write_machine(folder, f"nccl-{name}", NETWORKS[name], {"default": "nccl"}, nccl=NCCL)
    write_machine(folder, "whole-ns", NETWORKS["ring4-switch"], {"default": "ring"}, cycle_ps=1000)
    write_machine(folder, "grouped", NETWORKS["ring8"], {"default": "ring"}, groups={"pair": [0, 1]})


def write_machine(
    folder: Path, name: str, network: list[dict[str, Any]], collectives: dict[str, Any], **blocks: Any
) -> None:
    """Write one machine file, with an accelerator."""
    dimensions = [{"name": f"dim{number}", **one} for number, one in enumerate(network)]
    accelerator = {
        "name": "made up",
        "source": "made up",
        "peak_TFLOPs": {"bf16": 100, "fp32": 10},
        "memory_GBps": 1000,
        "memory_GB": 80,
        "launch_overhead_us": 2,
    }
    document = {
        "name": name,
        "source": "made up",
        "accelerator": accelerator,
        "network": dimensions,
        "collectives": collectives,
        **blocks,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(document))


# Workloads

GENERATED = {
    "sweep": "sweep --ranks 8 --first 1KiB --last 1MiB --factor 32",
    "sweep-pairs": "sweep --kind all-reduce --kind all-to-all --ranks 8 --pattern strided:4 --factor 16",
    "rooted": "sweep --kind broadcast --kind reduce --kind gather --kind scatter --ranks 8 --factor 100",
    "odd-sizes": "sweep --kind all-reduce --kind all-gather --ranks 8 --first 7 --last 1000001 --factor 13",
    "all-reduce": "collective --kind all-reduce --size 64MB --ranks 8 --repeat 3",
    "all-gather": "collective --kind all-gather --size 3333333 --ranks 8",
    "reduce-scatter": "collective --kind reduce-scatter --size 16MiB --ranks 8",
    "all-to-all": "collective --kind all-to-all --size 1MiB --ranks 8 --repeat 2",
    "pingpong": "pingpong --pair 0,5 --last 1MiB --factor 16 --repeat 2 --ranks 8",
    "pipeline": "pipeline --stages 8 --micro-batches 6 --size 2MiB --compute-us 50",
    "halo": "halo --grid 4x2 --size 1MiB --repeat 3 --compute-us 20",
    "halo-open": "halo --grid 2x2x2 --size 333KB --repeat 2 --open",
    "random1": "random --seed 1 --ranks 8 --operations 120",
    "random2": "random --seed 2 --ranks 8 --operations 200 --communication 0.6 --messages 0.3",
    "random3": "random --seed 3 --ranks 6 --operations 80 --max-size 1MB --groups 6",
    "random4": "random --seed 4 --ranks 8 --operations 150 --communication 0.5 --messages 0",
    "resnet": "vision --model resnet-50 --ranks 8 --batch 16",
    "vit": "vision --model vit-b-16 --ranks 4 --dtype bf16 --optimizer adam --no-overlap",
    "dlrm": "dlrm --model criteo-kaggle --ranks 8 --batch 4096",
    "dlrm-greedy": "dlrm --model criteo-terabyte --ranks 4 --sharding greedy --no-host --inference",
    "llama": "transformer --model llama3-8b --tp 2 --pp 2 --ranks 8 --one-of-each",
    "llama-all": "transformer --model llama3-8b --tp 4 --dp 2 --sharding zero1",
    "mixtral": "transformer --model mixtral-8x7b --ep 8 --ranks 8 --micro-batch 1 --one-of-each",
    "decode": "transformer --model llama3-8b --tp 8 --prompt 512 --decode 4",
}
SMALL = (
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "odd-sizes",
    "sweep-pairs",
    "random1",
    "random4",
    "halo",
)

MAKE_GRAPHS = """
import sys
from pathlib import Path
from chakrasim.traces import CommKind, GraphBuilder, NodeKind
from chakrasim.traces.io import write_graph

def memory(rank):
    builder = GraphBuilder(rank)
    last = []
    for step in range(6):
        kind = NodeKind.MEM_LOAD if (step + rank) % 2 else NodeKind.MEM_STORE
        moved = builder.add(kind, "move", tensor_bytes=1_000_003 * (1 + step + rank), after=last)
        last = [builder.add(NodeKind.COMP, "gemm", duration_ps=7_000_000 + rank, after=[moved])]
        if step % 3 == 2:
            collective = dict(comm_kind=CommKind.ALL_REDUCE, comm_bytes=2**20)
            last = [builder.add(NodeKind.COLL, "reduce", **collective, after=last)]
    return builder.build()

def lone_receive(rank):
    builder = GraphBuilder(rank, groups={"all": [0, 1, 2, 3]})
    got = builder.add(NodeKind.RECV, "recv", peer=3, comm_bytes=10**6, tag=4)
    done = builder.add(NodeKind.COMP, "gemm", duration_ps=5_000_000, after=[got])
    collective = dict(comm_kind=CommKind.ALL_REDUCE, comm_bytes=10**6, group="all")
    builder.add(NodeKind.COLL, "ar", **collective, after=[done])
    return builder.build()

def stragglers(rank):
    builder = GraphBuilder(rank)
    last = []
    for step in range(40):
        slow = 3 if rank == 5 and step % 7 == 0 else 1
        costs = dict(duration_ps=slow * 11_000_017, ops=10**9, tensor_bytes=10**6, dtype="bf16")
        work = builder.add(NodeKind.COMP, f"gemm{step % 4}", **costs, after=last)
        collective = dict(comm_kind=CommKind.ALL_REDUCE, comm_bytes=300_007 * (1 + step % 3))
        beside = builder.add(NodeKind.COLL, "ar", **collective, after=[work])
        last = [work] if step % 5 else [beside]
    return builder.build()

folder = Path(sys.argv[1])
for make, ranks in ((memory, 8), (lone_receive, 1), (stragglers, 8)):
    name = make.__name__.replace("_", "-")
    (folder / name).mkdir()
    for rank in range(ranks):
        write_graph(make(rank), folder / name / f"{name}.{rank}.et")
"""
"""Graphs that no generator makes; run with the version before."""


# Cases


def replay(label: str, *arguments: str) -> Case:
    """A replay whose JSON is compared."""
    return Case(f"replay {label}", ("replay", *arguments, "--json"))


def own_cases() -> Iterator[Case]:
    """Commands on inputs that are made here."""
    yield from generator_cases()
    yield from network_cases()
    yield from scheduling_cases()
    yield from option_cases()
    yield from model_cases()
    yield from other_commands()


def generator_cases() -> Iterator[Case]:
    """Every generator, and the bytes that it writes."""
    for name, command in GENERATED.items():
        kind, *rest = command.split()
        yield Case(
            f"generate {name}",
            ("generate", kind, *rest, "--compress", "--json", "-o", f"made-{name}"),
            f"made-{name}",
        )


def network_cases() -> Iterator[Case]:
    """Topologies, closed forms, network models and compute models."""
    for machine, default in itertools.product(NETWORKS, ("ring", "direct")):
        on = ("--machine", f"../machines/{machine}-{default}.yaml")
        yield replay(f"sweep {default} analytical on {machine}", "../in/sweep", *on)
        yield replay(
            f"random2 {default} shared-ports on {machine}", "../in/random2", *on, "--network", "shared-ports"
        )
        yield replay(
            f"random1 {default} congestion-aware on {machine}",
            "../in/random1",
            *on,
            "--network",
            "congestion-aware",
        )
    for network in ("analytical", "congestion-aware", "shared-ports", "recorded"):
        for workload in ("pingpong", "halo", "pipeline", "stragglers"):
            arguments = (
                f"../in/{workload}",
                "--machine",
                "../machines/ring4-switch-ring.yaml",
                "--network",
                network,
            )
            yield replay(f"{workload} {network} on ring4-switch", *arguments)
            yield Case(f"replay {workload} {network} timeline", ("replay", *arguments, "--timeline", "-"))
    for machine in (
        *CATALOGUE,
        "../machines/mixed.yaml",
        "../machines/whole-ns.yaml",
        "../machines/grouped.yaml",
    ):
        for workload in ("sweep", "random4"):
            yield replay(f"{workload} analytical on {machine}", f"../in/{workload}", "--machine", machine)
    for machine in ("nccl-switch4-switch", "nccl-fc2-ring4"):
        for workload in ("sweep", "halo", "odd-sizes"):
            on = ("--machine", f"../machines/{machine}.yaml")
            yield replay(f"{workload} analytical on {machine}", f"../in/{workload}", *on)
    for sharing, network in itertools.product(
        REMOTE, ("analytical", "shared-ports", "measured", "congestion-aware")
    ):
        for machine in (f"pooled-{sharing}", f"scheduled-pooled-{sharing}"):
            on = ("--machine", f"../machines/{machine}.yaml", "--network", network)
            yield replay(
                f"memory {network} on {machine.replace('scheduled-', 'scheduled ')}", "../in/memory", *on
            )
    yield replay(
        "lone-receive congestion-aware", "../in/lone-receive", "--partial", "--network", "congestion-aware"
    )
    yield replay("lone receive analytical", "../in/lone-receive", "--partial", "--network", "analytical")


def scheduling_cases() -> Iterator[Case]:
    """Scheduled collectives: each block and each algorithm on some of the networks, in turn."""
    networks = itertools.cycle(NETWORKS)
    workloads = itertools.cycle(SMALL)
    for block in SCHEDULING:
        # ASTRA-sim's first rules know no switch within a ring, and its bus needs rings.
        names = ("ring8", "ring8") if block == "bus" else (next(networks), next(networks), next(networks))
        for name in names:
            workload = next(workloads)
            on = ("--machine", f"../machines/{name}-s-{block}.yaml")
            label = f"on scheduled {block} {name}"
            yield replay(f"{workload} analytical {label}", f"../in/{workload}", *on)
            yield replay(
                f"{workload} congestion-aware {label}",
                f"../in/{workload}",
                *on,
                "--network",
                "congestion-aware",
            )
    for block, network in itertools.product(("chunks", "active", "themis"), ("shared-ports", "measured")):
        on = ("--machine", f"../machines/fc2-ring4-s-{block}.yaml", "--network", network)
        yield replay(f"random1 {network} on scheduled {block}", "../in/random1", *on)
    for algorithm in ALGORITHMS:
        for name in ("ring8", "fc8", next(networks)):
            workload = next(workloads)
            on = ("--machine", f"../machines/{name}-a-{algorithm.replace(':', '')}.yaml")
            yield replay(f"{workload} analytical with {algorithm} of {name}", f"../in/{workload}", *on)
        yield replay(
            f"rooted analytical on algorithm {algorithm}",
            "../in/rooted",
            *("--machine", f"../machines/fc8-a-{algorithm.replace(':', '')}.yaml"),
        )


def option_cases() -> Iterator[Case]:
    """Options of a replay: scales, edits, classes, extrapolation, and what is shown."""
    sample = "sample:ddp_transformer"
    for label, options in {
        "as it is": (),
        "recorded": ("--network", "recorded"),
        "measured": ("--network", "measured"),
        "on a machine": ("--machine", "hgx-h100"),
        "ports": ("--network", "shared-ports", "--machine", "dgx-a100"),
        "scaled": ("--scale", "gpu=0.5", "--scale", "cpu=0.7"),
        "scaled by pattern": ("--scale", "*gemm*=0.25", "--scale", "aten::*=1.5"),
        "critical path": ("--critical-path",),
        "symmetry": ("--explain-symmetry",),
        "dropped": ("--drop", "all_reduce"),
        "merged": ("--merge", "aten::"),
        "moved": ("--move", "gloo*=comm"),
        "collapsed": ("--collapse-host",),
        "smaller": ("--comm-size", "*all*reduce*=0.5"),
        "regrouped": ("--comm-group", "*all*reduce*=0,1/2,3"),
        "widened": ("--widen", "8"),
    }.items():
        yield replay(f"sample {label}", sample, *options)
    for workload in ("stragglers", "random3", "resnet", "llama", "llama-all", "dlrm"):
        on = (f"../in/{workload}", "--machine", "hgx-h100")
        for option in ("--no-classes", "--no-extrapolate", "--explain-symmetry", "--critical-path"):
            yield replay(f"{workload} {option}", *on, option)
    for workload in ("stragglers", "resnet", "vit", "dlrm", "dlrm-greedy", "llama", "mixtral", "decode"):
        on = (f"../in/{workload}", "--machine", "hgx-h100", "--compute", "roofline")
        yield replay(f"{workload} roofline", *on)
        yield Case(f"replay {workload} roofline timeline", ("replay", *on, "--timeline", "-"))
    for workload in ("stragglers", "random4", "halo"):
        yield replay(f"{workload} scaled", f"../in/{workload}", "--scale", "gpu=0.5", "--scale", "gemm1=3")
        yield replay(f"{workload} mirrored", f"../in/{workload}", "--mirror")
    yield replay(
        "llama by layer", "../in/llama", "--compute", "roofline", "--machine", "hgx-h100", "--by", "layer"
    )
    some = ("--machine", "dgx-a100", "--machine", "hgx-h100", "--machine", "../machines/fc2-ring4-ring.yaml")
    yield replay("stragglers on three machines", "../in/stragglers", *some)
    yield replay("sweep on the whole catalogue", "../in/sweep", "--machine", "all")


def model_cases() -> Iterator[Case]:
    """Language models without a trace."""
    for command in (
        "--model llama3-8b",
        "--model llama3-8b --tp 2 --dp 4 --machine dgx-a100",
        "--model llama3-8b --tp 4 --no-sequence-parallel",
        "--model llama3-8b --dp 8 --sharding zero3 --by layer",
        "--model llama3-8b --dp 8 --sharding zero2 --prefetch 1".replace(" --prefetch 1", ""),
        "--model llama3-8b --pp 4 --virtual-stages 2 --global-batch 8",
        "--model llama3-8b --pp 4 --schedule zero-bubble --global-batch 8",
        "--model llama3-8b --pp 2 --schedule gpipe --recompute full",
        "--model llama3-8b --cp 4 --recompute selective",
        "--model llama3-70b --tp 8 --pp 4 --ranks 64",
        "--model llama3-70b --tp 8 --micro-batch 4 --global-batch 4 --prompt 512 --decode 8",
        "--model mixtral-8x7b --tp 2 --pp 4 --ep 8 --ranks 64 --global-batch 32 --machine dgx-a100",
        "--model mixtral-8x7b --ep 8 --ranks 8 --imbalance 0.3 --seed 3 --overlap-experts",
        "--model llama3-8b --tp 2 --machine tpu-v5e",
        "--model llama3-8b --tp 8 --machine all",
        "--model llama3-8b --tp 2 --overlap-tensor full --dtype fp8",
        "--model llama3-8b --dp 4 --no-overlap-gradients --gradient-dtype bf16",
        "--model llama3-8b --tp 2 --no-fused --no-host --no-flash-attention",
    ):
        yield replay(f"model {command}", *command.split())


def other_commands() -> Iterator[Case]:
    """What isn't a replay."""
    for name in (
        "sample:ddp_transformer",
        "../in/random2",
        "../in/llama",
        "../in/memory",
        "../in/stragglers",
    ):
        plain = name.rpartition("/")[2].rpartition(":")[2]
        yield Case(f"inspect {plain}", ("inspect", name, "--json"))
        yield Case(
            f"export {plain}", ("export", name, "--json", "-o", f"exported-{plain}"), f"exported-{plain}"
        )
    sample = "sample:ddp_transformer"
    for label, options in {
        "plain": (),
        "dropped": ("--drop", "all_reduce"),
        "collapsed": ("--collapse-host", "--compress"),
        "scaled": ("--scale", "cpu=0.5"),
        "widened": ("--widen", "8"),
    }.items():
        yield Case(
            f"convert sample {label}",
            ("convert", sample, *options, "--json", "-o", f"to-{label}"),
            f"to-{label}",
        )
    yield Case("convert llama", ("convert", "../in/llama", "--json", "-o", "to-llama"), "to-llama")
    yield Case("machines list", ("machines", "list", "--json"))
    yield Case("models list", ("generate", "models", "--json"))
    for machine in (*CATALOGUE, "../machines/nccl-fc2-ring4.yaml", "../machines/fc2-ring4-s-active.yaml"):
        yield Case(f"machines show {machine}", ("machines", "show", machine, "--json"))


def shared_cases(shared: Path) -> Iterator[Case]:
    """Commands on the data of `--shared`: recorded traces, ASTRA-sim's cases and its tutorial."""
    traces = shared / "real_traces"
    for name in (
        "chakra_repo_tests/chakra.0.et",
        "dummy_2groups_et",
        "hta_cuda_sync_events/event_sync_multi_stream.json.gz",
        "hta_simple_add_pair",
        "hta_small_odd/cpu_only_rank34of300.json.gz",
        "hta_small_odd/mi250_minitoy.json.gz",
        "megatron_tp2_v100/device.0.json.gz",
        "param_host_et_schemas/resnet_1gpu_v1.1.1.json.gz",
        "resnet50_ddp2_hostonly",
        "tracelens/bert_small_h100.json.gz",
        "transformer_h100_tutorial",
    ):
        path, plain = str(traces / name), name.replace("/", "-")
        # Only a Chakra graph's reader knows of dependencies on nodes that are missing.
        is_chakra = name.startswith(("chakra_repo_tests", "dummy_2groups"))
        more = ("--partial", "--drop-unknown-dependencies") if is_chakra else ("--partial",)
        yield replay(f"trace {name}", path, *more)
        yield replay(f"trace {name} faster", path, *more, "--scale", "gpu=0.5", "--machine", "dgx-a100")
        yield Case(f"inspect {name}", ("inspect", path, "--json"))
        yield Case(f"convert {name}", ("convert", path, *more, "--json", "-o", f"of-{plain}"), f"of-{plain}")
    oracle = shared / "oracle"
    if oracle.is_dir():
        yield Case("conformance oracle", ("conformance", str(oracle), "--json"))
    for folder in sorted(oracle.glob("cases/*"))[::3]:
        files = [
            "--astra-system",
            str(folder / "system.json"),
            "--astra-network",
            str(folder / "network.yml"),
        ]
        files += ["--astra-remote-memory", str(folder / "remote.json")]
        groups = folder / "groups.json"
        files += ["--astra-groups", str(groups)] if groups.exists() else []
        yield replay(f"astra {folder.name}", str(folder / "t"), *files)
        yield Case(
            f"machines import {folder.name}", ("machines", "import", *files, "-o", f"{folder.name}.yaml"),
            f"{folder.name}.yaml",
        )  # fmt: skip
    for folder in sorted(shared.glob("tutorial/more/*/")):
        files = [
            "--astra-system",
            str(folder / "system.txt"),
            "--astra-network",
            str(folder / "network.json"),
        ]
        yield replay(f"text {folder.name}", str(folder / "workload.txt"), *files, "--num-passes", "2")


# Running


def work(cases_file: str, output: str) -> None:
    """Run the cases with the version that this Python has, one line of JSON each; the worker's part."""
    import importlib

    module = importlib.import_module("chakrasim.replay.cli")
    if not callable(getattr(module, "main", None)):
        module = importlib.import_module("chakrasim.replay.cli.main")
    main = module.main
    with open(output, "w") as results:
        for case in json.loads(Path(cases_file).read_text()):
            started = time.perf_counter()
            printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
            said = io.StringIO()
            code: Any = 0
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
                try:
                    main(list(case["arguments"]), prog_name="chakrasim")
                except SystemExit as ended:
                    code = ended.code or 0
                except Exception as error:
                    code = f"{type(error).__name__}: {error}"
            found = {
                "code": code,
                "printed": printed.buffer.getvalue().decode(),
                "said": said.getvalue(),
                "files": digests(Path(case["writes"])) if case["writes"] else {},
                "seconds": time.perf_counter() - started,
            }
            results.write(json.dumps(found) + "\n")


def digests(path: Path) -> dict[str, str]:
    """Digest of each written file, decompressed; of text its content."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = {}
    for file in files:
        if file.is_file():
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            is_text = file.suffix in (".yaml", ".json") and len(content) < 10_000
            found[file.name] = content.decode() if is_text else hashlib.sha256(content).hexdigest()
    return found


def environment(path: str | None) -> dict[str, str]:
    """The worker's environment: no cache of columns, the given import path, few surprises."""
    kept = {**os.environ, "CHAKRASIM_CACHE": "off", "COLUMNS": "200", "PYTHONHASHSEED": "0"}
    kept.pop("PYTHONPATH", None)
    return kept | ({"PYTHONPATH": path} if path else {})


def run_version(python: str, path: str | None, cases: list[Case], folder: Path) -> list[dict[str, Any]]:
    """Results of all cases with one version, run in `folder`."""
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    command = [python, str(Path(__file__).resolve()), "--worker", "cases.json", "results.jsonl"]
    subprocess.run(command, cwd=folder, env=environment(path), check=True)
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def make_inputs(python: str, path: str | None, folder: Path) -> None:
    """Workloads of the version before, and machine files."""
    (folder / "machines").mkdir()
    write_machines(folder / "machines")
    (folder / "in").mkdir()
    command = [python, "-c", MAKE_GRAPHS, str(folder / "in")]
    subprocess.run(command, cwd=folder, env=environment(path), check=True)
    makers = [
        Case(name, ("generate", *command.split(), "-o", f"../in/{name}"))
        for name, command in GENERATED.items()
    ]
    for maker, result in zip(makers, run_version(python, path, makers, folder / "making"), strict=True):
        if result["code"]:
            raise SystemExit(f"generate {maker.label}: {result['said']}")


# Comparing


def difference(before: Any, after: Any, key: str = "") -> str | None:
    """The first key with different values, and both; None if all of `before` is in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name in WORDING or name in LEFT_OUT:
                continue
            if name not in after:
                return f"{key}.{name}: {shown(value)} | absent"
            if found := difference(value, after[name], f"{key}.{name}"):
                return found
        return None
    if isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return f"{key}: {len(before)} entries | {len(after)}"
        pairs = enumerate(zip(before, after, strict=True))
        return next((d for i, (b, a) in pairs if (d := difference(b, a, f"{key}[{i}]"))), None)
    same = before == after and isinstance(before, bool) == isinstance(after, bool)
    return None if same else f"{key}: {shown(before)} | {shown(after)}"


def shown(value: Any) -> str:
    """A value in at most 80 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"


def compare(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first difference of two results that counts."""
    if isinstance(after["code"], str):
        return f"traceback: {after['code']}"
    if before["code"] != after["code"]:
        said = (after["said"] or before["said"]).strip().splitlines()[-1:] or [""]
        return f"exit code: {before['code']} | {after['code']} ({said[0][:200]})"
    if before["code"] == 2:  # bad input: what is said may be said better
        return None
    try:
        documents = json.loads(before["printed"]), json.loads(after["printed"])
    except ValueError:
        documents = ({"files": before["files"]}, {"files": after["files"]})
    return difference(*documents) or difference(before["files"], after["files"], "file")


def has_other_words(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Something that counts as the same was said otherwise."""
    return bool(before["printed"] != after["printed"] or before["said"] != after["said"])


def report(cases: list[Case], before: list[dict[str, Any]], after: list[dict[str, Any]]) -> int:
    """Print the differences; the number of those that nothing explains."""
    unexpected, explained, worded = 0, dict.fromkeys(EXPECTED, 0), 0
    for case, one, other in zip(cases, before, after, strict=True):
        found = compare(one, other)
        if found is None:
            worded += has_other_words(one, other)
            continue
        pattern = next((pattern for pattern in EXPECTED if re.match(pattern, case.label)), None)
        if pattern is None:
            unexpected += 1
            print(f"DIFFERS  {case.label}\n         chakrasim {' '.join(case.arguments)}\n         {found}")
        else:
            explained[pattern] += 1
            print(f"expected {case.label}: {found}")
    for case, result in zip(cases, before, strict=True):
        if result["code"] not in (0, 1):
            print(f"refused  {case.label}: {result['said'].strip()[:200]}")
    print()
    for pattern, count in explained.items():
        print(f"{count:4} expected: {EXPECTED[pattern]}")
    codes = [result["code"] for result in before]
    same = len(cases) - unexpected - sum(explained.values())
    print(
        f"{len(cases)} commands: {codes.count(0)} done, {codes.count(1)} unfinished, "
        f"{codes.count(2)} refused; {same} the same, {worded} of them in other words, "
        f"{sum(explained.values())} differ as expected, "
        f"{unexpected} differ otherwise; before {sum(r['seconds'] for r in before):.0f} s, "
        f"after {sum(r['seconds'] for r in after):.0f} s"
    )
    return unexpected


def main() -> int:
    """Compare two versions; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--before", required=True, metavar="PYTHON")
    parser.add_argument("--after", required=True, metavar="PYTHON")
    parser.add_argument("--before-path", metavar="PYTHONPATH")
    parser.add_argument("--after-path", metavar="PYTHONPATH")
    parser.add_argument(
        "--shared", type=Path, metavar="FOLDER", help="Recorded traces and ASTRA-sim's cases."
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="Labels of the commands to run.")
    options = parser.parse_args()
    cases = [*own_cases(), *(shared_cases(options.shared.resolve()) if options.shared else ())]
    assert len({case.label for case in cases}) == len(cases) >= COMMANDS_AT_LEAST
    cases = [case for case in cases if re.search(options.only, case.label)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_inputs(options.before, options.before_path, folder)
        before = run_version(options.before, options.before_path, cases, folder / "before")
        after = run_version(options.after, options.after_path, cases, folder / "after")
    return min(report(cases, before, after), 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:4])
    else:
        sys.exit(main())
