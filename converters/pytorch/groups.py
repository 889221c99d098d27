"""Process groups: which ranks a collective's group has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBERS = re.compile(r"\d+")


class Groups:
    """The groups one rank's trace tells of."""

    def __init__(self, rank: int, world_size: int, distributed: Mapping[str, Any]) -> None:
        self.rank = rank
        self.world = tuple(range(world_size))
        self.used: dict[str, tuple[int, ...]] = {}
        """Groups of this rank's collectives, for the graph to declare."""
        self.configured: dict[str, tuple[int, ...]] = {}
        self.assumed_world = 0
        """Collectives that were taken for the world's because nothing named a group."""
        for entry in distributed.get("pg_config") or []:
            if isinstance(entry, dict):
                ranks = entry.get("ranks")
                if isinstance(ranks, str):
                    ranks = parse_ranks(ranks)
                if isinstance(ranks, (list, tuple)) and ranks:
                    self.configured[str(entry.get("pg_name", ""))] = tuple(int(r) for r in ranks)

    def known(self, recorded: str, ranks: tuple[int, ...]) -> tuple[str | None, tuple[int, ...]]:
        """Name (None for the world) and ranks of a group whose ranks are known."""
        if ranks == self.world and recorded in ("", "0"):
            return None, ranks
        name = recorded or f"ranks {','.join(map(str, ranks))}"
        self.used[name] = ranks
        return name, ranks

    def resolve(
        self, facts: Mapping[str, Any], operator: str = ""
    ) -> tuple[str | None, tuple[int, ...]] | None:
        """The group that a collective's metadata names; None if its ranks can't be told."""
        recorded = str(facts.get("Process Group Name", ""))
        ranks = parse_ranks(str(facts.get("Process Group Ranks", "")))
        ranks = ranks or self.configured.get(recorded) or _stride_ranks(facts)
        if ranks:
            return self.known(recorded, ranks) if self.rank in ranks else None
        size = _group_size(facts)
        if size == len(self.world) or (size < 0 and not recorded):
            if size < 0 and len(self.world) > 1:
                self.assumed_world += 1
            return None, self.world
        fitting = {r for r in self.configured.values() if len(r) == size and self.rank in r}
        if len(fitting) == 1:
            return self.known(recorded, fitting.pop())
        if size == 1:
            return self.known(recorded or f"rank {self.rank}", (self.rank,))
        return None


def parse_ranks(text: str) -> tuple[int, ...]:
    """Ranks from "[0, 1, 2]"; empty where PyTorch shortened the list.

    >>> parse_ranks("[0, 1]"), parse_ranks("[0, 1, ..., 127]")
    ((0, 1), ())
    """
    return () if "..." in text else tuple(int(number) for number in _NUMBERS.findall(text))


def _stride_ranks(facts: Mapping[str, Any]) -> tuple[int, ...]:
    start, stride = facts.get("Global rank start"), facts.get("Global rank stride")
    size = _group_size(facts)
    if not isinstance(start, int) or not isinstance(stride, int) or size < 1 or start < 0:
        return ()
    return tuple(range(start, start + size * stride, stride)) if stride > 0 else ()


def _group_size(facts: Mapping[str, Any]) -> int:
    """The recorded size, else the last argument of `record_param_comms`; -1 if neither is there."""
    size = facts.get("Group size")
    if isinstance(size, int):
        return size
    inputs = facts.get("Concrete Inputs")
    if isinstance(inputs, list) and len(inputs) >= 7 and str(inputs[-1]).isdigit():
        return int(inputs[-1])
    return -1
