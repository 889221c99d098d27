"""Symmetry of all ranks on a machine with scheduled collectives, where one rank may represent all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.layout import Layout, lay_out
from chakrasim.replay.machine.machine import NCCL
from chakrasim.replay.network.messages import plays_messages
from chakrasim.traces.graph import CommKind, NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.machine.machine import Machine
    from chakrasim.traces.workload import Workload


def all_ranks_symmetric(workload: Workload, machine: Machine) -> bool:
    """True if all ranks are one class (`classes.py`) and behave alike on a sized machine.

    They do if there are no sends and receives, if all their collectives are of all ranks, if those look the
    same from everywhere, and if messages don't meet. That is exact: by induction over the events all ranks do
    the same at the same time. O(nodes of one).
    """
    first = next(iter(workload.graphs.values()))
    if len(workload.graphs) != machine.size or 0 not in workload.graphs:
        return False
    is_message = (first.kinds == NodeKind.SEND) | (first.kinds == NodeKind.RECV)
    memory = machine.remote_memory
    system = machine.system
    if (
        is_message.any()
        or plays_messages(machine)
        or (memory is not None and memory.sharing != "per-rank")
        or system.custom
        or system.custom_by_node
    ):
        return False
    is_collective = (first.kinds == NodeKind.COLL) & (first.comm_kinds >= 0)
    if workload.group_index(first.rank)[is_collective].any():
        return False
    stated = np.stack([first.comm_kinds, first.involved_dims])[:, is_collective]
    distinct = np.unique(stated, axis=1)
    for kind, involved in distinct.T.tolist():
        if not system.rules.runs(CommKind(kind)) or NCCL in machine.algorithms[CommKind(kind)]:
            continue
        layout = lay_out(machine, CommKind(kind), workload.groups[0].ranks, involved)
        if layout is not None and not _looks_alike(layout):
            return False
    return True


def _looks_alike(layout: Layout) -> bool:
    """True if all members that start together also end each phase together."""
    machine = layout.machine
    if machine.system.rules.members_end_together:
        return True
    if layout.is_flat or any(algorithm(name).is_tree for name in layout.algorithms):
        return False
    # Whole rings, and everything that isn't one, look the same from each of their places.
    dimensions = [machine.dimensions[dim] for dim in layout.dims]
    return all(dimension.ring_size in (None, dimension.size) for dimension in dimensions)
