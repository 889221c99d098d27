"""What `chakrasim export` wrote, as a JSON document and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chakrasim.traces.astra_export.export import Export


def describe_export(export: Export) -> dict[str, Any]:
    """The document; `docs/json.md` describes its keys."""
    adapted = export.adapted
    return {
        "world_size": adapted.workload.world_size,
        "workload_configuration": str(export.files[0]).removesuffix(".0.et"),
        "groups_file": None if export.groups_file is None else str(export.groups_file),
        "groups": [
            {"id": int(number), "name": adapted.group_names[number], "ranks": list(ranks)}
            for number, ranks in adapted.groups.items()
        ],
        "changes": dict(adapted.changes),
        "ranks": [
            {"rank": rank, "file": str(file), "nodes": len(graph), "edges": len(graph.parents)}
            for (rank, graph), file in zip(adapted.workload.graphs.items(), export.files, strict=True)
        ],
        "notes": [*adapted.workload.notes, *adapted.notes],
    }


def print_export(document: Mapping[str, Any]) -> None:
    """Print where the files are, how ASTRA-sim is given them, and what had to change."""
    from chakrasim.replay.report.console import headline, people_console, print_list

    console = people_console()
    options = f"--workload-configuration={document['workload_configuration']}"
    if document["groups_file"] is not None:
        options += f" --comm-group-configuration={document['groups_file']}"
    nodes = sum(rank["nodes"] for rank in document["ranks"])
    console.print(
        headline(
            ("written", f"{document['workload_configuration']}.<rank>.et"),
            ("ranks", f"{document['world_size']:,}, {nodes:,} nodes"),
            ("groups", f"{len(document['groups'])}" if document["groups"] else "none but all ranks"),
            ("for ASTRA-sim", options),
        ),
        soft_wrap=True,
    )
    console.print()
    print_list(console, "Notes", document["notes"])
