"""Time is int64 picoseconds inside, sizes are int64 bytes; conversions happen here, at the edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.errors import TraceError

PS_PER_NS = 1_000
PS_PER_US = 1_000_000
PS_PER_MS = 1_000_000_000
PS_PER_S = 1_000_000_000_000

MAX_TIME_PS = 10**18
"""More time than one node, or all of a rank together, can take: 11 days. Sums of a few fit in int64."""


def whole_ps(
    times: NDArray[np.floating[Any]], name: Callable[[int], str], unit_ps: int = 1
) -> NDArray[np.int64]:
    """Times in picoseconds as int64, rounded down to whole units of `unit_ps`, in which they are given.

    Raises TraceError for one above `MAX_TIME_PS` or not a number; `name` says whose time it is, by its index.

    >>> whole_ps(np.array([1.5, 3.0]), "time {}".format, unit_ps=1000).tolist()
    [1000, 3000]
    >>> whole_ps(np.array([1.5, 1e30]), "time {}".format)
    Traceback (most recent call last):
    chakrasim.traces.errors.TraceError: time 1 would take 1e+18 s; expected at most 1,000,000 s
    """
    wrong = np.flatnonzero(~(times <= MAX_TIME_PS / unit_ps))
    if len(wrong):
        first = int(wrong[0])
        raise TraceError(
            f"{name(first)} would take {times[first] * unit_ps / PS_PER_S:.3g} s; "
            f"expected at most {MAX_TIME_PS // PS_PER_S:,} s"
        )
    return times.astype(np.int64) * unit_ps


def whole_ps_of(time: float, name: Callable[[], str], unit_ps: int = 1) -> int:
    """Convert one time like `whole_ps`."""
    if time <= MAX_TIME_PS / unit_ps:
        return int(time) * unit_ps
    return int(whole_ps(np.array([time]), lambda _: name(), unit_ps)[0])


def beyond_time(end_ps: int) -> TraceError:
    """The error for a replay that would go on after `end_ps`, beyond what its clock counts."""
    return TraceError(f"the replay would take over {end_ps // PS_PER_S:,} s, more than it can count")


def us_to_ps(microseconds: float) -> int:
    """Microseconds to whole picoseconds, to the nearest.

    >>> us_to_ps(1.5)
    1500000
    """
    return round(microseconds * PS_PER_US)


def ps_to_ns(picoseconds: int) -> int | float:
    """Picoseconds to nanoseconds, an int where that is exact.

    >>> ps_to_ns(3000), ps_to_ns(1500)
    (3, 1.5)
    """
    whole, rest = divmod(int(picoseconds), PS_PER_NS)
    return whole if rest == 0 else int(picoseconds) / PS_PER_NS


def format_time(picoseconds: float) -> str:
    """A duration for people: four significant digits and a unit.

    >>> format_time(12_345_678), format_time(0), format_time(2_500_000_000_000)
    ('12.35 us', '0 s', '2.5 s')
    """
    if picoseconds == 0:
        return "0 s"
    for unit, size in (("s", PS_PER_S), ("ms", PS_PER_MS), ("us", PS_PER_US), ("ns", PS_PER_NS)):
        if abs(picoseconds) >= size:
            return f"{_four_digits(picoseconds / size)} {unit}"
    return f"{_four_digits(picoseconds)} ps"


def format_bytes(size: float) -> str:
    """A size for people, in powers of ten.

    >>> format_bytes(1_500_000), format_bytes(12)
    ('1.5 MB', '12 B')
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= scale:
            return f"{_four_digits(size / scale)} {unit}"
    return f"{_four_digits(size)} B"


def format_rate(bytes_per_second: float) -> str:
    """A bandwidth for people.

    >>> format_rate(50e9)
    '50 GB/s'
    """
    return f"{format_bytes(bytes_per_second)}/s"


def _four_digits(value: float) -> str:
    digits = max(0, 4 - len(str(int(abs(value)))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
