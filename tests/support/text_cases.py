"""Random text workloads of ASTRA-sim 1.0 with networks and systems to run them on."""

from __future__ import annotations

import json
import random
from math import prod
from pathlib import Path

KINDS = (
    "MICRO",
    "DATA",
    "MODEL",
    "HYBRID_DATA_MODEL",
    "HYBRID_MODEL_DATA",
    "DISTRIBUTED_INFERENCE",
    "HYBRID_DLRM",
    "HYBRID_DLRM_ENHANCED",
    "HYBRID_TRANSFORMER",
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD",
    "HYBRID_CUSTOMIZED",
)
LAYER_KINDS = ("DATA", "MODEL", "HYBRID_DATA_MODEL", "HYBRID_MODEL_DATA")
WORDS = ("NONE", "ALLREDUCE", "ALLGATHER", "REDUCESCATTER", "ALLTOALL")


def write_case(seed: int, folder: Path) -> dict[str, float]:
    """Write network.json, system.txt and workload.txt; returns the options of the run."""
    draw = random.Random(seed)
    count = draw.choice([1, 1, 2, 3])
    sizes = [draw.choice([2, 4, 8] if count > 1 else [2, 3, 4, 8, 16]) for _ in range(count)]
    topologies = [draw.choice(["Ring", "Switch", "FullyConnected"]) for _ in sizes]
    links = {"Ring": lambda n: 2, "Switch": lambda n: draw.choice([1, 2]), "FullyConnected": lambda n: n - 1}
    network = {
        "dimensions-count": count,
        "topologies-per-dim": topologies,
        "units-count": sizes,
        "links-count": [links[t](n) for t, n in zip(topologies, sizes, strict=True)],
        "link-latency": [draw.choice([300, 500, 1000]) for _ in sizes],
        "link-bandwidth": [draw.choice([23.7, 47.3, 11.9]) for _ in sizes],
    }
    (folder / "network.json").write_text(json.dumps(network))
    is_themis = draw.random() < 0.25
    system = {
        "scheduling-policy": draw.choice(["LIFO", "FIFO"]),
        "endpoint-delay": draw.choice([10, 1, 100]),
        "active-chunks-per-dimension": draw.choice([1, 1, 2]),
        "preferred-dataset-splits": draw.choice([1, 4, 8, 16]),
        "collective-optimization": draw.choice(["localBWAware", "baseline"][: 1 if is_themis else 2]),
        "intra-dimension-scheduling": "SCF" if is_themis else draw.choice(["FIFO", "FIFO", "SCF"]),
        "inter-dimension-scheduling": "themis" if is_themis else "baseline",
    }
    for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all"):
        words = [_algorithm(draw, kind, size) for size in sizes]
        system[f"{kind}-implementation"] = "_".join(words)
    (folder / "system.txt").write_text("".join(f"{key}: {value}\n" for key, value in system.items()))
    (folder / "workload.txt").write_text(_workload(draw, sizes))
    return {
        "num_passes": draw.choice([1, 1, 2, 3]),
        "compute_scale": draw.choice([1, 1, 0.37, 2.5]),
        "comm_scale": draw.choice([1, 1, 1.5, 8]),
    }


def _algorithm(draw: random.Random, kind: str, size: int) -> str:
    names = ["ring", "direct"]
    if not size & (size - 1) and kind != "all-to-all":
        names.append("halvingDoubling")
    return draw.choice(names)


def _workload(draw: random.Random, sizes: list[int]) -> str:
    kind = draw.choice(KINDS)
    layers = draw.randrange(1, 6)
    header = kind
    if "DLRM" in kind:
        header += f" {draw.randrange(layers)}"
    elif "TRANSFORMER" in kind:
        groups = [2**power for power in range(8) if prod(sizes) % 2**power == 0]
        header += f" model_parallel_NPU_group: {draw.choice(groups)}"
        if kind.endswith("BCKWD"):
            layers = max(layers, 2)
            initiating = draw.randrange(1, layers)
            header += f" checkpoints: 1 {draw.randrange(initiating)} checkpoint_initiates: 1 {initiating}"
    rows = []
    for layer in range(layers):
        row = [f"layer{layer}", "-1"]
        for part in range(3):
            word = draw.choice(WORDS if kind != "MICRO" or part == 2 else WORDS[:1])
            if kind == "MICRO" and part == 2 and layer == 0:
                word = draw.choice(WORDS[1:])
            size_bytes = draw.choice([4096, 65536, 2**20, 3 * 2**20]) if word != "NONE" else 0
            row += [str(draw.choice([1, 500, 20_000, 150_000])), word, str(size_bytes)]
        row.append(str(draw.choice([0, 1, 100])))
        if kind == "HYBRID_CUSTOMIZED":
            row.append(draw.choice(LAYER_KINDS))
        rows.append(" ".join(row))
    return "\n".join([header, str(layers), *rows]) + "\n"
