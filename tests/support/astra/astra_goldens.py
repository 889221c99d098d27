"""Configurations of ASTRA-sim with the answers of the slow referee, kept on file.

`python tests/support/astra/astra_goldens.py` asks the referee again and writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import astra_reference
from astra_cases import random_case, referee
from astra_node_cases import random_node_case

GOLDENS = Path(__file__).parents[2] / "golden" / "astra_runs.json"
SEEDS = range(60)


def case_of(kind: str, seed: int) -> dict[str, Any]:
    """A configuration: of any nodes, or of links that are idle (`unaware`) or shared (`aware`)."""
    return random_node_case(seed) if kind == "nodes" else random_case(seed, backend=kind)


def asked() -> dict[str, list[int]]:
    """Finish of every rank in ns, by name of the case; without those that the real tool wouldn't end."""
    found = {}
    for kind in ("unaware", "aware", "nodes"):
        for seed in SEEDS:
            try:
                outcome = referee(case_of(kind, seed))
            except astra_reference.Abort:
                continue
            if None not in outcome.finish:
                found[f"{kind}-{seed}"] = list(outcome.finish)
    return found


if __name__ == "__main__":
    lines = [f" {json.dumps(name)}: {json.dumps(finish)}" for name, finish in asked().items()]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
