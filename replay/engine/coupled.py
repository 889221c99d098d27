"""What a network is to the loop, where transfers meet."""

from __future__ import annotations

from typing import Protocol


class SharedNetwork(Protocol):
    """A network in which what happens depends on what else does: three verbs, driven by `run`."""

    def start(self, now_ps: int, event: int, sequence: int) -> None:
        """The node `event` starts, a send for example; lower sequences started before."""

    def next_ps(self) -> int:
        """When the next node ends, or something else happens, if no other starts before; or NEVER_PS."""

    def advance(self, to_ps: int) -> list[tuple[int, int]]:
        """Move to `next_ps()` and return (time_ps, event) of the nodes that ended, in their order."""
