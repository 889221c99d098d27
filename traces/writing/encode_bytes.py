"""The bytes of Node records, written row by row; compiled by numba, see `encode_fields.py`.

What is compiled stands in this one file, since numba's cache doesn't notice edits in another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SEVEN, LOW, MORE = np.uint64(7), np.uint64(127), np.uint64(128)
"""A shift by a signed number would make a number of 64 bits signed."""
NUMBER, TEXT = 0, 1
"""Kinds of fields; the third is a list."""


def put_records(
    kinds: Any,
    firsts: Any,
    values: Any,
    is_present: Any,
    list_offsets: Any,
    list_values: Any,
    ends: Any,
    entries: Any,
    out: Any,
) -> int:
    """Write n records of F fields, each behind its length, and return how many bytes they take.

    kinds, firsts int64[F]: what a field is, and the first of its entries; values uint64[F, n]: numbers, or
    places among the field's entries; is_present bool[F, n]; list_offsets int64[F, n + 1] into list_values
    uint64; ends int64[entries + 1] in entries uint8: beginnings of numbers by their size, texts, tags.
    """
    at = 0
    for row in range(values.shape[1]):
        # Everything is gone through twice: the length comes first.
        size, begin = 0, -1
        for turn in range(2):
            for field in range(len(kinds)):
                if not is_present[field, row]:
                    continue
                kind, entry = kinds[field], firsts[field]
                number = values[field, row]
                low, high, body = 0, 0, 0
                if kind == NUMBER:
                    rest, width = number >> SEVEN, 1
                    while rest > 0:
                        rest >>= SEVEN
                        width += 1
                    entry += width
                elif kind == TEXT:
                    entry += int(number)
                else:
                    low, high = list_offsets[field, row], list_offsets[field, row + 1]
                    if low == high:
                        continue
                    for place in range(low, high):
                        rest = list_values[place] >> SEVEN
                        body += 1
                        while rest > 0:
                            rest >>= SEVEN
                            body += 1
                first, last = ends[entry], ends[entry + 1]
                if turn == 0:
                    size += last - first
                    if kind == NUMBER:
                        size += width
                    elif kind != TEXT:
                        size += body + 1
                        left = body >> 7
                        while left > 0:
                            left >>= 7
                            size += 1
                    continue
                for place in range(first, last):
                    out[at] = entries[place]
                    at += 1
                if kind == NUMBER:
                    while number > LOW:
                        out[at] = (number & LOW) | MORE
                        number >>= SEVEN
                        at += 1
                    out[at] = number
                    at += 1
                elif kind != TEXT:
                    while body > 127:
                        out[at] = (body & 127) | 128
                        body >>= 7
                        at += 1
                    out[at] = body
                    at += 1
                    for place in range(low, high):
                        number = list_values[place]
                        while number > LOW:
                            out[at] = (number & LOW) | MORE
                            number >>= SEVEN
                            at += 1
                        out[at] = number
                        at += 1
            if turn == 0:
                begin = size
                while begin > 127:
                    out[at] = (begin & 127) | 128
                    begin >>= 7
                    at += 1
                out[at] = begin
                at += 1
    return at
