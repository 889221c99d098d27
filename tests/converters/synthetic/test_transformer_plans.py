"""Plans that can't be: one line that says which rule, and which plan nearby would do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.converters.synthetic.transformer.inference import Request, generate_inference
from chakrasim.converters.synthetic.transformer.model.model import Experts, Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.converters.synthetic.transformer.plan.ranks import Ranks, are_alike
from chakrasim.converters.synthetic.transformer.plan.rules import RULES, check_plan
from chakrasim.traces.errors import ChakrasimError, ConfigError

MODEL = Model("m", "made up", 32, 4096, 32, 8, 128, 14336, True, 128256, False, 8192)
SPARSE = replace(MODEL, name="s", experts=Experts(8, 2, 14336))


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan(tensor=3), "m: 32 heads can't be cut over 3 tensor ranks; tensor 2 would work"),
        (Plan(tensor=12), "m: 32 heads can't be cut over 12 tensor ranks; tensor 8 would work"),
        (
            Plan(pipeline=40, global_batch=40),
            "m: 40 pipeline stages of 1 chunks need as many layers; the model has 32; pipeline 32 would work",
        ),
        (
            Plan(data=8, global_batch=20),
            "m: a global batch of 20 isn't a multiple of micro-batch 1 x 8 data ranks; "
            "global-batch 16 would work",
        ),
        (
            Plan(pipeline=4, virtual_stages=2, global_batch=6),
            "m: interleaving needs micro-batches in multiples of the 4 pipeline stages; there are 6; "
            "global-batch 4 would work",
        ),
        (Plan(expert=2), "m: the model has no experts to spread over 2 ranks; expert 1 would work"),
        (
            Plan(sequence_parallel=True),
            "m: sequence parallelism cuts the sequence over tensor ranks, of which there is 1; "
            "sequence-parallel false would work",
        ),
        (
            Plan(sharding="zero3"),
            "m: zero3 shards over data ranks, of which there is 1; sharding none would work",
        ),
        (
            Plan(context=3, global_batch=1),
            "m: a sequence of 8192 tokens can't be cut into two parts for each of 3 context ranks; "
            "context 2 would work",
        ),
        (Plan(tensor=0), "tensor is 0; expected 1 to 1,048,576"),
        (Plan(micro_batch=-1), "micro-batch is -1; expected 1 to 1,048,576"),
        (Plan(schedule="1f2b"), "no schedule '1f2b'; did you mean '1f1b'?"),
        (Plan(dtype="bf61"), "no dtype 'bf61'; did you mean 'bf16'?"),
        (Plan(order="tensor-data"), "the order of ranks is 'tensor-data'; expected each of"),
        (Plan(bucket_MB=0), "bucket MB is 0; expected more than 0"),
        (Plan(imbalance=-1), "imbalance is -1; expected 0 to 10"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_each_rule_says_what_would_work(plan: Plan, says: str) -> None:
    with pytest.raises(ChakrasimError) as error:
        check_plan(MODEL, plan)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_experts_have_rules_of_their_own() -> None:
    with pytest.raises(ConfigError, match="8 experts can't be spread over 3 ranks; expert 2 would work"):
        check_plan(SPARSE, Plan(expert=3, data=4, global_batch=4))
    with pytest.raises(ConfigError, match="experts are cut over 1 rank or all 8 tensor ranks, not 2"):
        check_plan(SPARSE, Plan(tensor=8, expert_tensor=2))


@given(
    tensor=st.integers(1, 40),
    pipeline=st.integers(1, 40),
    data=st.integers(1, 9),
    global_batch=st.integers(1, 64),
    virtual_stages=st.integers(1, 3),
)
def test_the_plan_nearby_keeps_the_rule_that_was_broken(**fields: int) -> None:
    plan = Plan(**fields)  # type: ignore[arg-type]
    try:
        check_plan(MODEL, plan)
    except ConfigError as error:
        broken = next(rule for rule in RULES if not rule.holds(MODEL, plan))
        text = str(error)
        if text.endswith(" would work"):
            field, value = text.rpartition("; ")[2].removesuffix(" would work").split()
            assert field.replace("-", "_") in broken.fields
            assert broken.holds(MODEL, replace(plan, **{field.replace("-", "_"): int(value)}))


def groups(ranks: Ranks, rank: int, *names: str) -> list[tuple[int, ...]]:
    return [ranks.group(name, ranks.place(rank)) for name in names]


def test_neighbours_by_order() -> None:
    # tensor varies fastest, then data, then pipeline: 2 x 2 x 2 ranks
    ranks = Ranks(Plan(tensor=2, data=2, pipeline=2))
    assert ranks.place(5) == {"tensor": 1, "context": 0, "data": 0, "pipeline": 1}
    assert groups(ranks, 5, "tensor", "data", "embedding") == [(4, 5), (5, 7), (1, 5)]
    ranks = Ranks(Plan(tensor=2, data=2, pipeline=2, order="pipeline-data-tensor-context"))
    assert groups(ranks, 5, "tensor", "data", "embedding") == [(1, 5), (5, 7), (4, 5)]


def test_experts_lie_on_neighbours() -> None:
    # 2 tensor x 4 data ranks, experts over 4: whole on each rank, or cut over tensor ranks
    ranks = Ranks(Plan(tensor=2, data=4, expert=4))
    assert groups(ranks, 5, "expert", "expert-data", "expert-tensor") == [(4, 5, 6, 7), (1, 5), (5,)]
    ranks = Ranks(Plan(tensor=2, data=4, expert=4, expert_tensor=2))
    assert groups(ranks, 5, "expert", "expert-data", "expert-tensor") == [(1, 3, 5, 7), (5,), (4, 5)]


@pytest.mark.parametrize(
    ("plan", "request_", "says"),
    [
        (Plan(), Request(0, 0), "neither a prompt nor tokens to decode"),
        (Plan(), Request(16, 1, 16), "tokens are cached already, or a prompt is read"),
        (Plan(context=2), Request(16, 1), "inference has no context 2; context 1 would work"),
        (Plan(tensor=2, sequence_parallel=True), Request(16, 1), "can't be cut along the sequence"),
        (Plan(), Request(-1, 1), "can't be negative"),
    ],
)
def test_inference_has_rules_of_its_own(plan: Plan, request_: Request, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        generate_inference(MODEL, plan, request_)


def test_neighbours_in_a_context_are_to_lie_alike_on_hosts() -> None:
    # Ranks 0 and 1 are one context, 2 and 3 the other. Hosts of three part the second pair and not the first.
    plan = Plan(context=2, data=2, global_batch=2)
    assert are_alike(plan, [2])
    assert not are_alike(plan, [3])
