"""Reading and writing one Chakra file: `.et`, `.et.gz`, or Chakra's JSON forms."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import FramingError, split_records
from chakrasim.traces.errors import TraceError
from chakrasim.traces.graph import ExecutionGraph, NodeKind
from chakrasim.traces.reading.decode import (
    GROUPS_OBSERVED,
    attributes_of,
    declared_groups,
    graph_from_messages,
)
from chakrasim.traces.reading.fast_decode import Source, graph_from_bytes, graph_from_cache, keep, source_of
from chakrasim.traces.reading.records import FileBytes, Framed, NodesAt
from chakrasim.traces.shared import jit
from chakrasim.traces.writing.encode import encode_graph

COMPILE_FROM_BYTES = 4_000_000
"""Minimum size of all files for compiling: below it numba's loading takes longer than protobuf's objects."""
WITH_NUMBA_FROM_BYTES = 100_000
"""Minimum size of one file for compiled reading where numba is loaded already."""
CACHE_FROM_BYTES = 100_000
"""Columns of smaller files aren't kept."""
GZIP_RATIO = 6
"""Usual compression ratio of graphs."""
GZIP_MAGIC = b"\x1f\x8b"
FEEDER_JSON = (
    "read from feeder JSON (workload_graph), MLCommons' form for its JSON feeder, which has no "
    "process groups, operations or tensors"
)
FEEDER_JSON_HEAD = 4096
"""Bytes at the beginning of a file in which that key is looked for."""
_JSON = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[{\]\"0-9-])")
"""Not only the bracket: a record of 123 or 91 bytes begins with one too."""
_RANK_IN_NAME = re.compile(r"\.(\d+)\.(?:et|json)(?:\.gz)?$")


def rank_in_name(path: Path) -> int | None:
    """The rank that a file name like `name.3.et` states, if it states one."""
    match = _RANK_IN_NAME.search(path.name)
    return int(match.group(1)) if match else None


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzipped, whatever its name says.

    Raises TraceError for a gzip stream that is cut or broken.
    """
    data = path.read_bytes()
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: the gzip stream is cut or broken ({error}); copy the file again") from None


def unpacked_bytes(files: Iterable[Path]) -> int:
    """About how much there is to read in some files; none of those that can't be looked at."""
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size * (GZIP_RATIO if file.suffix == ".gz" else 1)
    return total


def read_graph(
    path: str | os.PathLike[str],
    rank: int | None = None,
    *,
    drop_unknown_dependencies: bool = False,
    seen: dict[bytes, ExecutionGraph] | None = None,
    total_bytes: int = 0,
) -> ExecutionGraph:
    """Read one rank's graph. The rank comes from the argument, the file's name or its metadata, else 0.

    `seen` keeps graphs by a digest of their nodes: files that are alike but for their metadata share one
    graph's columns, and only the first of them is decoded. `total_bytes` are those of all files that are
    read, if there are more.

    The graph is not checked yet: see `chakrasim.traces.check`. Raises TraceError if the file isn't
    a Chakra file or ends too early, OSError if it can't be opened.
    """
    path = Path(path)
    data = read_bytes(path)
    if not data:
        raise TraceError(f"{path}: the file is empty; expected a Chakra execution graph")
    stated = rank if rank is not None else rank_in_name(path)
    if _JSON.match(data) or (path.name.endswith((".json", ".json.gz")) and not _looks_like(data)):
        return _from_json(data, path, stated, drop_unknown_dependencies)
    is_large = max(total_bytes, len(data)) >= COMPILE_FROM_BYTES
    if jit.is_loaded():
        is_large = len(data) >= WITH_NUMBA_FROM_BYTES
    is_kept = len(data) >= CACHE_FROM_BYTES
    digest = _nodes_digest(data) if seen is not None or is_kept or is_large else None
    if seen is not None and digest is not None and digest in seen:
        alike = _with_metadata_of(data, seen[digest], stated)
        if alike is not None:
            return alike
    source = None
    if digest is not None and (is_kept or is_large) and not _looks_like(data):
        source = source_of(data, stated, digest, drops_unknown=drop_unknown_dependencies)
    graph = None
    if source is not None:
        graph = graph_from_cache(source) or (graph_from_bytes(source) if is_large else None)
    if graph is None:
        graph = _from_records(data, path, stated, source, drop_unknown_dependencies)
    elif drop_unknown_dependencies:
        graph = replace(graph, records=None)
    return _remember(graph, digest, seen)


def _from_json(data: bytes, path: Path, rank: int | None, drops_unknown: bool) -> ExecutionGraph:
    from chakrasim.traces.reading.json_form import messages_from_json

    metadata, nodes = messages_from_json(data, str(path))
    if b'"workload_graph"' in data[:FEEDER_JSON_HEAD]:
        metadata.attr.add(name="notes").string_list.values.append(FEEDER_JSON)
    return graph_from_messages(
        _rank_of(metadata, nodes, path, rank),
        metadata,
        nodes,
        records=None if drops_unknown else Framed((metadata, *nodes)),
        drop_unknown_dependencies=drops_unknown,
    )


def _from_records(
    data: bytes, path: Path, rank: int | None, source: Source | None, drops_unknown: bool
) -> ExecutionGraph:
    """Decode by way of protobuf's objects, and keep the columns in the cache if there is a `source`."""
    metadata, nodes, spans = _parse_records(data, path)
    graph = graph_from_messages(
        _rank_of(metadata, nodes, path, rank),
        metadata,
        nodes,
        read_node=NodesAt(data, [start for start, _ in spans], [end - start for start, end in spans]),
        records=None if drops_unknown else FileBytes(data),
        drop_unknown_dependencies=drops_unknown,
    )
    if source is not None and not graph.defects:
        ids = np.fromiter((node.id for node in nodes), dtype=np.uint64, count=len(nodes))
        keep(source, graph, [spans[position] for position in np.argsort(ids, kind="stable").tolist()])
    return graph


def _rank_of(metadata: Any, nodes: Sequence[Any], path: Path, rank: int | None) -> int:
    """The stated rank, else the metadata's, else 0. Raises TraceError for a file without nodes."""
    if not nodes:
        raise TraceError(f"{path}: the file has no nodes, only metadata; a rank needs at least one")
    if rank is not None:
        return rank
    return int(next((a.int64_val for a in metadata.attr if a.name == "rank"), 0))


def _remember(
    graph: ExecutionGraph, digest: bytes | None, seen: dict[bytes, ExecutionGraph] | None
) -> ExecutionGraph:
    if seen is not None and digest is not None and _is_same_for_all_ranks(graph):
        seen[digest] = graph
    return graph


def _nodes_digest(data: bytes) -> bytes | None:
    """A digest of all records but the first; None where that one isn't whole."""
    try:
        _, end = next(split_records(data))
    except FramingError:
        return None  # told when the records are parsed
    return hashlib.blake2b(memoryview(data)[end:], digest_size=16).digest()


def _is_same_for_all_ranks(graph: ExecutionGraph) -> bool:
    """True if the nodes would be decoded the same way for another rank."""
    is_message = (graph.kinds == NodeKind.SEND) | (graph.kinds == NodeKind.RECV)
    declares_groups = any(GROUPS_OBSERVED in name for name in graph.names)
    return not (is_message.any() or graph.defects or declares_groups)


def _with_metadata_of(data: bytes, alike: ExecutionGraph, rank: int | None) -> ExecutionGraph | None:
    """The graph whose nodes are those of `alike` and whose metadata are the file's own; None where those
    can't be parsed."""
    start, end = next(split_records(data))
    try:
        message = schema.GlobalMetadata.FromString(data[start:end])
    except DecodeError:
        return None
    metadata = attributes_of(message) | {"version": message.version}
    if rank is None:
        rank = int(metadata.get("rank", 0))
    return replace(
        alike,
        rank=rank,
        groups=declared_groups(metadata, ()),
        metadata=metadata,
        records=FileBytes(data),
    )


def _parse_records(data: bytes, path: Path) -> tuple[Any, list[Any], list[tuple[int, int]]]:
    what = _looks_like(data)
    if what:
        raise TraceError(f"{path}: this is {what}, not a Chakra execution graph")
    try:
        spans = list(split_records(data))
    except FramingError as error:
        raise TraceError(f"{path}: {error}; the file is cut, or not a Chakra execution graph") from None
    number = 0
    try:
        start, end = spans[0]
        metadata = schema.GlobalMetadata.FromString(data[start:end])
        parse = schema.Node.FromString
        nodes = []
        for number, (start, end) in enumerate(spans[1:], 1):  # noqa: B007
            nodes.append(parse(data[start:end]))
    except DecodeError:
        what = f"node record {number}" if number else "the first record (GlobalMetadata)"
        raise TraceError(
            f"{path}: byte {start}: {what} can't be parsed; the file is damaged, or not a Chakra "
            "execution graph"
        ) from None
    return metadata, nodes, spans[1:]


def _looks_like(data: bytes) -> str | None:
    for magic, what in (
        (b"\x89PNG", "a PNG picture"),
        (b"PK\x03\x04", "a zip archive"),
        (b"%PDF", "a PDF document"),
        (b"\x7fELF", "a program"),
        (b"SQLite format 3", "an SQLite database"),
    ):
        if data.startswith(magic):
            return what
    return None


def write_graph(graph: ExecutionGraph, path: str | os.PathLike[str]) -> None:
    """Write a graph as `.et`, gzipped if the name ends in `.gz`.

    A graph that was read from an `.et` file is written with the bytes that were read, so nothing
    unknown to us is lost. The file appears under its name only when it is complete.
    """
    path = Path(path)
    data = encode_graph(graph) if graph.records is None else graph.records()
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    write_bytes_atomically(path, data)


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, then rename: never a half-written file.

    A link is followed, and what isn't a plain file (a device, a pipe) is written to as it is.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
