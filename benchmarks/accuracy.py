"""How far predictions are from published training steps: `python benchmarks/accuracy.py [measured.json]`.

Every row of the file is predicted from its model, plan and machine alone, with the fitted efficiencies of the
machine, and compared with the time measured; rows that can't be predicted are listed by reason.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import click
from published_runs import Run, Unpredicted, runs
from testbeds import machine_of

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.converters.synthetic.transformer.training import generate_training
from chakrasim.replay.cli.progress import progress
from chakrasim.replay.report.console import new_table, people_console, print_table
from chakrasim.replay.simulate import simulate
from chakrasim.traces.errors import ChakrasimError
from chakrasim.traces.units import PS_PER_S

MEASUREMENTS = (
    Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "published"
    / "measured.json"
)


@dataclass(frozen=True)
class Prediction:
    """A run and what the simulator says of it."""

    run: Run
    predicted_s: float

    @property
    def error_percent(self) -> float:
        """Positive where the prediction is too long."""
        return 100 * (self.predicted_s / self.run.step_s - 1)


def predict_step_s(model: Model, plan: Plan, machine: str) -> float:
    """The time of a training step, in seconds.

    Raises ChakrasimError for a machine that isn't in the catalogue or a plan that doesn't fit.
    """
    workload = generate_training(model, plan)
    result = simulate(workload, machine_of(machine), compute="roofline", network="analytical")
    if result.step_time_ps is None:
        raise ChakrasimError(f"the replay doesn't end: {result.deadlock}")
    return result.step_time_ps / PS_PER_S


def predict(chosen: Sequence[Run]) -> tuple[list[Prediction], list[Unpredicted]]:
    """Predictions of all runs, in order; setups that several share are replayed once."""
    known: dict[tuple[Model, Plan, str], float | str] = {}
    predictions: list[Prediction] = []
    refused: list[Unpredicted] = []
    with progress("predicting") as report:
        for index, run in enumerate(chosen):
            report(index, len(chosen), run.row)
            setup = run.model, run.plan, run.machine
            if setup not in known:
                try:
                    known[setup] = predict_step_s(*setup)
                except ChakrasimError as error:
                    known[setup] = str(error)
            answer = known[setup]
            if isinstance(answer, str):
                refused.append(Unpredicted(run.row, run.family, answer))
            else:
                predictions.append(Prediction(run, answer))
    return predictions, refused


def by_family(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions of each family, in the order of the file."""
    families: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        families.setdefault(prediction.run.family, []).append(prediction)
    return families


def summary(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Errors in percent: mean and median of absolute ones, the worst, and the mean with its sign (bias)."""
    errors = [prediction.error_percent for prediction in predictions]
    return {
        "rows": len(errors),
        "mean_abs_error_percent": mean(map(abs, errors)),
        "median_abs_error_percent": median(map(abs, errors)),
        "worst_error_percent": max(errors, key=abs),
        "bias_percent": mean(errors),
    }


def reasons(missing: Sequence[Unpredicted]) -> Counter[tuple[str, str]]:
    """Rows without a prediction by family and reason."""
    return Counter((row.family, row.reason) for row in missing)


def show(predictions: Sequence[Prediction], missing: Sequence[Unpredicted], *, each: bool) -> None:
    """Tables for people: row by row, by family, and what isn't predicted."""
    console = people_console()
    if each:
        table = new_table("Steps, row by row", ("row",), ("measured s", "predicted s", "error %"))
        for one in predictions:
            table.add_row(
                one.run.row, f"{one.run.step_s:.4g}", f"{one.predicted_s:.4g}", f"{one.error_percent:+.1f}"
            )
        print_table(console, table)
    columns = ("rows", "mean |error| %", "median |error| %", "worst %", "bias %")
    table = new_table("By family", ("family",), columns)
    families = by_family(predictions)
    for name, group in [*families.items(), *([("all", predictions)] if len(families) > 1 else [])]:
        figures = list(summary(group).values())
        table.add_row(
            name,
            f"{figures[0]:,.0f}",
            *(f"{figure:.1f}" for figure in figures[1:3]),
            *(f"{figure:+.1f}" for figure in figures[3:]),
        )
    print_table(console, table)
    table = new_table("Not predicted", ("family", "reason"), ("rows",))
    for (family, reason), rows in sorted(reasons(missing).items()):
        table.add_row(family, reason, f"{rows:,}")
    print_table(console, table)


def as_json(predictions: Sequence[Prediction], missing: Sequence[Unpredicted]) -> str:
    """Everything, for programs."""
    return json.dumps(
        {
            "rows": [
                {
                    "row": one.run.row,
                    "family": one.run.family,
                    "machine": one.run.machine,
                    "measured_s": one.run.step_s,
                    "predicted_s": one.predicted_s,
                    "error_percent": one.error_percent,
                }
                for one in predictions
            ],
            "families": {name: summary(group) for name, group in by_family(predictions).items()},
            "unpredicted": [{"row": one.row, "family": one.family, "reason": one.reason} for one in missing],
        },
        indent=2,
    )


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=MEASUREMENTS)
@click.option("--family", help="Only families whose name begins so.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows of each family.")
@click.option("--families-only", is_flag=True, help="Leave the table of rows out.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON.")
def main(path: Path, family: str | None, limit: int | None, families_only: bool, wants_json: bool) -> None:
    """Predict the file's rows and print how far off they are."""
    found, missing = runs(path)
    chosen: list[Run] = []
    counts: Counter[str] = Counter()
    for run in found:
        counts[run.family] += 1
        if run.family.startswith(family or "") and (limit is None or counts[run.family] <= limit):
            chosen.append(run)
    predictions, refused = predict(chosen)
    left = [row for row in missing if row.family.startswith(family or "")] + refused
    if wants_json:
        click.echo(as_json(predictions, left))
    else:
        show(predictions, left, each=not families_only)


if __name__ == "__main__":
    main()
