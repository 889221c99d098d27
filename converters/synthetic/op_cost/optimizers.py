"""Cost of an optimizer: operations on each parameter, and numbers of 32 bits kept for it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from chakrasim.converters.synthetic.op_cost.layers import Formats
from chakrasim.converters.synthetic.op_cost.work import Work
from chakrasim.traces.errors import UnknownName


@dataclass(frozen=True)
class Optimizer:
    """Cost of one parameter's step."""

    states: int
    """Numbers it keeps beside the parameter, read and written in each step."""
    ops: int


OPTIMIZERS = {
    "sgd": Optimizer(states=0, ops=2),
    "momentum": Optimizer(states=1, ops=4),
    "adagrad": Optimizer(states=1, ops=6),
    "adam": Optimizer(states=2, ops=12),
}
"""SGD: p -= r g. Momentum: v = m v + g first. Adagrad (Duchi et al., 2011): v += g², p -= r g / (√v + e).
Adam (Kingma and Ba, 2015): two moving averages, both corrected for their bias."""


def optimizer(name: str) -> Optimizer:
    """Look up an optimizer by its name; raises UnknownName for one that isn't known."""
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def dense_step(name: str, parameters: int, formats: Formats) -> Work:
    """A fused step over all parameters, which are kept in 32 bits: the gradient is read, parameter and states
    are read and written, and where products take 16 bits a copy of the parameter is written."""
    kept = optimizer(name)
    copy = formats.width if formats.width < 4 else 0
    return Work(kept.ops * parameters, parameters * (formats.gradient_width + 8 * (1 + kept.states) + copy))


class Held(NamedTuple):
    """A figure each of parameters, gradients and optimizer states, which are kept throughout training."""

    parameters: float
    gradients: float
    optimizer: float


UNSHARDED = Held(1, 1, 1)


def bytes_each(name: str, formats: Formats) -> Held:
    """Bytes kept for a parameter in 32 bits, beside which products in 16 bits have a copy."""
    copy = formats.width if formats.width < 4 else 0
    return Held(4 + copy, formats.gradient_width, 4 * optimizer(name).states)


def held_bytes(each: Held, *counts: tuple[int, Held]) -> dict[str, int]:
    """Bytes that a rank keeps throughout training: `each` for one parameter, `counts` of parameters with the
    ranks that each part of them is sharded over."""
    return {
        part: ceil(sum(count * getattr(each, part) / getattr(ranks, part) for count, ranks in counts))
        for part in Held._fields
    }
