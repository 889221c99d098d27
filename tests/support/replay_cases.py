"""Small workloads and one way to run them, for the tests of the replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from naive_replay import naive_replay

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import SEND
from chakrasim.replay.engine.program import Program, WholeProgram, build_program
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.results.result import Replayed, Result
from chakrasim.replay.symmetry.classes import every_rank
from chakrasim.traces import CommKind, ExecutionGraph, GraphBuilder, NodeKind, Workload
from chakrasim.traces.graph import Ints

COLLECTIVE_PS = 100
MESSAGE_PS = 30
Times = dict[tuple[int, int], tuple[int, int]]


def rank(number: int, build: Callable[[GraphBuilder], object], **options: object) -> ExecutionGraph:
    """The graph of one rank: `build` adds its nodes."""
    builder = GraphBuilder(number, **options)  # type: ignore[arg-type]
    build(builder)
    return builder.build()


def comp(builder: GraphBuilder, duration_ps: int, *after: int, **options: object) -> int:
    """A compute node on the device."""
    return builder.add(NodeKind.COMP, "comp", duration_ps=duration_ps, after=after, **options)  # type: ignore[arg-type]


def coll(builder: GraphBuilder, *after: int, **options: object) -> int:
    """An all-reduce of 1000 bytes."""
    settings: dict[str, object] = {"comm_kind": CommKind.ALL_REDUCE, "comm_bytes": 1000} | options
    return builder.add(NodeKind.COLL, "all_reduce", after=after, **settings)  # type: ignore[arg-type]


def send(builder: GraphBuilder, peer: int, *after: int, **options: object) -> int:
    """A send of 500 bytes."""
    settings: dict[str, object] = {"comm_bytes": 500, "tag": 0} | options
    return builder.add(NodeKind.SEND, "send", peer=peer, after=after, **settings)  # type: ignore[arg-type]


def recv(builder: GraphBuilder, peer: int, *after: int, **options: object) -> int:
    """A receive of 500 bytes."""
    settings: dict[str, object] = {"comm_bytes": 500, "tag": 0} | options
    return builder.add(NodeKind.RECV, "recv", peer=peer, after=after, **settings)  # type: ignore[arg-type]


def durations(program: Program, message_ps: int = MESSAGE_PS) -> Ints:
    """Recorded durations, and `message_ps` for sends; markers take no time."""
    graphs = program.workload.graphs.values()
    column = np.concatenate([graph.durations_ps for graph in graphs])
    column[program.kinds <= NodeKind.METADATA] = 0
    column[program.roles == SEND] = message_ps
    return column


def play(workload: Workload, *, is_compiled: bool = False, collective_ps: int = COLLECTIVE_PS) -> Times:
    """(start, end) of each (rank, row) that started, every collective and message at one price."""
    program = build_program(workload)
    costs_ps = np.full(len(program.collectives), collective_ps)
    starts_ps, ends_ps = run(program.state(durations(program), costs_ps), is_compiled=is_compiled)
    return {
        program.locate(node): (int(starts_ps[node]), int(ends_ps[node]))
        for node in range(len(program))
        if starts_ps[node] >= 0
    }


def play_naively(workload: Workload) -> Times:
    """The same by the plain reference."""
    return naive_replay(workload, lambda key: COLLECTIVE_PS, lambda key: MESSAGE_PS)


def result_of(workload: Workload, *, collective_ps: int = COLLECTIVE_PS) -> Result:
    """A result with every collective and message at one price."""
    program = build_program(workload)
    costs_ps = np.full(len(program.collectives), collective_ps)
    starts_ps, ends_ps = run(program.state(durations(program), costs_ps))
    n = len(program)
    machine = replace(load_machine("ethernet-10g"), name="test machine")
    return Result(
        Replayed(program, starts_ps[:n], ends_ps[:n]),
        every_rank(workload, "it is a test"),
        WholeProgram(workload),
        machine,
        "measured",
        "analytical",
    )
