"""Fit what accelerators reach of their peaks to published training steps.

    python benchmarks/fit_efficiency.py [measured.json] [--machine NAME] [--write] [--check]

For each testbed a handful of parameters is fitted to the open rows measured on it: the share of the peak that
large matrix products reach, for data types of 16 bits and for narrower ones, and the time at the peak of
those that reach half of that; the same for attention; the share of the memory's bandwidth; the host's time
for an operator. The tables in the machine files are these curves at a few sizes. What is made small is the
mean absolute error of the predicted step times, each family of rows counting the same, by trying one
parameter after the other with ever smaller steps.

With `--write` the machine's file gets the new `efficiency` block. `--check` fits to every other row and
prints the error of those left out.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from published_runs import Run, runs
from testbeds import machine_of, testbed_path

from chakrasim.converters.synthetic.op_cost.work import BYTES
from chakrasim.converters.synthetic.transformer.training import generate_training
from chakrasim.replay.compute.durations import NodeDurations, compute_model
from chakrasim.replay.costs import cost
from chakrasim.replay.engine.program import build_program
from chakrasim.replay.machine.efficiency import Curve, Efficiency
from chakrasim.replay.machine.machine import Machine
from chakrasim.replay.network import network_model
from chakrasim.replay.simulate import UNSCALED, run_program
from chakrasim.traces.units import PS_PER_S

MEASUREMENTS = (
    Path(os.environ.get("CHAKRASIM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "published"
    / "measured.json"
)
GFLOP = (0.1, 1.0, 10.0, 100.0, 1000.0)
MEGABYTES = (0.1, 1.0, 10.0, 100.0)
STEPS = (1.6, 1.25, 1.1, 1.04, 1.015)
MAX_NODES = 600_000
"""Larger runs are predicted, but not fitted to: each costs seconds."""
Parameters = dict[str, float]
BOUNDS = {
    "matmul": (0.45, 0.9),
    "matmul_narrow": (0.2, 0.85),
    "attention": (0.1, 0.75),
    "memory": (0.6, 0.92),
    "matmul_half_us": (0.3, 640.0),
    "memory_half_MB": (0.02, 20.0),
    "host_us": (3.0, 30.0),
}
"""What kernels measured one by one reach: a fit must not make up for one of them with another."""


@dataclass(frozen=True)
class Fit:
    """A machine, and the families of rows that its parameters are fitted to."""

    machine: str
    families: tuple[str, ...]
    start: Parameters
    """Free parameters and where the search begins; see `machine_with`."""


PRODUCTS = {"matmul": 0.7, "memory": 0.7}
FUSED = PRODUCTS | {"attention": 0.4}
NARROW = FUSED | {"matmul_narrow": 0.5}
HOSTED = NARROW | {"host_us": 10.0}
"""Where kernels of experts are launched one by one."""
SMALL = {"matmul_half_us": 6.4}
"""Where small models were measured, too."""
FITS = (
    Fit("dgx-a100", ("megatron-a100", "sequence-parallel"), PRODUCTS),
    Fit("foundry-a100", ("llm-foundry-a100-80gb",), FUSED | SMALL),
    Fit("dgx-a100-40gb", ("llm-foundry-a100-40gb",), FUSED | SMALL),
    Fit("foundry-h100", ("llm-foundry-h100-80gb",), NARROW | SMALL),
    Fit(
        "vtrain-a100",
        ("vtrain-single", "vtrain-multi"),
        PRODUCTS | SMALL | {"memory_half_MB": 0.3, "host_us": 90.0},
    ),
    Fit("hgx-h100", ("megatron-h100", "llama3", "megatron-bridge-h100"), NARROW),
    Fit("hgx-h100-96gb", ("torchtitan",), NARROW),
    Fit("hgx-b200", ("megatron-bridge-b200",), HOSTED),
    Fit("dgx-b300", ("megatron-bridge-b300",), HOSTED),
    Fit("gb200-nvl72", ("megatron-bridge-gb200",), HOSTED),
    Fit("gb300-nvl72", ("megatron-bridge-gb300",), HOSTED),
    Fit("tpu-v6e", ("maxtext",), PRODUCTS),
    *(Fit(machine, ("neusight",), PRODUCTS) for machine in ("neusight-h100", "a100-pcie-80gb", "mi210")),
    *(Fit(machine, ("neusight",), {"matmul": 0.7}) for machine in ("l4", "mi100", "mi250", "v100-pcie")),
)
FIXED = {
    "matmul": 0.65,
    "matmul_half_us": 6.4,
    "memory": 0.7,
    "memory_half_MB": 0.3,
    "host_us": 10.0,
}
"""What the rows don't tell: used where a fit leaves it out. Products reach half of their top share at 2 GFLOP
on an A100, 6.4 us at its peak (LLMCompass's table, less 25 us a call), and so does attention; 10 us are those
of eager PyTorch on a fast host."""


def saturating(sizes: Sequence[float], unit: float, top: float, half: float) -> Curve:
    """top x / (x + half): small kernels take one time whatever their size."""
    shares = tuple(round(min(1.0, top * size / (size + half)), 4) for size in sizes)
    return Curve(tuple(size * unit for size in sizes), shares)


def machine_with(machine: Machine, parameters: Parameters) -> Machine:
    """The machine with the efficiency that the parameters describe.

    `matmul` is the top share of data types of 16 bits and more, `matmul_narrow` of narrower ones; what isn't
    given is `FIXED` or as the machine has it.
    """
    accelerator = machine.accelerator
    assert accelerator is not None, "every testbed has one"
    parameters = {**FIXED, **parameters}
    old = accelerator.efficiency or Efficiency()
    peaks = accelerator.peak_flops
    wide = max(peaks, key=lambda dtype: (dtype in ("bf16", "fp16"), peaks[dtype]))

    def products(name: str, dtype: str) -> Curve:
        return saturating(GFLOP, 1e9, parameters[name], parameters["matmul_half_us"] * peaks[dtype] / 1e15)

    matmul = {"default": products("matmul", wide)}
    for dtype in peaks:
        if BYTES.get(dtype, 2) < 2 and "matmul_narrow" in parameters:
            matmul[dtype] = products("matmul_narrow", dtype)
    attention = {"default": products("attention", wide)} if "attention" in parameters else old.attention
    memory = saturating(MEGABYTES, 1e6, parameters["memory"], parameters["memory_half_MB"])
    host_ps = round(parameters["host_us"] * 1e6)
    return replace(
        machine,
        accelerator=replace(accelerator, efficiency=Efficiency(matmul, attention, memory, host_ps)),
    )


class Case:
    """A run whose graph is made once, and replayed for many parameters."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.machine = machine_of(run.machine)
        self.program = build_program(generate_training(run.model, run.plan))

    def error(self, parameters: Parameters) -> float:
        """Predicted over measured time, less 1."""
        machine = machine_with(self.machine, parameters)
        costs = cost(
            self.program,
            machine,
            network_model("analytical"),
            NodeDurations.of(self.program.workload, compute_model("roofline", machine), UNSCALED),
            asks=False,
        )
        ends_ps = run_program(self.program, machine, network_model("analytical"), costs)[1]
        return float(ends_ps.max() / PS_PER_S / self.run.step_s - 1)


def mean_error(cases: Iterable[Case], parameters: Parameters) -> float:
    """Mean absolute error, each family counting the same."""
    by_family: dict[str, list[float]] = {}
    for case in cases:
        by_family.setdefault(case.run.family, []).append(abs(case.error(parameters)))
    return float(np.mean([np.mean(errors) for errors in by_family.values()]))


def search(cases: Sequence[Case], start: Parameters) -> tuple[Parameters, float]:
    """Coordinate descent on the mean error, within `BOUNDS`."""
    best = dict(start)
    least = mean_error(cases, best)
    for step in STEPS:
        for name in start:
            factors = [step, 1 / step]
            while factors:
                tried = {**best, name: best[name] * factors[0]}
                min_value, max_value = BOUNDS[name]
                if name == "host_us":  # slow hosts begin where they are seen to be
                    max_value = max(max_value, 1.5 * start[name])
                is_outside = not min_value <= tried[name] <= max_value
                found = np.inf if is_outside else mean_error(cases, tried)
                if found < least - 1e-6:
                    best, least, factors = tried, found, factors[:1]
                else:
                    factors = factors[1:]
    return best, least


def block(fit: Fit, machine: Machine, rows: int, error: float) -> str:
    """The `efficiency` block of a machine file."""
    assert machine.accelerator is not None, "every testbed has one"
    assert machine.accelerator.efficiency is not None, "it was put in"
    efficiency = machine.accelerator.efficiency

    def shares(curve: Curve, key: str, unit: float) -> str:
        sizes = ", ".join(f"{size / unit:g}" for size in curve.sizes)
        return f"{{{key}: [{sizes}], of_peak: [{', '.join(f'{share:g}' for share in curve.shares)}]}}"

    lines = [
        "  efficiency:",
        f"    source: fitted by benchmarks/fit_efficiency.py to {rows} published training steps",
        f"      ({', '.join(fit.families)}), mean error {error:.1%}",
    ]
    if "attention" not in fit.start:
        lines.append("      for what they tell; attention is an estimate after FlashAttention-2 (Dao, 2023)")
    for kind in ("matmul", "attention"):
        table = getattr(efficiency, kind)
        if table:
            lines.append(f"    {kind}:")
            lines += [f"      {dtype}: {shares(curve, 'GFLOP', 1e9)}" for dtype, curve in table.items()]
    lines.append(f"    memory: {shares(efficiency.memory, 'MB', 1e6)}")
    if efficiency.host_launch_ps:
        lines.append(f"    host_launch_us: {efficiency.host_launch_ps / 1e6:g}")
    return "\n".join(lines) + "\n"


def write_block(path: Path, text: str) -> None:
    """Put the block in place of the one in the file, or behind the accelerator's other keys."""
    content = path.read_text()
    old = re.search(r"^  efficiency:\n(?:    .*\n)*", content, re.MULTILINE)
    if old is None:
        head, blank, rest = content.partition("\nnetwork:")
        content = head.rstrip("\n") + "\n" + text + blank + rest
    else:
        content = content[: old.start()] + text + content[old.end() :]
    part = path.with_suffix(".part")
    part.write_text(content)
    part.replace(path)


def cases_of(fit: Fit, chosen: Sequence[Run], maximum: int) -> list[Case]:
    """At most so many runs a family, always the same ones."""
    cases = []
    for family in fit.families:
        of_family = [run for run in chosen if run.family == family and run.machine == fit.machine]
        if len(of_family) > maximum:
            of_family = random.Random(0).sample(of_family, maximum)
        made = [Case(run) for run in of_family]
        cases += [case for case in made if len(case.program) <= MAX_NODES]
    return cases


@click.command()
@click.argument("measurements", type=click.Path(exists=True, path_type=Path), default=MEASUREMENTS)
@click.option("--machine", "names", multiple=True, help="Fit these only.")
@click.option("--most", default=60, show_default=True, help="Rows of a family that are fitted to.")
@click.option("--write", is_flag=True, help="Put the block into the machine's file.")
@click.option("--check", is_flag=True, help="Fit to every other row, and predict those left out.")
def main(measurements: Path, names: tuple[str, ...], most: int, write: bool, check: bool) -> None:
    """Fit efficiencies to published training steps."""
    every, _ = runs(measurements)
    for fit in FITS:
        if names and fit.machine not in names:
            continue
        cases = cases_of(fit, every, most)
        if not cases:
            click.echo(f"{fit.machine}: no rows")
            continue
        fitted = cases[::2] if check else cases
        parameters, error = search(fitted, fit.start)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in parameters.items())
        click.echo(f"{fit.machine}: {len(fitted)} rows, mean error {error:.1%}; {shown}")
        if check:
            left = cases[1::2]
            click.echo(f"  {len(left)} rows left out, mean error {mean_error(left, parameters):.1%}")
        by_family: dict[str, list[float]] = {}
        for case in cases:
            by_family.setdefault(case.run.family, []).append(case.error(parameters))
        for family, errors in by_family.items():
            worst = max(errors, key=abs)
            click.echo(
                f"  {family:24s} {len(errors):4d} rows, mean |error| {np.mean(np.abs(errors)):6.1%}, "
                f"bias {np.mean(errors):+6.1%}, worst {worst:+.1%}"
            )
        text = block(fit, machine_with(cases[0].machine, parameters), len(fitted), error)
        if write:
            write_block(testbed_path(fit.machine), text)
        else:
            click.echo(text)


if __name__ == "__main__":
    main()
