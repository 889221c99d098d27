"""Cost of a collective whose members all start together, worked out from the steps of its algorithm.

The model is Hockney's: a message of m bytes takes a + m * b, with a the latency of its way and 1/b the
bandwidth of the links on it; reductions are free. A step ends for all with its slowest message. Where several
messages of one step cross a link they share it, as in E. Chan et al., "Collective communication: theory,
practice, and experience" (2007). Parts of a buffer may be fractions of a byte.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.steps import ONE_BLOCK, ROOTED, Shift
from chakrasim.replay.collectives.layout import Layout, lay_out, on_dimensions
from chakrasim.replay.collectives.phases import REDUCE_SCATTERS, baseline_order, phases
from chakrasim.replay.collectives.placement import FlatSpan, Span, placement
from chakrasim.replay.machine.machine import NCCL, Machine
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_S, whole_ps_of


def collective_ps(machine: Machine, kind: CommKind, size_bytes: int, ranks: tuple[int, ...]) -> int:
    """Picoseconds from the last member's arrival to the end for all, rounded down to the machine's cycle.

    The machine must be sized (`Machine.sized_for`). No other traffic is assumed on the links. A collective
    with a root has the cost of its worst root. O(ranks) the first time a group is seen, then O(dimensions).

    Raises ConfigError where an algorithm can't carry out the collective.
    """
    if len(ranks) < 2:
        return 0
    if NCCL in machine.algorithms[kind]:
        from chakrasim.replay.collectives.nccl_model import nccl_ps

        exact_ps = nccl_ps(machine, kind, size_bytes, ranks)
    else:
        exact_ps = _total_ps(_layout(machine, kind, ranks), kind, size_bytes)
    total = whole_ps_of(
        exact_ps, lambda: f"{kind.label} of {size_bytes:,} bytes over {len(ranks)} ranks on {machine.name!r}"
    )
    return total - total % machine.cycle_ps


def place(machine: Machine, ranks: tuple[int, ...]) -> Hashable:
    """Key of a group's placement: where it is equal, so is the cost of every collective."""
    if len(ranks) < 2:
        return None
    found = placement(machine.dimensions, ranks)
    layout = on_dimensions(machine, ("ring",) * len(machine.dimensions), ranks)
    assert layout is not None
    lies = layout.dims if found.is_grid else found.dims[-1:], layout.spans
    return lies if machine.nccl is None else (lies, found.shape)


def check_runs(layout: Layout, kind: CommKind) -> tuple[str, ...]:
    """Refuse algorithms that can't carry out a collective on a layout. Raises ConfigError.

    Returns notes where the machine's rules do something else instead, as ASTRA-sim does.
    """
    machine, notes = layout.machine, []
    for index, (name, n) in enumerate(zip(layout.algorithms, layout.sizes, strict=True)):
        found = algorithm(name)
        for run in _phase_kinds(machine.system, kind, index, len(layout.dims)):
            why = found.refusal(run, n)
            if why is None:
                continue
            is_odd = run in found.any_size_in_astra_sim or (found.is_tree and not n & (n - 1))
            if not (machine.system.rules.runs_odd_algorithms and is_odd):
                raise ConfigError(
                    f"machine {machine.name!r} ({machine.source}): {why}; choose another algorithm for that "
                    "dimension"
                )
            notes.append(f"{why}: what ASTRA-sim does instead is costed, which is no {run.label}")
    return tuple(notes)


def _phase_kinds(scheduling: Scheduling, kind: CommKind, index: int, dimensions: int) -> tuple[CommKind, ...]:
    """Collectives that one collective consists of on one of its dimensions."""
    is_themis = scheduling.dimension_order == "themis" and dimensions > 1
    is_inner = index < dimensions - 1 or is_themis
    if kind == CommKind.ALL_REDUCE and scheduling.all_reduce == "hierarchical" and is_inner:
        return CommKind.REDUCE_SCATTER, CommKind.ALL_GATHER
    return (CommKind.REDUCE_SCATTER if kind in REDUCE_SCATTERS else kind,)


@lru_cache(maxsize=1024)
def _layout(machine: Machine, kind: CommKind, ranks: tuple[int, ...]) -> Layout:
    """The group's layout; by ASTRA-sim's rules, which lack these kinds, with rings for all but direct."""
    if machine.system.rules.runs(kind):
        layout = lay_out(machine, kind, ranks)
        assert layout is not None
        check_runs(layout, kind)
        return layout
    stated = machine.algorithms[kind]
    names = tuple("direct" if algorithm(name).is_windowed else "ring" for name in stated)
    names += ("ring",) * (len(machine.dimensions) - len(names))
    layout = on_dimensions(machine, names, ranks)
    assert layout is not None
    return layout


def _total_ps(layout: Layout, kind: CommKind, size_bytes: float) -> float:
    """Phases one after the other. A phase on the way back has the size of its phase on the way out."""
    sizes = layout.sizes
    keeping = {index for index, name in enumerate(layout.algorithms) if algorithm(name).is_tree}
    out_ps, left, back_ps = 0.0, dict[int, float](), dict[int, float]()
    for phase in phases(Scheduling(), kind, 0, sizes, baseline_order(kind, len(sizes)), keeping):
        if phase.is_return:
            size_bytes = left[phase.at]
        cost_ps = phase_ps(layout.algorithms[phase.at], phase.kind, size_bytes, layout.spans[phase.at])
        if phase.is_return:
            back_ps[phase.at] = cost_ps
            continue
        out_ps += cost_ps
        if phase.kind in (CommKind.REDUCE_SCATTER, CommKind.SCATTER) and phase.at not in keeping:
            size_bytes /= sizes[phase.at]
        elif phase.kind in ONE_BLOCK:
            size_bytes *= sizes[phase.at]
        left[phase.at] = size_bytes
    return out_ps + sum(back_ps[at] for at in sorted(back_ps))


BLOCK_BYTES = 5040
"""Size of a block for which steps are asked, to find out which part of the whole each carries: divisible by
all small numbers, so that nothing is rounded."""


@dataclass(frozen=True)
class Term:
    """Steps that take equally long but for their bytes."""

    count: int
    latency_ps: int
    bandwidth_Bps: float
    load: int
    """Messages that share the busiest link."""
    part: Fraction
    """Average share of the collective's size that a message carries."""

    def takes_ps(self, size_bytes: float) -> float:
        """Time of these steps, one after the other."""
        message_bytes = size_bytes * self.part.numerator / self.part.denominator
        return self.count * (self.latency_ps + self.load * message_bytes * PS_PER_S / self.bandwidth_Bps)


def phase_ps(name: str, kind: CommKind, size_bytes: float, span: Span | FlatSpan) -> float:
    """Cost of one algorithm on one dimension, ps."""
    return sum(term.takes_ps(size_bytes) for term in terms(name, kind, span))


@lru_cache(maxsize=4096)
def terms(name: str, kind: CommKind, span: Span | FlatSpan) -> tuple[Term, ...]:
    """Summary of an algorithm's steps on a span. O(steps), and O(messages) of steps that are no shifts."""
    found, n, is_rooted = algorithm(name), span.n, kind in ROOTED
    whole = BLOCK_BYTES * (1 if kind in ONE_BLOCK else n)
    alike: dict[tuple[int, float, int], tuple[int, int]] = {}
    shifts: dict[int, tuple[int, float, int]] = {}
    for steps, window in found.halves(kind, n, whole):
        messages = [step.messages for step in steps]
        shared = -(-span.load(messages, is_rooted=is_rooted) * window // len(steps)) if window > 1 else 0
        for at in range(0, len(steps), window):
            step, together = steps[at], messages[at : at + window]
            # Most steps of long lines are lone shifts over the same distance.
            lone = together[0].distance if len(together) == 1 and isinstance(together[0], Shift) else None
            key = None if lone is None else shifts.get(lone)
            if key is None:
                load = shared or (1 if found.is_tree else span.load(together, is_rooted=is_rooted))
                key = (*span.slowest(together, is_rooted=is_rooted), load)
            if lone is not None:
                shifts[lone] = key
            count, sent_bytes = alike.get(key, (0, 0))
            alike[key] = count + step.times, sent_bytes + step.times * step.size_bytes
    return tuple(
        Term(count, latency_ps, bandwidth_Bps, load, Fraction(sent_bytes, count * whole))
        for (latency_ps, bandwidth_Bps, load), (count, sent_bytes) in alike.items()
    )
