"""Record the sample in this folder: one training step of a small transformer under DDP on four gloo ranks.

Run it with torch 2.13.0 (the CPU build is enough) and nothing else; chakrasim itself isn't needed:

    python record.py                     # writes kineto.0.json.gz .. kineto.3.json.gz beside this script
    python record.py --output /tmp/new --attempts 40

Four processes of one thread each train a decoder-only transformer with AdamW and fixed seeds. DDP splits the
gradients into buckets and starts reducing the first while backward still computes the rest, so the recorded
step has communication that computation hides and some that it doesn't. Every few steps the profiler records
exactly one, with shapes and without Python stacks.

The committed files come from a machine with 2 CPU cores and from a run with `--attempts 100`. Four ranks on
two cores take turns, and anything else that runs there disturbs them, so the script records many attempts and
keeps the quietest: the one with the smallest sum of step time and of the worst disagreement between ranks on
when an all-reduce ended. Times differ from run to run; operators, their shapes and their order do not.

Names of the machine and of its folders are removed before anything is written.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile, schedule

RANKS = 4
LAYERS = 4
WIDTH = 128
HEADS = 4
VOCABULARY = 512
TOKENS = 64
BATCH = 4
BUCKET_MB = 1.0
# Steps before the profiler warms up: the second of a process still moves DDP's buckets.
STEPS_BEFORE = 2


class Block(nn.Module):
    """Pre-norm decoder block: causal self-attention, then a four times wider MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.attention_out = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        split = self.query_key_value(self.attention_norm(x)).view(BATCH, TOKENS, 3, HEADS, WIDTH // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(BATCH, TOKENS, WIDTH))
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """Token and position embeddings, the blocks, and an untied projection onto the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position.weight
        return self.head(self.norm(self.blocks(x)))


def train(rank: int, attempts: int, folder: str) -> None:
    """One rank: train and leave `<attempt>.<rank>.json` in `folder` for every recorded step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    model = DistributedDataParallel(Decoder(), bucket_cap_mb=BUCKET_MB, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    own_data = torch.Generator().manual_seed(1 + rank)
    text = torch.randint(VOCABULARY, (BATCH, TOKENS + 1), generator=own_data)
    inputs, targets = text[:, :-1].contiguous(), text[:, 1:].reshape(-1)

    gc.disable()  # a collection in the middle of the recorded step would look like work of the model
    for attempt in range(attempts):
        with profile(
            activities=[ProfilerActivity.CPU],
            schedule=schedule(wait=STEPS_BEFORE, warmup=1, active=1),
            record_shapes=True,
            with_stack=False,
        ) as profiler:
            for step in range(STEPS_BEFORE + 2):
                optimizer.zero_grad(set_to_none=True)
                loss = cross_entropy(model(inputs).view(-1, VOCABULARY), targets)
                loss.backward()
                optimizer.step()
                if step == STEPS_BEFORE:
                    dist.barrier()  # the ranks begin the recorded step, which comes next, together
                if step <= STEPS_BEFORE:
                    profiler.step()
        profiler.export_chrome_trace(f"{folder}/{attempt}.{rank}.json")
    dist.destroy_process_group()


class Attempt(NamedTuple):
    """One recorded step of all ranks, and how disturbed it was. Times in microseconds."""

    traces: list[dict[str, Any]]
    span_us: float
    disagreement_us: float


def read_attempt(folder: Path, number: int) -> Attempt:
    """Read one attempt's four traces and measure its step time and the spread of its all-reduces' ends."""
    traces = [json.loads((folder / f"{number}.{rank}.json").read_text()) for rank in range(RANKS)]
    starts, ends, reduced = [], [], []
    for trace in traces:
        spans = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
        (step,) = (e for e in spans if e["name"].startswith("ProfilerStep"))
        starts.append(step["ts"])
        ends.append(step["ts"] + step["dur"])
        reduces = sorted((e for e in spans if e["name"] == "gloo:all_reduce"), key=lambda e: e["ts"])
        reduced.append([e["ts"] + e["dur"] for e in reduces])
    disagreement_us = max(max(same) - min(same) for same in zip(*reduced, strict=True))
    return Attempt(traces, max(ends) - min(starts), disagreement_us)


def write_trace(trace: dict[str, Any], path: Path) -> None:
    """Write a trace without the names of the machine and of its folders, byte for byte reproducibly."""
    trace.pop("host_name", None)
    trace["traceName"] = path.name.removesuffix(".gz")
    text = json.dumps(trace, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder for the four files"
    )
    parser.add_argument("--attempts", type=int, default=20, help="steps to record; the quietest is kept")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces every start and stop otherwise
    with tempfile.TemporaryDirectory() as temporary:
        torch.multiprocessing.spawn(train, (arguments.attempts, temporary), nprocs=RANKS)
        attempts = [read_attempt(Path(temporary), number) for number in range(arguments.attempts)]
    for number, attempt in enumerate(attempts):
        print(
            f"attempt {number}: step {attempt.span_us / 1e3:.1f} ms, "
            f"all-reduce ends within {attempt.disagreement_us / 1e3:.1f} ms"
        )
    best = min(attempts, key=lambda attempt: attempt.span_us + attempt.disagreement_us)
    for rank, trace in enumerate(best.traces):
        write_trace(trace, arguments.output / f"kineto.{rank}.json.gz")
    print(f"kept attempt {attempts.index(best)} in {arguments.output}")


if __name__ == "__main__":
    main()
