"""Limits of what a description may ask for, each refused in one clear line."""

from __future__ import annotations

from chakrasim.traces.check import MAX_BYTES
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import us_to_ps

MAX_NODES = 10**7
"""Nodes of a workload; more are taken for a slip."""
MAX_OPS = 10**18
"""Operations of a kernel; more are taken for a slip, and columns of 64 bits hold only nine times as many."""
MAX_US = 10**12
"""Compute time of a node: eleven days; columns of 64 bits hold nine times as much in picoseconds."""
MAX_RANKS = 1 << 20
"""Ranks of a job: several times as many accelerators as the largest clusters have."""


def require_least(*given: tuple[str, int, int]) -> None:
    """Raise ConfigError for the first (name, value, least) whose value is less."""
    for what, value, least in given:
        if value < least:
            raise ConfigError(f"{what} is {value}; expected {least} or more")


def require_ranks(ranks: int) -> None:
    """Raise ConfigError for a job that nobody has."""
    if ranks > MAX_RANKS:
        raise ConfigError(f"ranks is {ranks:,}; expected {MAX_RANKS:,} or less")


def require_bytes(size: int) -> None:
    """Raise ConfigError for more bytes than a node can have."""
    if size > MAX_BYTES:
        raise ConfigError(f"size is {size:,} bytes; expected {MAX_BYTES:,} or less")


def require_nodes(nodes: int) -> None:
    """Raise ConfigError for a workload that would never be made."""
    if nodes > MAX_NODES:
        raise ConfigError(f"that would be {nodes:,} nodes; expected {MAX_NODES:,} or less")


def require_work(name: str, ops: int, size_bytes: int) -> None:
    """Raise ConfigError for a kernel that no graph can hold."""
    if ops > MAX_OPS or size_bytes > MAX_BYTES:
        raise ConfigError(
            f"{name!r} would take {ops:,} operations on {size_bytes:,} bytes; expected at most {MAX_OPS:,} "
            f"and {MAX_BYTES:,}: make the batch smaller"
        )


def compute_time_ps(compute_us: float) -> int:
    """Raise ConfigError for a time that can't be."""
    if not 0 <= compute_us <= MAX_US:
        raise ConfigError(f"the compute time is {compute_us} us; expected 0 to {MAX_US:,}")
    return us_to_ps(compute_us)
