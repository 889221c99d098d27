"""Published training runs as what the simulator takes: a model, a plan and a machine, with the time measured.

The dataclasses, and how figures are read from a row's setup and metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import Plan

Row = Mapping[str, Any]
"""An entry of the file of measurements: id, category, setup, metrics."""


@dataclass(frozen=True)
class Run:
    """A measured training step."""

    row: str
    """The row's id; where a row holds several results, followed by which one in brackets."""
    family: str
    model: Model
    plan: Plan
    machine: str
    """A name in the catalogue of machines."""
    step_s: float


@dataclass(frozen=True)
class Unpredicted:
    """A row that nothing is predicted for, and why."""

    row: str
    family: str
    reason: str


class Unstated(Exception):
    """A row doesn't say what a prediction needs; the message is the reason."""


def value(row: Row, part: str, key: str) -> Any:
    """A figure of the row's setup or metrics. Raises Unstated where it has none."""
    found = (row.get(part) or {}).get(key)
    if found is None or found == "":
        raise Unstated(f"{key} isn't stated")
    return found


def numbers(row: Row, part: str, key: str, default: float | None = None) -> list[float]:
    """A figure, and one in parentheses after it if there is: `31357 (29925)` has two. Footnotes are ignored.

    `default` is for what is left out or not applicable. Raises Unstated where there is neither.
    """
    try:
        found = value(row, part, key)
    except Unstated:
        if default is None:
            raise
        return [default]
    if isinstance(found, (int, float)):
        return [float(found)]
    text = re.sub(r"\[\^[^\]]*\]", "", str(found)).replace(",", "")
    read = [float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", text)]
    if read:
        return read
    if default is None:
        raise Unstated(f"{key} is {found!r}, which has no figure")
    return [default]


def number(row: Row, part: str, key: str, default: float | None = None) -> float:
    """The first figure of `numbers`."""
    return numbers(row, part, key, default)[0]


def count(row: Row, key: str, default: int | None = None) -> int:
    """A whole figure of the setup. Raises Unstated as `numbers` does."""
    return round(number(row, "setup", key, default))


def text(row: Row, key: str, default: str = "") -> str:
    """A setup's words in lower case; `default` where there are none."""
    found = (row.get("setup") or {}).get(key)
    return default if found is None else str(found).strip().lower()


def fitting_micro_batch(per_replica: int, stated: int) -> int:
    """The micro-batch nearest to the one stated, and not larger, that cuts a replica's sequences evenly."""
    return next(size for size in range(max(1, min(stated, per_replica)), 0, -1) if per_replica % size == 0)
