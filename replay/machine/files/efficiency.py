"""The `efficiency` block of a machine file, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

from chakrasim.replay.machine.efficiency import DEFAULT, FULL, Curve, Efficiency
from chakrasim.replay.machine.files.fields import MAX_VALUE, MIN_VALUE, Block, finite
from chakrasim.traces.names.op_kinds import ATTENTION, MATMUL
from chakrasim.traces.units import PS_PER_US

OPERATIONS = {"GFLOP": 1e9, "FLOP": 1.0}
BYTES = {"MB": 1e6, "bytes": 1.0}
"""Keys for the sizes of a curve, with their units: the usual one, and the one that holds every number."""
SHARES = "of_peak"


def read_efficiency(block: Block, dtypes: Collection[str]) -> Efficiency:
    """Check and read an `efficiency` block of an accelerator that states peaks for these data types.

    Raises ConfigError with the file and the place in it for whatever can't be right.
    """
    block.keys(("source",), (MATMUL, ATTENTION, "memory", "host_launch_us"))
    block.text("source")
    tables = {kind: _table(_inner(block, kind), dtypes) for kind in (MATMUL, ATTENTION) if block.has(kind)}
    return Efficiency(
        matmul=tables.get(MATMUL, {}),
        attention=tables.get(ATTENTION, {}),
        memory=_curve(_inner(block, "memory"), BYTES) if block.has("memory") else FULL,
        host_launch_ps=block.time_ps("host_launch_us", PS_PER_US, default=0.0),
    )


def _inner(block: Block, key: str) -> Block:
    return Block(block.content[key], block.source, f"{block.where} {key}")


def _table(block: Block, dtypes: Collection[str]) -> dict[str, Curve]:
    block.keys((DEFAULT,), tuple(dtypes))
    return {dtype: _curve(_inner(block, dtype), OPERATIONS) for dtype in block.content}


def _curve(block: Block, units: Mapping[str, float]) -> Curve:
    usual, single = units
    if block.has(usual) and block.has(single):
        block.fail(f"has both {usual} and {single}; expected one of them")
    key = single if block.has(single) else usual
    block.keys((key, SHARES), (usual, single))
    sizes = tuple(size * units[key] for size in _numbers(block, key))
    if not all(MIN_VALUE <= size <= MAX_VALUE for size in sizes) or any(b <= a for a, b in pairwise(sizes)):
        least, most = MIN_VALUE / units[key], MAX_VALUE / units[key]
        block.expected(key, f"ascending numbers, from {least:g} to {most:g}")
    shares = _numbers(block, SHARES)
    if not all(0 < share <= 1 for share in shares):
        block.expected(SHARES, "shares above 0 and at most 1")
    if len(shares) != len(sizes):
        block.fail(f"has {len(sizes)} sizes ({key}) and {len(shares)} shares ({SHARES}); expected as many")
    return Curve(sizes, shares)


def _numbers(block: Block, key: str) -> tuple[float, ...]:
    value = block.content[key]
    numbers = [finite(entry) for entry in value] if isinstance(value, list) else []
    found = tuple(number for number in numbers if number is not None)
    if not found or len(found) != len(numbers):
        block.expected(key, "a list of numbers, at least one")
    return found
