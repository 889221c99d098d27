"""Options that describe a transformer, its parallelism plan and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click_option_group import OptionGroup

from chakrasim.replay.cli.options.types import OneOf
from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from chakrasim.converters.synthetic.transformer.model.model import Model
    from chakrasim.converters.synthetic.transformer.plan.plan import Plan
    from chakrasim.traces.workload import Workload

DEFAULT_MACHINE = "hgx-h100"
"""Where a model is replayed on no machine in particular."""
SHORT = {"tp": "tensor", "cp": "context", "dp": "data", "pp": "pipeline"}

TRAINING_ONLY = (
    "schedule", "prefetch", "gradient_dtype", "recompute", "overlap_gradients", "bucket_mb", "frozen",
)  # fmt: skip
"""Options that mean nothing in inference."""
INFERENCE_ONLY = ("prompt", "decode", "cached")

_count = click.IntRange(min=1)
_natural = click.IntRange(min=0)
_plan = OptionGroup("Parallelism")
_batch = OptionGroup("Batch and precision")
_overlap = OptionGroup("Kernels and overlap")
_experts = OptionGroup("Experts")
_inference = OptionGroup("Inference")
OPTIONS: dict[str, Callable[..., Any]] = {
    "tp": _plan.option("--tp", type=_count, default=1, metavar="N", help="Tensor-parallel ranks."),
    "cp": _plan.option("--cp", type=_count, default=1, metavar="N", help="Ranks a sequence is cut over."),
    "pp": _plan.option("--pp", type=_count, default=1, metavar="N", help="Pipeline stages."),
    "dp": _plan.option(
        "--dp", type=_count, metavar="N", help="Data-parallel ranks. Default: what --ranks leaves."
    ),
    "ranks": _plan.option(
        "--ranks", type=_count, metavar="N", help="Ranks in all. Default: tp x cp x pp x dp."
    ),
    "ep": _plan.option(
        "--ep", type=_count, default=1, metavar="N", help="Ranks the experts are spread over."
    ),
    "etp": _plan.option("--etp", type=_count, default=1, metavar="N", help="Ranks each expert is cut over."),
    "node_ranks": _plan.option(
        "--node-ranks",
        type=_natural,
        default=0,
        metavar="N",
        help="Send tokens once to each node of N ranks, as DeepEP does; 0: once to each expert.",
    ),
    "virtual_stages": _plan.option(
        "--virtual-stages", type=_count, default=1, metavar="N", help="Interleaved chunks a rank."
    ),
    "order": _plan.option(
        "--order", default="tp-cp-dp-pp", show_default=True, help="Nearest neighbours first."
    ),
    "sequence_parallel": _plan.option(
        "--sequence-parallel/--no-sequence-parallel",
        default=None,
        help="Cut activations between tensor-parallel parts along the sequence; so by default in training.",
    ),
    "sharding": _plan.option(
        "--sharding",
        type=OneOf("none", "zero1", "zero2", "zero3"),
        default="none",
        show_default=True,
        help="What ranks split between them; zero3 is FSDP.",
    ),
    "prefetch": _plan.option(
        "--prefetch", type=_natural, default=1, metavar="N", help="Layers zero3 gathers ahead."
    ),
    "schedule": _plan.option(
        "--schedule",
        type=OneOf("1f1b", "gpipe", "zero-bubble"),
        default="1f1b",
        show_default=True,
        help="Of the pipeline; 1f1b is interleaved with --virtual-stages.",
    ),
    "global_batch": _batch.option(
        "--global-batch",
        type=_count,
        metavar="N",
        help="Sequences a step. Default: 1 pass, or 4 a stage.",
    ),
    "micro_batch": _batch.option(
        "--micro-batch", type=_count, default=1, metavar="N", help="Sequences a pass."
    ),
    "sequence": _batch.option(
        "--sequence", type=_count, metavar="N", help="Tokens a sequence. Default: the model's."
    ),
    "dtype": _batch.option(
        "--dtype",
        type=OneOf("bf16", "fp16", "fp32", "tf32", "fp8", "mxfp8", "nvfp4"),
        default="bf16",
        show_default=True,
        help="Of products.",
    ),
    "gradient_dtype": _batch.option(
        "--gradient-dtype",
        type=OneOf("fp32", "bf16", "fp16", "tf32"),
        default="fp32",
        show_default=True,
        help="Of gradients as reduced.",
    ),
    "recompute": _batch.option(
        "--recompute",
        type=OneOf("none", "selective", "alternate", "full"),
        default="none",
        show_default=True,
        help="Activations computed again.",
    ),
    "frozen": _batch.option("--frozen", is_flag=True, help="No gradients of weights, as under LoRA."),
    "flash_attention": _overlap.option(
        "--flash-attention/--no-flash-attention", default=True, help="Fused attention or not."
    ),
    "is_fused": _overlap.option(
        "--fused/--no-fused",
        "is_fused",
        default=True,
        help="Few kernels between products, or plain PyTorch's.",
    ),
    "has_host": _overlap.option(
        "--host/--no-host", "has_host", default=True, help="The host's launches take time, or CUDA graphs."
    ),
    "overlap_gradients": _overlap.option(
        "--overlap-gradients/--no-overlap-gradients", default=True, help="Reduce beside the backward pass."
    ),
    "bucket_mb": _overlap.option(
        "--bucket-MB", "bucket_mb", type=float, default=100, metavar="MB", help="Reduced at once."
    ),
    "overlap_tensor": _overlap.option(
        "--overlap-tensor",
        type=OneOf("none", "backward", "full"),
        default="none",
        show_default=True,
        help="Tensor-parallel communication beside products.",
    ),
    "overlap_experts": _overlap.option(
        "--overlap-experts/--no-overlap-experts", default=False, help="All-to-alls beside the pass's compute."
    ),
    "overlap_pipeline": _overlap.option(
        "--overlap-pipeline/--no-overlap-pipeline", default=True, help="Go on while messages travel."
    ),
    "drop_tokens": _experts.option(
        "--drop-tokens",
        is_flag=True,
        help="Experts take equally many tokens: one kernel, and no host that waits for counts.",
    ),
    "imbalance": _experts.option(
        "--imbalance", type=float, default=0.0, metavar="F", help="Spread of the experts' loads."
    ),
    "seed": _experts.option("--seed", type=_natural, default=0, metavar="N", help="Of the experts' loads."),
    "prompt": _inference.option(
        "--prompt", type=_natural, default=0, metavar="N", help="Inference: tokens of a prompt."
    ),
    "decode": _inference.option(
        "--decode", type=_natural, default=0, metavar="N", help="Inference: tokens to decode."
    ),
    "cached": _inference.option(
        "--cached", type=_natural, default=0, metavar="N", help="Inference: tokens in the cache."
    ),
}
"""By the name of the argument that a command gets."""


@dataclass(frozen=True)
class Transformer:
    """What the user wants of a model."""

    model: str
    options: dict[str, Any]

    @property
    def is_inference(self) -> bool:
        """Nothing is trained."""
        return bool(self.options["prompt"] or self.options["decode"] or self.options["cached"])

    def read(self) -> tuple[Model, Plan]:
        """Raises ConfigError for ranks that don't multiply up, and for a model that can't be read."""
        from chakrasim.converters.synthetic.transformer.model.presets import load_model
        from chakrasim.converters.synthetic.transformer.plan.plan import Plan

        o = self.options
        data = _data_ranks(o)
        plan = Plan(
            tensor=o["tp"],
            context=o["cp"],
            data=data,
            pipeline=o["pp"],
            virtual_stages=o["virtual_stages"],
            expert=o["ep"],
            expert_tensor=o["etp"],
            node_ranks=o["node_ranks"],
            order="-".join(SHORT.get(part, part) for part in o["order"].split("-")),
            global_batch=o["global_batch"] or 0,
            micro_batch=o["micro_batch"],
            sequence=o["sequence"],
            schedule=o["schedule"],
            sequence_parallel=o["sequence_parallel"],
            sharding=o["sharding"],
            prefetch=o["prefetch"],
            dtype=o["dtype"],
            gradient_dtype=o["gradient_dtype"],
            recompute=o["recompute"],
            flash_attention=o["flash_attention"],
            overlap_gradients=o["overlap_gradients"],
            bucket_MB=o["bucket_mb"],
            overlap_tensor=o["overlap_tensor"],
            overlap_experts=o["overlap_experts"],
            overlap_pipeline=o["overlap_pipeline"],
            is_fused=o["is_fused"],
            has_host=o["has_host"],
            frozen=o["frozen"],
            drop_tokens=o["drop_tokens"],
            imbalance=o["imbalance"],
            seed=o["seed"],
        )
        return load_model(self.model), plan

    def generate(self, *, all_ranks: bool = False) -> Workload:
        """A training step, or inference where a prompt or tokens to decode are given.

        Raises ConfigError for a plan that doesn't fit the model, with options that would.
        """
        from chakrasim.converters.synthetic.transformer.plan.rules import BrokenRule

        try:
            return self._generate(all_ranks=all_ranks)
        except BrokenRule as broken:
            if not broken.field:
                raise
            near = _as_option(broken.field, broken.value)
            if self.is_inference and broken.field == "sequence":
                near = f"{broken.value:,} tokens of --prompt, --decode and --cached together"
            raise ConfigError(f"{broken.message}; {near} would work") from None

    def _generate(self, *, all_ranks: bool) -> Workload:
        model, plan = self.read()
        _require_effect(self.options, has_experts=model.experts is not None)
        if self.is_inference:
            from chakrasim.converters.synthetic.transformer.inference import Request, generate_inference

            o = self.options
            request = Request(o["prompt"], o["decode"], o["cached"])
            return generate_inference(model, plan, request, all_ranks=all_ranks)
        from chakrasim.converters.synthetic.transformer.training import generate_training

        return generate_training(model, plan, all_ranks=all_ranks)


def _require_effect(options: dict[str, Any], *, has_experts: bool) -> None:
    """Raise ConfigError for an option that the user gave and that changes nothing."""
    is_inference = any(options[name] for name in INFERENCE_ONLY)
    for name, needed, is_there in (
        ("prefetch", "--sharding zero3", options["sharding"] == "zero3"),
        ("overlap_tensor", "--tp above 1", options["tp"] > 1),
        ("overlap_pipeline", "--pp above 1", options["pp"] > 1),
        ("overlap_experts", "a model with experts", has_experts),
        ("node_ranks", "a model with experts", has_experts),
        ("seed", "--imbalance", options["imbalance"] > 0),
        ("sequence", "training: --prompt, --decode and --cached say how long", not is_inference),
    ):
        if is_given(name) and not is_there:
            raise ConfigError(f"--{name.replace('_', '-')} changes nothing without {needed}")


def _as_option(field: str, value: object) -> str:
    """A plan's field as it stands on the command line."""
    short = {"expert": "ep", "expert_tensor": "etp"} | {long: short for short, long in SHORT.items()}
    option = f"--{short.get(field, field).replace('_', '-')}"
    if field == "sequence_parallel":
        return option if value else f"--no{option[1:]}"
    if isinstance(value, bool):
        return option if value else f"leaving {option} out"
    return f"{option} {value}"


def _data_ranks(options: dict[str, Any]) -> int:
    ranks, data = options["ranks"], options["dp"]
    product = options["tp"] * options["cp"] * options["pp"]
    shown = f"--tp {options['tp']} x --cp {options['cp']} x --pp {options['pp']}"
    if ranks is None:
        return int(data or 1)
    if ranks % product:
        nearest = max(1, round(ranks / product)) * product
        raise ConfigError(
            f"{shown} = {product:,} doesn't divide --ranks {ranks:,}; --ranks {nearest:,} would work"
        )
    if data not in (None, ranks // product):
        raise ConfigError(
            f"{shown} x --dp {data} = {product * data:,} isn't --ranks {ranks:,}; "
            f"--dp {ranks // product} would work"
        )
    return int(ranks // product)


def is_given(option: str) -> bool:
    """Whether the user gave the option of the command that runs."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def language_models() -> Iterable[str]:
    """Names of language models."""
    from chakrasim.converters.synthetic.transformer.model.presets import model_names

    return model_names()


def takes_transformer(*, is_required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--model` and the options of a plan; the command gets them as `transformer`, None without a model."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_transformer(*args: Any, model: str | None, **others: Any) -> Any:
            given = {name: others.pop(name) for name in OPTIONS}
            if model is None:
                for name in OPTIONS:
                    if is_given(name):
                        raise click.UsageError(f"--{name.replace('_', '-')} is for a --model")
            transformer = None if model is None else Transformer(model, given)
            given_zero = [name for name in INFERENCE_ONLY if is_given(name)]
            if transformer is not None and not transformer.is_inference and given_zero:
                raise click.UsageError(f"--{given_zero[0]} 0 leaves neither a prompt nor tokens to decode")
            if transformer is not None and transformer.is_inference:
                for name in TRAINING_ONLY:
                    if is_given(name):
                        raise click.UsageError(
                            f"--{name.replace('_', '-')} is for training; --prompt, --decode and --cached "
                            "are for inference"
                        )
            return command(*args, transformer=transformer, **others)

        decorated: Callable[..., Any] = with_transformer
        for option in reversed(OPTIONS.values()):
            decorated = option(decorated)
        return click.option(
            "--model",
            type=OneOf(others=language_models, metavar="NAME|FILE"),
            required=is_required,
            help="A transformer (`chakrasim generate models`), instead of a trace."
            if not is_required
            else "See `chakrasim generate models`.",
        )(decorated)

    return decorate
