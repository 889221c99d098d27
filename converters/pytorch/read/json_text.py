"""Walking over JSON's text, compiled by numba as part of `scan.py`: where strings, numbers and values end.

The grammar is RFC 8259's. What readers see in different ways counts as bad, too: halves of surrogate pairs,
more than 60 levels, exponents of more than two digits.
"""

from __future__ import annotations

from typing import Any

NEEDS_MORE, BAD = -1, -2
"""Results instead of a position in the text: it ends before, or isn't as expected."""
_MAX_DEPTH = 60

HELPERS = ("space", "plain_end", "string_end", "number_end", "literal_end", "skip")
"""All functions, callees first."""


def space(text: Any, at: int, end: int) -> int:
    """The first place from `at` on that is no white space."""
    while (
        at < end and text[at] <= 32 and (text[at] == 32 or text[at] == 10 or text[at] == 13 or text[at] == 9)
    ):
        at += 1
    return at


def plain_end(text: Any, at: int, end: int) -> int:
    """The closing quote of a string without escapes whose first character stands at `at`."""
    while at < end:
        mark = text[at]
        if mark == 34:
            return at
        if mark == 92 or mark < 32:
            return BAD
        at += 1
    return NEEDS_MORE


def string_end(text: Any, at: int, end: int) -> int:
    """The closing quote of a string whose first character stands at `at`."""
    while at < end:
        mark = text[at]
        if mark == 34:
            return at
        if mark < 32:
            return BAD
        at += 1
        if mark != 92:
            continue
        if at >= end:
            return NEEDS_MORE
        mark = text[at]
        at += 1
        if mark == 117:  # \u, but for halves of pairs
            if at + 4 > end:
                return NEEDS_MORE
            for place in range(at, at + 4):
                digit = text[place]
                if not (48 <= digit <= 57 or 65 <= digit <= 70 or 97 <= digit <= 102):
                    return BAD
            if text[at] == 68 or text[at] == 100:
                return BAD
            at += 4
        elif mark not in (34, 92, 47, 98, 102, 110, 114, 116):
            return BAD
    return NEEDS_MORE


def number_end(text: Any, at: int, end: int) -> int:
    """One past a number that begins at `at`."""
    if text[at] == 45:
        at += 1
        if at >= end:
            return NEEDS_MORE
    first = at
    while at < end and 48 <= text[at] <= 57:
        at += 1
    if at < end and (at == first or (text[first] == 48 and at > first + 1)):
        return BAD
    if at < end and text[at] == 46:
        at += 1
        first = at
        while at < end and 48 <= text[at] <= 57:
            at += 1
        if at < end and at == first:
            return BAD
    if at < end and (text[at] == 101 or text[at] == 69):
        at += 1
        if at < end and (text[at] == 43 or text[at] == 45):
            at += 1
        first = at
        while at < end and 48 <= text[at] <= 57:
            at += 1
        if at < end and (
            at == first or at > first + 2
        ):  # what is out of a double's range is for others to say
            return BAD
    return at if at < end else NEEDS_MORE


def literal_end(text: Any, at: int, end: int) -> int:
    """One past `true`, `false` or `null` that begins at `at`."""
    if at + 5 > end:
        return NEEDS_MORE
    a, b, c, d = text[at], text[at + 1], text[at + 2], text[at + 3]
    if (a == 116 and b == 114 and c == 117 and d == 101) or (a == 110 and b == 117 and c == 108 and d == 108):
        return at + 4
    if a == 102 and b == 97 and c == 108 and d == 115 and text[at + 4] == 101:
        return at + 5
    return BAD


def skip(text: Any, at: int, end: int) -> int:
    """One past the value that begins at `at`, of any kind."""
    depth = 0
    objects = 0  # bit d: what is open at depth d is an object
    while True:
        at = space(text, at, end)
        if at >= end:
            return NEEDS_MORE
        mark = text[at]
        is_open = False
        if mark == 34:
            at = string_end(text, at + 1, end)
            if at < 0:
                return at
            at += 1
        elif mark == 45 or 48 <= mark <= 57:
            at = number_end(text, at, end)
            if at < 0:
                return at
        elif mark == 91 or mark == 123:
            depth += 1
            if depth > _MAX_DEPTH:
                return BAD
            objects = objects << 1 | (1 if mark == 123 else 0)
            at = space(text, at + 1, end)
            if at >= end:
                return NEEDS_MORE
            is_open = text[at] != mark + 2
        else:
            at = literal_end(text, at, end)
            if at < 0:
                return at
        # what follows a value: closing brackets, then a comma
        while not is_open:
            if depth == 0:
                return at
            at = space(text, at, end)
            if at >= end:
                return NEEDS_MORE
            mark = text[at]
            at += 1
            if mark == 44:
                break
            if mark != (125 if objects & 1 else 93):
                return BAD
            objects >>= 1
            depth -= 1
        if objects & 1:
            at = space(text, at, end)
            if at >= end:
                return NEEDS_MORE
            if text[at] != 34:
                return BAD
            at = string_end(text, at + 1, end)
            if at < 0:
                return at
            at = space(text, at + 1, end)
            if at >= end:
                return NEEDS_MORE
            if text[at] != 58:
                return BAD
            at += 1
