"""Schedule of one member in one phase: its messages in order, and the cost of each beside the network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chakrasim.replay.collectives.algorithms.steps import Algorithm, Step
from chakrasim.replay.collectives.execution.endpoint import INBOUND, OUTBOUND, SENT_BACK, Operation
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces.graph import CommKind, Ints
from chakrasim.traces.units import PS_PER_S, whole_ps


@dataclass(frozen=True, eq=False)
class Program:
    """A windowed algorithm as tokens, the same for all n members.

    A member makes `window` tokens when it starts and one for each message that it has received. Each costs
    it an endpoint operation; after that the next message of its list goes out, while there are any.
    """

    steps: tuple[Step, ...]
    n: int
    window: int
    barrier: int
    """Messages that a member must have received before it sends the last so many; 0 is no barrier."""
    sizes: Ints
    """int64[messages]: bytes of the messages that a member sends, in order."""
    token_bytes: Ints
    """int64[messages + window]: bytes of the message that each token is to send; the last ones, which send
    nothing, go on in the same way."""
    step_of: Ints
    """int64[messages]: the step that each belongs to."""
    reduces: Ints
    """int64[messages + window]: 1 for each token whose operation includes a reduction."""
    reductions_ps: Ints
    """int64[messages + window]: duration of the reduction, 0 for tokens without one."""
    operations_ps: Ints
    """int64[messages + window]: duration of each token's operation, its reduction included."""
    cycle: int
    """Tokens after which the roles of tokens on a shared bus repeat."""

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def operations(self) -> list[Operation]:
        """Operation of each token, which comes before the message that it is to send."""
        found = []
        columns = self.token_bytes, self.reduces, self.reductions_ps, self.operations_ps
        for token, (size, reduces, reduction_ps, takes_ps) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            in_cycle = token % self.cycle
            role = OUTBOUND if in_cycle < self.window else INBOUND
            if role == INBOUND and in_cycle < self.cycle - self.window:
                role = SENT_BACK
            found.append(Operation(size, role, takes_ps, bool(reduces), reduction_ps))
        return found

    @cached_property
    def destinations(self) -> list[list[int]]:
        """Destination by message and place."""
        return self._peers(to_destination=True)

    @cached_property
    def sources(self) -> list[list[int]]:
        """Sender of the message that is expected in return, by message and place."""
        return self._peers(to_destination=False)

    def _peers(self, *, to_destination: bool) -> list[list[int]]:
        by_step = []
        for step in self.steps:
            peers = np.empty(self.n, dtype=np.int64)
            here, there = (step.sources, step.destinations)[:: 1 if to_destination else -1]
            peers[here] = there
            by_step.append(peers.tolist())
        return [by_step[step] for step in self.step_of.tolist()]


def make_program(
    machine: Machine,
    found: Algorithm,
    kind: CommKind,
    n: int,
    size_bytes: int,
    *,
    is_subgroup: bool = False,
    clockwise: bool = True,
) -> Program:
    """The tokens of a windowed algorithm: all but the double binary tree.

    Not `clockwise`, every message goes the other way around the line.
    """
    rules = machine.system.rules
    steps = tuple(found.steps(kind, n, size_bytes))
    if not clockwise:
        steps = tuple(step.reversed() for step in steps)
    if rules.passes_single_blocks and kind == CommKind.ALL_TO_ALL and found.relays_blocks:
        # ASTRA-sim passes on one block at a time.
        block_bytes = size_bytes // n
        steps = tuple(
            replace(step, size_bytes=block_bytes, times=n - 1 - passed) for passed, step in enumerate(steps)
        )
    times = [step.times for step in steps]
    sizes = np.repeat([step.size_bytes for step in steps], times).astype(np.int64)
    step_of = np.repeat(np.arange(len(steps)), times)
    window = min(found.window or n - 1, n - 1) if found.is_windowed else 1
    token = np.arange(len(sizes) + window)
    # After so many tokens their roles begin anew; `docs/astra-sim.md` has the rule and what is odd in it.
    cycle = window + found.cycle(n, window)
    if found.is_windowed and is_subgroup:
        cycle = n * window
    if kind not in (CommKind.ALL_REDUCE, CommKind.REDUCE_SCATTER):
        reduces = np.zeros(len(token), dtype=np.int64)
    elif not rules.reduces_by_token:
        received = np.repeat([step.reduces for step in steps], times)
        reduces = np.concatenate([np.zeros(window, dtype=np.int64), received.astype(np.int64)])
    else:
        reduces = (token % cycle >= window).astype(np.int64)
        if kind == CommKind.ALL_REDUCE:
            reduces *= token // cycle % 2 == 0
    token_bytes = np.append(sizes, np.full(window, found.next_bytes(kind, int(sizes[-1]))))
    reductions_ps = reduces * reductions(machine, token_bytes)
    return Program(
        steps=steps,
        n=n,
        window=window,
        barrier=n - 1 if found.is_windowed and kind in (CommKind.ALL_REDUCE, CommKind.BARRIER) else 0,
        sizes=sizes,
        token_bytes=token_bytes,
        step_of=step_of,
        reduces=reduces,
        reductions_ps=reductions_ps,
        operations_ps=endpoint_ps(machine, is_subgroup=is_subgroup) + reductions_ps,
        cycle=cycle,
    )


def endpoint_ps(machine: Machine, *, is_subgroup: bool) -> int:
    """Delay of a member's endpoint before a message."""
    in_subgroup_ps = machine.system.rules.subgroup_endpoint_ps
    if is_subgroup and in_subgroup_ps is not None:
        return in_subgroup_ps
    return machine.system.endpoint_ps


def reduction_ps(machine: Machine, size_bytes: int) -> int:
    """Duration of a reduction: two reads and a write of so many bytes, each in whole cycles."""
    return int(reductions(machine, np.array([size_bytes]))[0])


def reductions(machine: Machine, sizes_bytes: Ints) -> Ints:
    """int64: `reduction_ps` of each size."""
    bandwidth_Bps = machine.system.reduction_Bps
    cycles = sizes_bytes / bandwidth_Bps * (PS_PER_S / machine.cycle_ps)
    return 3 * whole_ps(
        cycles,
        lambda at: f"reducing a message of {sizes_bytes[at]:,} bytes on {machine.name!r}",
        machine.cycle_ps,
    )
