"""Records of a file, kept so that nothing that has no column is lost.

They are small objects instead of closures, so that a graph can be pickled. Its pickle carries the bytes of
the file once: attributes without a column are parsed from them, and an unchanged graph is written as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import frame_records


@dataclass(frozen=True, eq=False)
class FileBytes:
    """The content of a file, to be called."""

    data: bytes

    def __call__(self) -> bytes:
        """The bytes as they were read."""
        return self.data


@dataclass(frozen=True, eq=False)
class Framed:
    """The records of messages that were decoded from another form, to be called."""

    messages: tuple[Any, ...]

    def __call__(self) -> bytes:
        """The messages as a Chakra file holds them."""
        return frame_records(message.SerializeToString() for message in self.messages)


@dataclass(frozen=True, eq=False)
class NodesAt:
    """Node messages of a file by their places in it, to be called with a number."""

    data: bytes
    starts: Sequence[int]
    sizes: Sequence[int]

    def __call__(self, number: int) -> Any:
        """The message of that number, parsed."""
        start = int(self.starts[number])
        return schema.Node.FromString(self.data[start : start + int(self.sizes[number])])


@dataclass(frozen=True, eq=False)
class AttributesOf:
    """Attributes of a row, parsed from its message, to be called with the row."""

    read_node: Callable[[int], Any]
    parse: Callable[[Any], dict[str, Any]]
    positions: Sequence[int] | None = None
    """For each row its message's number; None where they are the same."""

    def __call__(self, row: int) -> dict[str, Any]:
        """Every attribute, also those that have a column."""
        return self.parse(self.read_node(row if self.positions is None else self.positions[row]))
