"""Rules that a plan must keep, and the nearest plan that keeps a broken one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import (
    DIMENSIONS,
    DTYPES,
    OVERLAPS,
    RECOMPUTATIONS,
    SCHEDULES,
    SHARDINGS,
    Plan,
)
from chakrasim.traces.errors import ConfigError, UnknownName

COUNTS = (*DIMENSIONS, "virtual_stages", "expert", "expert_tensor", "micro_batch", "global_batch")
_MAX_COUNT = 1 << 20
"""Ranks, stages or sequences of a plan, as many as a job may have ranks."""


class BrokenRule(ConfigError):
    """A plan that doesn't fit its model."""

    def __init__(self, message: str, field: str = "", value: object = None) -> None:
        self.message, self.field, self.value = message, field, value
        near = ""
        if field:
            near = f"; {shown(field)} {str(value).lower() if isinstance(value, bool) else value} would work"
        super().__init__(message + near)


class Rule(NamedTuple):
    """A condition, what it says when broken, and the fields in which a nearby plan may differ."""

    holds: Callable[[Model, Plan], bool]
    says: Callable[[Model, Plan], str]
    fields: tuple[str, ...]


def _sequence(model: Model, plan: Plan) -> int:
    return plan.sequence or model.sequence


def _experts(model: Model) -> int:
    return model.experts.count if model.experts else 1


def _pool(plan: Plan) -> int:
    return plan.context * plan.data * (plan.tensor if plan.expert_tensor == 1 else 1)


RULES = (
    Rule(
        lambda m, p: m.heads % p.tensor == 0,
        lambda m, p: f"{m.heads} heads can't be cut over {p.tensor} tensor ranks",
        ("tensor",),
    ),
    Rule(
        lambda m, p: m.latent is not None or m.kv_heads % p.tensor == 0 or p.tensor % m.kv_heads == 0,
        lambda m, p: f"{m.kv_heads} key/value heads can't be shared out among {p.tensor} tensor ranks",
        ("tensor",),
    ),
    Rule(
        lambda m, p: m.ffn % p.tensor == 0 and m.hidden % p.tensor == 0,
        lambda m, p: f"a feed-forward width of {m.ffn} can't be cut over {p.tensor} tensor ranks",
        ("tensor",),
    ),
    Rule(
        lambda m, p: p.tensor > 1 or not p.sequence_parallel,
        lambda m, p: "sequence parallelism cuts the sequence over tensor ranks, of which there is 1",
        ("sequence_parallel",),
    ),
    Rule(
        lambda m, p: _sequence(m, p) % (p.context * (2 if p.context > 1 else 1)) == 0,
        lambda m, p: (
            f"a sequence of {_sequence(m, p)} tokens can't be cut into two parts for each of "
            f"{p.context} context ranks"
        ),
        ("context",),
    ),
    Rule(
        lambda m, p: not p.sequence_parallel or _sequence(m, p) // p.context % p.tensor == 0,
        lambda m, p: (
            f"{_sequence(m, p) // p.context} tokens can't be cut over {p.tensor} tensor ranks by "
            "sequence parallelism"
        ),
        ("sequence_parallel", "tensor"),
    ),
    Rule(
        lambda m, p: p.context == 1 or p.flash_attention,
        lambda m, p: "ring attention over a context needs fused attention",
        ("flash_attention",),
    ),
    Rule(
        lambda m, p: p.pipeline * p.virtual_stages <= m.layers + (2 if p.virtual_stages > 1 else 0),
        lambda m, p: (
            f"{p.pipeline} pipeline stages of {p.virtual_stages} chunks need as many layers; the "
            f"model has {m.layers}"
        ),
        ("pipeline", "virtual_stages"),
    ),
    Rule(
        lambda m, p: p.virtual_stages == 1 or p.pipeline > 1,
        lambda m, p: f"{p.virtual_stages} virtual stages interleave a pipeline, and there is 1 stage",
        ("virtual_stages",),
    ),
    Rule(
        lambda m, p: p.virtual_stages == 1 or p.schedule != "zero-bubble",
        lambda m, p: "the zero-bubble schedule has no interleaved form",
        ("virtual_stages", "schedule"),
    ),
    Rule(
        lambda m, p: not p.frozen or p.schedule != "zero-bubble",
        lambda m, p: "the zero-bubble schedule sets gradients of weights apart, and frozen weights have none",
        ("schedule",),
    ),
    Rule(
        lambda m, p: p.global_batch % (p.micro_batch * p.data) == 0,
        lambda m, p: (
            f"a global batch of {p.global_batch} isn't a multiple of micro-batch {p.micro_batch} x "
            f"{p.data} data ranks"
        ),
        ("global_batch",),
    ),
    Rule(
        lambda m, p: p.virtual_stages == 1 or p.schedule == "gpipe" or p.micro_batches % p.pipeline == 0,
        lambda m, p: (
            f"interleaving needs micro-batches in multiples of the {p.pipeline} pipeline stages; "
            f"there are {p.micro_batches}"
        ),
        ("global_batch", "virtual_stages"),
    ),
    Rule(
        lambda m, p: m.experts is not None or (p.expert == 1 and p.expert_tensor == 1),
        lambda m, p: f"the model has no experts to spread over {max(p.expert, p.expert_tensor)} ranks",
        ("expert", "expert_tensor"),
    ),
    Rule(
        lambda m, p: _experts(m) % p.expert == 0,
        lambda m, p: f"{_experts(m)} experts can't be spread over {p.expert} ranks",
        ("expert",),
    ),
    Rule(
        lambda m, p: p.expert_tensor in (1, p.tensor),
        lambda m, p: f"experts are cut over 1 rank or all {p.tensor} tensor ranks, not {p.expert_tensor}",
        ("expert_tensor",),
    ),
    Rule(
        lambda m, p: _pool(p) % p.expert == 0,
        lambda m, p: (
            f"the {_pool(p)} ranks of a pipeline stage that may have different experts can't be "
            f"cut into groups of {p.expert}"
        ),
        ("expert", "data"),
    ),
    Rule(
        lambda m, p: m.experts is None or m.experts.ffn % p.expert_tensor == 0,
        lambda m, p: f"an expert's width can't be cut over {p.expert_tensor} ranks",
        ("expert_tensor",),
    ),
    Rule(
        lambda m, p: m.experts is None or m.experts.shared_ffn % p.tensor == 0,
        lambda m, p: f"the width of shared experts can't be cut over {p.tensor} tensor ranks",
        ("tensor",),
    ),
    Rule(
        lambda m, p: p.sharding == "none" or p.data * p.context > 1,
        lambda m, p: f"{p.sharding} shards over data ranks, of which there is 1",
        ("sharding",),
    ),
    Rule(
        lambda m, p: not m.learned_positions or _sequence(m, p) <= m.learned_positions,
        lambda m, p: (
            f"a sequence of {_sequence(m, p):,} tokens is longer than the {m.learned_positions:,} positions "
            "that the model has learned"
        ),
        ("sequence",),
    ),
    Rule(
        lambda m, p: p.imbalance == 0 or m.experts is not None,
        lambda m, p: "the model has no experts that could be loaded unevenly",
        ("imbalance",),
    ),
    Rule(
        lambda m, p: not p.node_ranks or p.expert % p.node_ranks == 0 or p.node_ranks % p.expert == 0,
        lambda m, p: f"{p.expert} ranks of experts can't be cut into nodes of {p.node_ranks}",
        ("node_ranks",),
    ),
    Rule(
        lambda m, p: not p.drop_tokens or m.experts is not None,
        lambda m, p: "the model has no experts that could drop tokens",
        ("drop_tokens",),
    ),
)


def check_plan(model: Model, plan: Plan) -> None:
    """Raise BrokenRule, in one line with a plan nearby that would do, for a plan that breaks a rule; another
    ConfigError for a value that no plan can have. What a plan leaves open counts as in training."""
    plan = plan.completed(is_training=True)
    _check_values(plan)
    for rule in RULES:
        if not rule.holds(model, plan):
            raise BrokenRule(f"{model.name}: {rule.says(model, plan)}", *_nearby(model, plan, rule))


def _check_values(plan: Plan) -> None:
    for name in COUNTS:
        value = getattr(plan, name)
        if not 1 <= value <= _MAX_COUNT:
            raise ConfigError(f"{shown(name)} is {value}; expected 1 to {_MAX_COUNT:,}")
    if plan.sequence is not None and not 1 <= plan.sequence <= _MAX_COUNT * 64:
        raise ConfigError(f"sequence is {plan.sequence}; expected 1 to {_MAX_COUNT * 64:,} tokens")
    for name, known in (
        ("schedule", SCHEDULES),
        ("sharding", SHARDINGS),
        ("recompute", RECOMPUTATIONS),
        ("dtype", DTYPES),
        ("gradient_dtype", DTYPES[:4]),
        ("overlap_tensor", OVERLAPS),
    ):
        if getattr(plan, name) not in known:
            raise UnknownName(shown(name), getattr(plan, name), known)
    if sorted(plan.order.split("-")) != sorted(DIMENSIONS):
        raise ConfigError(
            f"the order of ranks is {plan.order!r}; expected each of {', '.join(DIMENSIONS)} once, joined by "
            f"hyphens, as in {'-'.join(DIMENSIONS)}"
        )
    if not 0 <= plan.imbalance <= 10:
        raise ConfigError(f"imbalance is {plan.imbalance}; expected 0 to 10")
    if not 0 < plan.bucket_MB < float("inf"):
        raise ConfigError(f"bucket MB is {plan.bucket_MB}; expected more than 0")
    if plan.prefetch < 0:
        raise ConfigError(f"prefetch is {plan.prefetch}; expected 0 or more")


def shown(field: str) -> str:
    """A field's name for people."""
    return field.replace("_", "-")


def _nearby(model: Model, plan: Plan, broken: Rule) -> tuple[str, object] | tuple[()]:
    """Field and value of the plan that differs least in one field of the rule and keeps all rules; else that
    keeps this one."""
    for rules in (RULES, (broken,)):
        for field in broken.fields:
            for value in [model.learned_positions] if field == "sequence" else _candidates(plan, field):
                other = replace(plan, **{field: value})  # type: ignore[arg-type]
                if all(rule.holds(model, other) for rule in rules):
                    return field, value
    return ()


def _candidates(plan: Plan, field: str) -> Iterable[int | bool | str | float]:
    """Other values of a field, the nearest first."""
    value = getattr(plan, field)
    if isinstance(value, bool):
        return [not value]
    if field == "schedule":
        return [other for other in SCHEDULES if other != value]
    if field == "sharding":
        return ["none"]
    if field == "imbalance":
        return [0.0]
    step = plan.micro_batch * plan.data if field == "global_batch" else 1
    most = 2 * value + 64 * step
    base = value - value % step
    return sorted(
        (other for other in range(step, base + most, step) if other != value),
        key=lambda other: (abs(other - value), other),
    )[:4096]
