"""Fields of Node records as columns, and the records that they make.

A field is one of three: numbers, each behind one of a few fixed beginnings; texts out of a table; or lists of
ids. `records` puts them together as Python's bytes, `framed` by compiled code, which is over ten times as
fast once numba is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.graph import Ints
from chakrasim.traces.shared import jit

NUMBER, TEXT, LIST = 0, 1, 2
MAX_BYTES = 10
"""Maximum bytes of a varint: 64 bits in sevens."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """A whole number of each row that has one."""

    values: NDArray[Any]
    """Integers [n]."""
    is_present: NDArray[np.bool_]
    heads: Sequence[bytes]
    """Bytes before a number that takes 0 to `MAX_BYTES` bytes."""


@dataclass(frozen=True, eq=False)
class Texts:
    """An entry of a table for each row."""

    index: NDArray[Any]
    """Integers [n]; -1 is the last entry, as in Python."""
    table: Sequence[bytes]


@dataclass(frozen=True, eq=False)
class Lists:
    """Numbers of each row, packed behind a tag and their size; nothing where there is none."""

    offsets: Ints
    """int64[n + 1]"""
    values: NDArray[np.uint64]
    tag: bytes


Field = Numbers | Texts | Lists


def varints(values: NDArray[Any]) -> list[bytes]:
    """Each number as protobuf's base-128 varint; a negative one counts as its 64-bit two's complement."""
    rest = values.astype(np.uint64) if values.dtype != np.uint64 else values
    width = max(1, -(-int(rest.max(initial=0)).bit_length() // 7))
    digits = np.zeros((len(rest), width), dtype=np.uint8)
    for k in range(width):
        low = (rest & np.uint64(0x7F)).astype(np.uint8)
        rest = rest >> np.uint64(7)
        digits[:, k] = low | (rest > 0).astype(np.uint8) << 7
    # as numpy's text, which ends before its last zeros; only the number 0 ends in one itself
    texts: list[bytes] = np.ascontiguousarray(digits).view(f"S{width}").ravel().tolist()
    for row in np.flatnonzero(values == 0).tolist():
        texts[row] = b"\0"
    return texts


def sized(tag: bytes, body: bytes) -> bytes:
    """A field of bytes: its tag, its size and its content."""
    size = len(body)
    return tag + (bytes([size]) if size < 128 else varints(np.array([size]))[0]) + body


def records(fields: Sequence[Field]) -> list[bytes]:
    """The body of each row's record."""
    return [b"".join(parts) for parts in zip(*map(_texts, fields), strict=True)]


def _texts(field: Field) -> list[bytes]:
    if isinstance(field, Texts):
        return [field.table[k] for k in field.index.tolist()]
    if isinstance(field, Numbers):
        rows = np.flatnonzero(field.is_present)
        found = [field.heads[len(text)] + text for text in varints(field.values[rows])]
        return _spread(rows, found, len(field.values))
    counts = np.diff(field.offsets)
    rows = np.flatnonzero(counts)
    ids = varints(field.values)
    firsts = field.offsets[rows].tolist()
    heads = [sized(field.tag, b"\0" * size)[:-size] for size in range(1, MAX_BYTES + 1)]
    found = [heads[len(ids[at]) - 1] + ids[at] for at in firsts]
    for k in np.flatnonzero(counts[rows] > 1).tolist():
        found[k] = sized(field.tag, b"".join(ids[firsts[k] : firsts[k] + int(counts[rows[k]])]))
    return _spread(rows, found, len(counts))


def _spread(rows: NDArray[Any], texts: Sequence[bytes], n: int) -> list[bytes]:
    """`texts` in the given rows of n, nothing in the others."""
    if len(texts) == n:
        return list(texts)
    out = np.full(n, b"", dtype=object)
    out[rows] = np.array(texts, dtype=object)
    spread: list[bytes] = out.tolist()
    return spread


def framed(fields: Sequence[Field], put: Callable[..., int] | None = None) -> bytes:
    """All records, each with its length before it, by `put_records`, compiled if it isn't given."""
    n = len(fields[0].offsets) - 1 if isinstance(fields[0], Lists) else len(_rows(fields[0]))
    kinds, firsts = [], []
    entries: list[bytes] = [b""]
    offsets = np.zeros((len(fields), n + 1), dtype=np.int64)
    lists = [np.zeros(0, dtype=np.uint64)]
    values, is_present = (
        np.zeros((len(fields), n), dtype=np.uint64),
        np.ones((len(fields), n), dtype=np.bool_),
    )
    most = n * MAX_BYTES
    for place, field in enumerate(fields):
        firsts.append(len(entries))
        if isinstance(field, Numbers):
            kinds.append(NUMBER)
            values[place], is_present[place] = field.values.astype(np.uint64), field.is_present
            entries += field.heads
            most += n * (max(map(len, field.heads)) + MAX_BYTES)
        elif isinstance(field, Texts):
            kinds.append(TEXT)
            index = field.index.astype(np.int64)
            values[place] = np.where(index < 0, index + len(field.table), index)
            entries += field.table
            sizes = np.array([*map(len, field.table)], dtype=np.int64)
            most += int(sizes[index].sum())
        else:
            kinds.append(LIST)
            offsets[place] = field.offsets + sum(map(len, lists))
            lists.append(field.values)
            entries.append(field.tag)
            most += n * (len(field.tag) + MAX_BYTES) + len(field.values) * MAX_BYTES
    ends = np.zeros(len(entries) + 1, dtype=np.int64)
    np.cumsum([*map(len, entries)], out=ends[1:])
    out = np.empty(most, dtype=np.uint8)
    used = (put or compiled())(
        np.array(kinds, dtype=np.int64),
        np.array(firsts, dtype=np.int64),
        values,
        is_present,
        offsets,
        np.concatenate(lists),
        ends,
        np.frombuffer(b"".join(entries), dtype=np.uint8),
        out,
    )
    return out[:used].tobytes()


def _rows(field: Field) -> NDArray[Any]:
    return field.index if isinstance(field, Texts) else field.values


@cache
def compiled() -> Callable[..., int]:
    """`put_records` compiled by numba."""
    from chakrasim.traces.writing import encode_bytes

    loop = jit.compiled(encode_bytes.put_records)
    jit.announce(loop, "the writer of graphs")
    return loop
