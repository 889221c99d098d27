"""Links between operators of a host execution trace and of the profiler's, and what only the former knows.

Both were recorded by the same callbacks. Where the profiler wrote record-function ids they are the same
numbers; before PyTorch 2.4 it wrote none, and the operators of a thread are aligned in the order in which
they ran, in the host trace by `rf_id`, in the profiler's by `External id`. Either way names tell whether it
is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chakrasim.converters.pytorch.host_traces.host_trace import HostTrace
from chakrasim.converters.pytorch.read.kineto import Ints, Recording
from chakrasim.traces.errors import TraceError

MIN_SHARE = 0.8
"""Two traces of one run agree nearly everywhere: by order all 5,337 operators of a Megatron step do. Of two
runs of one program that differ in length less than this part stands in both."""
_MAX_SKIPPED = 64
"""Operators on one side only that are skipped at most to find the next in common: O(64²) a mismatch."""
_MIN_RUN = 3
"""Names that have to agree in a row after a skip, as single ones (`aten::to`) repeat everywhere."""

_KEYS = {
    "collective_name": "Collective name",
    "dtype": "dtype",
    "in_msg_nelems": "In msg nelems",
    "out_msg_nelems": "Out msg nelems",
    "in_split_size": "In split size",
    "out_split_size": "Out split size",
    "global_rank_start": "Global rank start",
    "global_rank_stride": "Global rank stride",
    "pg_name": "Process Group Name",
    "pg_desc": "Process Group Description",
    "pg_size": "Group size",
}
"""Attributes of the host trace (schema 1.1.0) by the profiler's names."""


@dataclass(frozen=True)
class Link:
    """Operators that both traces have."""

    rows: Ints
    """int64[host events]: row in the host trace, -1 for none."""
    share: float
    """Operators in both, under one name, of those in either."""
    by: str
    """"record-function id" or "order"."""
    operators: int
    """Operators of the profiler's trace."""

    @property
    def count(self) -> int:
        """Operators that were linked."""
        return int((self.rows >= 0).sum())


def link_host_trace(recording: Recording, trace: HostTrace) -> Link:
    """Link two traces of one rank. O(n log n).

    Raises TraceError if less than `MIN_SHARE` of their operators are the same ones: they are of two runs.
    """
    host = recording.host
    is_operator = ~host.is_call
    if (host.function_id[is_operator] >= 0).any():
        link = _by_id(recording, trace)
        what = "operators that share a record-function id have the same name"
    else:
        link = _by_order(recording, trace)
        what = "operators are the same on both sides"
    if link.share < MIN_SHARE:
        raise TraceError(
            f"{trace.source}: doesn't belong to {recording.source}: {100 * link.share:.0f} % of their "
            f"{what}, {100 * MIN_SHARE:.0f} % have to; to go without it, take the host trace away"
        )
    return link


def _by_id(recording: Recording, trace: HostTrace) -> Link:
    host, names = recording.host, recording.names
    row_of_id = {number: row for row, number in enumerate(trace.rf_id.tolist()) if number > 0}
    rows = np.full(len(host), -1, dtype=np.int64)
    found = 0
    for event in np.flatnonzero(~host.is_call & (host.function_id >= 0)).tolist():
        row = row_of_id.get(int(host.function_id[event]), -1)
        if row < 0:
            continue
        found += 1
        if names[host.name_id[event]] == trace.names[row]:
            rows[event] = row
    share = int((rows >= 0).sum()) / found if found else 0.0
    return Link(rows, share, "record-function id", int((~host.is_call).sum()))


def _by_order(recording: Recording, trace: HostTrace) -> Link:
    """Each thread of the profiler with the thread of the host trace that it agrees with best."""
    host, names = recording.host, recording.names
    rows = np.full(len(host), -1, dtype=np.int64)
    operators = np.flatnonzero(~host.is_call)
    theirs = {}
    for thread in np.unique(host.thread[operators]).tolist():
        own = operators[host.thread[operators] == thread]
        theirs[thread] = own[np.lexsort((host.start_ns[own], host.external_id[own]))]
    known = {names[k] for k in np.unique(host.name_id[operators]).tolist()}
    # annotations are operators of the host trace; what the profiler never calls one is left out
    is_named = np.array([name in known for name in trace.names], dtype=np.bool_)
    ours = {}
    for thread in np.unique(trace.tid).tolist():
        own = np.flatnonzero((trace.tid == thread) & is_named)
        ours[thread] = own[np.argsort(trace.rf_id[own], kind="stable")]
    total = max(len(operators), int(is_named.sum()))
    matched = 0
    for events in sorted(theirs.values(), key=len, reverse=True):
        event_names = [names[k] for k in host.name_id[events].tolist()]
        best: list[tuple[int, int]] = []
        taken = -1
        for thread, own in ours.items():
            pairs = align(event_names, [trace.names[row] for row in own.tolist()])
            if len(pairs) > len(best):
                best, taken = pairs, thread
        for event, row in best:
            rows[events[event]] = ours[taken][row]
        matched += len(best)
        ours.pop(taken, None)
    return Link(rows, matched / total if total else 0.0, "order", len(operators))


def align(first: list[str], second: list[str]) -> list[tuple[int, int]]:
    """Pairs of positions with equal names, both ascending; what only one side has is skipped.

    Where the sides part, the nearest place at which some names in a row agree again is taken. O(n) while they
    agree, O(`_MAX_SKIPPED`^2) where they part.

    >>> align(["a", "b", "c", "d"], ["b", "c", "d", "e"])
    [(1, 0), (2, 1), (3, 2)]
    """
    pairs = []
    i = j = 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
            continue
        skip = _resume(first, second, i, j)
        if skip is None:
            i, j = i + 1, j + 1
        else:
            i, j = i + skip[0], j + skip[1]
    return pairs


def _resume(first: list[str], second: list[str], i: int, j: int) -> tuple[int, int] | None:
    """Shortest skip on both sides after which the names agree again."""
    for total in range(1, _MAX_SKIPPED):
        for a in range(total + 1):
            b = total - a
            run = min(_MIN_RUN, len(first) - i - a, len(second) - j - b)
            if run > 0 and first[i + a : i + a + run] == second[j + b : j + b + run]:
                return a, b
    return None


def enrich(recording: Recording, trace: HostTrace, link: Link) -> None:
    """Add what the host trace knows of operators that describe communication to the recording's arguments.

    What the profiler recorded itself stays.
    """
    for event, arguments in recording.host.arguments.items():
        row = int(link.rows[event])
        if row < 0:
            continue
        told = arguments_of(trace, row)
        told.update(arguments)
        recording.host.arguments[event] = told


def arguments_of(trace: HostTrace, row: int) -> dict[str, Any]:
    """A node's inputs and attributes as the profiler would write them."""
    inputs = trace.inputs(row)
    found: dict[str, Any] = {}
    if inputs.types:
        found["Input Dims"] = list(inputs.shapes)
        found["Input type"] = [plain_type(str(kind)) for kind in inputs.types]
        found["Concrete Inputs"] = list(inputs.values)
    attributes = trace.attributes(row)
    found.update({ours: attributes[key] for key, ours in _KEYS.items() if key in attributes})
    return found


def plain_type(recorded: str) -> str:
    """A type as the profiler writes it.

    >>> plain_type("Tensor(c10::Half)"), plain_type("GenericList[Tensor(float)]"), plain_type("Int")
    ('c10::Half', 'GenericList[Tensor(float)]', 'Int')
    """
    return recorded[7:-1] if recorded.startswith("Tensor(") else recorded
