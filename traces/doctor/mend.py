"""Mending graphs: everything seen wrong in Chakra files whose right form is certain."""

from __future__ import annotations

from chakrasim.traces.doctor import edges, kernels, records, streams
from chakrasim.traces.doctor.draft import Draft, Mend
from chakrasim.traces.doctor.groups import Groups, resolve_groups
from chakrasim.traces.workload import Workload

MENDS = (
    records.renumber_duplicates,
    records.drop_empty_attributes,
    records.usual_value_kinds,
    records.legacy_group_names,
    records.say_where_nodes_run,
    kernels.host_calls,
    records.metadata_in_the_order,
    edges.drop_dangling,
    edges.drop_own,
    edges.cut_cycles,
    kernels.retype_kernels,
    kernels.correct_collectives,
    kernels.size_collectives,
    streams.name_lanes,
    streams.order_streams,
    streams.order_collectives,
)
"""Order of the mends: each relies on what those before it put right. Groups, which join ranks, come last."""

TITLES = {
    "id": "an id of two nodes",
    "empty": "attribute without a value",
    "kind": "attribute of an unusual integer kind",
    "pg-name": "group under an old attribute's name",
    "host-call": "host's call typed as communication",
    "is-cpu": "no word on where the node runs",
    "metadata": "metadata node with dependencies",
    "dangling": "dependency on a node that isn't there",
    "itself": "dependency of a node on itself",
    "cycle": "circular dependency",
    "kernel": "communication kernel typed as compute",
    "collective": "collective that contradicts its kernel",
    "size": "collective without bytes",
    "lane": "node without a lane",
    "stream": "kernels without their stream's order",
    "order": "collective without order to its kernels",
    "group": "process group without ranks",
    "world": "number of ranks not stated",
}
"""For people: what each kind of mend found."""


def mend(workload: Workload, groups: Groups | None = None) -> tuple[Workload, tuple[Mend, ...]]:
    """The workload with all that is mended that can be with certainty, and what was found, rank by rank.

    `groups` say who belongs to process groups, over what the graphs declare. A rank with nothing to mend
    keeps its graph; if that is all of them, the workload itself comes back. Mending what is mended changes
    nothing. O(n + m) in Python for each rank, about 0.1 ms a node.
    """
    drafts = [Draft.of(graph, workload.sources[rank]) for rank, graph in workload.graphs.items()]
    for rank, draft in zip(workload.graphs, drafts, strict=True):
        draft.rank = rank
        for step in MENDS:
            draft.apply(step)
    resolve_groups(drafts, groups, workload.world_size)
    found = tuple(mend for draft in drafts for mend in draft.found())
    if not any(draft.is_changed for draft in drafts):
        return workload, found
    mended = Workload.from_graphs(
        {draft.rank: draft.graph() if draft.is_changed else workload.graphs[draft.rank] for draft in drafts},
        name=workload.name,
        groups=groups,
        sources=workload.sources,
        notes=workload.notes,
        partial=workload.is_partial,
    )
    return mended, found
