"""Node messages to columns, straight from a file's bytes.

`count` and `fill` walk the protobuf wire format (protobuf.dev, "Encoding"), compiled by numba: over ten times
as fast as making an object of every node. They take what well-formed files hold; on anything else, whatever
it is, they give up, and `decode.py` reads the file and says what is wrong. What is compiled stands in this
one file, since numba's cache doesn't notice edits in another; `scan_columns.py` runs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chakrasim.traces.graph import NodeKind
from chakrasim.traces.units import PS_PER_US

INTEGERS = (
    "num_ops",
    "tensor_size",
    "comm_type",
    "comm_size",
    "comm_tag",
    "duration_ps",
    "start_ps",
    "comm_priority",
)
"""Attributes that are columns of whole numbers, in the order of `Nodes.integers`."""
ENDS = ("comm_src", "comm_dst", "comm_root")
WORDS = ("pg_name", "lane", "dtype", "op_kind")
"""Attributes that are columns of strings, in the order of `Nodes.word_starts` after the name."""
KNOWN = (*INTEGERS, *ENDS, "involved_dim", "is_cpu_op", *WORDS)
_COMM_TYPE, _DURATION, _START = 2, 5, 6
_SOURCE, _DESTINATION, _ROOT, _DIMS, _IS_CPU, _WORDS = 8, 9, 10, 11, 12, 13
_LANE = 14
ABSENT = (-1, -1, -1, -1, -1, 0, -1, 0)
"""Values of `INTEGERS` where a record has none."""

_INT64_MAX = 2**63 - 1
_MAX_US = _INT64_MAX // PS_PER_US
_MAX_COMM_TYPE = 127
_SEND, _RECEIVE = int(NodeKind.SEND), int(NodeKind.RECV)
_NONE, _INTEGER, _BOOLEAN, _STRING, _BOOLEANS, _OTHER = 0, 1, 2, 3, 4, 5
"""Kinds of an attribute's value."""


HELPERS = (
    *("_long", "_varint", "_long_short", "_short", "_skipped"),
    *("_is_ascii", "_is_strings", "_known", "_mask"),
)
"""Functions here that others call, in an order in which they can be compiled."""
INLINED = ("_varint", "_short")
"""Those whose bodies stand in place of calls, which take longer than the first line of these."""


def _varint(data: Any, at: int, end: int) -> tuple[Any, int]:
    """A varint's value, uint64, and where it ends; -1 where it doesn't."""
    if at < end and data[at] < 0x80:
        return np.uint64(data[at]), at + 1
    return _long(data, at, end)


def _long(data: Any, at: int, end: int) -> tuple[Any, int]:
    """The same of any length."""
    value, shift = np.uint64(0), np.uint64(0)
    for position in range(10):
        if at >= end:
            return value, -1
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            if position == 9 and byte > 1:
                return value, -1
            return value, at
        shift += np.uint64(7)
    return value, -1


def _short(data: Any, at: int, end: int) -> tuple[Any, int]:
    """A varint that is a tag or a length: protobuf refuses those of over five bytes."""
    if at < end and data[at] < 0x80:
        return np.uint64(data[at]), at + 1
    return _long_short(data, at, end)


def _long_short(data: Any, at: int, end: int) -> tuple[Any, int]:
    """The same of any length."""
    value, stop = _long(data, at, end)
    return value, stop if stop - at <= 5 else -1


def _skipped(data: Any, at: int, end: int, wire: int) -> int:
    """End of a skipped field of a message; -1 where it isn't whole."""
    if wire == 0:
        _, at = _varint(data, at, end)
        return at
    if wire == 1:
        return at + 8 if at + 8 <= end else -1
    if wire == 5:
        return at + 4 if at + 4 <= end else -1
    if wire != 2:
        return -1
    size, at = _short(data, at, end)
    if at < 0 or size > np.uint64(end - at):
        return -1
    return int(at + np.int64(size))


def _is_ascii(data: Any, at: int, end: int) -> bool:
    for position in range(at, end):  # noqa: SIM110 (numba)
        if data[position] >= 0x80:
            return False
    return True


def _is_strings(data: Any, at: int, end: int, fields: int) -> bool:
    """True if a message (IOInfo, StringList) holds nothing but strings, in fields 1 to `fields`."""
    while at < end:
        tag, at = _short(data, at, end)
        if at < 0:
            return False
        field, wire = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
        if wire != 2 or field < 1 or field > fields:
            return False
        size, at = _short(data, at, end)
        if at < 0 or size > np.uint64(end - at):
            return False
        stop = at + np.int64(size)
        if not _is_ascii(data, at, stop):
            return False
        at = stop
    return True


def _known(data: Any, at: int, size: int, words: Any, offsets: Any) -> int:
    """Index in `KNOWN` of the word there; -1 for another."""
    for index in range(len(offsets) - 1):
        begin = offsets[index]
        if offsets[index + 1] - begin != size:
            continue
        is_same = True
        for place in range(size):
            if words[begin + place] != data[at + place]:
                is_same = False
                break
        if is_same:
            return index
    return -1


def _mask(data: Any, at: int, end: int) -> int:
    """Bits that are set in a list of varints; -1 if all are, -2 for what can't be read, -3 for over 62."""
    mask, place, is_all = 0, 0, True
    while at < end:
        tag, at = _short(data, at, end)
        if at < 0 or tag >> np.uint64(3) != np.uint64(1):
            return -2
        stop = end
        if tag & np.uint64(7) == np.uint64(2):
            size, at = _short(data, at, end)
            if at < 0 or size > np.uint64(end - at):
                return -2
            stop = at + np.int64(size)
        elif tag & np.uint64(7) != np.uint64(0):
            return -2
        is_packed = tag & np.uint64(7) == np.uint64(2)
        while at < stop:
            value, at = _varint(data, at, stop)
            if at < 0:
                return -2
            if value != np.uint64(0):
                mask |= 1 << min(place, 62)
            else:
                is_all = False
            place += 1
            if not is_packed:
                break
    if place > 62:
        return -3
    return -1 if is_all else mask


def count(data: Any, at: int) -> tuple[int, int, int]:
    """Nodes, edges and attributes from a position on; -1 nodes where the bytes aren't well-formed."""
    nodes, edges, attributes, size = 0, 0, 0, len(data)
    while at < size:
        length, at = _short(data, at, size)
        if at < 0 or length > np.uint64(size - at):
            return -1, 0, 0
        stop = at + np.int64(length)
        nodes += 1
        while at < stop:
            tag, at = _short(data, at, stop)
            if at < 0:
                return -1, 0, 0
            field, wire = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
            begin = at
            at = _skipped(data, at, stop, wire)
            if at < 0:
                return -1, 0, 0
            if field == 10:
                attributes += 1
            elif field == 4 or field == 5:
                if wire == 0:
                    edges += 1
                elif wire != 2:
                    return -1, 0, 0
                else:
                    # the size itself has one last byte, too
                    edges -= 1
                    for position in range(begin, at):
                        if data[position] < 0x80:
                            edges += 1
    return nodes, edges, attributes


def fill(data: Any, at: int, rank: int, words: Any, offsets: Any, columns: Any, wants_more: bool) -> int:
    """Fill the columns; the number of further attributes found, or -1 for what isn't handled here.

    `columns` are those of `Nodes`, without its name: the index of numba's cache would look for the class,
    even if an older version of this file has compiled something else.
    """
    ids, starts, ends, kinds, is_cpu, peers, involved_dims, integers = columns[:8]
    word_starts, word_sizes, children, parents, is_control = columns[8:13]
    more_nodes, more_starts, more_sizes, more_values, more_is_whole = columns[13:]
    edge, more, node, size = 0, 0, 0, len(data)
    while at < size:
        length, at = _varint(data, at, size)
        stop = at + np.int64(length)
        starts[node], ends[node] = at, stop
        has_kind = has_name = False
        seen = 0
        while at < stop:
            tag, at = _varint(data, at, stop)
            field, wire = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
            if field == 1 or field == 3 or field == 6 or field == 7:
                if wire != 0:
                    return -1
                value, at = _varint(data, at, stop)
                if field == 1:
                    ids[node] = value
                elif field == 3:
                    if value > np.uint64(7) or has_kind:
                        return -1
                    kinds[node] = np.int64(value)
                    has_kind = True
                else:
                    if value > np.uint64(_MAX_US):
                        return -1
                    # an attribute with picoseconds has the last word, and comes behind
                    if seen != 0 or (field == 6 and integers[_START, node] >= 0):
                        return -1
                    if field == 7:
                        integers[_DURATION, node] = np.int64(value) * PS_PER_US
                    elif value > np.uint64(0):
                        integers[_START, node] = np.int64(value) * PS_PER_US
                continue
            if field == 4 or field == 5:
                if wire == 0:
                    value, at = _varint(data, at, stop)
                    children[edge], parents[edge], is_control[edge] = node, value, field == 4
                    edge += 1
                    continue
                if wire != 2:
                    return -1
                length, at = _varint(data, at, stop)
                last = at + np.int64(length)
                while at < last:
                    value, at = _varint(data, at, last)
                    if at < 0:
                        return -1
                    children[edge], parents[edge], is_control[edge] = node, value, field == 4
                    edge += 1
                continue
            if wire != 2:
                return -1
            length, at = _varint(data, at, stop)
            last = at + np.int64(length)
            if field == 2:
                if has_name:
                    return -1
                has_name = True
                word_starts[0, node], word_sizes[0, node] = at, last - at
            elif field == 8 or field == 9:
                if not _is_strings(data, at, last, 3):
                    return -1
            elif field == 10:
                # one attribute: its name, and at most one value
                name, name_size = -1, 0
                what, number, string, string_size = _NONE, 0, 0, 0
                while at < last:
                    tag, at = _short(data, at, last)
                    if at < 0:
                        return -1
                    field, wire = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
                    begin = at
                    at = _skipped(data, at, last, wire)
                    if at < 0:
                        return -1
                    if field <= 2:
                        if wire != 2 or field < 1:
                            return -1
                        length, begin = _varint(data, begin, at)
                        if not _is_ascii(data, begin, at):
                            return -1
                        if field == 1:
                            if name >= 0:
                                return -1
                            name, name_size = begin, at - begin
                        continue
                    if what != _NONE:
                        return -1
                    if field == 7 or field == 9 or field == 11 or field == 13 or field == 27:
                        if wire != 0:
                            return -1
                        value, _ = _varint(data, begin, at)
                        what, number = _INTEGER, np.int64(value)
                        if field == 7:
                            number = np.int64(np.int32(value & np.uint64(0xFFFFFFFF)))
                        elif field == 11:
                            number = np.int64(value & np.uint64(0xFFFFFFFF))
                        elif field == 13:
                            if value > np.uint64(_INT64_MAX):
                                return -1
                        elif field == 27:
                            what, number = _BOOLEAN, np.int64(value != np.uint64(0))
                    elif wire == 2:
                        length, begin = _varint(data, begin, at)
                        is_sound = False
                        if field == 29:
                            what, string, string_size = _STRING, begin, at - begin
                            is_sound = _is_ascii(data, begin, at)
                        elif field == 30:
                            what, is_sound = _OTHER, _is_strings(data, begin, at, 1)
                        elif field == 28 or (field >= 8 and field <= 18 and field % 2 == 0):
                            what, number = _BOOLEANS if field == 28 else _OTHER, _mask(data, begin, at)
                            is_sound = number != -2
                        if not is_sound:
                            return -1
                    elif (field == 3 and wire == 1) or (field == 5 and wire == 5):
                        what = _OTHER
                    else:
                        return -1
                if name < 0:
                    name = last  # an empty one
                index = _known(data, name, name_size, words, offsets)
                if index < 0:
                    if wants_more:
                        more_nodes[more], more_values[more] = node, number
                        more_is_whole[more] = what == _INTEGER
                        more_starts[more], more_sizes[more] = name, name_size
                        more += 1
                    continue
                if (seen >> index) & 1:
                    continue
                seen |= 1 << index
                is_integer = what in (_INTEGER, _BOOLEAN)
                if index == _DIMS:
                    if what != _BOOLEANS or number == -3:
                        return -1
                    if number >= 0:
                        involved_dims[node] = number
                elif what == _NONE:
                    continue
                elif index >= _WORDS:
                    if what != _STRING:
                        return -1
                    if string_size > 0 or index == _LANE:
                        word_starts[1 + index - _WORDS, node] = string
                        word_sizes[1 + index - _WORDS, node] = string_size
                elif not is_integer:
                    return -1
                elif index == _IS_CPU:
                    is_cpu[node] = number != 0
                elif index >= _SOURCE:
                    if not has_kind:
                        return -1
                    is_send, is_receive = kinds[node] == _SEND, kinds[node] == _RECEIVE
                    if (is_send and index == _SOURCE) or (is_receive and index == _DESTINATION):
                        if number != rank:
                            return -1
                    elif index == _ROOT or is_send or is_receive:
                        if number < 0 or number >= 2**31:
                            return -1
                        peers[node] = number
                else:
                    if number < 0 or (index == _COMM_TYPE and number > _MAX_COMM_TYPE):
                        return -1
                    integers[index, node] = number
            else:
                return -1
            at = last
        at = stop
        node += 1
    return more
