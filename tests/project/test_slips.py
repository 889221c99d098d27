"""Slips on the command line of generated workloads: one line each, and never a number that means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chakrasim.replay.cli.main import main


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (
            "replay --model gpt3-175b --tp 8 --sequence 4096",
            "2,048 positions that the model has learned; --sequence 2048",
        ),
        ("replay --model llama3-8b --prefetch 3", "--prefetch changes nothing without --sharding zero3"),
        (
            "replay --model llama3-8b --node-ranks 8",
            "--node-ranks changes nothing without a model with experts",
        ),
        (
            "replay --model llama3-8b --overlap-tensor full",
            "--overlap-tensor changes nothing without --tp above 1",
        ),
        (
            "replay --model mixtral-8x7b --dp 8 --ep 8 --node-ranks 3",
            "can't be cut into nodes of 3; --node-ranks 2",
        ),
        ("replay --model llama3-8b --prompt 128 --cp 2", "inference has no context 2; --cp 1 would work"),
        (
            "replay --model gpt3-175b --tp 8 --prompt 4096",
            "a sequence of 4,096 tokens is longer than the 2,048",
        ),
        (
            "replay --model llama3-8b --compute measured",
            "nothing was recorded of a --model: --compute measured",
        ),
        (
            "replay --model llama3-8b --network recorded",
            "nothing was recorded of a --model: --network recorded",
        ),
        ("replay --model llama3-8b --prompt 0", "--prompt 0 leaves neither a prompt nor tokens to decode"),
        ("replay --model llama3-8b --bucket-MB nan", "bucket MB is nan; expected more than 0"),
        ("replay --model llama3-8b --tp 8 --sequence 8191", "--no-sequence-parallel would work"),
        (
            "generate pipeline --stages 2 --micro-batches 2 --size 1MB --compute-us 1e30 -o out",
            "the compute time is 1e+30 us",
        ),
        ("generate halo --grid 2x2 --size 1MB --compute-us 1e30 -o out", "the compute time is 1e+30 us"),
        (
            "generate collective --kind all-reduce --size 1MB --ranks 100000000 -o out",
            "ranks is 100,000,000; expected 1,048,576",
        ),
    ],
)
def test_a_slip_gets_one_line(
    command: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1
    assert says in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"layers": 99999999}, "layers is 99999999; expected a whole number from 1 to 10,000"),
        (
            {"learned_positions": 512, "sequence": 1024},
            "sequence is 1024; expected no more than the 512 learned",
        ),
    ],
)
def test_a_model_file_that_cant_be(changed: dict[str, int], says: str, tmp_path: Path) -> None:
    figures = {
        "name": "m",
        "source": "made up",
        "layers": 2,
        "hidden": 64,
        "heads": 2,
        "kv_heads": 2,
        "head_size": 32,
        "ffn": 256,
        "is_gated": "true",
        "vocabulary": 512,
        "has_tied_embeddings": "true",
        "sequence": 256,
    }
    path = tmp_path / "m.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in {**figures, **changed}.items()))
    result = CliRunner().invoke(main, ["replay", "--model", str(path)])
    assert result.exit_code == 2
    assert says in result.output
