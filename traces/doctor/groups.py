"""Members of process groups that a graph names without their ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from chakrasim.traces.doctor.draft import Change, Draft, set_attribute, value_of
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.io import read_bytes
from chakrasim.traces.reading.decode import attributes_of, observed_groups, stated_groups
from chakrasim.traces.workload import WORLD_NAMES
from chakrasim.traces.workload_files import read_groups

Groups = Mapping[str, Sequence[int]]


def read_group_list(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Read a file of process groups: Chakra's (see `read_groups`) or a list of communicators.

    The latter is `{"communicators": [{"communicatorId", "nodes": [{"globalRank", "rank"}]}]}`, where `rank`
    is the member's place in the group. Raises TraceError if it is neither.
    """
    path = Path(path)
    try:
        content = orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError:
        return read_groups(path)
    if not (isinstance(content, dict) and isinstance(content.get("communicators"), list)):
        return read_groups(path)
    try:
        return {
            str(entry["communicatorId"]): tuple(
                int(member["globalRank"]) for member in sorted(entry["nodes"], key=lambda m: int(m["rank"]))
            )
            for entry in content["communicators"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(
            f"{path}: a list of communicators, but an entry has no {error}; expected communicatorId "
            "and nodes, each with globalRank and rank"
        ) from None


def resolve_groups(drafts: Sequence[Draft], given: Groups | None, world_size: int) -> None:
    """Write ranks for groups that have none into the graphs' metadata, where they are certain.

    They are from `given`; else from another rank that declares the group; else all ranks, where every rank of
    the world uses the name for the same collectives; else the one declared group that has just those ranks
    that use it. Of what stays open the change says who uses it.
    """
    sizes = {name: size for draft in drafts for name, size in _unlisted_sizes(draft).items()}
    known: dict[int, dict[str, tuple[int, ...] | None]] = {}
    for draft in drafts:
        untold = {name: None for name, size in _unlisted_sizes(draft).items() if size < world_size}
        known[draft.rank] = dict(draft.graph().groups) | untold
    used = {draft.rank: _collectives_by_group(draft) for draft in drafts}
    world_size = max([world_size, *(_world_of(draft) for draft in drafts)])
    everyone = tuple(range(world_size))
    lists = {name: tuple(ranks) for name, ranks in (given or {}).items()}
    for draft in drafts:
        draft.book(_resolve(draft, used, known, lists, sizes, everyone))
    ranks = [rank for d in drafts for name in used[d.rank] for rank in d.graph().groups.get(name, ())]
    for draft in drafts:
        draft.book(_state_world(draft, max([world_size, *(rank + 1 for rank in ranks)]), len(drafts)))


def _resolve(
    draft: Draft,
    used: Mapping[int, Mapping[str, list[tuple[int, int]]]],
    known: Mapping[int, Mapping[str, tuple[int, ...] | None]],
    given: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    everyone: tuple[int, ...],
) -> Iterator[Change]:
    declared = dict(draft.graph().groups)
    ranks: tuple[int, ...] | None
    for name, own in used[draft.rank].items():
        has = known[draft.rank].get(name)
        if name in given:
            ranks, why = given[name], "given as a file of groups"
        elif has is not None or (name in WORLD_NAMES and name not in known[draft.rank]):
            continue
        else:
            ranks, why = _infer(name, own, used, known, given, sizes, everyone)
        if ranks is not None and ranks == has and name in declared:
            continue
        node_id, node_name = _first_of(draft, name)
        before = (
            f"group {name!r} has no ranks" if not declared.get(name) else f"group {name!r} is {_listed(has)}"
        )
        if ranks is None:
            yield Change("group", node_id, node_name, before, None, why)
            continue
        groups = stated_groups(value_of(draft.metadata, "process_groups")) | {name: ranks}
        set_attribute(draft.metadata, "process_groups", string_val=orjson.dumps(groups).decode())
        yield Change("group", node_id, node_name, before, f"ranks {_listed(ranks)}", why)


def _infer(
    name: str,
    own: list[tuple[int, int]],
    used: Mapping[int, Mapping[str, list[tuple[int, int]]]],
    known: Mapping[int, Mapping[str, tuple[int, ...] | None]],
    given: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    everyone: tuple[int, ...],
) -> tuple[tuple[int, ...] | None, str]:
    """The ranks of a group and what makes them certain; None and what is missing."""
    users = tuple(rank for rank in sorted(used) if name in used[rank])
    told = {ranks for groups in known.values() if (ranks := groups.get(name))}
    if len(told) == 1 and set(users) <= set(*told):
        return next(iter(told)), "another rank's graph lists its ranks"
    listed = ", ".join(map(str, users))
    if len(used) < len(everyone) or len(everyone) == 1:
        hint = f'say who else has it: --groups FILE with {{"{name}": [{listed}, …]}}'
        return None, f"used by rank {_listed(users)}, and not every rank of the job is here; {hint}"
    hint = f'if that is the group, give --groups FILE with {{"{name}": [{listed}]}}'
    if len(users) == 1 or any(used[rank][name] != own for rank in users):
        return None, f"used by rank {_listed(users)}, not for the same collectives; {hint}"
    if sizes.get(name, len(users)) != len(users):
        return None, f"used by ranks {_listed(users)}, but listed as a group of {sizes[name]}"
    if users == everyone:
        return everyone, f"all {len(everyone)} ranks use it, for the same collectives"
    lists = [ranks for groups in known.values() for ranks in groups.values() if ranks]
    fitting = {ranks for ranks in (*given.values(), *lists) if set(ranks) == set(users)}
    if len(fitting) == 1:
        return next(iter(fitting)), "just these ranks use it, and form a group of another name"
    return None, f"used by ranks {_listed(users)}; {hint}"


def _collectives_by_group(draft: Draft) -> dict[str, list[tuple[int, int]]]:
    """Kind and bytes of each collective, in order of id, by the group's name."""
    graph = draft.graph()
    found: dict[str, list[tuple[int, int]]] = {}
    is_named = (graph.kinds == NodeKind.COLL) & (graph.group_ids >= 0)
    for row in is_named.nonzero()[0].tolist():
        work = (int(graph.comm_kinds[row]), int(graph.comm_bytes[row]))
        found.setdefault(graph.group_name(row), []).append(work)
    return found


def _first_of(draft: Draft, group: str) -> tuple[int, str]:
    """Id and name of the first collective of a group."""
    graph = draft.graph()
    is_its = (graph.kinds == NodeKind.COLL) & (graph.group_ids == graph.group_names.index(group))
    row = int(is_its.argmax())
    return int(graph.ids[row]), graph.name(row)


def _unlisted_sizes(draft: Draft) -> dict[str, int]:
    """Sizes of the groups that the observer listed without ranks, and nothing else tells."""
    told = stated_groups(value_of(draft.metadata, "process_groups"))
    return {
        group.name: group.size
        for group in observed_groups(draft.nodes)
        if group.size and not group.ranks and group.name not in told
    }


def _world_of(draft: Draft) -> int:
    """Number of ranks in the default group, as the graph lists it; 0 where it doesn't."""
    return max((group.size for group in observed_groups(draft.nodes) if group.is_default), default=0)


def _state_world(draft: Draft, world_size: int, present: int) -> Iterator[Change]:
    """Say how many ranks the job has, where the graph doesn't and not all of them are here."""
    stated = int(attributes_of(draft.metadata).get("world_size") or 0)
    if world_size > max(stated, present, draft.rank + 1):
        set_attribute(draft.metadata, "world_size", int64_val=world_size)
        before = f"{stated or 'no'} ranks stated" if stated else "no number of ranks"
        yield Change("world", None, "", before, f"{world_size} ranks", "the process groups have as many")


def _listed(ranks: Sequence[int] | None) -> str:
    if not ranks:
        return "all ranks"
    shown = ", ".join(map(str, ranks[:8]))
    return shown if len(ranks) <= 8 else f"{shown}, … ({len(ranks)})"
