"""Help in groups, choices that complete, `predict`, and lists of what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def completed(*words: str) -> set[str]:
    """What the shell offers for the last of these words."""
    environment = {
        **os.environ,
        "_CHAKRASIM_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["chakrasim", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = "from chakrasim.replay.cli.main import main; main(prog_name='chakrasim')"
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    return {line.partition(",")[2] for line in out.stdout.splitlines()}


def test_options_of_a_replay_stand_under_what_they_are_for() -> None:
    lines = [line.strip() for line in run("replay", "--help").splitlines()]
    titles = ["Machine and models:", "What is shown:", "Edits of the workload:", "Reading the trace:"]
    assert [line for line in lines if line in titles] == titles
    assert lines.index("Edits of the workload:") < next(
        number for number, line in enumerate(lines) if line.startswith("--drop PATTERN")
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("replay", "--network", "sh"), {"shared-ports"}),
        (("replay", "--compute", "r"), {"roofline"}),
        (("predict", "--machine", "hgx-h1"), {"hgx-h100", "hgx-h100-96gb"}),
        (("predict", "--model", "llama3-8"), {"llama3-8b"}),
        (("predict", "--sharding", "zero"), {"zero1", "zero2", "zero3"}),
        (("generate", "transformer", "--dtype", "fp"), {"fp16", "fp32", "fp8"}),
    ],
)
def test_names_complete_in_the_shell(words: tuple[str, ...], expected: set[str]) -> None:
    assert completed(*words) == expected


def test_fixed_choices_are_shown() -> None:
    said = run("predict", "--help")
    assert "--sharding [none|zero1|zero2|zero3]" in said
    assert "--schedule [1f1b|gpipe|zero-bubble]" in said


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("vision", "--optimizer [sgd|momentum|adagrad|adam]"),
        ("vision", "--dtype [fp32|tf32|bf16|fp16]"),
        ("vision", "--model [resnet-50|"),
        ("dlrm", "--sharding [round-robin|greedy]"),
        ("collective", "--kind [all-reduce|"),
        ("sweep", "--kind [all-reduce|"),
    ],
)
def test_generators_show_their_fixed_choices(command: str, shown: str) -> None:
    assert shown in run("generate", command, "--help")


def test_predict_says_what_a_replay_of_a_model_says() -> None:
    plan = ("--model", "llama3-8b", "--tp", "2", "--dp", "2", "--json")
    assert json.loads(run("predict", *plan)) == json.loads(run("replay", *plan))


def test_plugins_lists_each_part_and_its_source() -> None:
    listed = json.loads(run("plugins", "--json"))
    own = {family: {entry["name"] for entry in entries} for family, entries in listed.items()}
    assert "roofline" in own["compute models"]
    assert "congestion-aware" in own["network models"]
    assert "pytorch" in own["trace formats"]
    assert "ring" in own["collective algorithms"]
    assert {entry["source"] for entry in listed["machines"] if entry["name"] == "hgx-h100"} == {"chakrasim"}
    assert "roofline" in run("plugins")


def test_the_command_line_says_how_completion_is_turned_on() -> None:
    assert "_CHAKRASIM_COMPLETE=bash_source" in run("--help")
