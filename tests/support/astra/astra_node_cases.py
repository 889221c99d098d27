"""Random graphs of all kinds of nodes for ASTRA-sim: compute, host compute, memory, messages, broadcasts."""

from __future__ import annotations

import random
from typing import Any

Node = dict[str, Any]
MICROSECONDS = [0, 1, 5, 20, 50]
OPERATIONS = [10**6, 10**9, 3 * 10**8]
BYTES = [10**5, 10**6, 7777]
MEMORIES = {
    "NO_MEMORY_EXPANSION": {},
    "PER_NPU_MEMORY_EXPANSION": {"remote-mem-latency": 300, "remote-mem-bw": 64},
    "PER_NODE_MEMORY_EXPANSION": {"remote-mem-latency": 300, "remote-mem-bw": 64, "num-npus-per-node": 2},
    "MEMORY_POOL": {"remote-mem-latency": 300, "remote-mem-bw": 64},
}
KINDS = ("COMP", "COMP", "COMP", "CPU", "MEM", "COLL", "COLL", "BROADCAST", "SEND")


def random_node_case(seed: int) -> dict[str, Any]:
    """Ranks with the same edges and different durations; collectives stand in a chain."""
    draw = random.Random(seed)
    ranks = draw.choice([2, 4])
    topology = draw.choice(["Ring", "Switch", "FullyConnected"] if ranks > 2 else ["Switch"])
    memory = draw.choice(sorted(MEMORIES))
    system: dict[str, Any] = {
        "scheduling-policy": "LIFO",
        "preferred-dataset-splits": 2,
        "collective-optimization": "localBWAware",
        "local-mem-bw": draw.choice([50, 1600]),
        "peak-perf": draw.choice([10, 312.5]),
        "roofline-enabled": draw.choice([0, 0, 1]),
        "replay-only": draw.choice([0, 0, 0, 1]),
    }
    for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all"):
        system[f"{kind}-implementation"] = ["ring"]
    network = {"topology": [topology], "npus_count": [ranks], "bandwidth": [50.0], "latency": [500.0]}
    return {
        "backend": draw.choice(["unaware", "aware"]),
        "network": network,
        "system": system,
        "memory": {"memory-type": memory, **MEMORIES[memory]},
        "groups": {},
        "queues": 1,
        "rendezvous": False,
        "nodes": _nodes(draw, ranks, has_memory=bool(MEMORIES[memory])),
    }


def _nodes(draw: random.Random, ranks: int, *, has_memory: bool) -> dict[int, list[Node]]:
    nodes: dict[int, list[Node]] = {rank: [] for rank in range(ranks)}
    last_collective: list[int] = []
    sends: list[tuple[int, int, int]] = []
    for number in range(draw.randrange(2, 14)):
        kind = draw.choice(KINDS)
        if kind == "MEM" and not has_memory:
            kind = "COMP"
        deps = draw.sample(range(number), min(number, draw.choice([0, 1, 1, 2])))
        if kind == "COLL":
            deps, last_collective = [*deps, *last_collective], [number]
        shift, size = draw.randrange(1, ranks), draw.choice([1000, 2**20])
        attr: dict[str, Any] = {"is_cpu_op": kind == "CPU"}
        if kind in ("COLL", "BROADCAST"):
            attr |= {"comm_type": draw.choice([0, 2, 6, 7]) if kind == "COLL" else 5, "comm_size": size}
        elif kind == "SEND":
            attr |= {"comm_size": size, "comm_tag": number}
            sends.append((number, shift, size))
        elif kind == "MEM":
            attr |= {"tensor_size": size}
        elif kind == "COMP":
            attr |= {"num_ops": draw.choice(OPERATIONS), "tensor_size": draw.choice(BYTES)}
        names = {"CPU": "COMP", "BROADCAST": "COLL", "MEM": draw.choice(["MEM_LOAD", "MEM_STORE"])}
        for rank, own in nodes.items():
            ends = {"comm_src": rank, "comm_dst": (rank + shift) % ranks} if kind == "SEND" else {}
            own.append(
                {
                    "id": number,
                    "type": names.get(kind, kind),
                    "deps": sorted(set(deps)),
                    "dur": draw.choice(MICROSECONDS),
                    "attr": attr | ends,
                }
            )
    # Every receive waits from the start.
    for number, shift, size in sends:
        for rank, own in nodes.items():
            ends = {"comm_src": (rank - shift) % ranks, "comm_dst": rank}
            attr = {"is_cpu_op": False, "comm_size": size, "comm_tag": number, **ends}
            own.append({"id": len(own), "type": "RECV", "deps": [], "dur": draw.choice([0, 3]), "attr": attr})
    return nodes
