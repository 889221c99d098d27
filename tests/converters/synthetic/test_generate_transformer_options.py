"""What the command line says of plans that don't work."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main


def said(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["replay", *arguments])
    assert result.exit_code == 2
    lines = result.output.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tp", "7"], "64 heads can't be cut over 7 tensor ranks; --tp 8 would work"),
        (["--dp", "2", "--global-batch", "7"], "--global-batch 6 would work"),
        (["--drop-tokens"], "leaving --drop-tokens out would work"),
        (["--imbalance", "0.5"], "no experts that could be loaded unevenly; --imbalance 0.0 would work"),
    ],
)
def test_the_plan_nearby_is_told_as_options(arguments: list[str], says: str) -> None:
    assert says in said("--model", "llama3-70b", *arguments)


@pytest.mark.parametrize("option", [["--recompute", "full"], ["--frozen"], ["--schedule", "gpipe"]])
def test_what_is_for_training_is_refused_in_inference(option: list[str]) -> None:
    line = said("--model", "llama3-8b", "--prompt", "8", *option)
    assert f"{option[0]} is for training; --prompt, --decode and --cached are for inference" in line
