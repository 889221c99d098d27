"""Chakra files that ASTRA-sim 2.x reads and runs to the end.

Written for its Chakra feeder 3 and its analytical networks, at astra-sim 518bd51. What that accepts is less
than what a recorded trace holds; `adapt` says in its notes what had to change:

* Metadata nodes abort it and invalid ones may stop a rank, so neither is written: their children wait for
  their parents.
* It has one unit each for a rank's host, compute and communication. What ran on a thread or a stream keeps
  its recorded order by edges (`order.py`). Threads, or streams that compute, which ran side by side are
  drawn together on the one unit: their nodes run in the order in which they ended, and each lasts from the
  end before it, or from the end of what it waited for, to its own. What occupied nothing is one of these.
* Collectives: one whose kind nobody understood, or of a group of one, becomes a compute node of the recorded
  duration; reduce, gather and scatter, which it lacks, become a broadcast, which it replays with the recorded
  duration; a barrier becomes an all-reduce of one byte.
* Memory nodes with a recorded duration become compute nodes; it would ask its remote memory.
* Durations are whole microseconds. What rounding takes from one node is added to the next on its lane: from
  the lane's begin to any of its nodes, the durations add up to within half a microsecond of the true sum
  (communication apart from the rest). ASTRA-sim takes 1 ns for a duration of 0.
* Process groups get numbers from 1. Collectives of all ranks get such a group as well where there are other
  groups: mixing the two stops ASTRA-sim where ranks ran unequal numbers of group collectives.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from chakrasim.traces.astra_export.nodes import (
    Facts,
    Layout,
    Nodes,
    as_it_is,
    known_kinds,
    lay_out,
    tell,
    written_graph,
)
from chakrasim.traces.astra_export.order import Timeline, order_of_all, without_rows
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import DEFAULT_LANE, Ints, NodeKind
from chakrasim.traces.io import write_graph
from chakrasim.traces.matching import CollectiveMatching, MessageMatching, match_collectives, match_messages
from chakrasim.traces.order import program_order
from chakrasim.traces.units import format_bytes
from chakrasim.traces.workload import Workload

MAX_TAG = 500_000_000
"""ASTRA-sim takes tags modulo this."""
GROUPS_APART = 500
"""Groups whose numbers differ by this share tags."""
MAX_GROUP = 2147
"""Larger group numbers overflow ASTRA-sim's stream numbers."""
SMALL_BYTES = 4096
"""An all-gather must have as many bytes as `preferred-dataset-splits`; smaller ones are worth a note."""
NO_GROUPS_WORD = "empty"
"""ASTRA-sim takes any path with this in it for no file of groups."""

SENTENCES = {
    "nodes_removed": "{:,} metadata and invalid nodes are left out: their children wait for their parents",
    "edges_added": "{:,} dependencies keep what ran on one thread, stream or communication unit in order",
    "collectives_not_understood": "{:,} collectives that weren't understood became compute of the recorded "
    "duration",
    "collectives_of_one_rank": "{:,} collectives of one rank alone became compute of the recorded duration",
    "reduce-scatter-block_as_reduce-scatter": "{:,} reduce-scatter-blocks are written as reduce-scatters",
    "barrier_as_all-reduce": "{:,} barriers are written as all-reduces of one byte",
    "reduce_as_broadcast": "{:,} reduces are written as broadcasts: ASTRA-sim lacks them",
    "gather_as_broadcast": "{:,} gathers are written as broadcasts: ASTRA-sim lacks them",
    "scatter_as_broadcast": "{:,} scatters are written as broadcasts: ASTRA-sim lacks them",
    "broadcasts": "{:,} broadcasts take their recorded duration in ASTRA-sim and wait for nobody",
    "broadcasts_without_duration": "{:,} broadcasts have no recorded duration: they take 1 ns in ASTRA-sim",
    "memory_as_compute": "{:,} memory nodes became compute of the recorded duration",
    "bytes_of_none": "{:,} communication nodes of 0 bytes are written with 1: ASTRA-sim aborts or hangs on 0",
    "bytes_made_equal": "{:,} collective nodes of uneven size have the size of the largest member",
    "renumbered_tags": "{:,} sends and receives have new tags, so that each meets its own partner",
    "end_nodes": "{:,} nodes of no duration were added at the ends of ranks, so that ASTRA-sim doesn't abort",
}
"""Text for each change."""


@dataclass(frozen=True)
class Adapted:
    """A workload as ASTRA-sim can run it."""

    workload: Workload
    """Its graphs have whole microseconds and default lanes only."""
    groups: Mapping[str, tuple[int, ...]]
    """Number to ranks in ring order, for ASTRA-sim's file of groups; empty where none is needed."""
    group_names: Mapping[str, str]
    """Number to the name that the group had."""
    changes: Mapping[str, int]
    """Changes, each with its number of nodes or edges."""
    notes: tuple[str, ...]
    """The same and its consequences, sentences for people."""


@dataclass(frozen=True)
class Export:
    """Files that were written."""

    files: list[Path]
    """In order of rank."""
    groups_file: Path | None
    adapted: Adapted


def export_for_astra_sim(workload: Workload, folder: str | os.PathLike[str], prefix: str = "trace") -> Export:
    """Write `folder/prefix.<rank>.et` for every rank, and `prefix.groups.json` where groups are used.

    The files appear under their names when all are complete. Raises TraceError as `adapt` does, and where
    ASTRA-sim would not read the file of groups for its name. O((n + m) log n) over all ranks.
    """
    folder = Path(folder)
    adapted = adapt(workload)
    groups_file = groups_path(folder, prefix) if adapted.groups else None
    if groups_file is not None and NO_GROUPS_WORD in str(groups_file):
        raise TraceError(
            f"{groups_file}: ASTRA-sim takes any path with the word {NO_GROUPS_WORD!r} in it for no file of "
            "process groups; choose another folder or prefix"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with tempfile.TemporaryDirectory(prefix=".chakrasim-", dir=folder) as temporary:
        for rank, graph in adapted.workload.graphs.items():
            files.append(folder / f"{prefix}.{rank}.et")
            write_graph(graph, Path(temporary) / files[-1].name)
        written = list(files)
        if groups_file is not None:
            text = orjson.dumps({name: list(ranks) for name, ranks in adapted.groups.items()})
            (Path(temporary) / groups_file.name).write_bytes(text)
            written.append(groups_file)
        for file in written:
            os.replace(Path(temporary) / file.name, file)
    return Export(files, groups_file, adapted)


def groups_path(folder: Path, prefix: str) -> Path:
    """Path of an export's process groups."""
    return folder / f"{prefix}.groups.json"


def adapt(workload: Workload) -> Adapted:
    """A checked workload as ASTRA-sim can run it; see the module for what changes.

    Raises TraceError if ranks are missing, if there is only one, or if the ranks wait for each other in a
    circle. A graph without threads and streams keeps its node ids; any other is numbered from 0 in the order
    that `astra_order.order_of_all` finds.
    """
    _require_all_ranks(workload)
    graphs = workload.graphs
    collectives, messages = match_collectives(workload), match_messages(workload)
    is_laned = any(bool((graph.lanes != DEFAULT_LANE).any()) for graph in graphs.values())
    programs = {rank: program_order(graph) for rank, graph in graphs.items()}
    numbers = _Groups(workload)
    tags = _tags(workload, messages, is_laned)
    changes: Counter[str] = Counter()
    facts = Facts()
    nodes = {
        rank: _nodes(workload, rank, programs[rank], collectives, numbers, tags, changes) for rank in graphs
    }
    layouts: dict[int, Layout] = {}
    orders: dict[int, Ints] = {}
    edges = {rank: own.edges for rank, own in nodes.items()}
    if is_laned:
        timelines = {r: Timeline.of(own.graph, own.edges, programs[r]) for r, own in nodes.items()}
        layouts = {rank: lay_out(own, timelines[rank], facts) for rank, own in nodes.items()}
        edges = {rank: edges[rank].with_chains(layouts[rank].chains) for rank in graphs}
        orders = order_of_all(workload, edges, timelines, collectives, messages)
        for rank, own in nodes.items():
            rows = np.flatnonzero(own.holds_communication & ~own.is_dropped)
            edges[rank] = edges[rank].with_chains([rows[np.argsort(orders[rank][rows])]])
    written = {}
    for rank, own in nodes.items():
        tell(own, changes, facts)
        layout = layouts[rank] if is_laned else as_it_is(own, programs[rank])
        names = tuple(numbers.ranks)
        written[rank] = written_graph(own, layout, edges[rank], orders.get(rank), names, changes)
    changes["renumbered_ranks"] = len(orders)
    changes["renumbered_tags"] = sum(int((column >= 0).sum()) for column in tags.values())
    adapted = Workload.from_graphs(
        written,
        name=workload.name,
        groups=numbers.ranks,
        sources=workload.sources,
        notes=workload.notes,
        world_size=workload.world_size,
    )
    return Adapted(
        workload=adapted,
        groups=numbers.ranks,
        group_names=numbers.names,
        changes={key: count for key, count in changes.items() if count},
        notes=(*_notes(changes, facts), *numbers.notes()),
    )


def _nodes(
    workload: Workload,
    rank: int,
    program: Ints,
    collectives: CollectiveMatching,
    numbers: _Groups,
    tags: Mapping[int, Ints],
    changes: Counter[str],
) -> Nodes:
    graph, instance = workload.graphs[rank], collectives.instance[rank]
    is_member, group = instance >= 0, workload.group_index(rank)
    table = np.array([numbers.local.get(i, -1) for i in range(len(workload.groups))], dtype=np.int32)
    members = np.array([len(entry.ranks) for entry in workload.groups])
    sizes = graph.comm_bytes.copy()
    sizes[is_member] = collectives.size_bytes[instance[is_member]]
    is_dropped = graph.kinds <= NodeKind.METADATA
    kinds, comm_kinds = known_kinds(graph, is_member & (members[group] == 1), changes)
    return Nodes(
        rank=rank,
        graph=graph,
        edges=without_rows(graph, is_dropped, program),
        is_dropped=is_dropped,
        kinds=kinds,
        comm_kinds=comm_kinds,
        sizes=sizes,
        tags=tags.get(rank, graph.tags),
        group_ids=np.where(is_member, table[group], -1).astype(np.int32),
    )


def _require_all_ranks(workload: Workload) -> None:
    missing = sorted(set(range(workload.world_size)) - set(workload.graphs))
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        raise TraceError(
            f"{workload.name}: rank {listed} of {workload.world_size} has no trace; ASTRA-sim needs one for "
            "every rank, so a partial workload can't be exported, but one with mirrored ranks can (--mirror)"
        )
    if workload.world_size < 2:
        raise TraceError(f"{workload.name}: has one rank only; ASTRA-sim's networks have two or more")


def _tags(workload: Workload, messages: MessageMatching, is_laned: bool) -> dict[int, Ints]:
    """New tags int64[n] by rank, where ASTRA-sim would mix messages up by those that they have.

    It pairs messages of one tag, source, destination and size in the order in which they happen to start, and
    knows no tag above `MAX_TAG`. Each message from one rank to another then gets a tag of its own.
    """
    largest = max(int(graph.tags.max(initial=0)) for graph in workload.graphs.values())
    if not len(messages.send_row) or not (is_laned or largest >= MAX_TAG):
        return {}
    tags = {rank: np.full(len(graph), -1, dtype=np.int64) for rank, graph in workload.graphs.items()}
    counts: Counter[tuple[int, int]] = Counter()
    for sender, send, receiver, receive in zip(
        messages.send_rank.tolist(),
        messages.send_row.tolist(),
        messages.recv_rank.tolist(),
        messages.recv_row.tolist(),
        strict=True,
    ):
        tags[sender][send] = tags[receiver][receive] = counts[sender, receiver]
        counts[sender, receiver] += 1
    return tags


class _Groups:
    """Numbers for process groups, given out in order of first use."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        used: dict[int, None] = {}
        restricted = False
        for rank, graph in workload.graphs.items():
            rows = np.flatnonzero((graph.kinds == NodeKind.COLL) & (graph.comm_kinds >= 0))
            used |= dict.fromkeys(np.unique(workload.group_index(rank)[rows]).tolist())
            restricted = restricted or bool((graph.involved_dims[rows] >= 0).any())
        chosen = [index for index in used if len(workload.groups[index].ranks) > 1 and index > 0]
        # Dimensions can only be chosen for collectives of all ranks as such.
        self.mixes = bool(chosen) and 0 in used
        if self.mixes and not restricted:
            chosen.append(0)
        names = {index: workload.groups[index].name for index in chosen}
        keeps = all(
            name.isascii() and name.isdecimal() and name[0] != "0" for index, name in names.items() if index
        )
        kept = {index: int(name) for index, name in names.items() if index} if keeps else {}
        free = iter(sorted(set(range(1, len(chosen) + len(kept) + 1)) - set(kept.values())))
        self.by_index = {index: str(kept.get(index) or next(free)) for index in chosen}
        self.ranks = {number: workload.groups[index].ranks for index, number in self.by_index.items()}
        self.names = {number: names[index] for index, number in self.by_index.items()}
        self.local = {index: place for place, index in enumerate(self.by_index)}
        self.restricted = restricted

    def notes(self) -> list[str]:
        """Notes on groups that ASTRA-sim's own numbering may get wrong."""
        found = []
        numbers = [int(number) for number in self.ranks]
        if numbers and max(numbers) > MAX_GROUP:
            found.append(
                f"there are process groups up to number {max(numbers):,}; ASTRA-sim's stream numbers "
                f"overflow above {MAX_GROUP:,}"
            )
        elif numbers and max(numbers) - min(numbers) >= GROUPS_APART:
            found.append(f"process groups whose numbers differ by {GROUPS_APART} share tags in ASTRA-sim")
        if self.mixes and self.restricted:
            found.append(
                "collectives of all ranks are mixed with those of groups: where ranks ran unequal numbers of "
                "group collectives, ASTRA-sim ends without a result"
            )
        return found


def _notes(changes: Counter[str], facts: Facts) -> list[str]:
    """Sentences for people about what changed, in the order of `changes`, and what ASTRA-sim makes of it."""
    found = [text.format(changes[key]) for key, text in SENTENCES.items() if changes[key]]
    found += [
        f"{what} that ran side by side on a rank are drawn together on ASTRA-sim's one unit ({count:,} ranks)"
        for what, count in facts.drawn_together.items()
    ]
    if changes["memory"]:
        found.append(f"{changes['memory']:,} memory nodes need a remote memory in ASTRA-sim's configuration")
    if facts.unstated_roofline:
        found.append(
            f"{facts.unstated_roofline:,} compute nodes of the device state no operations or bytes: keep "
            "roofline-enabled off"
        )
    if facts.smallest_all_gather < SMALL_BYTES:
        found.append(
            f"an all-gather has {format_bytes(facts.smallest_all_gather)} a rank; with more "
            "preferred-dataset-splits than bytes ASTRA-sim hangs"
        )
    return found
