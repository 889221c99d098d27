"""Every algorithm of the registry does what its collective promises: its steps, replayed block by block."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from chakrasim.replay.collectives.algorithms.builtin import algorithm, double_binary_tree
from chakrasim.replay.collectives.algorithms.steps import Step
from chakrasim.replay.machine.algorithm_names import is_algorithm
from chakrasim.replay.plugins import ALGORITHMS
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind

Buffers = list[dict[int, frozenset[int]]]
"""For each member: block to the members whose data are in it."""

ALL_REDUCE, ALL_GATHER = CommKind.ALL_REDUCE, CommKind.ALL_GATHER
ALL_TO_ALL, REDUCE_SCATTER = CommKind.ALL_TO_ALL, CommKind.REDUCE_SCATTER
BLOCK_BYTES = 64
CASES = [
    (name, kind, n)
    for name in ALGORITHMS.names()
    for found in [algorithm(name)]
    for kind in found.kinds
    for n in (2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
    if not (found.needs_power_of_two and n & (n - 1))
]


def before(kind: CommKind, n: int) -> Buffers:
    """What members have when the collective starts."""
    if kind == ALL_TO_ALL:
        return [{me * n + to: frozenset([me]) for to in range(n)} for me in range(n)]
    if kind == ALL_GATHER:
        return [{me: frozenset([me])} for me in range(n)]
    return [{block: frozenset([me]) for block in range(n)} for me in range(n)]


def promised(kind: CommKind, n: int) -> Buffers:
    """What they must have, at least, when it has ended."""
    everyone = frozenset(range(n))
    if kind == ALL_REDUCE:
        return [dict.fromkeys(range(n), everyone) for _ in range(n)]
    if kind == REDUCE_SCATTER:
        return [{me: everyone} for me in range(n)]
    if kind == ALL_GATHER:
        return [{block: frozenset([block]) for block in range(n)} for _ in range(n)]
    return [{from_ * n + me: frozenset([from_]) for from_ in range(n)} for me in range(n)]


def replayed(steps: Iterable[Step], buffers: Buffers, block_bytes: int) -> Buffers:
    """Send the blocks of each step, all of it at once, and add up or keep what comes."""
    for step in steps:
        for repetition in range(step.times):
            blocks = step.blocks(repetition)
            assert len(step.sources) == len(step.destinations) == len(blocks)
            assert step.size_bytes == blocks.shape[1] * block_bytes
            messages = zip(step.sources.tolist(), step.destinations.tolist(), blocks.tolist(), strict=True)
            came = [(to, b, buffers[from_][b]) for from_, to, sent in messages for b in sent]
            for to, block, data in came:
                if step.reduces:
                    have = buffers[to].get(block, frozenset())
                    assert not have & data, "something is added twice"
                    data = have | data
                buffers[to][block] = data
    return buffers


@pytest.mark.parametrize(("name", "kind", "n"), CASES)
def test_the_steps_of_an_algorithm_carry_out_its_collective(name: str, kind: CommKind, n: int) -> None:
    size_bytes = BLOCK_BYTES * (1 if kind == ALL_GATHER else n)
    after = replayed(algorithm(name).steps(kind, n, size_bytes), before(kind, n), BLOCK_BYTES)
    for have, must in zip(after, promised(kind, n), strict=True):
        assert {block: have[block] for block in must} == must


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_the_other_tree_does_so_too(n: int) -> None:
    steps = double_binary_tree(ALL_REDUCE, n, n * BLOCK_BYTES, is_min=True)
    after = replayed(steps, before(ALL_REDUCE, n), BLOCK_BYTES)
    assert after == promised(ALL_REDUCE, n)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_who_is_inside_one_tree_is_a_leaf_of_the_other(n: int) -> None:
    insides = []
    for is_min in (False, True):
        steps = list(double_binary_tree(ALL_REDUCE, n, n, is_min=is_min))
        inside = {int(to) for step in steps[: len(steps) // 2] for to in step.destinations}
        insides.append(inside)
    # But for the two roots, which have a single child each.
    assert insides[0] & insides[1] <= {0, n - 1}
    assert insides[0] | insides[1] == set(range(n))


def test_every_member_sends_as_many_bytes_as_the_best_algorithm_must() -> None:
    for name in ("ring", "halving-doubling", "direct"):
        steps = algorithm(name).steps(ALL_REDUCE, 8, 8 * BLOCK_BYTES)
        sent = sum(step.size_bytes * step.times for step in steps)
        assert sent == 2 * 7 * BLOCK_BYTES


def test_names_of_the_registry() -> None:
    assert algorithm("direct:3").window == 3
    assert algorithm("one-halving-doubling").is_flat
    assert is_algorithm("one-direct:4")
    assert not is_algorithm("ring:2")
    assert not is_algorithm("direct:0")
    with pytest.raises(UnknownName, match="did you mean 'ring'"):
        algorithm("rong")


def test_halving_doubling_has_no_all_to_all() -> None:
    with pytest.raises(ConfigError, match="expected ring or direct"):
        list(algorithm("halving-doubling").steps(ALL_TO_ALL, 4, 64))
