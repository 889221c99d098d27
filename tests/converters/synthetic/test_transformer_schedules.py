"""Pipeline schedules: their order, their bubbles and how many activations they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.converters.synthetic.transformer.layers.stages import split_layers
from chakrasim.converters.synthetic.transformer.plan.schedule import BACKWARD, FORWARD, WEIGHTS, Pass, passes

F, B, W = 1.0, 1.0, 1.0


def shown(order: list[Pass]) -> str:
    return " ".join(f"{'FBW'[one.kind]}{one.micro_batch}{'abcd'[one.chunk]}" for one in order)


def makespan(schedule: str, stages: int, micro_batches: int, chunks: int = 1) -> float:
    """When the last stage is through, if messages take no time. A whole backward pass takes B + W."""
    orders = [passes(schedule, stage, stages, micro_batches, chunks) for stage in range(stages)]
    splits = schedule == "zero-bubble"
    ended: dict[tuple[int, int, int], float] = {}
    free, position = [0.0] * stages, [0] * stages
    last = stages * chunks - 1
    while any(at < len(order) for at, order in zip(position, orders, strict=True)):
        before = list(position)
        for stage, order in enumerate(orders):
            while position[stage] < len(order):
                kind, micro_batch, chunk = order[position[stage]]
                part = chunk * stages + stage
                if kind == FORWARD:
                    needs = (FORWARD, micro_batch, part - 1) if part else None
                elif kind == BACKWARD:
                    needs = (BACKWARD, micro_batch, part + 1) if part < last else (FORWARD, micro_batch, part)
                else:
                    needs = (BACKWARD, micro_batch, part)
                if needs is not None and needs not in ended:
                    break
                begin = max(free[stage], ended.get(needs, 0.0) if needs else 0.0)
                takes = {FORWARD: F, BACKWARD: B if splits else B + W, WEIGHTS: W}[kind] / chunks
                ended[kind, micro_batch, part] = free[stage] = begin + takes
                position[stage] += 1
        assert position != before, "nobody can go on"
    return max(free)


def test_orders_by_hand() -> None:
    assert shown(passes("gpipe", 1, 2, 2)) == "F0a F1a B0a B1a"
    assert shown(passes("1f1b", 0, 4, 4)) == "F0a F1a F2a F3a B0a B1a B2a B3a"
    assert shown(passes("1f1b", 2, 4, 4)) == "F0a F1a B0a F2a B1a F3a B2a B3a"
    assert shown(passes("1f1b", 3, 4, 2)) == "F0a B0a F1a B1a"
    # figure 4 of Narayanan (2021): two micro-batches through the first chunk, then through the second
    assert shown(passes("1f1b", 1, 2, 2, 2)) == "F0a F1a F0b B0b F1b B1b B0a B1a"
    assert shown(passes("zero-bubble", 1, 2, 3)) == "F0a B0a F1a B1a W0a F2a B2a W1a W2a"


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 3), (2, 4), (4, 8), (8, 8), (4, 16)])
def test_bubbles_are_those_of_the_papers(stages: int, micro_batches: int) -> None:
    one = F + B + W
    # (p - 1) (f + b) for both (GPipe, PipeDream-Flush), a v-th of that interleaved (Narayanan 2021)
    assert makespan("gpipe", stages, micro_batches) == (micro_batches + stages - 1) * one
    assert makespan("1f1b", stages, micro_batches) == (micro_batches + stages - 1) * one
    for chunks in (2, 4):
        if stages > 1:
            interleaved = micro_batches * one + (stages - 1) * one / chunks
            assert makespan("1f1b", stages, micro_batches, chunks) == pytest.approx(interleaved)
    # (p - 1) (f + b - w) where f, b and w are alike and micro-batches as many as stages (Qi 2023, table 2)
    if micro_batches >= stages:
        assert makespan("zero-bubble", stages, micro_batches) == micro_batches * one + (stages - 1) * (
            F + B - W
        )


@given(
    stages=st.integers(1, 6),
    rounds=st.integers(1, 4),
    chunks=st.integers(1, 3),
    schedule=st.sampled_from(["gpipe", "1f1b", "zero-bubble"]),
)
def test_every_pass_runs_once_and_activations_are_bounded(
    stages: int, rounds: int, chunks: int, schedule: str
) -> None:
    chunks = 1 if schedule == "zero-bubble" or stages == 1 else chunks
    micro_batches = stages * rounds
    for stage in range(stages):
        order = passes(schedule, stage, stages, micro_batches, chunks)
        kinds = (FORWARD, BACKWARD, WEIGHTS) if schedule == "zero-bubble" else (FORWARD, BACKWARD)
        assert sorted(order) == sorted(
            Pass(kind, m, c) for kind in kinds for m in range(micro_batches) for c in range(chunks)
        )
        held = most = 0
        for one in order:
            held += (one.kind == FORWARD) - (one.kind == kinds[-1])
            most = max(most, held)
        if schedule == "1f1b" and chunks == 1:
            assert most == min(stages - stage, micro_batches)
        if schedule == "zero-bubble":
            assert most <= stages
    assert makespan(schedule, stages, micro_batches, chunks) >= micro_batches * (F + B + W)


@given(layers=st.integers(1, 200), parts=st.integers(1, 64))
def test_layers_are_split_evenly_with_the_ends_last(layers: int, parts: int) -> None:
    found = split_layers(layers, parts)
    assert [layer for part in found for layer in part] == list(range(layers))
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1
    if parts > 2 and layers % parts and layers % parts <= parts - 2:
        assert sizes[0] == sizes[-1] == min(sizes)


def test_llama_3_405b_leaves_a_layer_out_at_both_ends() -> None:
    # Llama team, The Llama 3 herd of models (2024), section 3.3.2
    assert [len(part) for part in split_layers(126, 16)] == [7, *[8] * 14, 7]
