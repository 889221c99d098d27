"""Links to remote memory that several ranks share: one access at a time, first come first served."""

from __future__ import annotations

from collections import defaultdict, deque

from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Machine


class MemoryLinks:
    """The links of a machine with remote memory."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        assert machine.remote_memory is not None, "nodes use remote memory"
        self.clock, self.memory, self.cycle_ps = clock, machine.remote_memory, machine.cycle_ps
        self._queues: dict[int, deque[Event]] = defaultdict(deque)

    def start(self, rank: int, size_bytes: int, ended: Event) -> None:
        """An access of a rank joins the queue of its link."""
        clock, memory = self.clock, self.memory
        queue = self._queues[rank // memory.ranks_per_node if memory.sharing == "per-node" else 0]

        def serve() -> None:
            takes_ps = memory.access_ps(size_bytes, self.cycle_ps)
            clock.timer(rank, clock.now_ps + takes_ps, served)

        def served() -> None:
            ended()
            clock.then(serve_next)

        def serve_next() -> None:
            queue.popleft()
            if queue:
                queue[0]()

        queue.append(serve)
        if len(queue) == 1:
            serve()
