"""A graph on the operating table: one rank's own copy of its records, and what was done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import split_records
from chakrasim.traces.graph import ExecutionGraph
from chakrasim.traces.reading.decode import attribute_value, graph_from_messages
from chakrasim.traces.reading.records import Framed
from chakrasim.traces.writing.encode import encode_graph

FIRST_SHOWN = 5
"""Changes of one kind that a `Mend` keeps; the others are only counted."""


@dataclass(frozen=True)
class Change:
    """One thing that was wrong, with how it reads before and after; an `after` of None was left as it is."""

    kind: str
    """A key of `MENDS` in `chakrasim.traces.doctor`."""
    node_id: int | None
    """None where it isn't one node's."""
    name: str
    before: str
    after: str | None
    why: str = ""
    """Evidence that makes the change certain, or the reason why it could not be made."""


@dataclass(frozen=True)
class Mend:
    """All changes of one rank that are of one kind and have one reason."""

    rank: int
    kind: str
    why: str
    count: int
    is_mended: bool
    """False where it is only reported: the trace does not say what would be right."""
    first: tuple[Change, ...]
    """The first few, in the order of the file."""


@dataclass
class Draft:
    """One rank's messages, which mends change in place. Nothing else holds them."""

    rank: int
    source: str
    metadata: Any
    nodes: list[Any]
    mends: dict[tuple[str, str, bool], tuple[int, list[Change]]] = field(default_factory=dict)
    is_changed: bool = False
    _graph: ExecutionGraph | None = None

    @classmethod
    def of(cls, graph: ExecutionGraph, source: str) -> Draft:
        """A copy of a graph's records; of a graph that wasn't read from a file, what would be written."""
        data = encode_graph(graph) if graph.records is None else graph.records()
        (start, end), *spans = split_records(data)
        metadata = schema.GlobalMetadata.FromString(data[start:end])
        nodes = [schema.Node.FromString(data[start:end]) for start, end in spans]
        return cls(graph.rank, source, metadata, nodes)

    def apply(self, mend: Callable[[Draft], Iterator[Change]]) -> None:
        """Run one mend to its end and book its changes."""
        self.book(mend(self))

    def book(self, changes: Iterable[Change]) -> None:
        """Count changes, and forget the columns that they made stale."""
        for change in changes:
            is_mended = change.after is not None
            if is_mended:
                self.is_changed, self._graph = True, None
            count, first = self.mends.get((change.kind, change.why, is_mended), (0, []))
            if len(first) < FIRST_SHOWN:
                first.append(change)
            self.mends[change.kind, change.why, is_mended] = count + 1, first

    def graph(self) -> ExecutionGraph:
        """The messages as columns, whatever is still wrong with them; decoded when they have changed."""
        if self._graph is None:
            metadata, nodes = self.metadata, self.nodes
            self._graph = graph_from_messages(
                self.rank,
                metadata,
                nodes,
                records=Framed((metadata, *nodes)),
            )
        return self._graph

    def nodes_by_row(self) -> list[Any]:
        """The messages in the order of the rows of `graph()`; ids must be unique."""
        return sorted(self.nodes, key=lambda node: node.id)

    def found(self) -> tuple[Mend, ...]:
        """Mends made and left, in the order in which they were found."""
        return tuple(
            Mend(self.rank, kind, why, count, is_mended, tuple(first))
            for (kind, why, is_mended), (count, first) in self.mends.items()
        )


def find_attribute(message: Any, name: str) -> Any:
    """The first AttributeProto of that name, or None."""
    for attr in message.attr:  # a plain loop: a generator takes twice as long, and this is the hottest place
        if attr.name == name:
            return attr
    return None


def value_of(message: Any, name: str) -> Any:
    """The value of an attribute; None where it is absent or empty."""
    attr = find_attribute(message, name)
    return None if attr is None else attribute_value(attr)


def set_attribute(message: Any, name: str, **value: Any) -> None:
    """Give an attribute a value, as in `int64_val=3`, whether it is there already or not."""
    attr = find_attribute(message, name)
    if attr is None:
        attr = message.attr.add(name=name)
    for field_name, content in value.items():
        setattr(attr, field_name, content)
