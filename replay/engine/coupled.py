"""Interface of a network that the replay loop asks, where what happens depends on what else is under way."""

from __future__ import annotations

from abc import ABC, abstractmethod


class CoupledNetwork(ABC):
    """A network driven by `event_loop.run`."""

    @abstractmethod
    def start(self, now_ps: int, event: int, sequence: int) -> None:
        """The node `event` starts, a send for example; lower sequences started before."""

    @abstractmethod
    def next_ps(self, limit_ps: int) -> int:
        """Time before which no node ends if none starts; NEVER_PS if none will.

        No node starts before `limit_ps`. A network that can't look ahead goes no further than that, and
        returns `limit_ps + 1` if nothing has ended by then.
        """

    @abstractmethod
    def advance(self, to_ps: int) -> list[tuple[int, int]]:
        """Move to `next_ps` and return (time_ps, event) of the nodes that ended, in their order; often
        none."""
