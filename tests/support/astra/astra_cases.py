"""Random configurations of ASTRA-sim, replayed by us and by the slow referee."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import astra_reference
import yaml

from chakrasim.replay.astra_sim.files import read_astra_sim
from chakrasim.replay.astra_sim.imported import Imported
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.units import PS_PER_US
from chakrasim.traces.workload import Workload

Node = dict[str, Any]
ALL_REDUCE, ALL_GATHER, ALL_TO_ALL, REDUCE_SCATTER = 0, 2, 6, 7
COLLECTIVES = {
    ALL_REDUCE: "all-reduce",
    ALL_GATHER: "all-gather",
    ALL_TO_ALL: "all-to-all",
    REDUCE_SCATTER: "reduce-scatter",
}


def compute(node_id: int, duration_us: int, deps: list[int]) -> Node:
    """A compute node of the device."""
    return {"id": node_id, "type": "COMP", "deps": deps, "dur": duration_us, "attr": {"is_cpu_op": False}}


def collective(node_id: int, kind: int, size_bytes: int, deps: list[int], **attr: Any) -> Node:
    """A collective of all ranks, or of the group `pg_name`."""
    attr = {"is_cpu_op": False, "comm_type": kind, "comm_size": size_bytes, **attr}
    return {"id": node_id, "type": "COLL", "deps": deps, "attr": attr}


def message(node_id: int, kind: str, own: int, peer: int, size_bytes: int, tag: int, deps: list[int]) -> Node:
    """A SEND or RECV."""
    ends = (own, peer) if kind == "SEND" else (peer, own)
    attr = {"is_cpu_op": False, "comm_src": ends[0], "comm_dst": ends[1]}
    return {
        "id": node_id,
        "type": kind,
        "deps": deps,
        "attr": {**attr, "comm_size": size_bytes, "comm_tag": tag},
    }


def workload_of(nodes: dict[int, list[Node]], groups: dict[str, list[int]]) -> Workload:
    """The workload of nodes as recorded runs state them; ids are 0, 1, 2 … on each rank."""
    graphs = {}
    for rank, own in nodes.items():
        builder = GraphBuilder(rank, metadata={"world_size": len(nodes)})
        for number, node in enumerate(own):
            assert node["id"] == number
            attr = node["attr"]
            involved = attr.get("involved_dim", [True])
            builder.add(
                NodeKind[node["type"]],
                f"n{number}",
                duration_ps=node.get("dur", 0) * PS_PER_US,
                is_cpu=attr.get("is_cpu_op", False),
                ops=attr.get("num_ops", -1),
                tensor_bytes=attr.get("tensor_size", -1),
                comm_kind=attr.get("comm_type", -1),
                comm_bytes=attr.get("comm_size", -1),
                group=attr.get("pg_name"),
                peer=attr.get("comm_dst" if node["type"] == "SEND" else "comm_src", -1),
                tag=attr.get("comm_tag", -1),
                involved_dims=-1 if all(involved) else sum(on << d for d, on in enumerate(involved)),
                after=node["deps"],
            )
        graphs[rank] = builder.build()
    return Workload.from_graphs(graphs, groups=groups)


def imported(case: dict[str, Any], folder: Path) -> Imported:
    """The machine of a random case, from ASTRA-sim's files, which are written into the folder."""
    (folder / "system.json").write_text(json.dumps(case["system"]))
    (folder / "network.yml").write_text(yaml.safe_dump(case["network"]))
    (folder / "groups.json").write_text(json.dumps(case["groups"]))
    (folder / "remote.json").write_text(json.dumps(case.get("memory")))
    return read_astra_sim(
        network=folder / "network.yml",
        system=folder / "system.json",
        groups=folder / "groups.json" if case["groups"] else None,
        remote_memory=folder / "remote.json" if "memory" in case else None,
        queues=case["queues"],
        rendezvous=case["rendezvous"],
    )


def replay_on(machine: Machine, case: dict[str, Any], *, replay_only: bool) -> Result:
    """Our answer to a random case on a machine."""
    network = "congestion-aware" if case["backend"] == "aware" else "analytical"
    if replay_only:
        network = "recorded"
    workload = workload_of(case["nodes"], case["groups"])
    return simulate(workload, machine, compute=machine.compute, network=network)


def replay(case: dict[str, Any], folder: Path) -> Result:
    """Our answer to a random case."""
    found = imported(case, folder)
    return replay_on(found.machine, case, replay_only=found.replay_only)


def referee(case: dict[str, Any]) -> astra_reference.Outcome:
    """The referee's answer."""
    return astra_reference.simulate(
        case["nodes"],
        case["system"],
        case["network"],
        backend=case["backend"],
        groups=case["groups"] or None,
        remote_memory=case.get("memory"),
        queues=case["queues"],
        rendezvous=case["rendezvous"],
    )


def random_case(seed: int, **fixed: Any) -> dict[str, Any]:
    """A configuration that the real tool would run to its end. `fixed` overrides what is drawn."""
    draw = random.Random(seed)
    backend = fixed.get("backend") or draw.choice(["unaware", "unaware", "aware"])
    count = 1 if backend == "aware" else draw.choice([1, 1, 2, 3])
    count = fixed.get("dimensions", count)
    sizes = [draw.choice([2, 3, 4, 5, 6, 8, 16] if count == 1 else [2, 3, 4]) for _ in range(count)]
    topologies = [draw.choice(["Ring", "Switch", "FullyConnected"]) for _ in sizes]
    if backend == "aware" and sizes == [2] and topologies == ["Ring"]:
        topologies = ["Switch"]
    network = {
        "topology": topologies,
        "npus_count": sizes,
        "bandwidth": [draw.choice([25.0, 50.0, 50.0, 100.0, 400]) for _ in sizes],
        "latency": [draw.choice([500.0, 500.0, 100, 936.25, 25.5]) for _ in sizes],
    }
    system: dict[str, Any] = {
        "scheduling-policy": draw.choice(["LIFO", "FIFO"]),
        "endpoint-delay": draw.choice([10, 10, 1, 100, 37]),
        "active-chunks-per-dimension": draw.choice([1, 1, 2, 3, 4]),
        "preferred-dataset-splits": draw.choice([1, 2, 4, 5, 8]),
        "collective-optimization": draw.choice(["localBWAware", "localBWAware", "baseline"]),
        "local-mem-bw": draw.choice([1600, 1600, 50, 3350, 5]),
    }
    for kind, label in COLLECTIVES.items():
        system[f"{label}-implementation"] = [_algorithm(draw, kind, size) for size in sizes]
        if draw.random() < 0.1:
            system[f"{label}-implementation"] = [draw.choice(["oneRing", "oneDirect", "oneDirect2"])]
        elif draw.random() < 0.1:
            del system[f"{label}-implementation"][1:]
    if draw.random() < 0.1:
        system |= {"model-shared-bus": 1, "g": draw.randrange(9)}
        system |= {"L": draw.randrange(30), "o": draw.randrange(9)}
        system |= {"G": draw.choice([0.001, 0.01]), "local-reduction-delay": draw.choice([1, 2])}
    ranks = 1
    for size in sizes:
        ranks *= size
    groups = _groups(draw, ranks) if draw.random() < 0.4 else {}
    if groups and any("Tree" in name for key in system if "impl" in key for name in system[key]):
        groups = {}
    return {
        "backend": backend,
        "network": network,
        "system": system | fixed.get("system", {}),
        "groups": groups,
        "queues": draw.choice([1, 1, 1, 2, 3, 4]),
        "rendezvous": draw.random() < 0.1,
        "nodes": _nodes(draw, ranks, groups, len(sizes)),
    }


def _algorithm(draw: random.Random, kind: int, size: int) -> str:
    names = ["ring", "ring", "direct", f"direct{draw.randrange(1, 6)}"]
    if not size & (size - 1):
        names += ["halvingDoubling"] * (kind != ALL_TO_ALL)
        names += ["doubleBinaryTree"]
    return draw.choice(names)


def _groups(draw: random.Random, ranks: int) -> dict[str, list[int]]:
    """A partition into groups of two and more, and not of all."""
    if ranks < 4:
        return {}
    order = list(range(ranks))
    if draw.random() < 0.5:
        draw.shuffle(order)
    size = draw.choice([n for n in range(2, ranks // 2 + 1) if ranks % n == 0] or [2])
    parts = [order[at : at + size] for at in range(0, ranks - ranks % size, size)]
    return {str(number): part for number, part in enumerate(parts, 1)}


def _nodes(
    draw: random.Random, ranks: int, groups: dict[str, list[int]], dimensions: int
) -> dict[int, list[Node]]:
    """Rounds of compute, skewed by rank, and communication."""
    nodes: dict[int, list[Node]] = {rank: [] for rank in range(ranks)}
    group_of = {rank: name for name, members in groups.items() for rank in members}
    all_in_groups = len(group_of) == ranks
    for _ in range(draw.choice([1, 1, 2, 3])):
        kind = draw.choice([*COLLECTIVES, "message"])
        size_bytes = draw.choice([100, 4096, 65536, 1_000_001, 2**20, 8 * 2**20, 3_333_333])
        in_group = all_in_groups and draw.random() < 0.6
        involved = [draw.random() < 0.7 for _ in range(dimensions)]
        attr = {"involved_dim": involved} if any(involved) and draw.random() < 0.2 and not in_group else {}
        skews = draw.random() < 0.6
        shift = draw.randrange(1, ranks) if ranks > 1 else 0
        for rank, own in nodes.items():
            last = [own[-1]["id"]] if own else []
            if skews or draw.random() < 0.3:
                own.append(compute(len(own), draw.choice([1, 5, 20, draw.randrange(1, 300)]), last))
                last = [len(own) - 1]
            if kind == "message":
                to, from_ = (rank + shift) % ranks, (rank - shift) % ranks
                own.append(message(len(own), "SEND", rank, to, size_bytes, 7, last))
                own.append(message(len(own), "RECV", rank, from_, size_bytes, 7, last))
                own.append(compute(len(own), 1, [len(own) - 1, len(own) - 2]))
            elif in_group:
                own.append(collective(len(own), int(kind), size_bytes, last, pg_name=group_of[rank]))
            else:
                own.append(collective(len(own), int(kind), size_bytes, last, **attr))
            if draw.random() < 0.3:
                own.append(compute(len(own), draw.randrange(1, 50), last))
    return nodes
