"""Strings in a file's bytes to small numbers, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np


def intern(
    data: Any, starts: Any, sizes: Any, table: Any, numbers: Any, firsts: Any, text: Any
) -> tuple[int, int]:
    """Number the strings in the order of their first use; how many there are, and the length of `text`.

    `table` int64[power of two, all -1] is scratch, `numbers` gets the number of each string or -1 where it
    begins at -1, `firsts` where in `starts` each number was first used, `text` the strings one after the
    other, each with a zero byte behind it.
    """
    mask = np.uint64(len(table) - 1)
    found, end = 0, 0
    for row in range(len(starts)):
        begin, size = starts[row], sizes[row]
        if begin < 0:
            numbers[row] = -1
            continue
        key = np.uint64(14695981039346656037)  # FNV-1a
        for position in range(begin, begin + size):
            key = (key ^ np.uint64(data[position])) * np.uint64(1099511628211)
        place = np.int64(key & mask)
        while True:
            other = table[place]
            if other < 0:
                table[place] = found
                firsts[found] = row
                numbers[row] = found
                found += 1
                for position in range(begin, begin + size):
                    text[end] = data[position]
                    end += 1
                text[end] = 0
                end += 1
                break
            first = firsts[other]
            is_same = sizes[first] == size
            if is_same:
                for position in range(size):
                    if data[starts[first] + position] != data[begin + position]:
                        is_same = False
                        break
            if is_same:
                numbers[row] = other
                break
            place = (place + 1) & np.int64(mask)
    return found, end
