"""A program of representatives: one rank of each class, with what they meet in place of the others' doing.

Where members of some classes meet in many groups, as the ranks of data parallelism do, their representatives
meet once, though they may be of different groups. A message goes to the representative of its receiver's
class, which can be the sender itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.replay.engine.program import Matched, Program, build_program
from chakrasim.traces.graph import Ints, Rows
from chakrasim.traces.matching import CollectiveMatching, MessageMatching, match_messages
from chakrasim.traces.order import program_order

if TYPE_CHECKING:
    from chakrasim.replay.symmetry.classes import RankClasses

A_ROOT = np.iinfo(np.int32).max
"""Root of a collective that states one: no rank's number, since every group that meets has its own."""


def representative_program(classes: RankClasses) -> Program:
    """The program of the classes' representatives. O(nodes of those), but for messages, which all count."""
    workload, representatives = classes.workload, classes.representatives
    reduced = replace(
        workload,
        graphs={rank: workload.graphs[rank] for rank in representatives},
        group_tables={rank: workload.group_tables[rank] for rank in representatives},
        others=None,
    )
    collectives, meetings = _collectives(classes)
    return build_program(
        reduced,
        Matched(
            collectives=collectives,
            messages=_messages(classes),
            expected=collectives.present,
            sizes=meetings[0],
            collective_weights=meetings[1],
            rank_weights=classes.sizes,
        ),
    )


def _collectives(classes: RankClasses) -> tuple[CollectiveMatching, tuple[Rows, Ints]]:
    """Collective instances among representatives, with group size and multiplicity."""
    workload, kinds, memberships = classes.workload, classes.kinds, classes.memberships
    assert kinds is not None, "classes that were looked for"
    assert memberships is not None, "classes of more than one rank"
    colours = memberships.colours(classes.index)
    at = {rank: place for place, rank in enumerate(workload.ranks)}
    offsets = np.concatenate([[0], np.cumsum([len(used) for used in kinds.used])])
    instance, columns = {}, []
    first_of: dict[int, int] = {}
    total = 0
    for rank in classes.representatives:
        graph, place = workload.graphs[rank], at[rank]
        numbers = kinds.shapes[int(kinds.number[place])].groups
        rows = np.flatnonzero(numbers >= 0)
        rows = rows[np.argsort(program_order(graph)[rows])] if len(rows) else rows
        column = np.full(len(graph), -1, dtype=np.int32)
        for number, group in enumerate(kinds.used[place]):
            own = rows[numbers[rows] == number]
            colour = int(colours[offsets[place] + number])
            if colour not in first_of:
                first_of[colour] = total
                total += len(own)
            ordinal = np.arange(len(own))
            column[own] = first_of[colour] + ordinal
            stated = np.where(graph.peers[own] >= 0, A_ROOT, -1)
            of = np.full((4, len(own)), [[group], [colour], [rank], [0]])
            of[3] = ordinal
            columns.append(
                np.concatenate([[column[own]], of, [graph.comm_kinds[own], graph.comm_bytes[own], stated]])
            )
        instance[rank] = column
    table = np.concatenate([*columns, np.empty((8, 0))], axis=1).astype(np.int64)
    met, first, inverse = np.unique(table[0], return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    size_bytes = np.full(len(met), -1, dtype=np.int64)
    np.maximum.at(size_bytes, inverse, table[6])
    group, colour, rank_, ordinal_, kind, bytes_, root = table[1:, first]
    matching = CollectiveMatching(
        instance=instance,
        group=group.astype(np.int32),
        ordinal=ordinal_.astype(np.int32),
        kind=kind.astype(np.int32),
        size_bytes=size_bytes,
        root=root.astype(np.int32),
        first_bytes=bytes_,
        first_root=root.astype(np.int32),
        present=np.bincount(inverse, minlength=len(met)).astype(np.int32),
        first_rank=rank_.astype(np.int32),
    )
    pairs = np.unique(np.stack([colours, memberships.groups]), axis=1)
    groups_of_colour = np.bincount(pairs[0], minlength=1)
    members = {
        number: sum(rank in workload.graphs for rank in workload.groups[number].ranks)
        for number in np.unique(group).tolist()
    }
    sizes = np.array([members[number] for number in group.tolist()], dtype=np.int32)
    return matching, (sizes, groups_of_colour[colour])


def _messages(classes: RankClasses) -> MessageMatching:
    workload = classes.workload
    found = match_messages(workload)
    representative = np.arange(max(workload.graphs) + 1, dtype=np.int32)
    for rank, one in classes.representative_of.items():
        representative[rank] = one
    is_own = representative[found.send_rank] == found.send_rank
    return MessageMatching(
        send_rank=found.send_rank[is_own],
        send_row=found.send_row[is_own],
        recv_rank=representative[found.recv_rank[is_own]],
        recv_row=found.recv_row[is_own],
        lone_sends=tuple(end for end in found.lone_sends if representative[end[0]] == end[0]),
        lone_recvs=tuple(end for end in found.lone_recvs if representative[end[0]] == end[0]),
    )
