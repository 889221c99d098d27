"""Every algorithm of the registry does what its collective promises: its steps, replayed block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.double_binary_tree import steps as tree_steps
from chakrasim.replay.collectives.algorithms.steps import ROOTED, Algorithm, Pairs, Step
from chakrasim.replay.machine.algorithm_names import is_algorithm
from chakrasim.replay.plugins import ALGORITHMS
from chakrasim.replay.testing.algorithms import (
    BLOCK_BYTES,
    AlgorithmContract,
    buffers_before,
    buffers_promised,
    replay_blocks,
)
from chakrasim.traces.errors import UnknownName
from chakrasim.traces.graph import CommKind

ALL_REDUCE = CommKind.ALL_REDUCE


@pytest.fixture(params=[*ALGORITHMS.names(), "direct:3", "direct:1", "one-ring"])
def found(request: pytest.FixtureRequest) -> Algorithm:
    return algorithm(request.param)


class TestEveryAlgorithm(AlgorithmContract):
    @pytest.fixture(autouse=True)
    def _registered(self, found: Algorithm) -> None:
        self.algorithm = found


def star_steps(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
    """Everyone sends its block to place 0, which then sends all of them to each."""
    others, root = np.arange(1, n), np.zeros(n - 1, dtype=np.int64)
    yield Step(Pairs(others, root), size_bytes, lambda _: others[:, None])
    yield Step(Pairs(root, others), size_bytes * n, lambda _: np.tile(np.arange(n), (n - 1, 1)))


class TestOneOfAnotherPackage(AlgorithmContract):
    """An algorithm in which members do different things, and that isn't installed."""

    algorithm = Algorithm(
        "star", star_steps, frozenset((CommKind.ALL_GATHER,)), summary="by way of one", source="made up"
    )


class TestTheContract:
    def test_a_block_that_goes_astray_is_found(self) -> None:
        def astray(kind: CommKind, n: int, size_bytes: int) -> Iterator[Step]:
            yield from list(star_steps(kind, n, size_bytes))[:-1]

        broken = AlgorithmContract()
        broken.algorithm = replace(TestOneOfAnotherPackage.algorithm, steps=astray)
        with pytest.raises(AssertionError, match="all-gather"):
            broken.test_every_block_is_where_it_belongs()


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_the_other_tree_does_so_too(n: int) -> None:
    steps = tree_steps(ALL_REDUCE, n, n * BLOCK_BYTES, is_first_root=True)
    after = replay_blocks(steps, buffers_before(ALL_REDUCE, n), BLOCK_BYTES)
    assert after == buffers_promised(ALL_REDUCE, n)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_who_is_inside_one_tree_is_a_leaf_of_the_other(n: int) -> None:
    insides = []
    for is_first_root in (False, True):
        steps = list(tree_steps(ALL_REDUCE, n, n, is_first_root=is_first_root))
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


def test_bruck_takes_a_step_for_each_power_of_two() -> None:
    for n, rounds in ((2, 1), (5, 3), (8, 3), (9, 4)):
        for kind in algorithm("bruck").kinds:
            assert len(list(algorithm("bruck").steps(kind, n, n))) == rounds


def test_ring_and_direct_run_everything() -> None:
    for name in ("ring", "direct"):
        assert algorithm(name).kinds >= ROOTED | {CommKind.BARRIER, CommKind.ALL_TO_ALL}


def test_names_of_the_registry() -> None:
    assert algorithm("direct:3").window == 3
    assert algorithm("one-halving-doubling").is_flat
    assert is_algorithm("one-direct:4")
    assert not is_algorithm("ring:2")
    assert not is_algorithm("direct:0")
    with pytest.raises(UnknownName, match="did you mean 'ring'"):
        algorithm("rong")


def test_halving_doubling_has_no_all_to_all() -> None:
    why = algorithm("halving-doubling").refusal(CommKind.ALL_TO_ALL, 4)
    assert why == "halving-doubling can't run all-to-all"
