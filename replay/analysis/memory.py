"""Memory of each rank over time, where its graph states what it holds and what its nodes allocate and free.

What a node allocates is there from its start, what it frees until its end. At one moment, what is freed goes
and what is allocated comes at once: memory that one node frees when the next one starts serves both.
Fragmentation and the libraries' own buffers are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chakrasim.traces.graph import Ints
from chakrasim.traces.memory import allocations, held_bytes
from chakrasim.traces.shared.memoize import remembered
from chakrasim.traces.units import format_bytes

if TYPE_CHECKING:
    from chakrasim.replay.results.result import Result


@dataclass(frozen=True)
class RankMemory:
    """Memory that a rank needs; up to its last end if it didn't finish."""

    rank: int
    held: Mapping[str, int]
    """Bytes that are there throughout, by part."""
    activation_bytes: int
    """The most that nodes have allocated for the backward pass and not yet freed at any time."""
    allocated_bytes: int
    """The same with what is temporary: activations computed again, parameters gathered from other ranks."""
    peak_ps: int | None
    """Time at which the peak is first reached; None where nodes allocate nothing."""
    min_bytes: int
    """The least of it at any time: below 0, nodes free what none has allocated before."""

    @property
    def held_bytes(self) -> int:
        """All parts together."""
        return sum(self.held.values())

    @property
    def peak_bytes(self) -> int:
        """The most that the rank needs at any time."""
        return self.held_bytes + self.allocated_bytes


@remembered
def memory_of_ranks(result: Result) -> tuple[RankMemory, ...]:
    """Memory needs of all ranks in order; those whose graphs state none are left out."""
    found = (rank_memory(result, rank) for rank in result.workload.ranks)
    return tuple(memory for memory in found if memory is not None)


def rank_memory(result: Result, rank: int) -> RankMemory | None:
    """Memory that a rank needs; None where its graph states no memory. O(n log n).

    Raises TraceError for sizes that can't be.
    """
    held = held_bytes(result.workload.graphs[rank])
    if held is None:
        return None
    times_ps, allocated_bytes = activations(result, rank)
    _, kept_bytes = activations(result, rank, kept_only=True)
    most = int(allocated_bytes.max(initial=0))
    return RankMemory(
        rank=rank,
        held=held,
        activation_bytes=int(kept_bytes.max(initial=0)),
        allocated_bytes=most,
        peak_ps=int(times_ps[np.argmax(allocated_bytes)]) if most else None,
        min_bytes=int(allocated_bytes.min(initial=0)),
    )


def activations(result: Result, rank: int, *, kept_only: bool = False) -> tuple[Ints, Ints]:
    """Times, ascending, and the bytes that nodes have allocated and not freed from each time on. O(n log n).

    With `kept_only`, what is temporary is left out.

    Before the first time it is nothing; times at which it stays as it was are left out.
    """
    rows = result.rows(rank)
    starts_ps, ends_ps = result.starts_ps[rows], result.ends_ps[rows]
    allocated, freed = allocations(result.workload.graphs[rank], kept_only=kept_only)
    allocates = np.flatnonzero((allocated > 0) & (starts_ps >= 0))
    frees = np.flatnonzero((freed > 0) & (ends_ps >= 0))
    times_ps = np.concatenate([starts_ps[allocates], ends_ps[frees]])
    if not len(times_ps):
        return times_ps, times_ps.copy()
    changes = np.concatenate([allocated[allocates], -freed[frees]])
    order = np.argsort(times_ps, kind="stable")
    times_ps, size_bytes = times_ps[order], np.cumsum(changes[order])
    is_last = np.append(times_ps[1:] != times_ps[:-1], True)
    times_ps, size_bytes = times_ps[is_last], size_bytes[is_last]
    is_change = np.diff(size_bytes, prepend=0) != 0
    return times_ps[is_change], size_bytes[is_change]


def capacity_bytes(result: Result) -> int | None:
    """Memory of one accelerator of the machine; None where that is unknown."""
    accelerator = result.machine.accelerator
    return None if accelerator is None else accelerator.memory_bytes


def memory_notes(result: Result) -> list[str]:
    """Sentences, if ranks don't fit into the machine's memory, and if memory is freed that isn't there."""
    if not memory_of_ranks(result):
        return []
    notes = []
    capacity = capacity_bytes(result)
    stands_for = result.workload.stands_for
    if capacity is not None:
        too_large = [memory for memory in memory_of_ranks(result) if memory.peak_bytes > capacity]
        if too_large:
            worst = max(too_large, key=lambda memory: memory.peak_bytes)
            ranks = sum(stands_for.get(memory.rank, 1) for memory in too_large)
            of = sum(stands_for.get(memory.rank, 1) for memory in memory_of_ranks(result))
            notes.append(
                f"{ranks:,} of {of:,} ranks {'does' if ranks == 1 else 'do'} not fit into the machine's "
                f"memory: rank {worst.rank} needs {format_bytes(worst.peak_bytes)} of "
                f"{format_bytes(capacity)} and lacks {format_bytes(worst.peak_bytes - capacity)}; the times "
                "are those of a machine that has enough"
            )
    overdrawn = [memory for memory in memory_of_ranks(result) if memory.min_bytes < 0]
    if overdrawn:
        worst = min(overdrawn, key=lambda memory: memory.min_bytes)
        notes.append(
            f"on {len(overdrawn):,} ranks nodes free memory that none has allocated before, up to "
            f"{format_bytes(-worst.min_bytes)} on rank {worst.rank}: what is listed of it is too low"
        )
    return notes
