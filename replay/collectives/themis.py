"""In which order each chunk of a collective visits the dimensions, so that all of them are busy.

S. Rashidi et al., "Themis: A Network Bandwidth-Aware Collective Scheduling Policy for Distributed Training of
DL Models", ISCA 2022, with the details of ASTRA-sim 1.0 (tag `tutorial-asplos2023`): dimensions keep their
place in a list between chunks, a chunk starts where the load is least, and where loads differ by little it
takes the usual order. Loads are bytes over bandwidth, relative to dimension 0's; latencies don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind

MIB = 2**20
GAP_DENOMINATOR = 16


@dataclass
class _Load:
    """What has been planned for a dimension, in MiB at dimension 0's bandwidth."""

    dimension: int
    load: float = 0.0


class Themis:
    """Plans collectives one after the other, by the load that those before have put on each dimension.

    Call `reset` where a collective is issued at another instant than the one before it. In ASTRA-sim itself a
    reset can come late when ranks are served in another order than usual; that is not imitated.

    >>> themis = Themis([4, 4], [100e9, 100e9])
    >>> themis.orders(CommKind.ALL_REDUCE, [1 << 20] * 3, 1 << 20, involved=[0, 1])
    [(0, 1), (1, 0), (0, 1)]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        bandwidths_Bps: Sequence[float],
        *,
        gap_denominator: int = GAP_DENOMINATOR,
    ) -> None:
        """Ranks along each dimension and what a rank can send along each.

        Loads that differ by less than a chunk over `gap_denominator` count as equal.
        """
        assert len(sizes) == len(bandwidths_Bps)
        self.sizes = tuple(sizes)
        self.speeds = tuple(bandwidth / bandwidths_Bps[0] for bandwidth in bandwidths_Bps)
        """Of each dimension, relative to dimension 0."""
        self.gap_denominator = gap_denominator
        self.reset()

    def reset(self) -> None:
        """Forget all loads."""
        self.loads = [_Load(dimension) for dimension in range(len(self.sizes))]

    def orders(
        self, kind: CommKind, chunk_bytes: Sequence[int], nominal_bytes: int, involved: Sequence[int]
    ) -> list[tuple[int, ...]]:
        """For each chunk of one collective the dimensions in the order it visits them.

        An all-reduce reduce-scatters in this order and all-gathers in the reverse, and is charged for the
        former only. All-to-alls always go through ascending dimensions and are charged nothing. `involved`
        are the dimensions that take part; those of one rank are left out. Every chunk is charged as one of
        `nominal_bytes`, also a shorter last one. O(chunks * dimensions * log dimensions).

        Raises ConfigError for any other kind.
        """
        taking_part = [d for d in sorted(involved) if self.sizes[d] > 1]
        if kind == CommKind.ALL_TO_ALL or not taking_part:
            return [tuple(taking_part)] * len(chunk_bytes)
        if kind not in (CommKind.ALL_REDUCE, CommKind.REDUCE_SCATTER, CommKind.ALL_GATHER):
            raise ConfigError(
                f"a {kind.label} can't be scheduled by Themis; expected all-reduce, reduce-scatter, "
                "all-gather or all-to-all"
            )
        is_gather = kind == CommKind.ALL_GATHER
        return [self._order(is_gather, nominal_bytes, taking_part) for _ in chunk_bytes]

    def _order(self, is_gather: bool, nominal_bytes: int, taking_part: Sequence[int]) -> tuple[int, ...]:
        """Plan one chunk."""
        self.loads.sort(key=lambda entry: entry.load)
        if is_gather:
            self.loads.reverse()
        entries = [entry for entry in self.loads if entry.dimension in taking_part]
        gap_bytes = self._gather_gap(entries) if is_gather else self._scatter_gap(entries)
        if gap_bytes < nominal_bytes // self.gap_denominator:
            self.loads.sort(key=lambda entry: entry.dimension)
            if is_gather:
                self.loads.reverse()
            # The original charges the k-th entry for dimension k, also where the list was reversed.
            self._charge(
                is_gather,
                nominal_bytes,
                [(self.loads[dimension], dimension) for dimension in taking_part],
            )
            return tuple(taking_part)
        self._charge(is_gather, nominal_bytes, [(entry, entry.dimension) for entry in entries])
        return tuple(entry.dimension for entry in entries)

    def _scatter_gap(self, entries: Sequence[_Load]) -> int:
        """Bytes that would make the first dimension as loaded as the last of all."""
        first = entries[0]
        n = self.sizes[first.dimension]
        difference = abs(self.loads[-1].load - first.load)
        return int(difference * self.speeds[first.dimension] / ((n - 1) / n) * MIB)

    def _gather_gap(self, entries: Sequence[_Load]) -> int:
        """Bytes at the start that would make the last dimension as loaded as the first."""
        first, last = entries[0], entries[-1]
        difference = abs(last.load - first.load)
        gap_bytes = int(difference * self.speeds[last.dimension] / (self.sizes[last.dimension] - 1) * MIB)
        for entry in reversed(entries[:-1]):
            gap_bytes //= self.sizes[entry.dimension]
        return gap_bytes

    def _charge(self, is_gather: bool, size_bytes: int, visits: Sequence[tuple[_Load, int]]) -> None:
        """Add a chunk's way to the loads: which entry is charged, and for which dimension."""
        for entry, dimension in visits:
            n = self.sizes[dimension]
            moved = n - 1 if is_gather else (n - 1) / n
            entry.load += size_bytes / MIB * moved / self.speeds[dimension]
            size_bytes = size_bytes * n if is_gather else size_bytes // n
