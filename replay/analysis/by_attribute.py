"""A replay's work by the value of an attribute of its nodes: by layer, by micro-batch, by pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.results.intervals import covered_by_group_ps
from chakrasim.replay.results.result import compute_and_host
from chakrasim.traces.attributes import attribute_column, integer_attributes, value_names
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import Ints, NodeKind

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result
    from chakrasim.traces.workload import Workload

QUANTITIES = ("nodes", "compute_ps", "communication_ps", "operations", "bytes", "communication_bytes")


@dataclass(frozen=True)
class Share:
    """Time of nodes with one value on a rank, as the mean and the maximum over the ranks that have some.

    A mean counts a rank as often as there are ranks that it stands for.
    """

    value: int | None
    """None: nodes that lack the attribute."""
    name: str
    """Name of the value in the graphs, else its number."""
    ranks: int
    """Ranks with such nodes, those that they stand for included."""
    mean: dict[str, float]
    """By `QUANTITIES`, of what ended: nodes; ps in which some compute or memory node of the device ran (of a
    rank without any: of the host); ps in which some collective, send or receive did, waiting included;
    operations and bytes of the former; bytes that the rank puts into collectives and messages."""
    maximum: dict[str, int]


def shares(result: Result, attribute: str) -> list[Share]:
    """By value, ascending; nodes without the attribute come last, if there are any. O(n log n).

    Raises ConfigError for an attribute that no node has, which names those that there are.
    """
    workload = result.workload
    columns = {rank: attribute_column(graph, attribute) for rank, graph in workload.graphs.items()}
    values = np.unique(np.concatenate([np.unique(column) for column in columns.values()]))
    if not (values != -1).any():
        raise unknown_attribute(workload, attribute)
    sums = np.stack([_sums(result, rank, column, values) for rank, column in columns.items()])
    weights = np.array([workload.stands_for.get(rank, 1) for rank in columns])
    names = _names(workload, attribute)
    found = []
    for i in [*np.flatnonzero(values != -1).tolist(), *np.flatnonzero(values == -1).tolist()]:
        value = int(values[i])
        has_nodes = sums[:, i, 0] > 0
        if not has_nodes.any():
            continue
        of_ranks, ranks = sums[has_nodes, i], weights[has_nodes]
        mean = (of_ranks.astype(np.float64).T @ ranks / ranks.sum()).tolist()
        found.append(
            Share(
                value=None if value == -1 else value,
                name="(none)" if value == -1 else names[value] if 0 <= value < len(names) else str(value),
                ranks=int(ranks.sum()),
                mean=dict(zip(QUANTITIES, mean, strict=True)),
                maximum=dict(zip(QUANTITIES, of_ranks.max(axis=0).tolist(), strict=True)),
            )
        )
    return found


def unknown_attribute(workload: Workload, attribute: str) -> ConfigError:
    """Error for an attribute that no node has."""
    known = {name for graph in workload.graphs.values() for name in integer_attributes(graph)}
    if not known:
        return ConfigError(
            f"nodes have no attribute {attribute!r}: those of {workload.name} have no whole-number attributes"
        )
    return UnknownName("whole-number attribute of nodes", attribute, known)


def _sums(result: Result, rank: int, column: Ints, values: Ints) -> Ints:
    """int64[values, quantities] of one rank: what has ended."""
    graph, rows = result.workload.graphs[rank], result.rows(rank)
    starts_ps, ends_ps = result.starts_ps[rows], result.ends_ps[rows]
    has_ended = ends_ps >= 0
    groups = np.searchsorted(values, column)
    is_compute = compute_and_host(graph)[0] & has_ended
    is_communication = graph.is_communication & has_ended
    # What a receive gets is counted where it is sent.
    puts_in = is_communication & (graph.kinds != NodeKind.RECV)
    sums = np.zeros((len(values), len(QUANTITIES)), dtype=np.int64)
    for quantity, chosen, amounts in (
        (0, has_ended, None),
        (3, is_compute, graph.ops),
        (4, is_compute, graph.tensor_bytes),
        (5, puts_in, graph.comm_bytes),
    ):
        of = 1 if amounts is None else np.maximum(amounts[chosen], 0)
        np.add.at(sums[:, quantity], groups[chosen], of)
    for quantity, chosen in ((1, is_compute), (2, is_communication)):
        sums[:, quantity] = covered_by_group_ps(
            groups[chosen], starts_ps[chosen], ends_ps[chosen], len(values)
        )
    return sums


def _names(workload: Workload, attribute: str) -> tuple[str, ...]:
    """Names of the values; none where graphs have different ones."""
    stated = {value_names(graph, attribute) for graph in workload.graphs.values()} - {()}
    return stated.pop() if len(stated) == 1 else ()
