"""Kineto's events to rows of numbers, straight from the bytes of the JSON.

`scan` walks the text of an events' list, compiled by numba: an event whose names were seen before makes no
Python object at all. It checks the grammar of all that it passes, and takes what Kineto writes; on anything
else, whatever it is, it gives up, and `kineto_reader.py` reads the file by orjson and says what is wrong. What
is compiled stands in this one file, since numba's cache doesn't notice edits in another; `scanned.py` runs it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.kineto import ANNOTATION, CALL, CATEGORIES, KERNEL, MEMSET, SYNC_RECORD

MORE, END, FULL, UNUSUAL = range(4)
"""Why `scan` returns: the text ends within an event; the list ended; a table has no room left; see above."""

HOST, DEVICE, NOTES, FLOWS, RECORDS, NUMBERS, POSITION, FLAGS = range(8)
"""Places in `State.counts`: rows in the tables, where the next event begins, and which columns hold numbers
that stand for none: `_BIG` and `_MINUS` by column."""

_BIG, _MINUS = 1, 2
HOST_COLUMNS = ("thread", "name_id", "is_call", "correlation", "function_id", "external_id")
DEVICE_COLUMNS = ("kind", "name_id", "stream", "correlation", "size_bytes")
"""Columns of the tables, after start and end in ns. The bounds of an event's arguments in the text follow, and
of a device's event whether they name a collective."""
_CORRELATION_FLAG, _FUNCTION_FLAG, _EXTERNAL_FLAG, _DEVICE_CORRELATION_FLAG, _SIZE_FLAG = range(5)

_EVENT_KEYS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args", "id")
_ARGUMENT_KEYS = (
    "correlation",
    "Record function id",
    "External id",
    "device",
    "stream",
    "bytes",
    "Collective name",
)
_PH, _CAT, _NAME, _PID, _TID, _TS, _DUR, _ARGS, _ID = range(9)
_OF_CORRELATION, _OF_FUNCTION, _OF_EXTERNAL, _OF_DEVICE, _OF_STREAM, _OF_BYTES, _OF_COLLECTIVE = range(9, 16)
_FLOW = 100
WORDS = (*_EVENT_KEYS, *_ARGUMENT_KEYS, *CATEGORIES, "fwdbwd")
"""What is looked for in the text: keys, then categories."""
_FIRST_CATEGORY = len(_EVENT_KEYS) + len(_ARGUMENT_KEYS)
CODES = (*range(_FIRST_CATEGORY), *CATEGORIES.values(), _FLOW)
"""What the words mean."""
_EVENT, _ARGUMENT, _CATEGORY = range(3)
KINDS = (*(_EVENT for _ in _EVENT_KEYS), *(_ARGUMENT for _ in _ARGUMENT_KEYS), *(_CATEGORY for _ in CATEGORIES), 2)
STEP = np.frombuffer(b"ProfilerStep", dtype=np.uint8)

_MOST_DEPTH = 60
_LATEST_US = 2**52
_SLOW = -(2**63)
"""A time that takes more than 53 bits, or has an exponent."""
_NEEDS_MORE, _BAD = -1, -2
"""In place of a position in the text: it ends before, or isn't as expected."""

HELPERS = (
    "_space", "_plain_end", "_string_end", "_number_end", "_literal_end", "_skip", "_word", "_whole",
    "_time_ns", "_time_of_double", "_intern",
)  # fmt: skip
"""Functions here that others call, callees first."""


class Table(NamedTuple):
    """Numbers of strings, by what stands in the text: an open-addressing hash table."""

    pool: NDArray[np.uint8]
    """The strings' bytes, one behind another; each may have two parts."""
    bounds: NDArray[np.int64]
    """[numbers, 4]: begin, end of the first part, end, tag."""
    slots: NDArray[np.int32]
    """Number by hash, -1 for none."""


class State(NamedTuple):
    """What `scan` fills in."""

    counts: NDArray[np.int64]
    flags: NDArray[np.int64]
    numbers: NDArray[np.int64]
    """How many names, threads and streams there are."""
    host: NDArray[np.int64]
    device: NDArray[np.int64]
    notes: NDArray[np.int64]
    """Start, end, thread, name, and the bounds of the arguments."""
    flows: NDArray[np.int64]
    """Start, thread, number, whether it is the end."""
    records: NDArray[np.int64]
    """The bounds of synchronisation records."""
    names: Table
    threads: Table
    streams: Table


def _space(text: Any, at: int, end: int) -> int:
    """The first place from `at` on that is no white space."""
    while at < end and text[at] <= 32 and (text[at] == 32 or text[at] == 10 or text[at] == 13 or text[at] == 9):
        at += 1
    return at
