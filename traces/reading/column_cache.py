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
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from platformdirs import user_cache_path

VARIABLE = "CHAKRASIM_CACHE"
FORMAT = b"chakrasim columns 4\n"
"""At the beginning of every entry; another number where what is parsed, or how it is kept, changes."""
SUFFIX = ".columns"
MAX_BYTES = 2_000_000_000
"""Maximum size of all entries; the least recently used go first."""
ABANDONED_S = 3600
"""A temporary file this old belongs to a process that was killed."""
_DIGEST_BYTES = 16
_LENGTH_BYTES = 8
_used: dict[Path, int] = {}
"""Bytes of all entries of a folder when it was last looked at, and those written since."""


@dataclass(frozen=True)
class Columns:
    """Arrays of one dimension, and lists of strings."""

    arrays: dict[str, NDArray[Any]]
    texts: dict[str, list[str]]


def folder() -> Path | None:
    """Folder of the entries; None where the cache is off."""
    stated = os.environ.get(VARIABLE)
    if stated == "off":
        return None
    if stated:
        return Path(stated)
    base = user_cache_path("chakrasim", appauthor=False)
    # Without a home a "~" stays in it.
    return base / "columns" if base.is_absolute() else None


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Nothing is taken from the cache or put there."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def key(digest: bytes, *facts: int) -> str:
    """The name of the entry for bytes with this digest, and for whatever else their columns depend on."""
    stated = repr((FORMAT, sys.byteorder, digest, *facts)).encode()
    return hashlib.blake2b(stated, digest_size=20).hexdigest()


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
    digest = hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
    if not content.startswith(FORMAT) or digest != content[-_DIGEST_BYTES:]:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    begin = len(FORMAT) + _LENGTH_BYTES
    length = int.from_bytes(content[len(FORMAT) : begin], "little")
    header = orjson.loads(body[begin : begin + length])
    if header["name"] != name:
        return None  # somebody renamed it
    position = begin + length
    arrays = {}
    for column, dtype, n, kept in header["arrays"]:
        position += -position % 8
        array = np.frombuffer(content, dtype=dtype, count=kept, offset=position)
        position += array.nbytes
        arrays[column] = array if kept == n else np.full(n, array[0])
    return Columns(arrays, header["texts"])


def store(name: str, columns: Columns) -> None:
    """Keep an entry if that is possible. O(bytes)."""
    where = folder()
    if where is None:
        return
    # Many columns say the same of all nodes, for example that nothing is known.
    kept = {column: array[:1] if _is_one_value(array) else array for column, array in columns.arrays.items()}
    header = orjson.dumps(
        {
            "name": name,
            "arrays": [
                [column, array.dtype.str, len(array), len(kept[column])]
                for column, array in columns.arrays.items()
            ],
            "texts": columns.texts,
        }
    )
    parts: list[Any] = [FORMAT, len(header).to_bytes(_LENGTH_BYTES, "little"), header]
    size = sum(map(len, parts))
    for array in kept.values():
        parts += [bytes(-size % 8), np.ascontiguousarray(array).view(np.uint8)]
        size += -size % 8 + array.nbytes
    if size > MAX_BYTES:
        return
    try:
        where.mkdir(parents=True, exist_ok=True)
        # One look a process, unless it fills the cache itself.
        if _used.get(where, MAX_BYTES) + size > MAX_BYTES:
            _used[where] = _make_room(where, size)
        _used[where] += size
        _write(where, f"{name}{SUFFIX}", parts)
    except OSError:
        return


def _is_one_value(array: NDArray[Any]) -> bool:
    return len(array) > 1 and array[0] == array[-1] and bool((array == array[0]).all())


def _write(where: Path, name: str, parts: Sequence[Any]) -> None:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    descriptor, temporary = tempfile.mkstemp(dir=where, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
        os.replace(temporary, where / name)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_room(where: Path, size: int) -> int:
    """Remove what was abandoned, and the entries longest not used, until so many bytes fit; what is left."""
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
        if total <= MAX_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= freed
    return total - size
