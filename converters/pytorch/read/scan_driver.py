"""Scan of a file, chunk by chunk as it is unpacked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from chakrasim.converters.pytorch.read import json_text, json_values, scan
from chakrasim.converters.pytorch.read.event_columns import STEP, EventColumns
from chakrasim.converters.pytorch.read.json_chunks import GZIP_MAGIC
from chakrasim.converters.pytorch.read.json_values import BIG, MINUS, Table
from chakrasim.converters.pytorch.read.kineto import KERNEL
from chakrasim.traces.shared import jit

FROM_BYTES = 25_000_000
"""Text that is read by objects in the time that loading numba and scanning it take."""
FROM_BYTES_LOADED = 2_000_000
_CHUNK_BYTES = 1_000_000
"""Unpacked at once: it fits the processor's cache."""
_PACKED_BYTES = 65_536
_MAX_EVENT_BYTES = 20_000_000
_ROWS = 8192
_MAX_NAMES, _MAX_KEYS = 65_536, 8192
_NAME_BYTES, _KEY_BYTES = 16_000_000, 400_000
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_LIST = re.compile(rb"\s*\[")
_OBJECT = re.compile(rb"\s*\{")


class _Unusual(Exception):
    """The file has to be read by objects."""


class Words(NamedTuple):
    """`scan.WORDS` as `scan` takes them."""

    text: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    by_hash: NDArray[np.int8]
    codes: NDArray[np.int64]


@cache
def words() -> Words:
    """The words, by a hash that no two of them share."""
    encoded = [word.encode() for word in scan.WORDS]
    by_hash = np.full(256, -1, dtype=np.int8)
    for number, word in enumerate(encoded):
        place = (len(word) + 3 * word[0] + 9 * word[len(word) // 2] + word[-1]) % len(by_hash)
        assert by_hash[place] < 0, f"{word!r} needs another hash"
        by_hash[place] = number
    return Words(
        np.frombuffer(b"".join(encoded), dtype=np.uint8),
        np.cumsum([0, *map(len, encoded)]),
        by_hash,
        np.array(scan.CODES),
    )


@cache
def compiled() -> Callable[..., int]:
    """`scan.scan` compiled by numba."""
    for module in (json_text, json_values):
        for name in module.HELPERS:  # as compiled functions call them
            function = jit.compiled(getattr(module, name))
            for user in (json_text, json_values, scan):
                setattr(user, name, function)
    loop = jit.compiled(scan.scan, calls=(json_text, json_values))
    jit.announce(loop, "the reading of traces")
    return lambda text, *rest: loop(np.frombuffer(text, dtype=np.uint8), *rest)


def pays(paths: Iterable[Path]) -> bool:
    """Tell whether scanning files saves more time than loading numba takes."""
    threshold = FROM_BYTES_LOADED if jit.is_loaded() else FROM_BYTES
    return not jit.is_off() and sum(map(_text_bytes, paths)) >= threshold


def _text_bytes(path: Path) -> int:
    """Unpacked size of a file, from its last bytes if it is gzipped; 0 if it can't be read."""
    try:
        with path.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                return path.stat().st_size
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
    except OSError:
        return 0


def scan_file(path: Path, collected: EventColumns) -> dict[str, Any] | None:
    """Collect a file's events and return everything but them; None for what has to be read by objects.

    Then `collected` is of no more use. O(bytes), and no more memory than the columns take.
    """
    run = _Scan(collected, compiled())
    try:
        return run.read(_ahead(_chunks(path)))
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError, UnicodeDecodeError, TypeError, _Unusual):
        return None


def _ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, each unpacked while the one before it is scanned."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, b"")
        while chunk := coming.result():
            coming = pool.submit(next, chunks, b"")
            yield chunk


def _chunks(path: Path) -> Iterator[bytes]:
    """A file's text, unpacked chunk by chunk."""
    with path.open("rb") as file:
        packed = file.read(_PACKED_BYTES)
        if not packed.startswith(GZIP_MAGIC):
            yield packed
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            return
        unpacker = zlib.decompressobj(wbits=31)
        while packed:
            if unpacker.eof:
                raise EOFError  # several streams
            if chunk := unpacker.decompress(packed, _CHUNK_BYTES):
                yield chunk
            packed = unpacker.unconsumed_tail or file.read(_PACKED_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise EOFError


class _Scan:
    """One file's scan."""

    def __init__(self, collected: EventColumns, scan_text: Callable[..., int]) -> None:
        self.collected = collected
        self.scan_text = scan_text
        self.names: list[int] = []
        """By number in the text, each name's number in `collected`; the same of threads and streams."""
        self.describes = np.zeros(0, dtype=np.bool_)
        self.is_ccl = np.zeros(0, dtype=np.bool_)
        self.threads: list[int] = []
        self.streams: list[int] = []
        self.state = scan.State(
            counts=np.zeros(6, dtype=np.int64),
            flags=np.zeros(5, dtype=np.int64),
            numbers=np.zeros(3, dtype=np.int64),
            host=np.empty((_ROWS, 10), dtype=np.int64),
            device=np.empty((_ROWS, 10), dtype=np.int64),
            notes=np.empty((_ROWS, 6), dtype=np.int64),
            flows=np.empty((_ROWS, 4), dtype=np.int64),
            records=np.empty((_ROWS, 2), dtype=np.int64),
            names=_table(_MAX_NAMES, _NAME_BYTES),
            threads=_table(_MAX_KEYS, _KEY_BYTES),
            streams=_table(_MAX_KEYS, _KEY_BYTES),
        )

    def read(self, chunks: Iterator[bytes]) -> dict[str, Any] | None:
        """Scan a text in chunks, of which the first holds the begin of the events' list."""
        first = b""
        while len(first) < _CHUNK_BYTES and (chunk := next(chunks, b"")):
            first += chunk
        opening = _LIST.match(first) or (_OBJECT.match(first) and _EVENTS.search(first))
        if not opening:
            return None
        head, text = first[: opening.end()], first[opening.end() :]
        while (status := self._take(text)) != scan.END:
            rest = text[int(self.state.counts[scan.POSITION]) :]
            chunk = next(chunks, b"")
            if status != scan.MORE or not chunk or len(rest) > _MAX_EVENT_BYTES:
                return None
            text = rest + chunk
        tail = b"".join((text[int(self.state.counts[scan.POSITION]) :], *chunks))
        if not self._is_certain() or _EVENTS.search(tail):
            return None
        document = orjson.loads(head + tail)
        if isinstance(document, list):
            return {}
        return document if document.pop("traceEvents", None) == [] else None

    def _take(self, text: bytes) -> int:
        """Collect the events that are complete, and return why that ended."""
        counts = self.state.counts
        at, status = 0, scan.FULL
        while status == scan.FULL:
            counts[: scan.POSITION] = 0
            status = self.scan_text(text, at, *words(), self.state)
            at = int(counts[scan.POSITION])
            if status != scan.UNUSUAL:
                self._collect(text)
        if not text.isascii():
            text[:at].decode()
        return status

    def _is_certain(self) -> bool:
        """Tell whether there are events, and columns hold only numbers that mean the same beside any others.

        By objects, an unsigned -1 of 32 bits is absent where one of 64 bits stands beside it.
        """
        collected = self.collected
        return (
            bool((self.state.flags != BIG | MINUS).all()) and collected.host.done + collected.device.done > 0
        )

    def _collect(self, text: bytes) -> None:
        """Move what is in the tables to `collected`."""
        state, collected = self.state, self.collected
        hosts, devices, notes, flows, records = state.counts[: scan.POSITION].tolist()
        self._decode()
        names, threads = np.array(self.names), np.array(self.threads)
        host = state.host[:hosts].T.copy()
        if hosts:
            start, end, thread, name, is_call, *numbers, first, last = host
            for row in np.flatnonzero((is_call == 0) & self.describes[name]).tolist():
                collected.host_arguments[collected.host.done + row] = _arguments(text, first[row], last[row])
            collected.host.add((start, end, threads[thread], names[name], is_call, *numbers))
        device = state.device[:devices].T.copy()
        if devices:
            start, end, kind, name, stream, *numbers, first, last, is_collective = device
            is_told = (kind == KERNEL) & ((is_collective > 0) | self.is_ccl[name])
            for row in np.flatnonzero(is_told).tolist():
                found = _arguments(text, first[row], last[row])
                collected.device_arguments[collected.device.done + row] = found
            streams = np.array(self.streams)
            collected.device.add((start, end, kind, names[name], streams[stream], *numbers))
        if notes:
            start, end, thread, name, first, last = state.notes[:notes].T.copy()
            describes = self.describes[name].tolist()
            for row in range(notes):
                found = _arguments(text, first[row], last[row]) if describes[row] else {}
                collected.note_arguments.append(found)
            collected.notes.add((start, end, threads[thread], names[name]))
        if flows:
            start, thread, number, is_end = state.flows[:flows].T.copy()
            collected.flows.add((start, start, threads[thread], number, is_end))
        for first, last in state.records[:records].tolist():
            collected.add_record(orjson.loads(text[first:last]))

    def _decode(self) -> None:
        """Number what is new in the tables of strings."""
        state, collected = self.state, self.collected
        names, threads, streams = state.numbers.tolist()
        facts = []
        for raw, _, _ in _strings(state.names, len(self.names), names):
            name = orjson.loads(b'"' + raw + b'"')
            known = collected.names.get(name) or collected.know(name)
            if known[2] != raw.startswith(STEP.encode()):
                raise _Unusual  # escapes in it
            facts.append(known)
        self.names += [number for number, _, _, _ in facts]
        self.describes = np.append(self.describes, [describes for _, describes, _, _ in facts]) > 0
        self.is_ccl = np.append(self.is_ccl, [is_ccl for _, _, _, is_ccl in facts]) > 0
        for process, thread, _ in _strings(state.threads, len(self.threads), threads):
            key = (_value(process), _value(thread))
            self.threads.append(collected.threads.setdefault(key, len(collected.threads)))
        for device, stream, is_thread in _strings(state.streams, len(self.streams), streams):
            number = _value(stream, 0 if is_thread else None)
            if is_thread:
                number = str(number).removeprefix("stream ")
            self.streams.append(collected.stream(_value(device), number))


def _table(maximum: int, size_bytes: int) -> Table:
    slots = np.full(2 * maximum, -1, dtype=np.int32)
    return Table(np.empty(size_bytes, dtype=np.uint8), np.zeros((maximum, 4), dtype=np.int64), slots)


def _strings(table: Table, begin: int, end: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Both parts and the tag of a table's strings, by number."""
    for first, middle, last, tag in table.bounds[begin:end].tolist():
        yield table.pool[first:middle].tobytes(), table.pool[middle:last].tobytes(), tag


def _value(text: bytes, absent: Any = None) -> Any:
    return orjson.loads(text) if text else absent


def _arguments(text: bytes, begin: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(text[begin:end]) if end else {}
    return found
