"""A Chakra file is a run of records, each a base-128 varint length followed by that many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class FramingError(ValueError):
    """The bytes end inside a record, or a length makes no sense. `offset` is where the record starts."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(f"byte {offset}: {message}")
        self.offset = offset


def split_records(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each record's body in `data`. O(number of records).

    Raises FramingError where the data is cut inside a length or a body.
    """
    position, size = 0, len(data)
    while position < size:
        record_start = position
        length = shift = 0
        while True:
            if position >= size:
                raise FramingError(record_start, "the file ends inside a record's length")
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise FramingError(record_start, "a record's length has more than ten bytes")
        end = position + length
        if end > size:
            raise FramingError(
                record_start,
                f"a record of {length} bytes is announced, but only {size - position} bytes follow",
            )
        yield position, end
        position = end


def frame_records(records: Iterable[bytes]) -> bytes:
    """Join serialised messages into the bytes of a file.

    >>> frame_records([b"ab", b""])
    b'\\x02ab\\x00'
    """
    out = bytearray()
    for record in records:
        length = len(record)
        while length >= 0x80:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += record
    return bytes(out)
