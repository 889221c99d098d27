"""Workloads of models that aren't transformers of language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chakrasim.replay.cli.commands.generate.written import makes_workload, takes_step
from chakrasim.replay.cli.options.types import OneOf

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

NETWORKS = (
    "resnet-50",
    "resnet-101",
    "resnet-152",
    "vgg-16",
    "vgg-19",
    "vit-b-16",
    "vit-b-32",
    "vit-l-16",
    "vit-l-32",
    "vit-h-14",
)
"""As `converters/synthetic/vision/networks.py` has them; spelt out because `--help` imports nothing of it."""
OPTIMIZERS = OneOf("sgd", "momentum", "adagrad", "adam")
RECOMMENDERS = ("criteo-dcnv2", "criteo-kaggle", "criteo-terabyte", "criteo-torchrec")


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate vision --model resnet-50 --ranks 8 --batch 64 --dtype fp16 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100 --compute roofline\n"
)
@click.option("--model", type=OneOf(*NETWORKS), required=True, help="The network.")
@takes_step
@click.option(
    "--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Images that a rank takes."
)
@click.option(
    "--image-size", type=click.IntRange(min=1), default=224, show_default=True, help="Pixels an edge."
)
@click.option(
    "--optimizer", type=OPTIMIZERS, default="momentum", show_default=True, help="momentum: SGD with it."
)
@makes_workload
def vision(model: str, **plan: Any) -> tuple[Workload, str]:
    """Make a data-parallel training step of a vision network."""
    from chakrasim.converters.synthetic.vision.training import VisionPlan, generate_vision

    return generate_vision(model, VisionPlan(**plan)), model


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate dlrm --model criteo-terabyte --ranks 8 --batch 65536 -o demo\n"
    "  chakrasim replay demo --machine dgx-a100 --compute roofline\n"
)
@click.option(
    "--model",
    type=OneOf(*RECOMMENDERS, metavar="NAME|FILE"),
    required=True,
    help=f"One of {', '.join(RECOMMENDERS)}, or a YAML file of the same form.",
)
@takes_step
@click.option(
    "--batch",
    "global_batch",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Samples over all ranks.",
)
@click.option(
    "--sharding",
    type=OneOf("round-robin", "greedy"),
    default="round-robin",
    show_default=True,
    help="Which rank has a table; greedy balances memory.",
)
@click.option("--optimizer", type=OPTIMIZERS, default="sgd", show_default=True, help="momentum: SGD with it.")
@makes_workload
def dlrm(model: str, **plan: Any) -> tuple[Workload, str]:
    """Make a training step of a recommendation model, its tables spread over ranks."""
    from chakrasim.converters.synthetic.dlrm.model import load_dlrm
    from chakrasim.converters.synthetic.dlrm.training import DlrmPlan, generate_dlrm

    described = load_dlrm(model)
    return generate_dlrm(described, DlrmPlan(**plan)), described.name
