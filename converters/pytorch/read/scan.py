"""Kineto's events to rows of numbers, straight from the bytes of the JSON.

`scan` walks the text of an events' list, compiled by numba: most events make no Python object at all. It
checks the grammar of all that it passes, and takes what Kineto writes; on anything else, whatever it is, it
gives up, and `kineto_reader.py` reads the file by orjson and says what is wrong. `scan_driver.py` runs it.

What it calls stands in `json_text.py` and `json_values.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chakrasim.converters.pytorch.read.event_columns import STEP
from chakrasim.converters.pytorch.read.json_text import BAD, NEEDS_MORE, plain_end, skip, space, string_end
from chakrasim.converters.pytorch.read.json_values import Table, intern, time_ns, whole_number, word_code
from chakrasim.converters.pytorch.read.kineto import ANNOTATION, CALL, CATEGORIES, KERNEL, MEMSET, SYNC_RECORD

MORE, END, FULL, UNUSUAL = range(4)
"""Why `scan` returns: the text ends within an event; the list ended; a table has no room left; see above."""

HOST, DEVICE, NOTES, FLOWS, RECORDS, POSITION = range(6)
"""Places in `State.counts`: rows in the tables, and where the next event begins."""

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
_SPELT = np.array([int.from_bytes(key.encode(), "big") for key in _EVENT_KEYS])
"""The keys of an event as numbers."""
_FLOW, _CATEGORY = 9, 20
WORDS = (*_ARGUMENT_KEYS, *CATEGORIES, "fwdbwd")
"""Further words in the text: keys of arguments, and categories."""
CODES = (*range(_OF_CORRELATION, _OF_COLLECTIVE + 1), *(_CATEGORY + c for c in (*CATEGORIES.values(), _FLOW)))
"""Codes of the words."""
_STEP = np.frombuffer(STEP.encode(), dtype=np.uint8)


class State(NamedTuple):
    """Tables that `scan` fills."""

    counts: NDArray[np.int64]
    flags: NDArray[np.int64]
    numbers: NDArray[np.int64]
    """Numbers of names, threads and streams."""
    host: NDArray[np.int64]
    """Start and end in ns, thread, name, whether it is a call of the runtime, correlation, number as a record
    function, external number, and the bounds of the arguments in the text."""
    device: NDArray[np.int64]
    """Start, end, kind, name, stream, correlation, bytes, the bounds of the arguments, and whether those name
    a collective."""
    notes: NDArray[np.int64]
    """Start, end, thread, name, and the bounds of the arguments."""
    flows: NDArray[np.int64]
    """Start, thread, number, whether it is the end."""
    records: NDArray[np.int64]
    """The bounds of synchronisation records."""
    names: Table
    threads: Table
    streams: Table


def scan(text: Any, at: int, words: Any, bounds: Any, by_hash: Any, codes: Any, state: Any) -> int:
    """Put the events from `at` on into the tables, up to an event that isn't complete.

    `at` is where an event begins, or the white space before it. Returns why it stopped; `counts[POSITION]`
    is where it did. O(bytes).
    """
    counts, flags = state.counts, state.flags
    end = len(text)
    # taken out of their tuples once: each time costs as much as a string
    hosts, devices, notes, flows, records = state.host, state.device, state.notes, state.flows, state.records
    numbers, names, threads, streams = state.numbers, state.names, state.threads, state.streams
    begins = np.zeros(16, dtype=np.int64)
    ends = np.zeros(16, dtype=np.int64)
    room = len(state.host)
    while True:
        counts[POSITION] = at
        if max(counts[HOST], counts[DEVICE], counts[NOTES], counts[FLOWS], counts[RECORDS]) >= room:
            return FULL
        at = space(text, at, end)
        if at >= end:
            return MORE
        if text[at] != 123:
            return UNUSUAL
        event = at
        for k in range(16):
            begins[k] = ends[k] = 0
        category = 0
        phase = 0
        depth = 1
        at += 1
        # the members of the event, depth 1, and of its arguments, depth 2
        is_first = True
        while depth > 0:
            at = space(text, at, end)
            if at >= end:
                return MORE
            if text[at] == 125 and is_first:
                at += 1
            else:
                if text[at] != 34:
                    return UNUSUAL
                key = at + 1
                at = plain_end(text, key, end)
                if at < 0:
                    return MORE if at == NEEDS_MORE else UNUSUAL
                code = -1
                size = at - key
                if depth == 1:
                    if size <= 4:
                        spelt = 0
                        for k in range(key, at):
                            spelt = spelt << 8 | text[k]
                        for k in range(len(_SPELT)):
                            if spelt == _SPELT[k]:
                                code = k
                                break
                elif size in (5, 6, 11, 15, 18):  # so long they are
                    code = word_code(text, key, at, words, bounds, by_hash, codes)
                    if code >= _CATEGORY:
                        code = -1
                at = space(text, at + 1, end)
                if at >= end:
                    return MORE
                if text[at] != 58:
                    return UNUSUAL
                at = space(text, at + 1, end)
                if at >= end:
                    return MORE
                if code == _ARGS:
                    for k in range(_OF_CORRELATION, 16):
                        begins[k] = ends[k] = 0
                    begins[_ARGS] = ends[_ARGS] = 0
                    if text[at] == 123:
                        begins[_ARGS] = at
                        depth = 2
                        is_first = True
                        at += 1
                        continue
                first = at
                if code in (_PH, _CAT):
                    if text[at] != 34:
                        return UNUSUAL
                    at = plain_end(text, at + 1, end)
                elif code == _NAME:
                    if text[at] != 34:
                        return UNUSUAL
                    at = string_end(text, at + 1, end)
                elif text[at] == 34:
                    at = string_end(text, at + 1, end)
                    if at >= 0:
                        at += 1
                else:
                    at = skip(text, at, end)
                if at < 0:
                    return MORE if at == NEEDS_MORE else UNUSUAL
                if code == _PH:
                    phase = text[first + 1] + 0 if at == first + 2 else 0
                    at += 1
                elif code == _CAT:
                    category = max(
                        0, word_code(text, first + 1, at, words, bounds, by_hash, codes) - _CATEGORY
                    )
                    at += 1
                elif code == _NAME:
                    begins[_NAME], ends[_NAME] = first + 1, at
                    at += 1
                elif code >= 0 and code != _ARGS:
                    begins[code], ends[code] = first, at
                # a comma, or the end of the arguments or of the event
                at = space(text, at, end)
                if at >= end:
                    return MORE
                at += 1
                if text[at - 1] == 44:
                    is_first = False
                    continue
                if text[at - 1] != 125:
                    return UNUSUAL
            # an object ended before `at`
            while True:
                depth -= 1
                if depth == 0:
                    break
                ends[_ARGS] = at
                at = space(text, at, end)
                if at >= end:
                    return MORE
                at += 1
                if text[at - 1] == 44:
                    is_first = False
                    break
                if text[at - 1] != 125:
                    return UNUSUAL
        event_end = at
        at = space(text, at, end)
        if at >= end:
            return MORE
        is_last = text[at] == 93
        if not is_last and text[at] != 44:
            return UNUSUAL
        if not is_last:
            at += 1
        is_complete = phase == 88
        if not category or (is_complete == (category == _FLOW)):
            if is_last:
                counts[POSITION] = at
                return END
            continue
        if category == SYNC_RECORD:
            name = intern(text, begins[_NAME], ends[_NAME], 0, 0, 0, names, numbers[0])
            if name < 0:
                return UNUSUAL
            numbers[0] = max(numbers[0], name + 1)
            row = counts[RECORDS]
            records[row, 0], records[row, 1] = event, event_end
            counts[RECORDS] += 1
            if is_last:
                counts[POSITION] = at
                return END
            continue
        if ends[_TS] == 0:
            return UNUSUAL
        start_ns, start_flag = time_ns(text, begins[_TS], ends[_TS])
        length_ns, length_flag = 0, 0
        if ends[_DUR] > 0 and category != _FLOW:
            length_ns, length_flag = time_ns(text, begins[_DUR], ends[_DUR])
        if start_flag != 0 or length_flag != 0 or length_ns < 0:
            return UNUSUAL
        if category == _FLOW:
            thread = intern(text, begins[_PID], ends[_PID], begins[_TID], ends[_TID], 0, threads, numbers[1])
            number, flag = whole_number(text, begins[_ID], ends[_ID])
            if thread < 0 or flag == BAD:
                return UNUSUAL
            numbers[1] = max(numbers[1], thread + 1)
            row = counts[FLOWS]
            flows[row, 0], flows[row, 1] = start_ns, thread
            flows[row, 2], flows[row, 3] = -1 if flag else number, phase == 102
            counts[FLOWS] += 1
        else:
            name = intern(text, begins[_NAME], ends[_NAME], 0, 0, 0, names, numbers[0])
            if name < 0:
                return UNUSUAL
            numbers[0] = max(numbers[0], name + 1)
            is_step = ends[_NAME] - begins[_NAME] >= len(_STEP)
            if is_step:
                for k in range(len(_STEP)):
                    if text[begins[_NAME] + k] != _STEP[k]:
                        is_step = False
                        break
            if KERNEL <= category <= MEMSET:
                device, place, tag = _OF_DEVICE, _OF_STREAM, 0
                if ends[_OF_DEVICE] == 0:
                    device = _PID
                if ends[_OF_STREAM] == 0 or text[begins[_OF_STREAM]] == 110:
                    place, tag = _TID, 1
                stream = intern(
                    text, begins[device], ends[device], begins[place], ends[place], tag, streams,
                    numbers[2],
                )  # fmt: skip
                correlation, first_flag = whole_number(text, begins[_OF_CORRELATION], ends[_OF_CORRELATION])
                size_bytes, flag = whole_number(text, begins[_OF_BYTES], ends[_OF_BYTES])
                if stream < 0 or first_flag == BAD or flag == BAD:
                    return UNUSUAL
                numbers[2] = max(numbers[2], stream + 1)
                flags[_DEVICE_CORRELATION_FLAG] |= first_flag
                flags[_SIZE_FLAG] |= flag
                table, row = devices, counts[DEVICE]
                table[row, 0], table[row, 1] = start_ns, start_ns + length_ns
                table[row, 2], table[row, 3], table[row, 4] = category, name, stream
                table[row, 5], table[row, 6] = correlation, size_bytes
                table[row, 7], table[row, 8] = begins[_ARGS], ends[_ARGS]
                table[row, 9] = ends[_OF_COLLECTIVE] > 0
                counts[DEVICE] += 1
            else:
                thread = intern(
                    text, begins[_PID], ends[_PID], begins[_TID], ends[_TID], 0, threads,
                    numbers[1],
                )  # fmt: skip
                if thread < 0:
                    return UNUSUAL
                numbers[1] = max(numbers[1], thread + 1)
                if category == ANNOTATION or is_step:
                    table, row = notes, counts[NOTES]
                    table[row, 0], table[row, 1] = start_ns, start_ns + length_ns
                    table[row, 2], table[row, 3] = thread, name
                    table[row, 4], table[row, 5] = begins[_ARGS], ends[_ARGS]
                    counts[NOTES] += 1
                else:
                    table, row = hosts, counts[HOST]
                    table[row, 0], table[row, 1] = start_ns, start_ns + length_ns
                    table[row, 2], table[row, 3], table[row, 4] = thread, name, category == CALL
                    table[row, 5] = table[row, 6] = table[row, 7] = -1
                    if category == CALL:
                        number, flag = whole_number(text, begins[_OF_CORRELATION], ends[_OF_CORRELATION])
                        table[row, 5] = number
                        flags[_CORRELATION_FLAG] |= flag
                    else:
                        number, flag = whole_number(text, begins[_OF_FUNCTION], ends[_OF_FUNCTION])
                        table[row, 6] = number
                        number, second_flag = whole_number(text, begins[_OF_EXTERNAL], ends[_OF_EXTERNAL])
                        table[row, 7] = number
                        if second_flag == BAD:
                            return UNUSUAL
                        flags[_FUNCTION_FLAG] |= flag
                        flags[_EXTERNAL_FLAG] |= second_flag
                    if flag == BAD:
                        return UNUSUAL
                    table[row, 8], table[row, 9] = begins[_ARGS], ends[_ARGS]
                    counts[HOST] += 1
        if is_last:
            counts[POSITION] = at
            return END
