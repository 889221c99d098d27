"""`chakrasim predict`: how long a step of a language model takes, without a trace."""

from __future__ import annotations

import click

from chakrasim.replay.cli.commands.replay import require_no_recording
from chakrasim.replay.cli.options.edits import Edits
from chakrasim.replay.cli.options.replaying import Loop, Models, Shown, takes_replay_options
from chakrasim.replay.cli.options.transformer import DEFAULT_MACHINE, Transformer, takes_transformer
from chakrasim.replay.cli.replaying import (
    Question,
    ask,
    load_machines,
    require_showable,
    show,
    whole_catalogue,
)


@click.command(
    epilog="\b\nExample:\n  chakrasim predict --model llama3-8b --tp 2 --dp 4 --machine dgx-a100\n"
    "  chakrasim predict --model llama3-8b --tp 8 --machine dgx-a100 --machine hgx-h100\n"
)
@takes_replay_options
@takes_transformer(is_required=True)
def predict(transformer: Transformer, models: Models, shown: Shown, loop: Loop) -> None:
    """Predict the step time of a language model on a machine, without a trace.

    Training, or with --prompt, --decode or --cached inference. Exits 1 if the replay ends in a deadlock.
    """
    from chakrasim.replay.cli.progress import show_log

    machines = whole_catalogue(models.machines)
    require_no_recording(None, models)
    require_showable(shown, machines)
    show_log()
    question = Question(
        transformer.model,
        lambda report: transformer.generate(),
        load_machines(machines or (DEFAULT_MACHINE,)),
        lambda workload: models.network or "analytical",
    )
    show(question, ask(question, models, Edits(), loop), shown, machines)
