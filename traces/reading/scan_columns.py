"""Runs `proto_scan.py` over a file's bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chakrasim.traces.reading import proto_scan as wire
from chakrasim.traces.reading.proto_scan import ABSENT, INTEGERS, KNOWN, WORDS
from chakrasim.traces.shared import jit
from chakrasim.traces.shared.string_table import intern


class Nodes(NamedTuple):
    """Columns of n nodes in the order of the file, e edges and a further attributes."""

    ids: NDArray[np.uint64]
    starts: NDArray[np.int64]
    """Offset of the node's record."""
    ends: NDArray[np.int64]
    kinds: NDArray[np.int8]
    is_cpu: NDArray[np.bool_]
    peers: NDArray[np.int32]
    involved_dims: NDArray[np.int64]
    integers: NDArray[np.int64]
    """[8, n]: `INTEGERS`."""
    word_starts: NDArray[np.int64]
    """[5, n]: where the name and the `WORDS` begin in the data; -1 where there is none."""
    word_sizes: NDArray[np.int64]
    children: NDArray[np.int64]
    """[e]: positions in the file."""
    parents: NDArray[np.uint64]
    """[e]: ids."""
    is_control: NDArray[np.bool_]
    more_nodes: NDArray[np.int64]
    """[a]: positions of the nodes that have the attributes."""
    more_starts: NDArray[np.int64]
    """[a]: where their names begin."""
    more_sizes: NDArray[np.int64]
    more_values: NDArray[np.int64]
    more_is_whole: NDArray[np.bool_]
    """[a]: whether it is a whole number, and the value means anything."""


class Compiled(NamedTuple):
    """Compiled functions that read columns and number strings."""

    size: Callable[..., tuple[int, int, int]]
    fill: Callable[..., int]
    intern: Callable[..., tuple[int, int]]


@cache
def compiled() -> Compiled | None:
    """Functions compiled by numba; None where compiling is turned off."""
    if jit.is_off():
        return None
    for name in wire.HELPERS:  # as compiled functions call them
        setattr(wire, name, jit.compiled(getattr(wire, name), is_inlined=name in wire.INLINED))
    functions = Compiled(jit.compiled(wire.count), jit.compiled(wire.fill), jit.compiled(intern))
    jit.announce(functions.fill, "the reading of graphs")
    return functions


def read_columns(data: bytes, begin: int, rank: int, *, wants_more: bool) -> Nodes | None:
    """The columns of the nodes from byte `begin` on, or None for what isn't handled here. O(bytes).

    `rank` is the one whose file it is; with `wants_more`, attributes that have no column are collected,
    too.
    """
    functions = compiled()
    if functions is None:
        return None
    view = np.frombuffer(data, dtype=np.uint8)
    n, edges, attributes = functions.size(view, begin)
    if n <= 0:
        return None
    more = attributes if wants_more else 0
    integers = np.empty((len(INTEGERS), n), dtype=np.int64)
    integers[:] = np.array(ABSENT)[:, None]
    nodes = Nodes(
        ids=np.zeros(n, dtype=np.uint64),
        starts=np.empty(n, dtype=np.int64),
        ends=np.empty(n, dtype=np.int64),
        kinds=np.zeros(n, dtype=np.int8),
        is_cpu=np.zeros(n, dtype=np.bool_),
        peers=np.full(n, -1, dtype=np.int32),
        involved_dims=np.full(n, -1, dtype=np.int64),
        integers=integers,
        word_starts=np.full((1 + len(WORDS), n), -1, dtype=np.int64),
        word_sizes=np.zeros((1 + len(WORDS), n), dtype=np.int64),
        children=np.empty(edges, dtype=np.int64),
        parents=np.empty(edges, dtype=np.uint64),
        is_control=np.empty(edges, dtype=np.bool_),
        more_nodes=np.empty(more, dtype=np.int64),
        more_starts=np.empty(more, dtype=np.int64),
        more_sizes=np.empty(more, dtype=np.int64),
        more_values=np.empty(more, dtype=np.int64),
        more_is_whole=np.empty(more, dtype=np.bool_),
    )
    nodes.word_starts[0] = 0  # a node without a name has an empty one
    words = "".join(KNOWN).encode()
    offsets = np.cumsum([0, *map(len, KNOWN)])
    found = functions.fill(
        view, begin, rank, np.frombuffer(words, dtype=np.uint8), offsets, tuple(nodes), wants_more
    )
    if found < 0:
        return None
    return nodes._replace(
        more_nodes=nodes.more_nodes[:found],
        more_starts=nodes.more_starts[:found],
        more_sizes=nodes.more_sizes[:found],
        more_values=nodes.more_values[:found],
        more_is_whole=nodes.more_is_whole[:found],
    )


def strings(
    data: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """int64[k]: the number of each string, -1 where it begins at -1; and the strings in order of first use.

    O(bytes). Raises UnicodeDecodeError for what isn't UTF-8.
    """
    functions = compiled()
    assert functions is not None, "columns were read before"
    numbers, firsts = np.empty(len(starts), dtype=np.int64), np.empty(len(starts), dtype=np.int64)
    table = np.full(1 << int(2 * len(starts) + 1).bit_length(), -1, dtype=np.int64)
    text = np.empty(sizes.sum() + len(sizes), dtype=np.uint8)
    view = np.frombuffer(data, dtype=np.uint8)
    found, end = functions.intern(view, starts, sizes, table, numbers, firsts, text)
    names = text[:end].tobytes().decode().split("\0")[:-1]
    if len(names) == found:
        return numbers, names
    chosen = firsts[:found]  # some have a zero byte in them
    bounds = zip(starts[chosen].tolist(), (starts + sizes)[chosen].tolist(), strict=True)
    return numbers, [data[begin:end].decode() for begin, end in bounds]
