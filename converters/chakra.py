"""Chakra execution graphs as a trace format: `.et` files, plain or gzipped, and Chakra's JSON forms."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import TYPE_CHECKING

from chakrasim.converters.interface import ConvertContext, Option, TraceFormat

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

SUFFIXES = (".et", ".et.gz")
GROUPS, DROP_UNKNOWN = "groups", "drop-unknown-dependencies"
_JSON = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[{\]\"0-9-])")
"""Not only the bracket: a record of 123 or 91 bytes begins with one too."""
_JSON_GRAPH = re.compile(rb'"workload_graph"|"type"\s*:\s*"[A-Z_]+_NODE"')
_METADATA_FIELDS = (0x0A, 0x12)
"""First bytes of a GlobalMetadata message, by its schema: the tag of its version or of an attribute."""
_TEXT = bytes(range(32, 127)) + b"\t\r\n"
"""Bytes of plain text, of which a record has others."""


def _sniff(head: bytes, path: Path) -> bool:
    """A first record that is metadata, or a node in JSON; a file that is called so, whatever is in it."""
    if path.name.endswith(SUFFIXES):
        return True
    if _JSON.match(head.removeprefix(codecs.BOM_UTF8)):  # whose bytes are the size of a record, too
        return _JSON_GRAPH.search(head) is not None
    size_bytes = next((at for at, byte in enumerate(head[:5], 1) if byte < 128), 0)
    if not size_bytes or not head.translate(None, _TEXT):
        return False
    if head[0] == 0:  # metadata without a version
        return len(head) > 1
    return len(head) > size_bytes and head[size_bytes] in _METADATA_FIELDS


def _convert(path: Path, context: ConvertContext) -> Workload:
    from chakrasim.traces.workload_files import read_workload

    return read_workload(
        path,
        groups_file=context.options.get(GROUPS),
        groups=context.groups,
        partial=context.partial,
        drop_unknown_dependencies=context.options.get(DROP_UNKNOWN, False),
    )


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("expected yes or no")
    return text == "yes"


FORMAT = TraceFormat(
    name="chakra",
    suffixes=SUFFIXES,
    summary="Chakra graphs",
    sniff=_sniff,
    convert=_convert,
    options=(
        Option(GROUPS, 'A file of process groups: {"1": [0, 1]}.'),
        Option(DROP_UNKNOWN, "Ignore dependencies on nodes that are not in the trace.", _flag),
    ),
)
