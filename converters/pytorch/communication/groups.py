"""Process groups of one rank: names, ranks, and the group of each collective."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chakrasim.converters.pytorch.communication.comm_sources import Facts, integer, parse_ranks

__all__ = ["Group", "Groups", "declarations", "parse_ranks"]


_STRIDE = "start and stride"
_CONTRADICTION = "its process group's recorded ranks and size contradict each other"


@dataclass(frozen=True)
class Group:
    """Process group that was found for a collective."""

    name: str | None = None
    """None for the world."""
    ranks: tuple[int, ...] = ()
    """Empty if `problem` says why they aren't known."""
    problem: str = ""
    repair: str = ""
    """Correction of the recorded group."""


class Groups:
    """Process groups in one rank's trace.

    `distributed` is Kineto's `distributedInfo`; `declared` are further groups in the form of its `pg_config`,
    such as those of a host trace (`declarations`).
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        distributed: Mapping[str, Any],
        declared: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.rank = rank
        self.world = tuple(range(world_size))
        self.used: dict[str, tuple[int, ...]] = {}
        """Groups of this rank's collectives, for the graph to declare."""
        self.configured: dict[str, tuple[int, ...]] = {}
        self.descriptions: dict[str, list[str]] = {}
        """Names of the groups with a description."""
        self.assumed_world = 0
        """Collectives that were taken for the world's because nothing named a group."""
        self.doubts: Counter[str] = Counter()
        """Other assumptions, counted."""
        self.declare(distributed.get("pg_config") or [])
        self.declare(declared)

    def declare(self, entries: Iterable[Any]) -> None:
        """Add groups in the form of `pg_config`; entries that name no ranks are the world's if its size."""
        for entry in entries:
            if not isinstance(entry, Mapping):
                continue
            name = str(entry.get("pg_name", entry.get("pg_id", "")))
            recorded = entry.get("ranks")
            ranks: tuple[int, ...] = ()
            if isinstance(recorded, str):
                ranks = parse_ranks(recorded)
            elif isinstance(
                recorded, (list, tuple, Mapping)
            ):  # once a mapping from rank to rank in the group
                ranks = tuple(integer(rank) for rank in recorded)
            size = integer(entry.get("pg_size", entry.get("group_size")))
            if not ranks and size == len(self.world):
                ranks = self.world
            if ranks and min(ranks) >= 0:
                self.configured.setdefault(name, ranks)
                description = str(entry.get("pg_desc", ""))
                if description not in ("", "undefined"):
                    self.descriptions.setdefault(description, []).append(name)

    def known(self, recorded: str, ranks: tuple[int, ...]) -> tuple[str | None, tuple[int, ...]]:
        """Name (None for the world) and ranks of a group whose ranks are known."""
        if ranks == self.world and recorded in ("", "0"):
            return None, ranks
        name = recorded or f"ranks {','.join(map(str, ranks))}"
        if self.used.get(name, ranks) != ranks:  # one name for two groups
            name = f"{name} of ranks {','.join(map(str, ranks))}"
        self.used[name] = ranks
        return name, ranks

    def named(self, name: str) -> Group:
        """The group with a name or, if only one has it, a description; `world` is the whole world."""
        if name == "world":
            return Group(None, self.world)
        names = [name] if name in self.configured else self.descriptions.get(name, [])
        if len(names) != 1:
            return Group(problem=f"its process group {name!r} isn't among the recorded ones")
        return Group(*self.known(names[0], self.configured[names[0]]))

    def resolve(self, facts: Facts) -> Group:
        """The group that a collective's facts name.

        Its ranks are recorded up to three times: as a list, in `pg_config`, as first rank, stride and size.
        Where these contradict each other, or the group's size, what at least two agree on is taken.
        """
        name, size = facts.group_name, facts.group_size
        found = self._candidates(facts)
        if found:
            return self._agreed(facts, found)
        if facts.first_ranks or name in self.configured:
            return Group(problem=_CONTRADICTION)
        if size == len(self.world) and not self._is_foreign(name):
            return Group(*self.known(name, self.world))
        if size < 0 and not name:
            if len(self.world) > 1:
                self.assumed_world += 1
            return Group(None, self.world)
        fitting = {r for r in self.configured.values() if len(r) == size and self.rank in r}
        if len(fitting) == 1:
            return Group(*self.known(name, fitting.pop()))
        if size == 1:
            return Group(*self.known(name or f"rank {self.rank}", (self.rank,)))
        return Group(problem="its process group isn't recorded")

    def _is_foreign(self, name: str) -> bool:
        return self.configured.get(name, self.world) != self.world

    def _candidates(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        """Recorded ranks by where they stand, best first; those a shortened list contradicts are left out."""
        found = {
            "their list": facts.ranks,
            "pg_config": self.configured.get(facts.group_name, ()) if facts.group_name else (),
            _STRIDE: _stride_ranks(facts),
        }
        first, last = facts.first_ranks, facts.last_rank
        return {
            where: ranks
            for where, ranks in found.items()
            if ranks and (not first or (ranks[: len(first)] == first and ranks[-1] == last))
        }

    def _agreed(self, facts: Facts, found: Mapping[str, tuple[int, ...]]) -> Group:
        size, name = facts.group_size, facts.group_name
        own = {where: ranks for where, ranks in found.items() if self.rank in ranks}
        if not own:
            return Group(problem="its process group doesn't hold this rank")
        first = next(iter(found.values()))
        if set(own.values()) == {first} and size in (-1, len(first)):
            return Group(*self.known(name, first))
        votes = Counter(own.values())
        for where, ranks in own.items():
            if where != _STRIDE and len(ranks) == size:  # start and stride have no size of their own
                votes[ranks] += 1
        ranks, count = votes.most_common(1)[0]
        if count < 2 or list(votes.values()).count(count) > 1:
            return Group(problem=_CONTRADICTION)
        return Group(*self.known(name, ranks), repair=f"{_CONTRADICTION}; taken as most of them say")


def declarations(recorded: Any) -> list[dict[str, Any]]:
    """The groups in a host trace's `## process_group:init ##`, whose only input is their JSON as text.

    `recorded` is that input, or the list of inputs; what isn't such JSON declares nothing.

    >>> declarations('[{"pg_name": "0", "ranks": [], "group_size": 4}]')
    [{'pg_name': '0', 'ranks': [], 'group_size': 4}]
    """
    if isinstance(recorded, list) and len(recorded) == 1 and isinstance(recorded[0], str):
        recorded = recorded[0]
    if isinstance(recorded, str):
        try:
            recorded = json.loads(recorded)
        except ValueError:
            return []
    return [entry for entry in recorded if isinstance(entry, dict)] if isinstance(recorded, list) else []


def _stride_ranks(facts: Facts) -> tuple[int, ...]:
    start, stride, size = facts.rank_start, facts.rank_stride, facts.group_size
    if start < 0 or stride < 1 or size < 1:
        return ()
    return tuple(range(start, start + size * stride, stride))
