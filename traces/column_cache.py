"""Columns of large trace files, kept in the user's cache folder so that they are parsed once.

An entry is named by a digest of the file's bytes and of all else that the columns depend on, so a changed
file is another entry. It ends in a digest of itself: one that was cut, or damaged, or written by something
else is never used. Entries appear under their names only when they are complete, and whatever goes wrong with
the cache costs time, nothing else. `CHAKRASIM_CACHE` names another folder, or is `off`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

VARIABLE = "CHAKRASIM_CACHE"
FORMAT = b"chakrasim columns 1\n"
"""At the beginning of every entry; another number where what is parsed, or how it is kept, changes."""
SUFFIX = ".columns"
MOST_BYTES = 2_000_000_000
"""Of all entries; the ones not used for longest go first."""
ABANDONED_S = 3600
"""A temporary file this old belongs to a process that was killed."""
_DIGEST_BYTES = 16
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Columns:
    """Arrays of one dimension, and lists of strings."""

    arrays: dict[str, NDArray[Any]]
    texts: dict[str, list[str]]


def folder() -> Path | None:
    """Where entries are; None where the cache is off."""
    stated = os.environ.get(VARIABLE)
    if stated == "off":
        return None
    if stated:
        return Path(stated)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    return Path(base) / "chakrasim" / "columns"


def key(data: bytes, rank: int) -> str:
    """The name of the entry for a file with these bytes, read as that of a rank."""
    digest = hashlib.blake2b(FORMAT, digest_size=20)
    digest.update(b"%d %s\n" % (rank, (np.little_endian and b"<") or b">"))
    digest.update(data)
    return digest.hexdigest()


def load(name: str) -> Columns | None:
    """An entry, or None where there is none that is whole. O(bytes)."""
    where = folder()
    if where is None:
        return None
    path = where / f"{name}{SUFFIX}"
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body = memoryview(content)[:-_DIGEST_BYTES]
    if not content.startswith(FORMAT) or _digest(body) != content[-_DIGEST_BYTES:]:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    begin = len(FORMAT) + _LENGTH_BYTES
    length = int.from_bytes(content[len(FORMAT) : begin], "little")
    header = orjson.loads(body[begin : begin + length])
    position = begin + length
    arrays = {}
    for column, dtype, count in header["arrays"]:
        position += -position % 8
        arrays[column] = np.frombuffer(content, dtype=dtype, count=count, offset=position)
        position += arrays[column].nbytes
    return Columns(arrays, header["texts"])


def store(name: str, columns: Columns) -> None:
    """Keep an entry if that is possible. O(bytes)."""
    where = folder()
    if where is None:
        return
    header = orjson.dumps(
        {
            "arrays": [[column, array.dtype.str, len(array)] for column, array in columns.arrays.items()],
            "texts": columns.texts,
        }
    )
    content = bytearray(FORMAT)
    content += len(header).to_bytes(_LENGTH_BYTES, "little")
    content += header
    for array in columns.arrays.values():
        content += bytes(-len(content) % 8)
        content += np.ascontiguousarray(array).data.cast("B") if len(array) else b""
    content += _digest(content)
    try:
        where.mkdir(parents=True, exist_ok=True)
        _make_room(where, len(content))
        _write(where, f"{name}{SUFFIX}", content)
    except OSError:
        return


def _digest(content: bytearray | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _write(where: Path, name: str, content: bytearray) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=where, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, where / name)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_room(where: Path, size: int) -> None:
    """Remove what was abandoned, and the entries longest not used, until so many bytes fit."""
    entries = []
    with os.scandir(where) as files:
        for file in files:
            with contextlib.suppress(OSError):
                status = file.stat()
                if file.name.endswith(SUFFIX):
                    entries.append((status.st_mtime, status.st_size, file.path))
                elif file.name.endswith(".part") and time.time() - status.st_mtime > ABANDONED_S:
                    os.unlink(file.path)
    total = sum(entry[1] for entry in entries) + size
    for _, freed, path in sorted(entries):
        if total <= MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= freed
