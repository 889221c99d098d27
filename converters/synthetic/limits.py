"""What a description may ask for: one clear line for numbers that can't be."""

from __future__ import annotations

from chakrasim.traces.check import MAX_BYTES
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import us_to_ps

MOST_NODES = 10**7
"""Of a workload: what is beyond is a slip."""
MOST_OPS = 10**18
"""Of a kernel: what is beyond is a slip, too, and soon more than a column holds."""

MOST_US = 10**12
"""Of a node: eleven days."""
MOST_RANKS = 1 << 20


def require_least(*given: tuple[str, int, int]) -> None:
    """Raise ConfigError for the first (name, value, least) whose value is less."""
    for what, value, least in given:
        if value < least:
            raise ConfigError(f"{what} is {value}; expected {least} or more")


def require_ranks(ranks: int) -> None:
    """Raise ConfigError for a job that nobody has."""
    if ranks > MOST_RANKS:
        raise ConfigError(f"ranks is {ranks:,}; expected {MOST_RANKS:,} or less")


def require_bytes(size: int) -> None:
    """Raise ConfigError for more bytes than a node can have."""
    if size > MAX_BYTES:
        raise ConfigError(f"size is {size:,} bytes; expected {MAX_BYTES:,} or less")


def require_nodes(nodes: int) -> None:
    """Raise ConfigError for a workload that would never be made."""
    if nodes > MOST_NODES:
        raise ConfigError(f"that would be {nodes:,} nodes; expected {MOST_NODES:,} or less")


def require_work(name: str, ops: int, size_bytes: int) -> None:
    """Raise ConfigError for a kernel that no graph can hold."""
    if ops > MOST_OPS or size_bytes > MAX_BYTES:
        raise ConfigError(
            f"{name!r} would take {ops:,} operations on {size_bytes:,} bytes; expected at most {MOST_OPS:,} "
            f"and {MAX_BYTES:,}: make the batch smaller"
        )


def compute_time_ps(compute_us: float) -> int:
    """Raise ConfigError for a time that can't be."""
    if not 0 <= compute_us <= MOST_US:
        raise ConfigError(f"the compute time is {compute_us} us; expected 0 to {MOST_US:,}")
    return us_to_ps(compute_us)
