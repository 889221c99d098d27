"""Workloads of transformer language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chakrasim.replay.cli.commands.generate.written import makes_workload
from chakrasim.replay.cli.common import json_option
from chakrasim.replay.cli.options.transformer import Transformer, takes_transformer
from chakrasim.replay.report.jsontext import print_json

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload


@click.command(
    epilog="\b\nExample:\n"
    "  chakrasim generate transformer --model llama3-8b --tp 2 --pp 2 --ranks 8 -o llama\n"
    "  chakrasim replay llama --machine hgx-h100\n"
    "  chakrasim replay --model llama3-8b --tp 2 --pp 2 --ranks 8\n"
)
@click.option(
    "--one-of-each",
    is_flag=True,
    help="Write one rank of each kind, which stands for the others when it is replayed.",
)
@takes_transformer(is_required=True)
@makes_workload
def transformer(one_of_each: bool, transformer: Transformer) -> tuple[Workload, str]:
    """Make a step of training a language model, or its inference.

    Inference is what --prompt, --decode or --cached ask for: prompts of so many tokens are read at once, and
    so many tokens are decoded one after the other.
    """
    workload = transformer.generate(all_ranks=not one_of_each)
    return workload, workload.name


@click.command(epilog="\b\nExample:\n  chakrasim generate models\n")
@json_option
def models(as_json: bool) -> None:
    """List the language models that are known by name."""
    from chakrasim.converters.synthetic.transformer.model.counts import parameters
    from chakrasim.converters.synthetic.transformer.model.presets import load_model, model_names
    from chakrasim.replay.report.console import new_table, people_console, print_table

    known = [load_model(name) for name in model_names()]
    if as_json:
        print_json(
            {
                "models": [
                    {
                        "name": model.name,
                        "source": model.source,
                        "layers": model.layers,
                        "hidden": model.hidden,
                        "sequence_tokens": model.sequence,
                        "parameters": parameters(model).total,
                        "active_parameters": parameters(model).active,
                    }
                    for model in known
                ]
            }
        )
        return
    columns = ("layers", "hidden", "parameters", "active", "sequence, tokens")
    table = new_table("Models", ("name",), columns)
    for model in known:
        counted = parameters(model)
        table.add_row(
            model.name,
            f"{model.layers:,}",
            f"{model.hidden:,}",
            f"{counted.total / 1e9:,.2f} G",
            f"{counted.active / 1e9:,.2f} G",
            f"{model.sequence:,}",
        )
    console = people_console()
    print_table(console, table)
    console.print("A file of your own has the same form: docs/model-file.md")
