"""Numbers, times and strings that stand in JSON's text, compiled by numba as part of `scan.py`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.read.json_text import BAD

BIG, MINUS = 1, 2
"""Flags of a whole number: an unsigned -1 of 64 bits, or of 32."""
_UNSIGNED_NONE = np.frombuffer(b"18446744073709551615", dtype=np.uint8)
_MAX_TIME_US = 2**52

HELPERS = ("word_code", "whole_number", "nearest_double", "time_ns", "intern")
"""All functions, callees first."""


class Table(NamedTuple):
    """Numbers of strings, by what stands in the text: an open-addressing hash table."""

    pool: NDArray[np.uint8]
    """The strings' bytes, one behind another; each may have two parts."""
    bounds: NDArray[np.int64]
    """[numbers, 4]: begin, end of the first part, end, tag."""
    slots: NDArray[np.int32]
    """Number by hash, -1 for none."""


def word_code(text: Any, begin: int, end: int, words: Any, bounds: Any, by_hash: Any, codes: Any) -> int:
    """The code of a word, -1 for any other."""
    size = end - begin
    if size == 0:
        return -1
    place = (size + 3 * text[begin] + 9 * text[begin + size // 2] + text[end - 1]) & (len(by_hash) - 1)
    number = int(by_hash[place])
    if number < 0:
        return -1
    first = bounds[number]
    if bounds[number + 1] - first != size:
        return -1
    for k in range(size):
        if words[first + k] != text[begin + k]:
            return -1
    code: int = codes[number]
    return code


def whole_number(text: Any, begin: int, end: int) -> tuple[int, int]:
    """A value's whole number and a flag; -1 and 0 for no value; a flag of `BAD` for any other."""
    if begin == end:
        return -1, 0
    at = begin + 1 if text[begin] == 45 else begin
    if end - at > 18 or at == end:
        if end - begin == len(_UNSIGNED_NONE):
            for k in range(len(_UNSIGNED_NONE)):
                if text[begin + k] != _UNSIGNED_NONE[k]:
                    return -1, BAD
            return -1, BIG
        return -1, BAD
    value = 0
    for k in range(at, end):
        digit = text[k]
        if not 48 <= digit <= 57:
            return -1, BAD
        value = value * 10 + (digit - 48)
    if at > begin:
        value = -value
    return value, MINUS if value == 0xFFFFFFFF else 0


def time_ns(text: Any, begin: int, end: int) -> tuple[int, int]:
    """Microseconds as ns and a flag, which is `BAD` for what isn't a time, or one in an odd form."""
    is_negative = text[begin] == 45
    at = begin + 1 if is_negative else begin
    if at == end or not 48 <= text[at] <= 57:
        return 0, BAD
    mantissa = 0
    decimals = -1
    power = 1
    if end - at > 20 or (end - at == 20 and text[at] == 57):  # more than fits into 63 bits
        return 0, BAD
    for k in range(at, end):
        digit = text[k]
        if digit == 46:
            decimals = 0
        elif 48 <= digit <= 57:
            if decimals >= 0:
                decimals += 1
                power *= 10
            mantissa = mantissa * 10 + (digit - 48)
        else:
            return 0, BAD
    if decimals < 0:
        if end - at > 18 or mantissa >= _MAX_TIME_US:
            return 0, BAD
        return (-mantissa if is_negative else mantissa) * 1000, 0
    if mantissa // power >= _MAX_TIME_US:
        return 0, BAD
    if mantissa < 1 << 53:
        value = float(mantissa) / float(power)  # both exact, so that this is what strtod gives
    elif decimals <= 9:
        value = nearest_double(mantissa // power, mantissa % power, power)
    else:
        return 0, BAD
    if is_negative:
        value = -value
    whole_us = np.floor(value)
    return int(whole_us) * 1000 + int(np.rint((value - whole_us) * 1000)), 0


def nearest_double(whole: int, fraction: int, power: int) -> float:
    """The double next to whole + fraction / power, for 2**20 <= whole < 2**52 and power <= 10**9."""
    bits = 51
    while whole >> bits == 0:
        bits -= 1
    shift = 52 - bits
    scaled = fraction << shift
    units = (whole << shift) + scaled // power
    rest = 2 * (scaled % power)
    if rest > power or (rest == power and units & 1):
        units += 1
    return float(units) / float(1 << shift)


def intern(
    text: Any, begin: int, end: int, second: int, second_end: int, tag: int, table: Any, count: int
) -> int:
    """The number of a string of two parts, `count` if it is new; -1 if there is no room."""
    size, second_size = end - begin, second_end - second
    code = size * 64 + tag
    at = begin
    while at + 4 <= end:
        word = text[at] | text[at + 1] << 8 | text[at + 2] << 16 | text[at + 3] << 24
        code = ((code ^ word) * 16777619) & 0xFFFFFFFF
        code ^= code >> 15
        at += 4
    while at < end:
        code = ((code ^ text[at]) * 16777619) & 0xFFFFFFFF
        at += 1
    for k in range(second, second_end):
        code = ((code ^ text[k]) * 16777619) & 0xFFFFFFFF
    code ^= code >> 13
    pool, bounds, slots = table.pool, table.bounds, table.slots
    mask = len(slots) - 1
    place = code & mask
    while slots[place] >= 0:
        number = int(slots[place])
        first, middle, last = bounds[number, 0], bounds[number, 1], bounds[number, 2]
        if middle - first == size and last - middle == second_size and bounds[number, 3] == tag:
            is_same = True
            for k in range(size):
                if pool[first + k] != text[begin + k]:
                    is_same = False
                    break
            if is_same:
                for k in range(second_size):
                    if pool[middle + k] != text[second + k]:
                        is_same = False
                        break
            if is_same:
                return number
        place = (place + 1) & mask
    free = bounds[count - 1, 2] if count else 0
    if count >= len(bounds) or free + size + second_size > len(pool):
        return -1
    for k in range(size):
        pool[free + k] = text[begin + k]
    for k in range(second_size):
        pool[free + size + k] = text[second + k]
    bounds[count, 0], bounds[count, 1] = free, free + size
    bounds[count, 2], bounds[count, 3] = free + size + second_size, tag
    slots[place] = count
    return count
