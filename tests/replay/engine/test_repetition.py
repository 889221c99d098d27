"""Iterations that repeat are skipped, and nothing of the result changes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import coll, comp, durations, rank, recv, send

from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.kernel import COLLECTIVE, EAGER, OWN_PS
from chakrasim.replay.engine.program import build_program
from chakrasim.replay.engine.repetition import periods
from chakrasim.replay.engine.repetition.extrapolate import repetition_in
from chakrasim.traces import ExecutionGraph, GraphBuilder, Workload


def skipped(
    workload: Workload,
    *,
    message_ps: int = 30,
    collective_ps: int = 100,
    eager_rank: int = -1,
    compiled: bool = True,
) -> int:
    """How many nodes of a workload aren't replayed; checks that no time changes by it, interpreted or not.

    With a collective's time of OWN_PS, its members take 5 ps after the last arrival, and those of one rank
    from their own.
    """
    program = build_program(workload)
    costs_ps = np.full(len(program.collectives), collective_ps)
    sizes = [len(graph) for graph in workload.graphs.values()]
    durations_ps, roles = durations(program, message_ps), program.roles.copy()
    if collective_ps == OWN_PS:
        durations_ps[roles == COLLECTIVE] = 5
        roles[(roles == COLLECTIVE) & (program.ranks == eager_rank)] = EAGER
    counts = []
    for is_compiled in (False, True)[: 1 + compiled]:
        expected = run(program.state(durations_ps, costs_ps, roles), is_compiled=is_compiled)
        state = program.state(durations_ps, costs_ps, roles)
        watch = repetition_in(state, sizes)
        starts_ps, ends_ps = run(state, is_compiled=is_compiled, watch=watch)
        np.testing.assert_array_equal(starts_ps, expected[0])
        np.testing.assert_array_equal(ends_ps, expected[1])
        counts.append(0 if watch is None else watch.skipped)
    assert len(set(counts)) == 1
    return counts[0]


def chain(builder: GraphBuilder, durations_ps: list[int], after: int | None = None) -> int:
    """Nodes that follow each other; the last one."""
    for duration_ps in durations_ps:
        after = comp(builder, duration_ps, *([] if after is None else [after]))
    assert after is not None
    return after


def one(build: Callable[[GraphBuilder], object]) -> Workload:
    return Workload.from_graphs([rank(0, build)])


def test_a_chain_of_equal_nodes_is_mostly_skipped() -> None:
    assert skipped(one(lambda b: chain(b, [7] * 1000))) > 900


def test_a_chain_of_equal_layers_is_mostly_skipped_between_what_differs() -> None:
    # A head of 20 nodes, 100 layers of 5 nodes, a tail of 20.
    layers = [*range(100, 120), *([3, 1, 4, 1, 5] * 100), *range(200, 220)]
    assert 400 < skipped(one(lambda b: chain(b, layers))) < 500


def test_a_node_that_differs_is_replayed_and_so_is_what_is_near_it() -> None:
    layers = [3, 1, 4, 1, 5] * 200
    layers[487] = 9
    assert 900 < skipped(one(lambda b: chain(b, layers))) < 980


def test_what_never_repeats_is_replayed() -> None:
    random = np.random.default_rng(1)
    assert skipped(one(lambda b: chain(b, random.integers(1, 10**9, 2000).tolist()))) == 0


def test_nodes_that_only_look_alike_by_their_hashes_arent_taken_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(periods, "_signatures", lambda state, wide, n: np.zeros(n, dtype=np.int64))
    assert skipped(one(lambda b: chain(b, [7] * 1000))) > 900
    assert skipped(one(lambda b: chain(b, [7] * 500 + [8] + [7] * 500))) == 0
    lanes = ["a"] * 700 + ["b"] + ["a"] * 300

    def build(b: GraphBuilder) -> None:
        for row, lane in enumerate(lanes):
            comp(b, 7, *([row - 1] if row else []), lane=lane)

    assert skipped(one(build)) == 0

    def skip_one(b: GraphBuilder) -> None:
        for row in range(1000):
            comp(b, 7, *([row - 1 - (row == 600)] if row else []))

    assert skipped(one(skip_one)) == 0


def test_what_repeats_in_rows_but_not_in_time_is_replayed() -> None:
    # The second lane falls behind by 50 ps with every iteration: no state is like an earlier one until the
    # first lane is done, after 750 nodes.
    def build(b: GraphBuilder) -> None:
        first = second = None
        for _ in range(500):
            first = comp(b, 10, *([] if first is None else [first]), lane="a")
            for _ in range(3):
                second = comp(b, 20, first, *([] if second is None else [second]), lane="b")

    count = skipped(one(build))
    assert 1100 < count < 1250


def test_a_long_transient_is_replayed() -> None:
    # Lane b may be 50 nodes behind lane a, which is faster: only when it is doesn't the distance grow.
    def build(b: GraphBuilder) -> None:
        first: list[int] = []
        second: list[int] = []
        for i in range(2000):
            first.append(comp(b, 10, *first[-1:], *(second[i - 50 : i - 49] if i >= 50 else []), lane="a"))
            second.append(comp(b, 11, first[-1], *second[-1:], lane="b"))

    assert 2000 < skipped(one(build)) < 3000


def test_the_times_of_several_iterations_repeat_together() -> None:
    # On one lane, what is ready goes by its row: that of later iterations overtakes or not.
    def build(b: GraphBuilder) -> None:
        last = comp(b, 1)
        for _ in range(300):
            side = comp(b, 9, last, lane="b")
            last = comp(b, 4, last, lane="a")
            last = comp(b, 3, last, lane="a")
            comp(b, 2, side, lane="a")

    skipped(one(build))


def test_what_all_iterations_lead_to_starts_when_the_last_one_is_done() -> None:
    def build(b: GraphBuilder) -> None:
        ends = [comp(b, 5)]
        for _ in range(300):
            comp(b, 2, ends[-1], lane="x")
            ends.append(comp(b, 5, ends[-1]))
        comp(b, 100, *ends)
        comp(b, 50, *ends[:150])

    assert 300 < skipped(one(build)) < 600


def test_what_waits_for_the_end_from_every_iteration_does_so_until_then() -> None:
    # Nodes 1, 3, 5, ... wait for the one before and for the very last one.
    def build(b: GraphBuilder) -> None:
        for i in range(0, 600, 2):
            comp(b, 5, *([i - 2] if i else []))
            comp(b, 1, i, 600, lane="x")
        comp(b, 7, 598)

    assert skipped(one(build)) > 500


def test_ranks_with_collectives_and_lengths_of_their_own() -> None:
    def build(number: int) -> Callable[[GraphBuilder], None]:
        def build_one(b: GraphBuilder) -> None:
            last = chain(b, [number + 1] * (number + 1))
            for _ in range(200):
                for part in range(number + 2):
                    last = comp(b, 5 + part, last)
                last = coll(b, last)

        return build_one

    graphs = [rank(number, build(number)) for number in range(3)]
    assert skipped(Workload.from_graphs(graphs)) > 0.9 * sum(map(len, graphs)) - 100


def test_a_rank_that_repeats_half_as_often() -> None:
    def build(number: int) -> Callable[[GraphBuilder], None]:
        def build_one(b: GraphBuilder) -> None:
            last = comp(b, 1)
            for i in range(400):
                last = coll(b, comp(b, 5 + (i % 2) * number, last))

        return build_one

    graphs = [rank(number, build(number)) for number in range(2)]
    assert skipped(Workload.from_graphs(graphs)) > 1000


def pipeline(stages: int, micro_batches: int, forward_ps: int, backward_ps: int) -> Workload:
    """One forward, one backward, by each stage for itself."""

    def build(stage: int) -> Callable[[GraphBuilder], None]:
        def build_one(b: GraphBuilder) -> None:
            warm = min(stages - 1 - stage, micro_batches)
            passes = ["f"] * warm + ["f", "b"] * (micro_batches - warm) + ["b"] * warm
            last: tuple[int, ...] = ()
            for one_pass in passes:
                is_forward = one_pass == "f"
                source, target = (stage - 1, stage + 1) if is_forward else (stage + 1, stage - 1)
                if 0 <= source < stages:
                    last = (*last, recv(b, source, *last, tag=int(is_forward)))
                last = (comp(b, forward_ps if is_forward else backward_ps, *last),)
                if 0 <= target < stages:
                    send(b, target, *last, tag=int(is_forward))

        return build_one

    return Workload.from_graphs([rank(stage, build(stage)) for stage in range(stages)])


@pytest.mark.parametrize("stages", [2, 3, 5])
@pytest.mark.parametrize("message_ps", [0, 3, 50])
def test_pipelines_are_mostly_skipped_between_warm_up_and_cool_down(stages: int, message_ps: int) -> None:
    workload = pipeline(stages, 200, 10, 20)
    count = sum(map(len, workload.graphs.values()))
    # The state may repeat only after some iterations.
    assert skipped(workload, message_ps=message_ps) > 0.5 * count


@pytest.mark.parametrize("kind", ["messages", "collectives"])
@pytest.mark.parametrize("posted", [0, 150, 300])
def test_partners_that_wait_already_are_told_from_those_that_dont_yet(kind: str, posted: int) -> None:
    # Rank 1 posts some of 300 alike at the start and the others when rank 0 is done with all of its own.
    def first(b: GraphBuilder) -> None:
        last = comp(b, 3)
        for _ in range(300):
            if kind == "messages":
                send(b, 1, last)
            else:
                coll(b, last, lane="")
            last = comp(b, 5, last)
        send(b, 1, last, tag=7)

    def second(b: GraphBuilder) -> None:
        start, end = comp(b, 3), recv(b, 0, tag=7)
        for i in range(300):
            after = [start] if i >= 300 - posted else [end]
            comp(b, 1, recv(b, 0, *after) if kind == "messages" else coll(b, *after, lane=""))

    graphs = [rank(0, first), rank(1, second)]
    assert skipped(Workload.from_graphs(graphs), message_ps=3, collective_ps=3) > 100


def test_two_messages_that_are_received_in_another_order_are_seen_among_300() -> None:
    # The nodes are all alike, only the tags tell which receive meets which send.
    received = list(range(300))
    received[150:152] = 151, 150

    def first(b: GraphBuilder) -> None:
        last = comp(b, 3)
        for i in range(300):
            last = comp(b, 10, last)
            send(b, 1, last, tag=i)

    def second(b: GraphBuilder) -> None:
        last = comp(b, 3)
        for i in received:
            last = comp(b, 6, recv(b, 0, last, tag=i))

    workload = Workload.from_graphs([rank(0, first), rank(1, second)])
    assert 500 < skipped(workload, message_ps=3) < 1150


def test_a_deadlock_in_the_last_iteration_is_one() -> None:
    workload = pipeline(2, 100, 10, 20)
    cut = replace(workload, graphs={0: workload.graphs[0], 1: rank(1, lambda b: chain(b, [1] * 300))})
    skipped(cut)


@dataclass(frozen=True)
class Part:
    """A node of every iteration: "comp", or what it exchanges with other ranks."""

    kind: str
    duration_ps: int
    lane: str | None
    back: tuple[int, ...]
    """How many nodes before it its parents are."""
    to_end: bool = False
    """The rank's last node waits for it."""
    from_start: bool = False
    """It waits for the rank's first node."""


@dataclass(frozen=True)
class Shape:
    """What each rank does."""

    head: list[int]
    parts: list[Part]
    tail: list[int]
    odd: int
    """A node that takes a picosecond longer, or -1."""
    in_line: bool
    """What has no parents waits for the node before."""


TIMES_PS = st.sampled_from([0, 1, 2, 3, 5, 10, 10, 11])
EXCHANGES = ("coll", "forwards", "backwards")


@st.composite
def shapes(draw: st.DrawFn, exchanged: list[str], repetitions: int) -> Shape:
    """With these exchanges in this order."""
    computed = st.builds(
        Part,
        kind=st.just("comp"),
        duration_ps=TIMES_PS,
        lane=st.sampled_from(["a", "b", "c", ""]),
        back=st.lists(st.integers(1, 12), max_size=3).map(tuple),
        to_end=st.integers(0, 9).map(lambda n: n == 0),
        from_start=st.integers(0, 9).map(lambda n: n == 0),
    )
    parts: list[Part] = []
    for kind in [*exchanged, None]:
        parts += draw(st.lists(computed, min_size=1, max_size=3))
        if kind is not None:
            lane = draw(st.sampled_from(["comm", "a", None]))
            parts.append(Part(kind, 0, lane, draw(st.sampled_from([(1,), (2,), (1, 3)]))))
    if draw(st.booleans()):
        parts *= draw(st.integers(1, 4))
    ends = st.lists(TIMES_PS, max_size=6)
    odd = draw(st.one_of(st.just(-1), st.integers(0, len(parts) * repetitions)))
    return Shape(draw(ends), parts, draw(ends), odd, draw(st.booleans()))


def build(number: int, ranks: int, shape: Shape, repetitions: int) -> ExecutionGraph:
    """The graph of one rank."""
    builder = GraphBuilder(number)
    rows, collected = [comp(builder, 4, lane="a")], []

    def add(part: Part) -> None:
        after = {rows[-step] for step in part.back if step <= len(rows)}
        if part.from_start:
            after.add(rows[0])
        if shape.in_line and not after:
            after.add(rows[-1])
        options = {} if part.lane is None else {"lane": part.lane}
        if part.kind == "comp":
            rows.append(comp(builder, part.duration_ps + (len(rows) == shape.odd), *after, **options))
        elif part.kind == "coll":
            rows.append(coll(builder, *after, **options))
        else:
            ends = (0, ranks - 1) if part.kind == "forwards" else (ranks - 1, 0)
            if number in ends:
                place, tag = ends.index(number), int(part.kind == "forwards")
                rows.append((send, recv)[place](builder, ends[1 - place], *after, tag=tag))
        if part.to_end:
            collected.append(rows[-1])

    for duration_ps in shape.head:
        add(Part("comp", duration_ps, "a", (1,)))
    for _ in range(repetitions):
        for part in shape.parts:
            add(part)
    for duration_ps in shape.tail:
        add(Part("comp", duration_ps, "b", (1, 3)))
    comp(builder, 8, *collected)
    return builder.build()


@st.composite
def periodic_workloads(draw: st.DrawFn) -> Workload:
    """Ranks that do the same again and again, but for their heads and tails and perhaps one node."""
    ranks = draw(st.integers(1, 3))
    repetitions = draw(st.integers(8, 60))
    exchanged = draw(st.lists(st.sampled_from(EXCHANGES), max_size=3)) if ranks > 1 else []
    drawn = [draw(shapes(exchanged, repetitions)) for _ in range(ranks)]
    return Workload.from_graphs(
        [build(number, ranks, shape, repetitions) for number, shape in enumerate(drawn)]
    )


@pytest.mark.slow
@settings(max_examples=150)
@given(periodic_workloads(), st.sampled_from([0, 7, 30]), st.sampled_from([0, 10, 100]))
def test_nothing_changes(workload: Workload, message_ps: int, collective_ps: int) -> None:
    skipped(workload, message_ps=message_ps, collective_ps=collective_ps, compiled=False)


@settings(max_examples=50)
@given(periodic_workloads(), st.sampled_from([0, 7, 30]), st.integers(0, 3))
def test_nothing_changes_where_members_have_times_of_their_own(
    workload: Workload, message_ps: int, eager_rank: int
) -> None:
    skipped(workload, message_ps=message_ps, collective_ps=OWN_PS, eager_rank=eager_rank)
