"""Time is int64 picoseconds inside, sizes are int64 bytes; conversions happen here, at the edge."""

from __future__ import annotations

PS_PER_NS = 1_000
PS_PER_US = 1_000_000
PS_PER_MS = 1_000_000_000
PS_PER_S = 1_000_000_000_000


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
